"""Numpy packing of the words that `hdl.layouts` describes."""

import numpy as np
from amaranth.lib import data
from numpy.typing import NDArray

Bits = NDArray[np.uint8]
Words = NDArray[np.uint32]


def field_bits(values: NDArray[np.integer], width: int) -> Bits:
    """The `width` low bits of each value, least significant first, along a new last axis."""
    places = np.arange(width, dtype=np.int64)
    return ((values[..., None].astype(np.int64) >> places) & 1).astype(np.uint8)


def struct_bits(layout: data.StructLayout, fields: dict[str, NDArray[np.integer]]) -> Bits:
    """Bits of structures whose named fields are arrays of one common shape; other fields are zero."""
    shape = np.broadcast_shapes(*(values.shape for values in fields.values()))
    bits = np.zeros((*shape, layout.size), dtype=np.uint8)
    for name, values in fields.items():
        field = layout[name]
        bits[..., field.offset : field.offset + field.width] = field_bits(values, field.width)
    return bits


def slice_words(bits: Bits, *, slice_width: int) -> Words:
    """Cut words (the last axis) into slices of up to 32 bits, least significant first."""
    *shape, width = bits.shape
    count = -(-width // slice_width)
    padded = np.zeros((*shape, count * slice_width), dtype=np.uint8)
    padded[..., :width] = bits
    slots = np.zeros((*shape, count, 32), dtype=np.uint8)
    slots[..., :slice_width] = padded.reshape(*shape, count, slice_width)
    return np.packbits(slots, axis=-1, bitorder="little").view("<u4")[..., 0]


def code_words(codes: NDArray[np.unsignedinteger], *, width: int) -> Words:
    """Pack words of `width`-bit codes (the last axis) into 32-bit slices.

    Codes whose width divides a byte are merged within bytes, which is many times faster than bit by bit.
    """
    if 8 % width or codes.shape[-1] * width % 32:
        bits = field_bits(codes, width)
        return slice_words(bits.reshape(*codes.shape[:-1], -1), slice_width=32)
    per_byte = 8 // width
    grouped = codes.reshape(*codes.shape[:-1], -1, per_byte)
    merged = grouped[..., 0].copy()
    for i in range(1, per_byte):
        merged |= grouped[..., i] << np.uint8(i * width)
    return merged.view("<u4")

"""What memory words hold: the layouts of `hdl.layouts`, unpacked with numpy."""

import numpy as np
from amaranth.hdl import Shape
from amaranth.lib import data
from numpy.typing import NDArray

from hdl.layouts import Section, section_width, slice_width
from hdl.parameters import AcceleratorParameters

from ..bits import Bits, Words


def word_bits(words: Words, *, parameters: AcceleratorParameters, section: Section) -> Bits:
    """Bits of memory words (…, slices), least significant first along the last axis."""
    width, size = slice_width(parameters, section), section_width(parameters, section)
    plain = np.ascontiguousarray(words, dtype="<u4").view(np.uint8)
    bits = np.unpackbits(plain, axis=-1, bitorder="little")
    slices = bits.reshape(*words.shape, 32)[..., :width]
    return slices.reshape(*words.shape[:-1], -1)[..., :size]


def code_fields(bits: Bits, *, width: int) -> NDArray[np.unsignedinteger]:
    """Codes of `width` bits, at most 32, that lie one after another in the last axis."""
    *shape, size = bits.shape
    holder = np.min_scalar_type((1 << width) - 1)
    padded = np.zeros((*shape, size // width, 8 * holder.itemsize), dtype=np.uint8)
    padded[..., :width] = bits.reshape(*shape, -1, width)
    return np.packbits(padded, axis=-1, bitorder="little").view(holder.newbyteorder("<"))[..., 0]


def signed_fields(bits: Bits, layout: data.StructLayout) -> dict[str, NDArray[np.int64]]:
    """Fields of structures that fill the last axis one after another, each an array (…, structures)."""
    structures = bits.reshape(*bits.shape[:-1], -1, layout.size)
    found = {}
    for name, field in layout:
        values = structures[..., field.offset : field.offset + field.width].astype(np.int64)
        weights = 1 << np.arange(field.width, dtype=np.int64)
        if Shape.cast(field.shape).signed:
            weights[-1] *= -1
        found[name] = values @ weights
    return found

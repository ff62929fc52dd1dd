"""What a host sends an accelerator: packets of 32-bit words; and what it makes of the answers."""

from collections.abc import Iterator, Mapping, Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from hdl.layouts import (
    PACKET_HEADER,
    PAYLOAD_WORDS,
    STREAM_WIDTH,
    PacketOpcode,
    Section,
    Status,
    slice_width,
    slices,
)
from hdl.parameters import AcceleratorParameters

from .bits import Words, field_bits, slice_words, struct_bits
from .compiler.input_layout import InputLayout
from .graph import ImageRounding


def encode_images(
    images: NDArray[np.integer], *, layout: InputLayout, parameters: AcceleratorParameters
) -> Words:
    """Activation memory words of images (N, C, H, W), as slices (N, words, slices).

    Raises
    ------
    ValueError
        If the images have another shape, or a value that an image cannot hold.
    """
    if images.shape[1:] != layout.shape:
        raise ValueError(
            f"images must have shape (N, {', '.join(map(str, layout.shape))}), not {images.shape}"
        )
    if images.size and (images.min() < layout.lowest or images.max() > layout.highest):
        raise ValueError(f"images must hold integers from {layout.lowest} to {layout.highest}")
    padded = _bordered(images.astype(np.int64) - layout.lowest, layout)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (layout.kernel, layout.kernel), axis=(2, 3))
    patches = windows[:, :, :: layout.stride, :: layout.stride].transpose(0, 2, 3, 1, 4, 5)
    count, height, width = patches.shape[:3]
    channels = patches.reshape(count, height * width, 1, layout.shape[0] * layout.kernel**2)
    lanes = -(-channels.shape[-1] // parameters.lanes) * parameters.lanes
    places = np.arange(layout.digits)[:, None] * layout.digit_width
    digits = (channels >> places) & ((1 << layout.digit_width) - 1)
    codes = np.pad(digits, ((0, 0), (0, 0), (0, 0), (0, lanes - channels.shape[-1])))
    bits = field_bits(codes, parameters.code_width).reshape(
        count, layout.words, parameters.lanes * parameters.code_width
    )
    return slice_words(bits, slice_width=slice_width(parameters, Section.ACTIVATIONS))


def rounded_images(images: NDArray[np.number], rounding: ImageRounding) -> NDArray[np.int64]:
    """Images (N, C, H, W) of what is in those that a model takes, as `ImageRounding` says.

    Raises
    ------
    ValueError
        If a number is not finite.
    """
    if not np.isfinite(images).all():
        raise ValueError("images must hold finite numbers")
    scale, offset = (np.array(each).reshape(-1, 1, 1) for each in (rounding.scale, rounding.offset))
    levels = np.ceil(images * scale + (offset - 0.5))
    return levels.clip(rounding.lowest, rounding.highest).astype(np.int64)


def _bordered(images: NDArray[np.int64], layout: InputLayout) -> NDArray[np.int64]:
    count, channels, height, width = images.shape
    pad = layout.padding
    fill = np.array(layout.fill or [0] * channels).reshape(1, channels, 1, 1)
    bordered = np.broadcast_to(fill, (count, channels, height + 2 * pad, width + 2 * pad)).copy()
    bordered[:, :, pad : pad + height, pad : pad + width] = images
    return bordered


def load_packets(
    sections: Mapping[Section, Words], *, parameters: AcceleratorParameters, bank: int = 0
) -> list[Words]:
    """Packets that write sections (words, slices) from their first word on, into a bank of the memories."""
    return [
        packet
        for section, words in sections.items()
        for packet in section_packets(section, words, parameters=parameters, bank=bank)
    ]


def section_packets(
    section: Section, words: Words, *, parameters: AcceleratorParameters, bank: int = 0
) -> list[Words]:
    """Packets that write a section from its first word on: as few as can be, none for no words."""
    flat = words.reshape(-1)
    return [
        _packet(PacketOpcode.LOAD, flat[start:end], parameters, bank=bank, **fields)
        for start, end, fields in _payloads(section, len(flat), parameters)
    ]


def read_packets(
    section: Section, *, words: int, parameters: AcceleratorParameters, bank: int = 0
) -> list[Words]:
    """Packets that read back so many words of a section, from its first one on: as few as can be."""
    return [
        _packet(PacketOpcode.READ, None, parameters, bank=bank, **fields)
        for _, _, fields in _payloads(section, words * slices(parameters, section), parameters)
    ]


def read_words(responses: Sequence[Words], *, section: Section, parameters: AcceleratorParameters) -> Words:
    """The words (words, slices) in the answers to `read_packets`, as `section_packets` takes them.

    Raises
    ------
    ValueError
        If a packet was refused.
    """
    for response in responses:
        if response[0] != Status.DONE:
            raise ValueError(f"answers must begin with DONE, not {Status(int(response[0])).name}")
    payloads = [np.asarray(response[2:], dtype=np.uint32) for response in responses]
    return np.concatenate(payloads).reshape(-1, slices(parameters, section))


def _payloads(
    section: Section, length: int, parameters: AcceleratorParameters
) -> Iterator[tuple[int, int, dict[str, int]]]:
    """Begin and end of each packet's share of so many slices, and how its header says so."""
    count = slices(parameters, section)
    for start in range(0, length, PAYLOAD_WORDS):
        end = min(start + PAYLOAD_WORDS, length)
        address, part = divmod(start, count)
        yield start, end, {"section": section, "address": address, "slice": part, "count": end - start}


def run_packet(*, results: int, parameters: AcceleratorParameters, bank: int = 0) -> Words:
    """A packet that runs the program of a bank and asks for so many result words of every core."""
    return _packet(PacketOpcode.RUN, None, parameters, bank=bank, count=results * parameters.cores)


def run_packets(
    encoded: Words, *, results: int, parameters: AcceleratorParameters, bank: int = 0
) -> list[Words]:
    """For as many encoded images as there are cores the packets that load them, then the one that runs them.

    A last batch of fewer images leaves the other cores as they are, whose answers mean nothing.
    """
    run = run_packet(results=results, parameters=parameters, bank=bank)
    packets = []
    for start in range(0, len(encoded), parameters.cores):
        for core, words in enumerate(encoded[start : start + parameters.cores]):
            packets += section_packets(Section.ACTIVATIONS, words, parameters=parameters, bank=core)
        packets.append(run)
    return packets


def stream(packets: Sequence[Words]) -> tuple[Words, NDArray[np.bool_]]:
    """All packets' words in a row, and which of them end a packet."""
    lengths = [len(packet) for packet in packets]
    last = np.zeros(sum(lengths), dtype=bool)
    last[np.cumsum(lengths) - 1] = True
    return np.concatenate(packets), last


def response_length(*, results: int, parameters: AcceleratorParameters) -> int:
    """Words of the answer to a successful run: status, cycles, and the lanes of all result words."""
    return 2 + results * parameters.cores * parameters.requantizers


def answered_results(
    responses: NDArray[np.uint32], *, images: int, parameters: AcceleratorParameters
) -> NDArray[np.int64]:
    """Results (images, values) in the answers (batches, words) to a batch after another."""
    words = responses[:, 2:].astype(np.uint32).view(np.int32).astype(np.int64)
    cores = words.reshape(len(words), -1, parameters.cores, parameters.requantizers).transpose(0, 2, 1, 3)
    return cores.reshape(len(words) * parameters.cores, -1)[:images]


def sealed(words: Words) -> Words:
    """A packet: the words, and their CRC-32 behind them."""
    return np.append(words, np.uint32(crc32(words.astype("<u4").tobytes())))


def _packet(
    opcode: PacketOpcode, payload: Words | None, parameters: AcceleratorParameters, **fields: int
) -> Words:
    values = {"opcode": opcode, "build_id": parameters.build_id, **fields}
    bits = struct_bits(PACKET_HEADER, {name: np.array(value) for name, value in values.items()})
    header = slice_words(bits, slice_width=STREAM_WIDTH)
    return sealed(header if payload is None else np.concatenate([header, payload]))

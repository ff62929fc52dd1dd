"""What a host sends an accelerator: packets of 32-bit words; and what it makes of the answers."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from hdl.layouts import PACKET_HEADER, STREAM_WIDTH, PacketOpcode, Section, slice_width
from hdl.parameters import AcceleratorParameters

from .bits import Words, field_bits, slice_words, struct_bits
from .compiler import InputLayout


def encode_images(
    images: NDArray[np.integer], *, layout: InputLayout, parameters: AcceleratorParameters
) -> Words:
    """Activation memory words of images (N, C, H, W), as slices (N, words, slices).

    Raises
    ------
    ValueError
        If the images have another shape, or a value that the digits cannot hold.
    """
    if images.shape[1:] != layout.shape:
        raise ValueError(
            f"images must have shape (N, {', '.join(map(str, layout.shape))}), not {images.shape}"
        )
    limit = 1 << (layout.digits * layout.digit_width)
    if images.size and (images.min() < 0 or images.max() >= limit):
        raise ValueError(f"images must hold integers from 0 to {limit - 1}")
    pad = layout.padding
    padded = np.pad(images.astype(np.int64), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
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


def load_packet(section: Section, words: Words, *, parameters: AcceleratorParameters) -> Words:
    """A packet that writes a section from its first word on."""
    header = _header(PacketOpcode.LOAD, parameters=parameters, section=section, address=0, count=len(words))
    return np.concatenate([header, words.reshape(-1)])


def load_packets(sections: Mapping[Section, Words], *, parameters: AcceleratorParameters) -> list[Words]:
    """Packets that write all sections; an empty one needs none, and the accelerator would refuse it."""
    return [
        load_packet(section, words, parameters=parameters)
        for section, words in sections.items()
        if len(words)
    ]


def run_packet(*, results: int, parameters: AcceleratorParameters) -> Words:
    """A packet that runs the program and asks for so many result words."""
    return _header(PacketOpcode.RUN, parameters=parameters, section=0, address=0, count=results)


def run_packets(encoded: Words, *, results: int, parameters: AcceleratorParameters) -> list[Words]:
    """For each encoded image the packet that loads it, then the one that runs it."""
    run = run_packet(results=results, parameters=parameters)
    loads = (load_packet(Section.ACTIVATIONS, words, parameters=parameters) for words in encoded)
    return [packet for load in loads for packet in (load, run)]


def stream(packets: Sequence[Words]) -> tuple[Words, NDArray[np.bool_]]:
    """All packets' words in a row, and which of them end a packet."""
    lengths = [len(packet) for packet in packets]
    last = np.zeros(sum(lengths), dtype=bool)
    last[np.cumsum(lengths) - 1] = True
    return np.concatenate(packets), last


def response_length(*, results: int, parameters: AcceleratorParameters) -> int:
    """Words of the answer to a successful run: status, cycles, and the lanes of all result words."""
    return 2 + results * parameters.requantizers


def _header(opcode: PacketOpcode, *, parameters: AcceleratorParameters, **fields: int) -> Words:
    values = {"opcode": opcode, "build_id": parameters.build_id, **fields}
    bits = struct_bits(PACKET_HEADER, {name: np.array(value) for name, value in values.items()})
    return slice_words(bits, slice_width=STREAM_WIDTH)

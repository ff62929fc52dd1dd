"""Every word that crosses between software and hardware: memory words, commands, packets.

These layouts pack in ``sw``, shape signals in ``hdl`` and unpack in ``verif``.
"""

import enum

from amaranth.hdl import signed
from amaranth.lib import data

from .parameters import (
    ADDRESS_WIDTH,
    BIAS_WIDTH,
    MULTIPLIER_WIDTH,
    PASS_SHIFT_WIDTH,
    RESULT_WIDTH,
    SHIFT_WIDTH,
    VALUE_WIDTH,
    AcceleratorParameters,
)

STREAM_WIDTH = 32
BANK_WIDTH = 8
SLICE_WIDTH = 16


class Section(enum.IntEnum):
    """The memories a packet can write and read back, by number; see `sections` for an accelerator's."""

    PROGRAM = 0
    WEIGHTS = 1
    CHANNELS = 2
    TABLES = 3
    BOUNDARIES = 4
    ACTIVATIONS = 5
    CODEBOOKS = 6


class PacketOpcode(enum.IntEnum):
    """What a packet asks for."""

    LOAD = 1
    RUN = 2
    READ = 3


class LayerOpcode(enum.IntEnum):
    """What a program word asks for."""

    HALT = 0
    CONVOLUTION = 1
    MAXIMUM = 2
    SUM = 3


class Status(enum.IntEnum):
    """First word of a response, and the engine's error code."""

    DONE = 0
    PACKET_OPCODE = 1
    BUILD_ID = 2
    SECTION = 3
    LOAD_RANGE = 4
    LENGTH = 5
    CHECKSUM = 6
    LAYER_OPCODE = 7
    ZERO_DIMENSION = 8
    LAYER_LIMIT = 9
    PROGRAM_RANGE = 10
    ACTIVATION_RANGE = 11
    WEIGHT_RANGE = 12
    CHANNEL_RANGE = 13
    OUTPUT_RANGE = 14
    VALUES_RANGE = 15
    RESIDUAL_RANGE = 16


PACKET_HEADER = data.StructLayout(
    {
        "opcode": 8,
        "section": 8,
        "slice": SLICE_WIDTH,
        "build_id": 32,
        "address": ADDRESS_WIDTH,
        "bank": BANK_WIDTH,
        "count": 32,
    }
)
"""Head of every packet; the CRC-32 of all its other words is its last.  LOAD: the section's first word, the
first slice of it, and the number of stream words that follow.  READ: the same, and the number of stream words
to return.  RUN: first program word and number of result words to return."""

PAYLOAD_WORDS = 256
"""The most stream words that a LOAD carries between its header and its CRC-32, or that a READ asks for."""

LAYER = data.StructLayout(
    {
        "opcode": 8,
        "encoding": 8,
        "passes": 8,
        "to_codes": 1,
        "to_values": 1,
        "to_results": 1,
        "add_residual": 1,
        "rectify": 1,
        "linear": 1,
        "reserved": 2,
        "kernel_height": 8,
        "kernel_width": 8,
        "stride": 8,
        "padding": 8,
        "tiles": 16,
        "output_height": 16,
        "output_width": 16,
        "input_height": 16,
        "input_width": 16,
        "linear_bits": 8,
        "linear_place": 8,
        "origin": ADDRESS_WIDTH,
        "row_step": ADDRESS_WIDTH,
        "pixel_step": ADDRESS_WIDTH,
        "row_pitch": ADDRESS_WIDTH,
        "pixel_pitch": ADDRESS_WIDTH,
        "tile_step": ADDRESS_WIDTH,
        "weights": ADDRESS_WIDTH,
        "channels": ADDRESS_WIDTH,
        "output": ADDRESS_WIDTH,
        "output_pitch": ADDRESS_WIDTH,
        "values": ADDRESS_WIDTH,
        "values_pitch": ADDRESS_WIDTH,
        "residual": ADDRESS_WIDTH,
        "residual_pitch": ADDRESS_WIDTH,
        "codebook": 8,
        "spare": 8,
    }
)
"""One layer of the program; its passes follow as `PASS` words.

``origin`` is the (wrapping) address of the word that kernel tap (0, 0) reads for output pixel (0, 0) of
the first output tile, so it lies ``padding`` rows and pixels before the tensor.  ``row_step`` and
``pixel_step`` move it by one output row and pixel, ``row_pitch`` and ``pixel_pitch`` by one kernel row and
column, ``tile_step`` by one output tile.  These count words of activation memory, or of values memory where
the opcode is a pooling.

``output``, ``values`` and ``residual`` are where the first pixel's codes (or results) and values are
written, and its residual values read; each moves by its pitch from pixel to pixel.  They count groups of
`requantizers` codes, results or values.

``codebook`` is the number of the codebook that a convolution's weights are indices of, where there are any.

With ``linear``, a code is ``(clamp(y, 0, 2^linear_bits - 1) >> linear_place) mod 2^code_width``; without, it
is the number of the encoding's boundaries below y.
"""

LAYER_WORDS = LAYER.size // STREAM_WIDTH
"""Program words of a layer's command, without its passes."""

LAYER_DIMENSIONS = (
    "passes",
    "kernel_height",
    "kernel_width",
    "stride",
    "tiles",
    "output_height",
    "output_width",
    "input_height",
    "input_width",
)
"""What must not be 0 in it."""

PASS = data.StructLayout({"offset": 12, "count": 12, "table": 4, "shift": PASS_SHIFT_WIDTH})
"""One pass: the words of each pixel it covers, the table that decodes them, and the power of two that
its accumulators count for (the place of a digit)."""

CHANNEL = data.StructLayout(
    {
        "multiplier": signed(MULTIPLIER_WIDTH),
        "bias": signed(BIAS_WIDTH),
        "shift": SHIFT_WIDTH,
    }
)
"""Requantization of one output channel in one pass; shifts of a layer's other passes than the last are
not used."""

VALUE = signed(VALUE_WIDTH)
"""A requantized value before it is encoded, and a decision boundary."""

RESULT = signed(RESULT_WIDTH)
"""A requantized value that is returned as it is."""


def weight_word(parameters: AcceleratorParameters) -> data.ArrayLayout:
    """Codes of all rows and lanes for one cycle, or indices of them in a codebook."""
    row = data.ArrayLayout(parameters.weight_width, parameters.lanes)
    return data.ArrayLayout(row, parameters.rows)


def channel_word(parameters: AcceleratorParameters) -> data.ArrayLayout:
    """Requantization of the channels served in one cycle."""
    return data.ArrayLayout(CHANNEL, parameters.requantizers)


def activation_word(parameters: AcceleratorParameters) -> data.ArrayLayout:
    """Codes of one tile of channels of one pixel."""
    return data.ArrayLayout(parameters.code_width, parameters.lanes)


def result_word(parameters: AcceleratorParameters) -> data.ArrayLayout:
    """Results of the channels served in one cycle."""
    return data.ArrayLayout(RESULT, parameters.requantizers)


def values_word(parameters: AcceleratorParameters) -> data.ArrayLayout:
    """Values of the channels served in one cycle: a word of values memory."""
    return data.ArrayLayout(VALUE, parameters.requantizers)


def pooled_word(parameters: AcceleratorParameters) -> data.ArrayLayout:
    """Pooled values of the channels served in one cycle."""
    return data.ArrayLayout(signed(parameters.pooled_width), parameters.requantizers)


def sections(parameters: AcceleratorParameters) -> tuple[Section, ...]:
    """The sections of an accelerator, by number; one without codebooks has no memory for them."""
    return tuple(section for section in Section if section is not Section.CODEBOOKS or parameters.codebooks)


def section_width(parameters: AcceleratorParameters, section: Section) -> int:
    """Bits of one word of a section."""
    return {
        Section.PROGRAM: STREAM_WIDTH,
        Section.WEIGHTS: weight_word(parameters).size,
        Section.CHANNELS: channel_word(parameters).size,
        Section.TABLES: parameters.activation_width,
        Section.BOUNDARIES: VALUE_WIDTH,
        Section.ACTIVATIONS: activation_word(parameters).size,
        Section.CODEBOOKS: parameters.format.code_width,
    }[section]


def section_depth(parameters: AcceleratorParameters, section: Section) -> int:
    """Words of a section, in each of its banks."""
    return {
        Section.PROGRAM: parameters.program_words,
        Section.WEIGHTS: parameters.weight_words,
        Section.CHANNELS: parameters.channel_words,
        Section.TABLES: parameters.tables << parameters.code_width,
        Section.BOUNDARIES: parameters.encodings << parameters.code_width,
        Section.ACTIVATIONS: parameters.activation_words,
        Section.CODEBOOKS: parameters.codebooks << parameters.index_width,
    }[section]


def section_banks(parameters: AcceleratorParameters, section: Section) -> int:
    """Banks of a section: each image has one, and each core has one of activations, which images share."""
    return parameters.cores if section is Section.ACTIVATIONS else parameters.banks


def slice_width(parameters: AcceleratorParameters, section: Section) -> int:
    """Bits of a word that one stream word carries: as many as can be written on their own."""
    if section is Section.ACTIVATIONS:
        return parameters.requantizers * parameters.code_width
    return min(STREAM_WIDTH, section_width(parameters, section))


def slices(parameters: AcceleratorParameters, section: Section) -> int:
    """Stream words that carry one word of a section, least significant slice first."""
    return -(-section_width(parameters, section) // slice_width(parameters, section))


def search_order(boundaries: list[int], *, code_width: int, value_width: int = VALUE_WIDTH) -> list[int]:
    """Words of one encoding: entry ``i`` is node ``i`` of a binary search tree, children 2i and 2i + 1.

    Boundaries that a format does not need are the largest value, which nothing exceeds.  Entry 0 is
    not used.
    """
    size, top = 2**code_width, 2 ** (value_width - 1) - 1
    if len(boundaries) >= size:
        raise ValueError(f"boundaries must be at most {size - 1} for codes of {code_width} bits")
    ordered = [*boundaries, *[top] * (size - 1 - len(boundaries))]
    words = [0] * size
    for node in range(1, size):
        depth = node.bit_length() - 1
        span = size >> depth
        words[node] = ordered[(node - (1 << depth)) * span + span // 2 - 1]
    return words

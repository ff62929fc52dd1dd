"""Words between software and hardware: widths, slices, search trees, and numpy packing against Amaranth's."""

import random
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Const, Shape
from amaranth.lib import data

from hdl.formats import named
from hdl.layouts import (
    CHANNEL,
    LAYER,
    PACKET_HEADER,
    PASS,
    STREAM_WIDTH,
    VALUE,
    Section,
    activation_word,
    channel_word,
    result_word,
    search_order,
    section_depth,
    section_width,
    sections,
    slice_width,
    slices,
    weight_word,
)
from hdl.parameters import VALUE_WIDTH, AcceleratorParameters
from sw.bits import code_words, field_bits, slice_words, struct_bits

TOP = 2 ** (VALUE_WIDTH - 1) - 1


def walked(words: list[int], value: int, *, code_width: int) -> int:
    """The code that a walk from the root gives: right where the boundary lies below the value."""
    node = 1
    for _ in range(code_width):
        node = 2 * node + (words[node] < value)
    return node - 2**code_width


@pytest.mark.parametrize("code_width", range(1, 9))
def test_search_trees_count_the_boundaries_below(code_width: int) -> None:
    draw = random.Random(code_width)
    for count in {0, 1, 2**code_width // 2, 2**code_width - 1}:
        boundaries = sorted(draw.sample(range(1, 600), count))
        words = search_order(boundaries, code_width=code_width)
        assert len(words) == 2**code_width
        for value in [-TOP - 1, -1, *range(610), TOP - 1, TOP]:
            below = sum(boundary < value for boundary in boundaries)
            assert walked(words, value, code_width=code_width) == below


@pytest.mark.parametrize("name", ["apot_k2n1ou", "apot_k2n2u", "pot_k4u", "uniform_b8u", "uniform_b1u"])
def test_search_trees_of_formats(name: str) -> None:
    fmt = named(name)
    words = search_order(list(fmt.boundaries), code_width=fmt.code_width)
    for value in range(-2, 2 * fmt.max_level + 3):
        below = sum(boundary < value for boundary in fmt.boundaries)
        assert walked(words, value, code_width=fmt.code_width) == below


def test_too_many_boundaries_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^boundaries must be at most 7 for codes of 3 bits$"):
        search_order(list(range(1, 9)), code_width=3)


MEMORIES: dict[str, Any] = {
    "weight_format": "apot_k2n2",
    "rows": 6,
    "lanes": 8,
    "requantizers": 2,
    "activation_width": 7,
    "tables": 3,
    "activation_words": 50,
    "weight_words": 30,
    "channel_words": 20,
    "program_words": 100,
}
LITERAL: dict[Section, tuple[int, int, int, int]] = {
    Section.PROGRAM: (32, 100, 32, 1),
    Section.WEIGHTS: (6 * 8 * 5, 30, 32, 8),
    Section.CHANNELS: (2 * 72, 20, 32, 5),
    Section.TABLES: (7, 3 * 16, 7, 1),
    Section.BOUNDARIES: (18, 2 * 16, 18, 1),
    Section.ACTIVATIONS: (8 * 4, 50, 2 * 4, 4),
}
"""Width, depth, bits of a slice, and slices a word, by hand, of the parameters below."""


def test_sections() -> None:
    parameters = AcceleratorParameters(**MEMORIES)
    assert measured(parameters) == LITERAL
    assert result_word(parameters).size == 2 * 32


def test_sections_with_codebooks() -> None:
    """Weights are indices; a codebook's 8 entries are codes."""
    found = measured(AcceleratorParameters(**MEMORIES, codebooks=3, index_width=3))
    indices, entries = (6 * 8 * 3, 30, 32, 5), (5, 3 * 8, 5, 1)
    assert found == LITERAL | {Section.WEIGHTS: indices, Section.CODEBOOKS: entries}


def measured(parameters: AcceleratorParameters) -> dict[Section, tuple[int, ...]]:
    measures = (section_width, section_depth, slice_width, slices)
    return {
        section: tuple(measure(parameters, section) for measure in measures)
        for section in sections(parameters)
    }


CHANGED: list[dict[str, Any]] = [
    {},
    {"weight_format": "uniform_b4", "rows": 1, "requantizers": 1},
    {"weight_format": "uniform_b8", "codebooks": 3, "index_width": 1},
]


@pytest.mark.parametrize("changed", CHANGED)
def test_slices_cover_a_word_and_no_more(changed: dict[str, Any]) -> None:
    parameters = AcceleratorParameters(**changed)
    for section in sections(parameters):
        width, step = section_width(parameters, section), slice_width(parameters, section)
        assert step <= STREAM_WIDTH
        assert 0 <= slices(parameters, section) * step - width < step
        assert section_depth(parameters, section) * slices(parameters, section) > 0


def test_commands_are_whole_words() -> None:
    """Program memory, packets and hex files hold 32-bit words."""
    for layout in (LAYER, PASS, PACKET_HEADER):
        assert layout.size % STREAM_WIDTH == 0
    assert (PACKET_HEADER.size, LAYER.size, PASS.size, CHANNEL.size) == (128, 512, 32, 72)


def random_fields(draw: random.Random, layout: data.StructLayout) -> dict[str, int]:
    """A value of every field; the extremes often, below zero where the field is signed."""
    values = {}
    for name, field in layout:
        shape = Shape.cast(field.shape)
        low = -(1 << (shape.width - 1)) if shape.signed else 0
        high = (1 << (shape.width - shape.signed)) - 1
        values[name] = draw.choice((low, high, 0, draw.randint(low, high)))
    return values


@pytest.mark.parametrize(
    "layout", [LAYER, PASS, CHANNEL, PACKET_HEADER], ids=["LAYER", "PASS", "CHANNEL", "PACKET_HEADER"]
)
def test_structures_pack_as_in_hardware(layout: data.StructLayout) -> None:
    draw = random.Random(1)
    rows = [random_fields(draw, layout) for _ in range(200)]
    bits = struct_bits(layout, {name: np.array([row[name] for row in rows]) for name in rows[0]})
    for row, packed in zip(rows, bits.tolist(), strict=True):
        expected = Const.cast(layout.const(row).as_value()).value & ((1 << layout.size) - 1)
        assert sum(bit << i for i, bit in enumerate(packed)) == expected


def test_addresses_before_a_tensor_wrap() -> None:
    """An origin below zero is the same 24 bits as the address that the hardware counts up from."""
    bits = struct_bits(LAYER, {"origin": np.array([-17]), "opcode": np.array([1])})
    found = sum(int(bit) << i for i, bit in enumerate(bits[0]))
    assert found == 1 | (2**24 - 17) << LAYER["origin"].offset


def test_fields_that_are_not_given_are_zero() -> None:
    assert struct_bits(PASS, {"count": np.array([2**12 - 1])}).sum() == 12


def packed(word: list[int], width: int) -> int:
    return sum(int(code) << i * width for i, code in enumerate(word))


@pytest.mark.parametrize("lanes", [1, 2, 3, 8, 15, 16, 64])
@pytest.mark.parametrize("width", range(1, 9))
def test_codes_pack_lane_by_lane(width: int, lanes: int) -> None:
    """Bytes merged, or bit by bit: the same words as integers shifted by hand."""
    rng = np.random.default_rng(width * 100 + lanes)
    codes = rng.integers(0, 2**width, (5, lanes), dtype=np.uint8)
    words = code_words(codes, width=width)
    assert words.dtype == np.uint32
    assert words.shape == (5, -(-lanes * width // 32))
    for word, row in zip(words.tolist(), codes.tolist(), strict=True):
        assert packed(word, 32) == packed(row, width)


def test_weight_words_hold_row_by_row() -> None:
    """Lane 0 of row 0 in the lowest bits, as the array reads them."""
    parameters = AcceleratorParameters(rows=2, lanes=4, requantizers=2)
    codes = np.arange(1, 9, dtype=np.uint8)
    layout = weight_word(parameters)
    expected = layout.const([codes[:4].tolist(), codes[4:].tolist()]).as_value().value
    assert packed(code_words(codes[None], width=parameters.format.code_width)[0].tolist(), 32) == expected


def test_channel_and_activation_words_hold_one_after_another() -> None:
    parameters = AcceleratorParameters(rows=2, lanes=4, requantizers=2)
    rows = [{"multiplier": -3, "bias": -(2**47), "shift": 47}, {"multiplier": 5, "bias": 7, "shift": 0}]
    bits = struct_bits(CHANNEL, {name: np.array([row[name] for row in rows]) for name in rows[0]})
    words = slice_words(bits.reshape(1, -1), slice_width=32)[0].tolist()
    assert packed(words, 32) == channel_word(parameters).const(rows).as_value().value
    codes = np.array([1, 2, 3, 15])
    bits = field_bits(codes, 4)
    expected = activation_word(parameters).const(codes.tolist()).as_value().value
    assert packed(bits.reshape(-1).tolist(), 1) == expected


@pytest.mark.parametrize(("width", "step"), [(7, 7), (18, 18), (32, 32), (33, 32), (48, 16), (65, 8)])
def test_slices_of_words(width: int, step: int) -> None:
    draw = random.Random(width)
    values = [draw.getrandbits(width) for _ in range(20)]
    bits = np.array([[value >> i & 1 for i in range(width)] for value in values], dtype=np.uint8)
    words = slice_words(bits, slice_width=step)
    assert words.shape == (20, -(-width // step))
    assert [packed(word, step) for word in words.tolist()] == values


def test_values_are_as_wide_as_boundaries() -> None:
    assert Shape.cast(VALUE) == Shape(VALUE_WIDTH, signed=True)

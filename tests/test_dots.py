"""Dot products of multipliers, shifts and looked-up sums against the closed form, in Amaranth's simulator."""

import random
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from hdl.codebook import CodebookDot
from hdl.dot import DotProduct, DotRows
from hdl.formats import APoT, PoT, Uniform
from hdl.formats.subsets import subset_sums, word_range
from hdl.products import TableProduct
from hdl.shift import ShiftDot
from tests.closed_form import apot_levels, shift_excess, uniform_levels
from tests.simulated import outputs, sums

SHIFTS = [
    *((APoT(k=k, n=n), apot_levels(k=k, n=n)) for k in (1, 2, 3) for n in (1, 2, 3)),
    *((APoT(k=2, n=n, odd=True), apot_levels(k=2, n=n, odd=True)) for n in (1, 2)),
    *((PoT(k=k), apot_levels(k=k, n=1)) for k in (2, 3)),
]


@pytest.mark.parametrize(("weight_format", "levels"), SHIFTS, ids=lambda each: getattr(each, "name", ""))
@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("folded", [False, True])
def test_every_shifted_product(weight_format: APoT, levels: list[int], width: int, folded: bool) -> None:
    """One lane: every code, of many codes every third, with every activation."""
    dot = ShiftDot(weight_format=weight_format, activation_width=width, lanes=1, depth=1, folded=folded)
    excess = shift_excess(levels, width=width)[0][0] if folded else [0] * len(levels)
    codes = range(0, len(levels), 3 if len(levels) > 64 else 1)
    pairs = list(product(codes, range(2**width)))
    cycles = [{"enable": 1, "clear": 1, "weights": [[code]], "activations": [a]} for code, a in pairs]
    assert sums(dot, cycles) == [[levels[code] * a + excess[code]] for code, a in pairs]


UNITS: list[tuple[Callable[..., DotRows], list[int], int]] = [
    (
        lambda **size: ShiftDot(weight_format=APoT(k=2, n=1, odd=True), **size),
        apot_levels(k=2, n=1, odd=True),
        4,
    ),
    (lambda **size: ShiftDot(weight_format=PoT(k=1), **size), apot_levels(k=1, n=1), 2),
    (lambda **size: DotProduct(weight_format=Uniform(bits=4), **size), uniform_levels(bits=4), 2),
    (
        lambda **size: DotProduct(weight_format=APoT(k=2, n=2), product=TableProduct, **size),
        apot_levels(k=2, n=2),
        2,
    ),
]


@pytest.mark.parametrize("lanes", [1, 2, 3, 5])
@pytest.mark.parametrize(("make", "levels", "latency"), UNITS)
def test_dot_product(make: Callable[..., DotRows], levels: list[int], latency: int, lanes: int) -> None:
    """Any vectors, pauses and clears; the latency is what the docstrings say."""
    dot = make(activation_width=4, lanes=lanes, depth=8 * lanes, rows=2)
    draw = random.Random(lanes)
    cycles, expected, totals = [], [], [0, 0]
    for number in range(40):
        weights = [[draw.randrange(len(levels)) for _ in range(lanes)] for _ in range(2)]
        activations = [draw.randrange(16) for _ in range(lanes)]
        enable, clear = draw.random() < 0.7, number % 8 == 0
        for row in range(2):
            exact = sum(levels[w] * a for w, a in zip(weights[row], activations, strict=True))
            totals[row] = (0 if clear else totals[row]) + enable * exact
        expected.append(list(totals))
        cycles.append({"enable": enable, "clear": clear, "weights": weights, "activations": activations})
    assert sums(dot, cycles) == expected
    assert dot.latency == latency + (lanes - 1).bit_length()


@pytest.mark.parametrize("folded", [False, True])
def test_looked_up_sums(folded: bool) -> None:
    """Six lanes in two tables; between vectors one row gets other levels."""
    levels = [[3, -3, 0, 1, -2, 2], [-3, -3, -3, -3, -3, 3]]
    dot = CodebookDot(level_width=3, activation_width=2, lanes=6, depth=6, rows=2, folded=folded)

    def written(row: int, values: list[int]) -> list[dict[str, int]]:
        return [
            {"write_enable": 1, "write_row": row, "write_group": group, "write_entry": e, "write_data": word}
            for group in range(2)
            for e, word in enumerate(
                subset_sums(values[4 * group : 4 * group + 4], level_width=3, folded=folded)
            )
        ]

    def dotted(values: list[int], vector: list[int]) -> int:
        excess = 3 * sum(max(0, -level) for level in values) if folded else 0
        return sum(level * a for level, a in zip(values, vector, strict=True)) + excess

    first, second = [3, 0, 1, 2, 3, 3], [1, 2, 3, 3, 0, 2]
    vector = {"write_enable": 0, "enable": 1, "clear": 1, "activations": first}
    idle = {"write_enable": 0, "enable": 0, "clear": 0}
    loads = [each for row in (0, 1) for each in written(row, levels[row])]
    cycles = [*loads, vector, idle, *written(0, levels[1]), vector | {"activations": second}]
    found = sums(dot, cycles)
    assert found[len(loads)] == [dotted(row, first) for row in levels]
    assert found[-1] == [dotted(levels[1], second)] * 2


def test_subset_sums_by_hand() -> None:
    assert subset_sums([1, 2, -3], level_width=3) == (0, 1, 2, 3, -3, -2, -1, 0) * 2
    assert subset_sums([1, 2, -3], level_width=3, folded=True) == (3, 4, 5, 6, 0, 1, 2, 3) * 2
    assert word_range(8, folded=True) == (0, 508)
    assert word_range(8, folded=False) == (-508, 508)


def test_a_word_written_is_found_a_cycle_later() -> None:
    dot = CodebookDot(level_width=4, activation_width=1, lanes=1, depth=1)
    write = {"write_enable": 1, "write_entry": 1, "write_data": 5}
    cycles = [{"enable": 1, "clear": 1, "activations": [1], **write}, {"write_enable": 0}, {}, {}]
    found = outputs(dot, cycles, "accumulators")
    assert [each[0][0] for each in found[dot.latency - 1 :]] == [0, 5, 5]


def shift(**changed: Any) -> ShiftDot:
    values = {"weight_format": APoT(k=2, n=1), "activation_width": 4, "lanes": 2, "depth": 4}
    return ShiftDot(**(values | changed))


def multiplied(**changed: Any) -> DotProduct:
    values = {"weight_format": Uniform(bits=4), "activation_width": 4, "lanes": 2, "depth": 4}
    return DotProduct(**(values | changed))


def codebook(**changed: Any) -> CodebookDot:
    return CodebookDot(**({"level_width": 4, "activation_width": 4, "lanes": 2, "depth": 4} | changed))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: shift(lanes=0), ValueError, "lanes must be an integer from 1 to 256, not 0"),
        (lambda: multiplied(lanes=257), ValueError, "lanes must be an integer from 1 to 256, not 257"),
        (lambda: shift(lanes="2"), TypeError, "lanes must be an integer from 1 to 256, not '2'"),
        (lambda: multiplied(rows=0), ValueError, "rows must be an integer from 1 to 256, not 0"),
        (lambda: codebook(rows=1.0), TypeError, "rows must be an integer from 1 to 256, not 1.0"),
        (
            lambda: codebook(depth=2**24 + 1),
            ValueError,
            "depth must be an integer from 1 to 16777216, not 16777217",
        ),
        (
            lambda: codebook(activation_width=17),
            ValueError,
            "activation_width must be an integer from 1 to 16, not 17",
        ),
        (lambda: codebook(level_width=1), ValueError, "level_width must be an integer from 2 to 16, not 1"),
        (lambda: codebook(folded=0), TypeError, "folded must be True or False, not 0"),
        (lambda: shift(folded=None), TypeError, "folded must be True or False, not None"),
        (
            lambda: shift(folded=True, accumulator_width=7),
            ValueError,
            "accumulator_width must be at least 8 for sums of 4 products, not 7",
        ),
        (
            lambda: multiplied(weight_format=Uniform(bits=4, signed=False)),
            ValueError,
            "weight_format must be signed, not 'uniform_b4u'",
        ),
        (
            lambda: shift(weight_format=APoT(k=2, n=1, signed=False)),
            ValueError,
            "weight_format must be signed, not 'apot_k2n1u'",
        ),
        (
            lambda: shift(weight_format=Uniform(bits=4)),
            TypeError,
            "weight_format must be an APoT or PoT format, not Uniform(signed=True, bits=4)",
        ),
        (lambda: subset_sums([0] * 5, level_width=4), ValueError, "levels must be at most 4, not 5"),
        (
            lambda: subset_sums([8], level_width=4),
            ValueError,
            "levels must be an integer from -7 to 7, not 8",
        ),
        (lambda: subset_sums([0], level_width=4, folded=1), TypeError, "folded must be True or False, not 1"),
    ],
)
def test_refusals(make: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        make()
    assert (type(caught.value), str(caught.value)) == (error, message)

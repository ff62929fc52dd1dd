"""Dot products on planes and by counting ones, against the closed form, in Amaranth's simulator."""

import random
from typing import Any

import pytest

from hdl.formats import APoT, Basis, Uniform, basis, signed_width
from hdl.pairs import PairTables
from hdl.planes import PlaneDot, PlaneRows
from hdl.popcount import PopcountDot
from tests.closed_form import basis_levels, integer_plane_excess, uniform_levels
from tests.simulated import outputs, sums


def unit(**changed: Any) -> PlaneDot:
    values = {"weight_format": Basis(coordinates=(5, 8)), "activation_width": 4, "lanes": 2, "depth": 4}
    return PlaneDot(**(values | changed))


def test_two_lanes_by_hand() -> None:
    """Codes 0 … 3 are -13, -3, 3, 13."""
    dot = unit(depth=6)
    steps = [
        # enable, clear, weights, activations, sum
        (1, 1, (3, 0), (15, 15), 0),
        (1, 0, (3, 1), (2, 1), 23),
        (0, 0, (3, 3), (9, 9), 23),
        (1, 0, (0, 2), (15, 0), -172),
        (1, 1, (2, 2), (1, 7), 24),
        (0, 1, (3, 3), (9, 9), 0),
    ]
    cycles = [
        {"enable": enable, "clear": clear, "weights": [weights], "activations": activations}
        for enable, clear, weights, activations, _ in steps
    ]
    assert sums(dot, cycles) == [[step[-1]] for step in steps]


def test_folded_lanes_by_hand() -> None:
    """Each minus adds A · 16 in lane 0 and A · 15 in lane 1, even at activation 0."""
    dot = unit(folded=True)
    cycle = {"enable": 1, "clear": 1, "weights": [(2, 0)], "activations": (0, 0)}
    found = sums(dot, [cycle])
    assert found[-1] == [5 * 16 + (5 + 8) * 15]


@pytest.mark.parametrize(
    "coordinates", [(1,), (7,), (133,), (2, 4), (1, 4096), (5, 8), (18, 31, 41), (41, 77, 98, 156)]
)
@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("serial", [False, True])
def test_every_product(coordinates: tuple[int, ...], folded: bool, serial: bool) -> None:
    """One lane, a row for each code: every plane's sum is at every end of its range at once."""
    levels = basis_levels(coordinates)
    codes = range(len(levels))
    chosen = {"weight_format": Basis(coordinates=coordinates), "folded": folded, "serial": serial}
    dot = unit(activation_width=2, lanes=1, depth=1, rows=len(levels), **chosen)
    cycles = []
    for activation in range(4):
        for plane in range(len(coordinates)) if serial else [0]:
            weights = [[code >> plane & 1 if serial else code] for code in codes]
            cycle = {"enable": 1, "clear": plane == 0, "weights": weights, "activations": [activation]}
            cycles.append(cycle | ({"plane": plane} if serial and len(coordinates) > 1 else {}))
    found = sums(dot, cycles)
    every = len(coordinates) if serial else 1
    top = sum(coordinates)
    assert found[every - 1 :: every] == [
        [level * activation + (4 * (top - level) // 2 if folded else 0) for level in levels]
        for activation in range(4)
    ]


def test_planes_in_any_order() -> None:
    """Serial: planes of one vector, planes of many vectors, and one that is not there."""
    coordinates, lanes = (18, 31, 41), 4
    dot = unit(weight_format=Basis(coordinates=coordinates), lanes=lanes, depth=12, rows=2, serial=True)
    draw = random.Random(1)
    levels = basis_levels(coordinates)
    codes = [[[draw.randrange(8) for _ in range(lanes)] for _ in range(2)] for _ in range(3)]
    vectors = [[draw.randrange(16) for _ in range(lanes)] for _ in range(3)]
    order = [(vector, plane) for vector in range(3) for plane in (0, 1, 2, 3)]
    draw.shuffle(order)
    cycles = [
        {
            "enable": 1,
            "clear": number == 0,
            "plane": plane,
            "weights": [[code >> plane & 1 for code in row] for row in codes[vector]],
            "activations": vectors[vector],
        }
        for number, (vector, plane) in enumerate(order)
    ]
    found = sums(dot, cycles)
    assert found[-1] == [
        sum(levels[codes[v][row][lane]] * vectors[v][lane] for v in range(3) for lane in range(lanes))
        for row in range(2)
    ]


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("planes", [1, 2, 3, 4])
def test_counting_ones_equals_selecting_sums(planes: int, width: int) -> None:
    """Two circuits with nothing in common but adders, for all M, N up to 4, and the closed form."""
    lanes, rows, vectors = 5, 2, 6
    chosen = basis(family="gauss", planes=planes)
    size = {"weight_format": chosen, "activation_width": width, "lanes": lanes, "rows": rows}
    units = [PlaneDot(depth=lanes * vectors, **size), PopcountDot(depth=lanes * vectors, **size)]
    draw = random.Random(10 * planes + width)
    levels = basis_levels(chosen.coordinates)
    cycles, expected, totals = [], [], [0] * rows
    for number in range(60):
        codes = [[draw.randrange(len(levels)) for _ in range(lanes)] for _ in range(rows)]
        activations = [draw.choice((0, 2**width - 1, draw.randrange(2**width))) for _ in range(lanes)]
        enable, clear = draw.random() < 0.8, number % vectors == 0
        for row in range(rows):
            term = sum(levels[c] * a for c, a in zip(codes[row], activations, strict=True))
            totals[row] = (0 if clear else totals[row]) + (term if enable else 0)
        expected.append(list(totals))
        cycles.append({"enable": enable, "clear": clear, "weights": codes, "activations": activations})
    for dot in units:
        assert sums(dot, cycles) == expected
    assert units[0].accumulator_shape == units[1].accumulator_shape


@pytest.mark.parametrize("depth", [1, 7, 4608])
@pytest.mark.parametrize("planes", [1, 2, 3, 4])
def test_accumulator_is_wide_enough_and_no_wider(planes: int, depth: int) -> None:
    chosen = basis(family="laplace", planes=planes)
    most = depth * max(chosen.levels) * 15
    dot = unit(weight_format=chosen, lanes=4, depth=depth)
    assert dot.accumulator_shape.width == signed_width(-most, most)
    vectors = -(-depth // 4)
    excess = vectors * 2 * (16 + 15) * max(chosen.levels)
    folded = unit(weight_format=chosen, lanes=4, depth=depth, folded=True)
    assert (folded.accumulator_shape.width, folded.accumulator_shape.signed) == (excess.bit_length(), False)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: unit(weight_format=APoT(k=2, n=1)),
            TypeError,
            "weight_format must be a Basis or Uniform format, not APoT(signed=True, k=2, n=1, odd=False)",
        ),
        (
            lambda: PopcountDot(weight_format="gauss_m2", activation_width=4, lanes=2, depth=4),
            TypeError,
            "weight_format must be a Basis format, not 'gauss_m2'",
        ),
        (
            lambda: PopcountDot(weight_format=Basis(coordinates=(1,)), activation_width=0, lanes=2, depth=4),
            ValueError,
            "activation_width must be an integer from 1 to 16, not 0",
        ),
        (
            lambda: PopcountDot(
                weight_format=Basis(coordinates=(1,)),
                activation_width=4,
                lanes=2,
                depth=4,
                accumulator_width=6,
            ),
            ValueError,
            "accumulator_width must be at least 7 for sums of 4 products, not 6",
        ),
        (lambda: unit(lanes=0), ValueError, "lanes must be an integer from 1 to 256, not 0"),
        (lambda: unit(rows=0), ValueError, "rows must be an integer from 1 to 256, not 0"),
        (lambda: unit(rows=2.0), TypeError, "rows must be an integer from 1 to 256, not 2.0"),
        (lambda: unit(depth=0), ValueError, "depth must be an integer from 1 to 16777216, not 0"),
        (
            lambda: unit(activation_width=17),
            ValueError,
            "activation_width must be an integer from 1 to 16, not 17",
        ),
        (lambda: unit(serial=1), TypeError, "serial must be True or False, not 1"),
        (lambda: unit(folded=None), TypeError, "folded must be True or False, not None"),
        (
            lambda: unit(accumulator_width=10),
            ValueError,
            "accumulator_width must be at least 11 for sums of 4 products, not 10",
        ),
    ],
)
def test_circuits_refuse(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        make()
    assert (type(caught.value), str(caught.value)) == (error, message)


@pytest.mark.parametrize(("bits", "width"), [(2, 1), (3, 3), (4, 2), (5, 1)])
@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("folded", [False, True])
def test_integers_are_planes(bits: int, width: int, lanes: int, folded: bool) -> None:
    """A row for each code, in the last lane; the others hold any codes."""
    levels = uniform_levels(bits=bits)
    chosen = {"weight_format": Uniform(bits=bits), "activation_width": width, "folded": folded}
    dot = unit(**chosen, lanes=lanes, depth=lanes, rows=len(levels))
    draw = random.Random(bits)
    others = [[draw.randrange(len(levels)) for _ in range(lanes - 1)] for _ in levels]
    weights = [[*row, code] for code, row in enumerate(others)]
    vectors = [[draw.randrange(2**width) for _ in range(lanes - 1)] + [last] for last in range(2**width)]
    cycles = [{"enable": 1, "clear": 1, "weights": weights, "activations": vector} for vector in vectors]
    excess = integer_plane_excess(bits=bits, width=width)[0]
    multiple = 2 if folded else 1
    assert sums(dot, cycles) == [
        [
            multiple * sum(levels[code] * a for code, a in zip(row, vector, strict=True))
            + folded * sum(excess[lane % 2][code] for lane, code in enumerate(row))
            for row in weights
        ]
        for vector in vectors
    ]


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("with_total", [False, True])
def test_rows_and_front_end_apart(folded: bool, with_total: bool) -> None:
    """What `PlaneDot` computes in one, `PairTables` and `PlaneRows` compute in two."""
    chosen = Uniform(bits=3) if with_total else Basis(coordinates=(5, 8))
    size = {"activation_width": 3, "lanes": 5, "folded": folded}
    tables = PairTables(**size, with_total=with_total)
    rows = PlaneRows(weight_format=chosen, depth=5, rows=2, **size)
    whole = PlaneDot(weight_format=chosen, depth=5, rows=2, **size)
    draw = random.Random(5)
    vectors = [[draw.randrange(8) for _ in range(5)] for _ in range(20)]
    weights = [[[draw.randrange(4) for _ in range(5)] for _ in range(2)] for _ in vectors]
    names = [name for name in ("sums", "differences", "total") if name in rows.signature.members]
    entries = outputs(tables, [{"activations": vector} for vector in [*vectors, *vectors[:9]]], *names)
    common = [{"enable": 1, "clear": 1, "weights": each} for each in weights]
    expected = sums(whole, [c | {"activations": v} for c, v in zip(common, vectors, strict=True)])
    inputs = [dict(zip(names, entry, strict=True)) for entry in entries]
    idle = {"enable": 0, "clear": 0}
    cycles = [(common[i] if i < len(common) else idle) | entry for i, entry in enumerate(inputs)]
    found = outputs(rows, cycles, "accumulators")
    late = rows.latency - 1
    assert [[each[0][0], each[0][1]] for each in found[late : late + len(vectors)]] == expected
    assert whole.latency == tables.latency + rows.latency


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: unit(weight_format=Uniform(bits=4), serial=True),
            ValueError,
            "serial must be False for plain integers, not True",
        ),
        (
            lambda: unit(weight_format=Uniform(bits=4, signed=False)),
            ValueError,
            "weight_format must be signed, not 'uniform_b4u'",
        ),
        (
            lambda: PairTables(activation_width=0, lanes=2),
            ValueError,
            "activation_width must be an integer from 1 to 16, not 0",
        ),
        (
            lambda: PairTables(activation_width=4, lanes=2, with_total=1),
            TypeError,
            "with_total must be True or False, not 1",
        ),
    ],
)
def test_planes_refuse(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        make()
    assert (type(caught.value), str(caught.value)) == (error, message)

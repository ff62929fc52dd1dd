"""Multi-bit binary bases: the format against literal tables, and its circuits against the closed form."""

import random
from itertools import pairwise, product
from typing import Any

import pytest
from amaranth.sim import Simulator
from click.testing import CliRunner

from gen.__main__ import main
from gen.blocks import catalog
from gen.verilog import generate
from hdl.basis import BasisDot
from hdl.formats import APoT, Basis, basis, named, signed_width
from hdl.parameters import AcceleratorParameters
from hdl.popcount import PopcountDot
from hdl.sums import signed_digits
from tests.closed_form import basis_levels

# Σ ±A_i in code order, plane 0 (the smallest coordinate) in bit 0, worked out by hand.
LEVELS = {
    ("laplace", 1): (-1, 1),
    ("laplace", 2): (-13, -3, 3, 13),
    ("laplace", 3): (-90, -54, -28, 8, -8, 28, 54, 90),
    ("laplace", 4): (-133, -93, -71, -31, -57, -17, 5, 45, -45, -5, 17, 57, 31, 71, 93, 133),
    ("gauss", 1): (-1, 1),
    ("gauss", 2): (-20, -6, 6, 20),
    ("gauss", 3): (-73, -43, -23, 7, -7, 23, 43, 73),
    ("gauss", 4): (-372, -290, -218, -136, -176, -94, -22, 60, -60, 22, 94, 176, 136, 218, 290, 372),
}
BLOCKS = ("basis_dot", "popcount_dot")
NAMES = {
    "laplace_m1": "basis_1",
    "laplace_m2": "basis_5_8",
    "laplace_m3": "basis_18_31_41",
    "laplace_m4": "basis_20_31_38_44",
    "gauss_m1": "basis_1",
    "gauss_m2": "basis_7_13",
    "gauss_m3": "basis_15_25_33",
    "gauss_m4": "basis_41_77_98_156",
}


@pytest.mark.parametrize(("family", "planes"), LEVELS)
def test_levels_written_out(family: str, planes: int) -> None:
    found = basis(family=family, planes=planes)
    assert found.levels == LEVELS[family, planes]
    assert list(found.levels) == basis_levels(found.coordinates)
    assert found.planes == found.code_width == planes
    assert [field.name for field in found.fields] == [f"plane{i}" for i in range(planes)]


@pytest.mark.parametrize(("short", "name"), NAMES.items())
def test_short_names(short: str, name: str) -> None:
    assert named(short) == named(name)
    assert named(short).name == name


@pytest.mark.parametrize("coordinates", [(1,), (5, 8), (1, 1), (1, 2, 3), (3, 3, 7, 65535)])
def test_contract(coordinates: tuple[int, ...]) -> None:
    """Equal sums, as of (1, 2, 3), are one level of several codes; boundaries are halfway."""
    chosen = Basis(coordinates=coordinates)
    assert named(chosen.name) == chosen
    assert chosen.grid == tuple(sorted({*basis_levels(coordinates)}))
    assert chosen.grid == tuple(-level for level in reversed(chosen.grid))
    assert all(chosen.levels.index(level) == code for level, code in chosen.codes.items())
    assert chosen.boundaries == tuple(a + b for a, b in zip(chosen.grid[:-1], chosen.grid[1:], strict=True))
    assert chosen.sum_range(depth=7, activation_max=3) == (-21 * sum(coordinates), 21 * sum(coordinates))
    assert chosen.max_level == sum(coordinates)


def test_each_plane_is_a_sign() -> None:
    """Setting bit i adds 2 A_i, whatever the others are."""
    chosen = basis(family="gauss", planes=4)
    for plane, code in product(range(4), range(16)):
        if not code >> plane & 1:
            raised = chosen.levels[code | 1 << plane] - chosen.levels[code]
            assert raised == 2 * chosen.coordinates[plane]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Basis(coordinates=()), ValueError, "coordinates must be 1 to 4 integers, not 0"),
        (lambda: Basis(coordinates=(1,) * 5), ValueError, "coordinates must be 1 to 4 integers, not 5"),
        (lambda: Basis(coordinates=[5, 8]), TypeError, "coordinates must be a tuple of integers, not [5, 8]"),
        (
            lambda: Basis(coordinates=(0, 8)),
            ValueError,
            "coordinates must be an integer from 1 to 65535, not 0",
        ),
        (
            lambda: Basis(coordinates=(1, 65536)),
            ValueError,
            "coordinates must be an integer from 1 to 65535, not 65536",
        ),
        (
            lambda: Basis(coordinates=(5, 8.0)),
            TypeError,
            "coordinates must be an integer from 1 to 65535, not 8.0",
        ),
        (lambda: Basis(coordinates=(8, 5)), ValueError, "coordinates must ascend, not (8, 5)"),
        (
            lambda: Basis(coordinates=(5, 8), signed=False),
            ValueError,
            "signed must be True, since a basis has levels below zero, not False",
        ),
        (
            lambda: named("basis_5_8u"),
            ValueError,
            "signed must be True, since a basis has levels below zero, not False",
        ),
        (lambda: named("laplace_m0"), ValueError, "planes must be an integer from 1 to 4, not 0"),
        (lambda: named("gauss_m5"), ValueError, "planes must be an integer from 1 to 4, not 5"),
        (
            lambda: basis(family="cauchy", planes=2),
            ValueError,
            "family must be laplace or gauss, not 'cauchy'",
        ),
        (
            lambda: basis(family="gauss", planes="2"),
            TypeError,
            "planes must be an integer from 1 to 4, not '2'",
        ),
        (
            lambda: AcceleratorParameters(weight_format="laplace_m2"),
            ValueError,
            "weight_format must have a level 0, to pad with, not 'laplace_m2'",
        ),
    ],
)
def test_refusals(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        make()
    assert (type(caught.value), str(caught.value)) == (error, message)


@pytest.mark.parametrize("name", ["basis_", "basis_5__8", "basis_5_", "laplace_m", "laplace_2", "basis_-5_8"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match=f"^format must be a name like .*, not '{name}'$"):
        named(name)


@pytest.mark.parametrize("number", [*range(1, 300), 65535, -7])
def test_signed_digits(number: int) -> None:
    """They add up, no two are neighbours (so none can be spared), and the last has the number's sign."""
    digits = signed_digits(number)
    assert sum(digit.sign << digit.shift for digit in digits) == number
    places = [digit.shift for digit in digits]
    assert all(high - low > 1 for low, high in pairwise(places))
    assert digits[-1].sign * number > 0


def test_signed_digits_written_out() -> None:
    assert [tuple(digit) for digit in signed_digits(31)] == [(0, -1), (5, 1)]
    assert [tuple(digit) for digit in signed_digits(41)] == [(0, 1), (3, 1), (5, 1)]


def sums(dot: Any, cycles: list[dict[str, Any]]) -> list[list[int]]:
    """All accumulators after every cycle."""
    found: list[list[int]] = []

    async def bench(ctx: Any) -> None:
        for cycle in cycles:
            for port, value in cycle.items():
                ctx.set(getattr(dot, port), value)
            await ctx.tick()
            found.append([ctx.get(dot.accumulators[row]) for row in range(len(dot.accumulators))])

    simulator = Simulator(dot)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return found


def unit(**changed: Any) -> BasisDot:
    values = {"weight_format": Basis(coordinates=(5, 8)), "activation_width": 4, "lanes": 2, "depth": 4}
    return BasisDot(**(values | changed))


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
    idle = {"enable": 0, "clear": 0}
    found = sums(dot, cycles + [idle] * (dot.latency - 1))
    assert found[dot.latency - 1 :] == [[step[-1]] for step in steps]


def test_folded_lanes_by_hand() -> None:
    """Each minus adds A · 16 in lane 0 and A · 15 in lane 1, even at activation 0."""
    dot = unit(folded=True)
    cycle = {"enable": 1, "clear": 1, "weights": [(2, 0)], "activations": (0, 0)}
    found = sums(dot, [cycle] + [{"enable": 0, "clear": 0}] * (dot.latency - 1))
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
    found = sums(dot, cycles + [{"enable": 0, "clear": 0}] * (dot.latency - 1))[dot.latency - 1 :]
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
    found = sums(dot, cycles + [{"enable": 0, "clear": 0}] * (dot.latency - 1))
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
    units = [BasisDot(depth=lanes * vectors, **size), PopcountDot(depth=lanes * vectors, **size)]
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
        found = sums(dot, cycles + [{"enable": 0, "clear": 0}] * (dot.latency - 1))
        assert found[dot.latency - 1 :] == expected
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
            "weight_format must be a Basis format, not APoT(signed=True, k=2, n=1, odd=False)",
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "coordinates, or family and planes, must be given, and not both"),
        ("--family gauss", "coordinates, or family and planes, must be given, and not both"),
        ("--coordinates 5,8 --planes 2", "coordinates, or family and planes, must be given, and not both"),
        ("--coordinates 8,5", "coordinates must ascend, not (8, 5)"),
        ("--family gauss --planes 5", "planes must be an integer from 1 to 4, not 5"),
        ("--family gauss --planes 0", "planes must be an integer from 1 to 4, not 0"),
        ("--coordinates 1,2,3,4,5", "coordinates must be 1 to 4 integers, not 5"),
    ],
)
@pytest.mark.parametrize("block", BLOCKS)
def test_generator_refuses(block: str, arguments: str, message: str) -> None:
    outcome = CliRunner().invoke(main, [block, *arguments.split()], prog_name="python -m gen")
    assert (outcome.exit_code, outcome.stderr) == (2, f"python -m gen {block}: {message}\n")


@pytest.mark.parametrize(
    ("block", "example"), [(name, example) for name in BLOCKS for example in catalog()[name].examples]
)
def test_examples_work(block: str, example: str) -> None:
    outcome = CliRunner().invoke(main, [block, *example.split(), "-o", "-"])
    assert outcome.exit_code == 0
    assert f"module {block}(" in outcome.stdout


def test_description() -> None:
    description = generate(
        "basis_dot", coordinates=(5, 8), lanes=3, rows=2, activation_width=4, depth=9, folded=True
    ).description
    ports = {port["name"]: (port["width"], port.get("lanes")) for port in description["ports"]}
    assert ports == {
        "clk": (1, None),
        "rst": (1, None),
        "enable": (1, None),
        "clear": (1, None),
        "weights": (12, 6),
        "activations": (12, 3),
        "accumulators": (22, 2),
    }
    assert description["accumulator"] == {"width": 11, "signed": False}
    assert (description["format"], description["levels"]) == ("basis_5_8", [-13, -3, 3, 13])
    assert description["fold"]["excess_by_plane_of_even_lane"] == [80, 128]
    assert description["fold"]["excess_by_plane_of_odd_lane"] == [75, 120]

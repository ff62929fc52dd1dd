"""Multi-bit binary bases: the format against literal tables, and its blocks."""

from itertools import pairwise, product
from typing import Any

import pytest
from click.testing import CliRunner

from gen.__main__ import main
from gen.blocks import catalog
from gen.verilog import generate
from hdl.formats import Basis, basis, named
from hdl.formats.digits import adders, signed_digits
from hdl.parameters import AcceleratorParameters
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
            lambda: AcceleratorParameters(weight_format="laplace_m2", rows=8),
            ValueError,
            "rows must be a multiple of lanes, since 'laplace_m2' has no level 0 to pad with, not 8",
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
    assert (adders((18, 31, 41)), adders((7, 12, 16)), adders((1, 2, 4)), adders((1,))) == (6, 4, 2, 0)


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
    assert description["accumulator"] == {"width": 11, "signed": False, "uniform_of_equal_bits": 10}
    assert (description["format"], description["levels"]) == ("basis_5_8", [-13, -3, 3, 13])
    assert description["fold"]["multiple"] == 1
    assert description["fold"]["excess"] == [[[80 + 128, 128, 80, 0], [75 + 120, 120, 75, 0]]]

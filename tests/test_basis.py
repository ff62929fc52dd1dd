"""Multi-bit binary bases: the format against literal tables, and its circuits against the closed form."""

from itertools import product
from typing import Any

import pytest

from hdl.formats import Basis, basis, named
from hdl.parameters import AcceleratorParameters

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


def closed_form(coordinates: tuple[int, ...]) -> list[int]:
    """The paper's eq. (1): Σ s_i A_i, s_i = 1 where bit i of the code is set and -1 where not."""
    return [
        sum((1 if code >> i & 1 else -1) * each for i, each in enumerate(coordinates))
        for code in range(2 ** len(coordinates))
    ]


@pytest.mark.parametrize(("family", "planes"), LEVELS)
def test_levels_written_out(family: str, planes: int) -> None:
    found = basis(family=family, planes=planes)
    assert found.levels == LEVELS[family, planes]
    assert list(found.levels) == closed_form(found.coordinates)
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
    assert chosen.grid == tuple(sorted({*closed_form(coordinates)}))
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

"""Digits: they add up to every level, are levels of the array, and there are no fewer."""

from itertools import combinations, product

import pytest

from hdl.formats import Table, named
from sw.compiler.digits import MAX_PLACE, activation_digits, weight_digits
from tests.closed_form import apot_levels, uniform_levels

ARRAYS = {
    "apot_k1n1": apot_levels(k=1, n=1),
    "apot_k1n2": apot_levels(k=1, n=2),
    "apot_k2n1": apot_levels(k=2, n=1),
    "apot_k2n1o": apot_levels(k=2, n=1, odd=True),
    "apot_k2n2": apot_levels(k=2, n=2),
    "pot_k2": apot_levels(k=2, n=1),
    "pot_k3": apot_levels(k=3, n=1),
    "uniform_b2": uniform_levels(bits=2),
    "uniform_b3": uniform_levels(bits=3),
    "uniform_b4": uniform_levels(bits=4),
    "uniform_b8": uniform_levels(bits=8),
}
VALUES = {
    "uniform_b8": range(-127, 128),
    "uniform_b4": range(-7, 8),
    "apot_k2n2": apot_levels(k=2, n=2),
    "apot_k2n1o": apot_levels(k=2, n=1, odd=True),
}


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("values", VALUES)
def test_digits_add_up_and_are_levels_of_the_array(values: str, array: str) -> None:
    found = weight_digits(values=named(values), array=named(array))
    assert set(VALUES[values]) <= set(found.digits) <= set(named(values).grid)
    assert found.places == tuple(sorted(set(found.places)))
    assert found.places[-1] <= MAX_PLACE
    for level, digits in found.digits.items():
        assert len(digits) == len(found.places)
        assert set(digits) <= set(ARRAYS[array])
        assert sum(digit * 2**place for digit, place in zip(digits, found.places, strict=True)) == level


def reachable(levels: list[int], places: tuple[int, ...]) -> set[int]:
    return {
        sum(digit << place for digit, place in zip(digits, places, strict=True))
        for digits in product(sorted(set(levels)), repeat=len(places))
    }


@pytest.mark.parametrize("array", [name for name in ARRAYS if name != "apot_k1n1"])
@pytest.mark.parametrize("values", ["uniform_b4", "apot_k2n1o"])
def test_no_fewer_digits_and_no_smaller_places_serve(values: str, array: str) -> None:
    found = weight_digits(values=named(values), array=named(array)).places
    wanted = set(VALUES[values])
    for count in range(1, len(found) + 1):
        for places in combinations(range(9), count):
            if count < len(found) or places < found:
                assert not wanted <= reachable(ARRAYS[array], places), places


@pytest.mark.parametrize(
    ("values", "array", "places"),
    [
        ("uniform_b8", "uniform_b8", (0,)),
        ("uniform_b4", "uniform_b4", (0,)),
        ("apot_k2n1o", "apot_k2n1o", (0,)),
        ("uniform_b8", "apot_k1n1", (0, 1, 2, 3, 4, 5, 6)),
        ("uniform_b8", "uniform_b3", (0, 3, 6)),
        ("uniform_b8", "apot_k2n1o", (0, 1, 4)),
        ("uniform_b8", "apot_k2n2", (0, 1, 2)),
    ],
)
def test_known_places(values: str, array: str, places: tuple[int, ...]) -> None:
    assert weight_digits(values=named(values), array=named(array)).places == places


def test_splits_have_the_most_zeros() -> None:
    """A level that the array has is that level and zeros; ternary digits of 127 are all ones."""
    found = weight_digits(values=named("uniform_b8"), array=named("apot_k2n1o")).digits
    assert found[0] == (0, 0, 0)
    for level in ARRAYS["apot_k2n1o"]:
        assert sum(digit != 0 for digit in found[level]) <= 1
    ternary = weight_digits(values=named("uniform_b8"), array=named("apot_k1n1")).digits
    assert ternary[127] == (1,) * 7
    assert ternary[64] == (0,) * 6 + (1,)


@pytest.mark.parametrize("array", ["apot_k2n1", "apot_k2n1o", "uniform_b3", "uniform_b4"])
def test_no_split_has_more_zeros(array: str) -> None:
    """Against all splits over the same places."""
    found = weight_digits(values=named("uniform_b4"), array=named(array))
    most: dict[int, int] = {}
    for digits in product(sorted(set(ARRAYS[array])), repeat=len(found.places)):
        total = sum(digit << place for digit, place in zip(digits, found.places, strict=True))
        most[total] = max(most.get(total, 0), digits.count(0))
    assert {level: digits.count(0) for level, digits in found.digits.items()} == {
        level: most[level] for level in found.digits
    }


@pytest.mark.parametrize("array", ["apot_k1n1", "apot_k2n2", "uniform_b4"])
def test_sixteen_bits_are_split_in_no_time(array: str) -> None:
    found = weight_digits(values=named("uniform_b16"), array=named(array))
    assert set(found.digits) >= set(range(-32767, 32768))
    for level, digits in found.digits.items():
        assert set(digits) <= set(ARRAYS[array])
        assert sum(digit << place for digit, place in zip(digits, found.places, strict=True)) == level


def test_very_wide_formats_need_an_array_of_their_own() -> None:
    own = weight_digits(values=named("pot_k5"), array=named("pot_k5"))
    assert own.digits == {level: (level,) for level in apot_levels(k=5, n=1)}
    with pytest.raises(ValueError, match=r"^format 'pot_k5' cannot be made of digits of 'pot_k4'$"):
        weight_digits(values=named("pot_k5"), array=named("pot_k4"))


@pytest.mark.parametrize(
    ("array", "there"), [("uniform_b8", True), ("apot_k2n1o", True), ("apot_k1n1", False)]
)
def test_the_most_negative_level_costs_no_digit(array: str, there: bool) -> None:
    assert (-128 in weight_digits(values=named("uniform_b8"), array=named(array)).digits) is there


def test_a_format_that_no_digits_make_is_refused() -> None:
    even = Table(table=(0, 2, -2, 4))
    with pytest.raises(ValueError, match=r"^format 'uniform_b4' cannot be made of digits of 'table_"):
        weight_digits(values=named("uniform_b4"), array=even)


@pytest.mark.parametrize(
    ("values", "code_width", "activation_width", "expected"),
    [
        ("uniform_b8u", 4, 6, [(0, tuple(range(16))), (4, tuple(range(16)))]),
        ("uniform_b8u", 4, 3, [(0, tuple(range(8))), (3, tuple(range(8))), (6, tuple(range(8)))]),
        ("uniform_b8u", 3, 8, [(0, tuple(range(8))), (3, tuple(range(8))), (6, tuple(range(8)))]),
        ("uniform_b8u", 8, 8, [(0, tuple(range(256)))]),
        ("uniform_b4u", 4, 4, [(0, tuple(range(16)))]),
        ("apot_k2n1u", 2, 3, [(0, (0, 1, 2, 4))]),
        ("apot_k2n1ou", 4, 6, [(0, (0, 1, 2, 3, 4, 6, 8, 10))]),
    ],
)
def test_activation_digits(
    values: str, code_width: int, activation_width: int, expected: list[tuple[int, tuple[int, ...]]]
) -> None:
    widths = {"code_width": code_width, "activation_width": activation_width}
    assert activation_digits(named(values), **widths) == expected


@pytest.mark.parametrize(("code_width", "activation_width"), [(3, 6), (4, 5)])
def test_wide_activations_that_are_not_uniform_are_refused(code_width: int, activation_width: int) -> None:
    with pytest.raises(ValueError, match=r"^format 'apot_k2n2u' must have codes of at most"):
        activation_digits(named("apot_k2n2u"), code_width=code_width, activation_width=activation_width)

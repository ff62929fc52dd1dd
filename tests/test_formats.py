"""Number formats against tables written out from the papers' equations."""

import ast
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from hdl.formats import (
    SCHEMES,
    APoT,
    Format,
    PoT,
    SignMagnitude,
    Table,
    Uniform,
    apot,
    basis,
    named,
    signed_width,
)
from hdl.formats.apot import Term
from tests.closed_form import apot_levels

FORMATS = Path(__file__).parents[1] / "hdl" / "formats"

# Li, Dong, Wang (ICLR 2020), eq. 5 and 6, k = 2: levels by magnitude bits, over the smallest positive one.
APOT_LEVELS = {
    1: (0, 1),
    2: (0, 1, 2, 4),
    3: (0, 1, 2, 3, 4, 6, 8, 10),
    4: (0, 1, 2, 3, 4, 6, 8, 9, 12, 16, 18, 24, 32, 33, 36, 48),
    5: (
        *(0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 17, 20, 21),
        *(24, 28, 32, 34, 36, 38, 48, 52, 64, 65, 68, 69, 72, 76, 96, 100),
    ),
}

# {0, 2^0 … 2^-(2^k - 2)} over its smallest positive level.
POT_LEVELS = {
    1: (0, 1),
    2: (0, 1, 2, 4),
    3: (0, 1, 2, 4, 8, 16, 32, 64),
    4: (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384),
}

EVERY = [
    *(APoT(k=k, n=n, signed=signed) for k in (1, 2, 3) for n in (1, 2, 3) for signed in (True, False)),
    *(APoT(k=2, n=n, odd=True, signed=signed) for n in (1, 2, 3) for signed in (True, False)),
    *(PoT(k=k, signed=signed) for k in (1, 2, 3, 4, 5) for signed in (True, False)),
    *(Uniform(bits=bits, signed=signed) for bits in (2, 4, 8) for signed in (True, False)),
    *(SignMagnitude(bits=bits) for bits in (2, 4, 8)),
    *(basis(family=family, planes=planes) for family in ("laplace", "gauss") for planes in (1, 2, 3, 4)),
]


def label(value: Any) -> str:
    return value.name if isinstance(value, Format) else str(value)


every_format = pytest.mark.parametrize("each", EVERY, ids=label)


@pytest.mark.parametrize("bits", APOT_LEVELS)
def test_apot_activations_are_the_papers_levels_in_order(bits: int) -> None:
    assert apot(bits=bits, signed=False).levels == APOT_LEVELS[bits]


@pytest.mark.parametrize("bits", APOT_LEVELS)
def test_apot_weights_are_the_papers_levels_of_either_sign(bits: int) -> None:
    expected = tuple(-level for level in reversed(APOT_LEVELS[bits])) + APOT_LEVELS[bits][1:]
    assert apot(bits=bits + 1).grid == expected


@pytest.mark.parametrize(("bits", "largest", "count"), [(6, 448, 64), (7, 904, 128), (8, 3840, 256)])
def test_larger_apot_formats(bits: int, largest: int, count: int) -> None:
    levels = apot(bits=bits, signed=False).levels
    assert (levels[0], levels[1], levels[-1], len(set(levels))) == (0, 1, largest, count)


def test_what_the_papers_text_says_of_four_bits() -> None:
    """γ = 2α/3; the smallest positive level is 2^-4/3; three levels lie strictly between 1/2 and 1."""
    four = apot(bits=4, signed=False)
    real = [Fraction(level, four.max_level) for level in four.levels]
    assert real[1] == Fraction(1, 2**4) / 3
    assert sum(Fraction(1, 2) < level < 1 for level in real) == 3
    unscaled = Fraction(1) + Fraction(1, 2)  # p_0 = 2^0 and p_1 = 2^-1 are the largest of their sets
    assert real[-1] / unscaled == Fraction(2, 3)


def test_native_codes_written_out() -> None:
    """Sign above the fields of term 0 … n - 1; field value j > 0 is the j-th power of its set."""
    assert APoT(k=2, n=1).levels == (0, 4, 2, 1, 0, -4, -2, -1)
    # term 0 picks from {0, 2^0, 2^-2, 2^-4}, term 1 from {0, 2^-1, 2^-3, 2^-5}; 2^-5 is 1
    positive = (0, 16, 4, 1, 32, 48, 36, 33, 8, 24, 12, 9, 2, 18, 6, 3)
    assert APoT(k=2, n=2).levels == positive + tuple(-level for level in positive)
    # term 0 picks from {0, 2^0, 2^-1, 2^-3}, the odd bit is 2^-2
    assert APoT(k=2, n=1, odd=True).levels[:8] == (0, 2, 8, 10, 4, 6, 1, 3)


@pytest.mark.parametrize("each", [f for f in EVERY if isinstance(f, APoT) and f.signed], ids=label)
def test_native_codes_are_the_closed_form(each: APoT) -> None:
    assert list(each.levels) == apot_levels(k=each.k, n=each.n, odd=each.odd)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_one_bit_terms_are_uniform(n: int) -> None:
    assert APoT(k=1, n=n, signed=False).levels == tuple(range(2**n))
    assert APoT(k=1, n=n).grid == tuple(range(-(2**n) + 1, 2**n))
    assert APoT(k=1, n=n, signed=False).levels == Uniform(bits=n, signed=False).levels


@pytest.mark.parametrize("k", POT_LEVELS)
def test_one_term_is_powers_of_two(k: int) -> None:
    assert APoT(k=k, n=1, signed=False).levels == POT_LEVELS[k]
    assert PoT(k=k, signed=False).levels == POT_LEVELS[k]
    assert PoT(k=k).levels == APoT(k=k, n=1).levels


def test_uniform_levels() -> None:
    assert Uniform(bits=3).levels == (0, 1, 2, 3, -4, -3, -2, -1)
    assert Uniform(bits=2).levels == (0, 1, -2, -1)
    assert Uniform(bits=3, signed=False).levels == (0, 1, 2, 3, 4, 5, 6, 7)


def test_sign_and_magnitude_levels() -> None:
    four = SignMagnitude(bits=4)
    assert four.levels == (0, 1, 2, 3, 4, 5, 6, 7, 0, -1, -2, -3, -4, -5, -6, -7)
    assert four.grid == tuple(range(-7, 8))
    assert [field.name for field in four.fields] == ["magnitude", "sign"]
    assert SignMagnitude(bits=2).levels == (0, 1, 0, -1)
    assert four.name == "signmag_b4"


def test_table_levels_are_what_was_given() -> None:
    assert Table(table=(3, -1, 0, 100)).levels == (3, -1, 0, 100)
    assert Table(table=(0, 5, 6, 90), signed=False).grid == (0, 5, 6, 90)
    assert Table(table=(3, -1, 0, 100)).name != Table(table=(3, -1, 0, 101)).name


@every_format
def test_activation_codes_are_ranks(each: Format) -> None:
    if not each.signed:
        assert each.levels == each.grid
        assert each.levels[0] == 0


@every_format
def test_fields_fill_the_code(each: Format) -> None:
    assert sum(field.width for field in each.fields) == each.code_width
    assert len(each.levels) == 2**each.code_width
    assert len({field.name for field in each.fields}) == len(each.fields)


@every_format
def test_codes_find_their_levels(each: Format) -> None:
    assert set(each.codes) == set(each.levels)
    assert all(each.levels[code] == level for level, code in each.codes.items())
    assert all(each.levels.index(level) == code for level, code in each.codes.items())


@every_format
def test_boundaries_lie_halfway(each: Format) -> None:
    halves = [Fraction(boundary, 2) for boundary in each.boundaries]
    for half, low, high in zip(halves, each.grid[:-1], each.grid[1:], strict=True):
        assert half - low == high - half > 0


def test_boundaries_written_out() -> None:
    assert apot(bits=3, signed=False).boundaries == (1, 3, 5, 7, 10, 14, 18)
    assert APoT(k=2, n=1).boundaries == (-6, -3, -1, 1, 3, 6)


@every_format
def test_names_find_their_format(each: Format) -> None:
    assert named(each.name) == each


def test_names_written_out() -> None:
    assert [each.name for each in (APoT(k=2, n=2), APoT(k=2, n=1, odd=True, signed=False))] == [
        "apot_k2n2",
        "apot_k2n1ou",
    ]
    assert [each.name for each in (PoT(k=3), Uniform(bits=8), Uniform(bits=4, signed=False))] == [
        "pot_k3",
        "uniform_b8",
        "uniform_b4u",
    ]


def test_every_scheme_is_in_the_catalog() -> None:
    assert {scheme.scheme for scheme in SCHEMES} == {
        "uniform",
        "signmag",
        "pot",
        "apot",
        "basis",
        "companded",
    }


@pytest.mark.parametrize(
    ("bits", "signed", "name"),
    [
        (2, True, "apot_k1n1"),
        (3, True, "apot_k2n1"),
        (4, True, "apot_k2n1o"),
        (5, True, "apot_k2n2"),
        (9, True, "apot_k2n4"),
        (1, False, "apot_k1n1u"),
        (4, False, "apot_k2n2u"),
        (5, False, "apot_k2n2ou"),
    ],
)
def test_the_papers_format_of_a_width(bits: int, signed: bool, name: str) -> None:
    assert apot(bits=bits, signed=signed).name == name


def test_terms_written_out() -> None:
    assert APoT(k=2, n=2).terms == (
        Term(offset=0, width=2, shifts=(4, 2, 0)),
        Term(offset=2, width=2, shifts=(5, 3, 1)),
    )


@every_format
def test_sums_are_bounded_by_the_extreme_levels(each: Format) -> None:
    low, high = each.sum_range(depth=3, activation_max=15)
    assert (low, high) == (3 * 15 * min(*each.levels, 0), 3 * 15 * max(*each.levels, 0))


@pytest.mark.parametrize(
    ("formats", "widths"),
    [
        ([Uniform(bits=bits) for bits in (2, 3, 4)], [16, 18, 21]),
        ([apot(bits=bits) for bits in (2, 3, 4, 5)], [15, 18, 21, 24]),
        ([PoT(k=k) for k in (2, 3, 4)], [18, 24, 33]),
    ],
    ids=["uniform", "apot", "pot"],
)
def test_accumulators_of_4608_products(formats: list[Format], widths: list[int]) -> None:
    """The longest sums of ResNet-18, with uniform activations as wide as the weights."""
    extremes = [each.sum_range(depth=4608, activation_max=2**each.code_width - 1) for each in formats]
    assert [signed_width(low, high) for low, high in extremes] == widths


@pytest.mark.parametrize(
    ("low", "high", "width"),
    [(0, 0, 1), (0, 1, 2), (-1, 0, 1), (-8, 7, 4), (-8, 8, 5), (-9, 7, 5), (0, 255, 9), (-4, 100, 8)],
)
def test_signed_width(low: int, high: int, width: int) -> None:
    assert signed_width(low, high) == width


def test_level_width() -> None:
    assert [apot(bits=bits, signed=False).level_width for bits in range(1, 9)] == [1, 3, 4, 6, 7, 9, 10, 12]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: APoT(k=0, n=1), ValueError, "k must be an integer from 1 to 5, not 0"),
        (lambda: APoT(k=6, n=1), ValueError, "k must be an integer from 1 to 5, not 6"),
        (lambda: APoT(k=2.0, n=1), TypeError, "k must be an integer from 1 to 5, not 2.0"),
        (lambda: APoT(k=True, n=1), TypeError, "k must be an integer from 1 to 5, not True"),
        (lambda: APoT(k=2, n=0), ValueError, "n must be an integer from 1 to 8, not 0"),
        (lambda: APoT(k=1, n=9), ValueError, "n must be an integer from 1 to 8, not 9"),
        (lambda: APoT(k=2, n="2"), TypeError, "n must be an integer from 1 to 8, not '2'"),
        (lambda: APoT(k=2, n=1, odd=1), TypeError, "odd must be True or False, not 1"),
        (lambda: APoT(k=2, n=1, signed=0), TypeError, "signed must be True or False, not 0"),
        (lambda: APoT(k=3, n=1, odd=True), ValueError, "k must be 2 in the odd-bit form (eq. 6), not 3"),
        (
            lambda: APoT(k=2, n=7),
            ValueError,
            "k and n must give magnitude codes of at most 12 bits, not 14 (k=2, n=7)",
        ),
        (
            lambda: APoT(k=5, n=3),
            ValueError,
            "k and n must give magnitude codes of at most 12 bits, not 15 (k=5, n=3)",
        ),
        (lambda: PoT(k=6), ValueError, "k must be an integer from 1 to 5, not 6"),
        (
            lambda: PoT(k=2, n=2),
            ValueError,
            "n must be 1 and odd False for powers of two, not 2 and False",
        ),
        (lambda: Uniform(bits=1), ValueError, "bits must be an integer from 2 to 16, not 1"),
        (lambda: Uniform(bits=0, signed=False), ValueError, "bits must be an integer from 1 to 16, not 0"),
        (lambda: Uniform(bits=17), ValueError, "bits must be an integer from 2 to 16, not 17"),
        (lambda: Uniform(bits="4"), TypeError, "bits must be an integer from 2 to 16, not '4'"),
        (lambda: Uniform(bits=4, signed=None), TypeError, "signed must be True or False, not None"),
        (lambda: SignMagnitude(bits=1), ValueError, "bits must be an integer from 2 to 16, not 1"),
        (lambda: SignMagnitude(bits=17), ValueError, "bits must be an integer from 2 to 16, not 17"),
        (lambda: SignMagnitude(bits=4.0), TypeError, "bits must be an integer from 2 to 16, not 4.0"),
        (
            lambda: named("signmag_b4u"),
            ValueError,
            "signed must be True, since a code has a sign, not False",
        ),
        (lambda: Table(table=[0, 1]), TypeError, "table must be a tuple of integers, not [0, 1]"),
        (lambda: Table(table=(0, 1.5)), TypeError, "table must be a tuple of integers, not (0, 1.5)"),
        (lambda: Table(table=(0, 1, 2)), ValueError, "table must hold 2, 4, 8, … or 256 levels, not 3"),
        (
            lambda: Table(table=(0, 2**31)),
            ValueError,
            "table must hold levels of at most 32 bits, not 2147483648",
        ),
        (
            lambda: Table(table=(0, 0), signed=False),
            ValueError,
            "table must ascend from 0 without repeats if unsigned, not (0, 0)",
        ),
        (
            lambda: Table(table=(1, 2), signed=False),
            ValueError,
            "table must ascend from 0 without repeats if unsigned, not (1, 2)",
        ),
        (lambda: apot(bits=1), ValueError, "bits must be an integer from 2 to 9, not 1"),
        (lambda: apot(bits=9, signed=False), ValueError, "bits must be an integer from 1 to 8, not 9"),
        (lambda: apot(bits="3"), TypeError, "bits must be an integer from 2 to 9, not '3'"),
        (lambda: apot(bits=3, signed="no"), TypeError, "signed must be True or False, not 'no'"),
        (
            lambda: named("apot_k2"),
            ValueError,
            "format must be a name like 'apot_k2n2' or 'uniform_b8u' "
            "(uniform, signmag, pot, apot, basis, companded, laplace, gauss), not 'apot_k2'",
        ),
        (lambda: named("pot_k9"), ValueError, "k must be an integer from 1 to 5, not 9"),
        (
            lambda: named(3),
            TypeError,
            "format must be a name like 'apot_k2n2' or 'uniform_b8u' "
            "(uniform, signmag, pot, apot, basis, companded, laplace, gauss), not 3",
        ),
    ],
)
def test_refusals(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        make()
    assert type(caught.value) is error
    assert str(caught.value) == message


def test_no_level_exceeds_64_bits() -> None:
    """The limit on codes bounds levels too; the widest are two terms of five bits."""
    assert APoT(k=5, n=2).level_width == 62
    assert APoT(k=4, n=3).level_width == 45


def test_formats_import_nothing_but_the_standard_library() -> None:
    allowed = {"abc", "collections", "dataclasses", "functools", "itertools", "re", "typing", "zlib"}
    for path in FORMATS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert {name.name for name in node.names} <= allowed, path
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                assert str(node.module).partition(".")[0] in allowed, path
            if isinstance(node, ast.ImportFrom):
                assert node.level < 2, path

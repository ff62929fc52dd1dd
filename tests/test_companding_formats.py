"""Companded formats, and the words that hardware tables load, against tables written out."""

from collections.abc import Callable

import pytest

from hdl.formats import Companded, Format, Table, Uniform, apot, level_table, named, product_table, ranked

WEIGHTS = Companded(magnitudes=(0, 3, 9, 127))
ACTIVATIONS = Companded(magnitudes=(0, 200), signed=False)


def test_codes_are_index_and_sign() -> None:
    assert WEIGHTS.levels == (0, 3, 9, 127, 0, -3, -9, -127)
    assert [(field.name, field.width) for field in WEIGHTS.fields] == [("index", 2), ("sign", 1)]
    assert WEIGHTS.grid == (-127, -9, -3, 0, 3, 9, 127)
    assert WEIGHTS.boundaries == (-136, -12, -3, 3, 12, 136)
    assert (WEIGHTS.code_width, WEIGHTS.codes[0]) == (3, 0)


def test_unsigned_codes_are_ranks() -> None:
    unsigned = Companded(magnitudes=(0, 1, 5, 255), signed=False)
    assert unsigned.levels == unsigned.grid == (0, 1, 5, 255)
    assert [(field.name, field.width) for field in unsigned.fields] == [("rank", 2)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("companded_0_3_9_127", WEIGHTS),
        ("companded_0_200u", ACTIVATIONS),
        ("companded_o6_0_3_9_31", Companded(magnitudes=(0, 3, 9, 31), outer_bits=6)),
        ("companded_o12_0_4095u", Companded(magnitudes=(0, 4095), outer_bits=12, signed=False)),
    ],
)
def test_names(name: str, expected: Companded) -> None:
    assert named(name) == expected
    assert expected.name == name


def test_ranks_of_any_levels() -> None:
    """Plain integers where they will do; otherwise what is left over stands for the integers that follow."""
    assert ranked([0, 1, 2, 3]) == Uniform(bits=2, signed=False)
    assert ranked([0, 1]) == Uniform(bits=1, signed=False)
    assert ranked([0, 1, 2]) == Uniform(bits=2, signed=False)
    assert ranked([0, 3, 9]) == Companded(magnitudes=(0, 3, 9, 10), signed=False)
    assert ranked([0, 300]) == Companded(magnitudes=(0, 300), outer_bits=9, signed=False)


def test_largest_tables() -> None:
    assert Companded(magnitudes=tuple(range(128))).code_width == 8
    assert Companded(magnitudes=tuple(range(256)), signed=False).code_width == 8
    assert named(Companded(magnitudes=tuple(range(256)), signed=False).name).max_level == 255


def test_lloyd_centroids_are_a_companded_format() -> None:
    """Rounded centroids of a Gauss' half, over the largest: nothing but a table."""
    centroids = (0.0, 0.98, 1.75, 2.73)
    magnitudes = tuple(round(127 * each / centroids[-1]) for each in centroids)
    assert Companded(magnitudes=magnitudes).levels[:4] == (0, 46, 81, 127)


@pytest.mark.parametrize(
    ("number_format", "words"),
    [
        (WEIGHTS, (0, 3, 9, 127)),
        (ACTIVATIONS, (0, 200)),
        (apot(bits=3), (0, 4, 2, 1)),
        (Uniform(bits=2, signed=False), (0, 1, 2, 3)),
        (Table(table=(5, 0, -5, 0)), (5, 0)),
    ],
)
def test_level_table_holds_magnitudes(number_format: Format, words: tuple[int, ...]) -> None:
    assert level_table(number_format) == words


def test_product_table_written_out() -> None:
    assert product_table(WEIGHTS, ACTIVATIONS) == (0, 0, 0, 0, 0, 600, 1800, 25400)
    assert product_table(apot(bits=3), Companded(magnitudes=(0, 1, 3, 9), signed=False)) == (
        *(0, 0, 0, 0),
        *(0, 4, 2, 1),
        *(0, 12, 6, 3),
        *(0, 36, 18, 9),
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: Companded(magnitudes=(0, 9, 3, 127)),
            ValueError,
            "magnitudes must ascend from 0 without repeats, not (0, 9, 3, 127)",
        ),
        (
            lambda: Companded(magnitudes=(0, 3, 3, 127)),
            ValueError,
            "magnitudes must ascend from 0 without repeats, not (0, 3, 3, 127)",
        ),
        (
            lambda: Companded(magnitudes=(1, 3)),
            ValueError,
            "magnitudes must ascend from 0 without repeats, not (1, 3)",
        ),
        (
            lambda: Companded(magnitudes=(-1, 0)),
            ValueError,
            "magnitudes must ascend from 0 without repeats, not (-1, 0)",
        ),
        (
            lambda: Companded(magnitudes=(0, 128)),
            ValueError,
            "magnitudes must be at most 127 to fit 8 signed outer bits, not 128",
        ),
        (
            lambda: Companded(magnitudes=(0, 256), signed=False),
            ValueError,
            "magnitudes must be at most 255 to fit 8 unsigned outer bits, not 256",
        ),
        (
            lambda: Companded(magnitudes=(0, 32), outer_bits=6),
            ValueError,
            "magnitudes must be at most 31 to fit 6 signed outer bits, not 32",
        ),
        (
            lambda: Companded(magnitudes=(0, 1, 2)),
            ValueError,
            "magnitudes must be 2, 4, 8, … or 128 integers, not 3",
        ),
        (
            lambda: Companded(magnitudes=tuple(range(256)), outer_bits=16),
            ValueError,
            "magnitudes must be 2, 4, 8, … or 128 integers, not 256",
        ),
        (
            lambda: Companded(magnitudes=(0,), signed=False),
            ValueError,
            "magnitudes must be 2, 4, 8, … or 256 integers, not 1",
        ),
        (
            lambda: Companded(magnitudes=[0, 1]),
            TypeError,
            "magnitudes must be a tuple of integers, not [0, 1]",
        ),
        (
            lambda: Companded(magnitudes=(0, True)),
            TypeError,
            "magnitudes must be a tuple of integers, not (0, True)",
        ),
        (
            lambda: Companded(magnitudes=(0, 1), outer_bits=1),
            ValueError,
            "outer_bits must be an integer from 2 to 16, not 1",
        ),
        (
            lambda: Companded(magnitudes=(0, 1), outer_bits=17),
            ValueError,
            "outer_bits must be an integer from 2 to 16, not 17",
        ),
        (
            lambda: level_table(Uniform(bits=3)),
            ValueError,
            "number_format must have codes of a sign and a magnitude, not 'uniform_b3'",
        ),
        (
            lambda: level_table(WEIGHTS, outer_bits=7),
            ValueError,
            "number_format must have levels of at most 7 outer bits, not 127 (companded_0_3_9_127)",
        ),
        (
            lambda: product_table(WEIGHTS, ACTIVATIONS, activation_outer_bits=7),
            ValueError,
            "number_format must have levels of at most 7 outer bits, not 200 (companded_0_200u)",
        ),
        (
            lambda: product_table(ACTIVATIONS, ACTIVATIONS),
            ValueError,
            "weight_format must be signed, not 'companded_0_200u'",
        ),
        (
            lambda: product_table(WEIGHTS, WEIGHTS),
            ValueError,
            "activation_format must be unsigned, not 'companded_0_3_9_127'",
        ),
    ],
)
def test_refusals(make: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        make()
    assert type(caught.value) is error
    assert str(caught.value) == message

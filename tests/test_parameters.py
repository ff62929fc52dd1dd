"""Parameters of the accelerator: every refusal, and an id that no two accelerators share."""

from dataclasses import asdict, fields, replace
from typing import Any

import pytest

from hdl import parameters as module
from hdl.formats import named
from hdl.parameters import AcceleratorParameters, parameters_from

LIMITS = {
    "rows": 256,
    "lanes": 256,
    "requantizers": 32,
    "code_width": 8,
    "activation_width": 16,
    "depth": 2**20,
    "tables": 16,
    "encodings": 64,
    "passes": 255,
    "activation_words": 2**20,
    "weight_words": 2**20,
    "channel_words": 2**20,
    "program_words": 2**16,
    "result_words": 2**16,
    "banks": 2,
    "cores": 16,
}
OPTIONAL = {"value_words": 2**20, "codebooks": 256, "index_width": 8}
"""What there may be none of."""
CODEBOOKS = {"weight_format": "uniform_b8", "codebooks": 2, "index_width": 4}
OTHER = {name: 2 * getattr(AcceleratorParameters(), name) for name in LIMITS} | {
    "weight_format": "apot_k2n2",
    "requantizers": 4,
    "code_width": 3,
    "value_words": 1,
    "read_back": False,
}


def test_limits_cover_every_number() -> None:
    assert {"weight_format", "read_back", *OPTIONAL, *LIMITS} == {
        field.name for field in fields(AcceleratorParameters)
    }


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [0, -1, None, True, 2.0, "4"])
def test_what_is_no_positive_integer_is_refused(name: str, value: Any) -> None:
    error = ValueError if type(value) is int else TypeError
    with pytest.raises(error) as caught:
        AcceleratorParameters(**{name: value})
    assert type(caught.value) is error
    assert str(caught.value) == f"{name} must be an integer from 1 to {LIMITS[name]}, not {value!r}"


@pytest.mark.parametrize("name", LIMITS)
def test_numbers_above_their_limit_are_refused(name: str) -> None:
    value = LIMITS[name] + 1
    with pytest.raises(ValueError, match=f"^{name} must be an integer from 1 to {value - 1}, not {value}$"):
        AcceleratorParameters(**{name: value})


@pytest.mark.parametrize("value", [-1, 2**20 + 1, None, 1.0])
@pytest.mark.parametrize(("name", "limit"), OPTIONAL.items())
def test_some_may_be_none_at_all(name: str, limit: int, value: Any) -> None:
    assert AcceleratorParameters(**{name: 0}) == AcceleratorParameters()
    error = ValueError if type(value) is int else TypeError
    with pytest.raises(error, match=f"^{name} must be an integer from 0 to {limit}, not {value}$"):
        AcceleratorParameters(**{name: value})


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"weight_format": 4}, TypeError, "weight_format must be a format's name, not 4"),
        (
            {"weight_format": named("apot_k2n2")},
            TypeError,
            "weight_format must be a format's name, not APoT(signed=True, k=2, n=2, odd=False)",
        ),
        (
            {"weight_format": "apot_k2n2u"},
            ValueError,
            "weight_format must be a signed format, not 'apot_k2n2u'",
        ),
        (
            {"weight_format": "basis_1_2", "rows": 8},
            ValueError,
            "rows must be a multiple of lanes, since 'basis_1_2' has no level 0 to pad with, not 8",
        ),
        ({"read_back": 1}, TypeError, "read_back must be True or False, not 1"),
        ({"codebooks": 2}, ValueError, "index_width must be at least 1 with codebooks, not 0"),
        ({"index_width": 2}, ValueError, "index_width must be 0 without codebooks, not 2"),
        (
            {"codebooks": 2, "index_width": 5},
            ValueError,
            "index_width must be at most 4, the bits of a code of 'apot_k2n1o', not 5",
        ),
        (
            {"weight_format": "basis_1_2", "rows": 16, "codebooks": 1, "index_width": 2},
            ValueError,
            "codebooks must be 0, since 'basis_1_2' has no level 0 to pad with, not 1",
        ),
        ({"requantizers": 3}, ValueError, "requantizers must be a power of two, not 3"),
        ({"cores": 6}, ValueError, "cores must be a power of two, not 6"),
        (
            {"requantizers": 16},
            ValueError,
            "requantizers must be at most 8 with codes of 4 bits, not 16",
        ),
        (
            {"requantizers": 8, "code_width": 5},
            ValueError,
            "requantizers must be at most 6 with codes of 5 bits, not 8",
        ),
        ({"rows": 12}, ValueError, "rows must be a multiple of requantizers, not 12"),
        ({"lanes": 12}, ValueError, "lanes must be a power of two, at least requantizers, not 12"),
        ({"lanes": 4}, ValueError, "lanes must be a power of two, at least requantizers, not 4"),
        ({"depth": 15}, ValueError, "depth must be at least lanes, not 15"),
        ({"tables": 9, "banks": 2}, ValueError, "tables must be at most 8 with 2 banks, not 9"),
        ({"encodings": 64, "banks": 2}, ValueError, "encodings must be at most 32 with 2 banks, not 64"),
    ],
)
def test_refusals(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        AcceleratorParameters(**changed)
    assert type(caught.value) is error
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("changed", "limbs"),
    [
        ({}, 3),  # 22 bits at places up to 15: 37
        ({"depth": 16, "activation_width": 4}, 2),  # 12 bits: 27
        ({"depth": 16, "activation_width": 1, "passes": 1}, 2),  # 8 bits: 23
        ({"depth": 16, "activation_width": 1, "weight_format": "apot_k1n1"}, 2),  # 5 bits: 20
        (
            {"weight_format": "uniform_b8", "activation_width": 16, "depth": 2**20},
            4,
        ),  # 44 bits: 59, with a sign
        ({"depth": 16, "activation_width": 1, "value_words": 1}, 2),  # 30 bits with a sign
    ],
)
def test_multiplier_blocks_of_a_product(changed: dict[str, Any], limbs: int) -> None:
    """As many as take 17 bits each of an accumulator's magnitude at the highest place."""
    assert AcceleratorParameters(**changed).limbs == limbs


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="format must be a name like 'apot_k2n2'"):
        AcceleratorParameters(weight_format="log_b4")


def test_limits_themselves_are_accepted() -> None:
    most = {
        name: value for name, value in LIMITS.items() if name not in ("requantizers", "code_width", "banks")
    }
    assert AcceleratorParameters(**most).groups == 32
    assert AcceleratorParameters(banks=2, tables=8, encodings=8).tables == 8
    assert AcceleratorParameters(requantizers=32, code_width=1, rows=32, lanes=32).groups == 1


def test_the_bank_is_the_top_bit_of_an_address() -> None:
    two = AcceleratorParameters(banks=2)
    assert [two.banked(words) for words in (1, 2, 3, 100, 128, 129)] == [2, 4, 8, 256, 256, 512]
    assert AcceleratorParameters().banked(100) == 100


def test_json_round_trip() -> None:
    for parameters in (AcceleratorParameters(), AcceleratorParameters(weight_format="uniform_b4", rows=24)):
        assert parameters_from(asdict(parameters)) == parameters


NAMES = ", ".join(sorted(["weight_format", "read_back", *OPTIONAL, *LIMITS]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: None, f"parameters must name exactly {NAMES}"),
        (lambda values: list(values), f"parameters must name exactly {NAMES}"),
        (lambda values: values | {"colour": 2}, f"parameters must name exactly {NAMES}"),
        (lambda values: {"rows": values["rows"]}, f"parameters must name exactly {NAMES}"),
        (lambda values: values | {"rows": "16"}, "rows must be an integer from 1 to 256, not '16'"),
        (lambda values: values | {"rows": 12}, "rows must be a multiple of requantizers, not 12"),
        (lambda values: values | {"weight_format": None}, "weight_format must be a format's name, not None"),
    ],
)
def test_json_that_is_not_parameters_is_refused(change: Any, message: str) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        parameters_from(change(asdict(AcceleratorParameters())))
    assert str(caught.value) == message


def test_every_field_and_the_version_change_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    base = AcceleratorParameters()
    ids = [base.build_id, *(replace(base, **{name: value}).build_id for name, value in OTHER.items())]
    indexed = AcceleratorParameters(**CODEBOOKS)
    ids += [
        each.build_id for each in (indexed, replace(indexed, codebooks=3), replace(indexed, index_width=3))
    ]
    monkeypatch.setattr(module, "HARDWARE_VERSION", module.HARDWARE_VERSION + 1)
    ids.append(base.build_id)
    assert len(set(ids)) == len(LIMITS) + 8
    assert all(0 <= each < 2**32 for each in ids)


@pytest.mark.parametrize("weight_format", ["apot_k2n1o", "apot_k2n2", "pot_k3", "uniform_b4", "apot_k1n1"])
@pytest.mark.parametrize("passes", [1, 7, 16])
def test_sums_of_all_passes_fit(weight_format: str, passes: int) -> None:
    """Every pass at its most, times the extreme multiplier, and the extreme bias on top."""
    wide = {"depth": 2**20, "activation_width": 16}
    p = AcceleratorParameters(weight_format=weight_format, passes=passes, **wide)
    largest = 2**p.activation_width - 1
    accumulated = p.depth * largest * max(abs(level) for level in p.format.grid)
    assert passes * accumulated * 2**17 + 2**47 < 2 ** (p.sum_width - 1)


def test_weights_in_memory_are_codes_or_indices() -> None:
    indexed = AcceleratorParameters(**CODEBOOKS)
    plain = AcceleratorParameters(weight_format="uniform_b8")
    assert (indexed.weight_width, plain.weight_width) == (4, 8)
    assert (indexed.codebook_cycles, plain.codebook_cycles) == (16, 0)


def test_what_rows_add_too_much() -> None:
    folded, exact = AcceleratorParameters(), AcceleratorParameters(weight_format="uniform_b4")
    assert [folded.fold(level) for level in (-10, -1, 0, 10)] == [630, 63, 0, 0]
    assert [exact.fold(level) for level in (-8, -1, 0, 7)] == [0, 0, 0, 0]

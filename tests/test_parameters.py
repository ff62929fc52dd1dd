"""The accelerator's parameters: what is refused, what the build id covers, and that widths suffice."""

from dataclasses import asdict, fields
from typing import Any

import pytest

from hdl.engine import Engine
from hdl.formats import named
from hdl.parameters import (
    BIAS_WIDTH,
    MULTIPLIER_WIDTH,
    AcceleratorParameters,
    parameters_from,
)

LIMITS = {
    "rows": 256,
    "lanes": 256,
    "requantizers": 32,
    "code_width": 8,
    "activation_width": 16,
    "depth": 2**20,
    "tables": 16,
    "encodings": 16,
    "passes": 255,
    "activation_words": 2**20,
    "weight_words": 2**20,
    "channel_words": 2**20,
    "program_words": 2**16,
    "result_words": 2**16,
}

SHAPES: list[dict[str, Any]] = [
    {},
    {"weight_format": "uniform_b4", "rows": 1, "lanes": 1, "requantizers": 1, "depth": 1},
    {"weight_format": "apot_k2n2", "rows": 6, "lanes": 8, "requantizers": 2, "activation_width": 7},
    {"weight_format": "pot_k3", "rows": 12, "lanes": 4, "requantizers": 4, "code_width": 8},
    {"weight_format": "apot_k1n1", "rows": 4, "lanes": 64, "requantizers": 4, "code_width": 2, "passes": 1},
    {"weight_format": "uniform_b8", "rows": 3, "lanes": 2, "requantizers": 1, "activation_width": 16},
]


@pytest.mark.parametrize("name", LIMITS)
def test_integers_have_limits(name: str) -> None:
    for value in (0, -1, LIMITS[name] + 1):
        with pytest.raises(
            ValueError, match=f"^{name} must be an integer from 1 to {LIMITS[name]}, not {value}$"
        ):
            AcceleratorParameters(**{name: value})
    for value in (1.0, "4", True, None):
        with pytest.raises(
            TypeError, match=f"^{name} must be an integer from 1 to {LIMITS[name]}, not {value!r}$"
        ):
            AcceleratorParameters(**{name: value})


def test_every_limit_is_tested() -> None:
    assert {"weight_format", *LIMITS} == {field.name for field in fields(AcceleratorParameters)}


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"weight_format": 4}, TypeError, "weight_format must be a format's name, not 4"),
        (
            {"weight_format": "apot_k2n1u"},
            ValueError,
            "weight_format must be a signed format, not 'apot_k2n1u'",
        ),
        (
            {"weight_format": "laplace_m2"},
            ValueError,
            "weight_format must have a level 0, to pad with, not 'laplace_m2'",
        ),
        ({"requantizers": 3}, ValueError, "requantizers must be a power of two, not 3"),
        (
            {"requantizers": 16},
            ValueError,
            "requantizers must be at most 8 with codes of 4 bits, not 16",
        ),
        (
            {"code_width": 5},
            ValueError,
            "requantizers must be at most 6 with codes of 5 bits, not 8",
        ),
        ({"rows": 12}, ValueError, "rows must be a multiple of requantizers, not 12"),
        ({"lanes": 24}, ValueError, "lanes must be a power of two, at least requantizers, not 24"),
        ({"lanes": 4}, ValueError, "lanes must be a power of two, at least requantizers, not 4"),
        ({"depth": 15}, ValueError, "depth must be at least lanes, not 15"),
    ],
)
def test_parameters_that_do_not_fit_together(
    changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as refusal:
        AcceleratorParameters(**changed)
    assert str(refusal.value) == message


def test_unknown_weight_formats_are_refused_by_the_catalog() -> None:
    with pytest.raises(ValueError, match=r"^format must be a name like 'apot_k2n2' .*, not 'int4'$"):
        AcceleratorParameters(weight_format="int4")


OTHER_VALUES: dict[str, Any] = {
    "weight_format": "apot_k2n2",
    "rows": 24,
    "lanes": 32,
    "requantizers": 4,
    "code_width": 3,
    **{name: getattr(AcceleratorParameters(), name) + 1 for name in list(LIMITS)[4:]},
}


def test_the_build_id_covers_every_parameter() -> None:
    builds = [AcceleratorParameters(**{name: value}).build_id for name, value in OTHER_VALUES.items()]
    assert len({AcceleratorParameters().build_id, *builds}) == 1 + len(fields(AcceleratorParameters))
    assert all(0 <= build < 2**32 for build in builds)
    assert AcceleratorParameters().build_id == AcceleratorParameters(rows=16).build_id


def test_the_build_id_covers_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = AcceleratorParameters().build_id
    monkeypatch.setattr("hdl.parameters.HARDWARE_VERSION", 10**6)
    assert AcceleratorParameters().build_id != before


@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_are_read_back(shape: dict[str, Any]) -> None:
    parameters = AcceleratorParameters(**shape)
    assert parameters_from(asdict(parameters)) == parameters


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {},
        {**asdict(AcceleratorParameters()), "cores": 1},
        {name: value for name, value in asdict(AcceleratorParameters()).items() if name != "rows"},
    ],
)
def test_other_names_are_not_read(values: object) -> None:
    names = ", ".join(sorted(asdict(AcceleratorParameters())))
    with pytest.raises(ValueError, match=f"^parameters must name exactly {names}$"):
        parameters_from(values)


@pytest.mark.parametrize(("name", "value"), [("rows", "16"), ("rows", 0), ("weight_format", 4)])
def test_wrong_values_are_not_read(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{name} must be .*, not {value!r}$"):
        parameters_from({**asdict(AcceleratorParameters()), name: value})


@pytest.mark.parametrize("shape", SHAPES)
def test_drain_is_the_engines(shape: dict[str, Any]) -> None:
    """The packer computes the schedule from the parameters alone."""
    parameters = AcceleratorParameters(**shape)
    assert parameters.drain == Engine(parameters=parameters).drain


@pytest.mark.parametrize("shape", SHAPES)
def test_groups_serve_all_rows_and_lanes(shape: dict[str, Any]) -> None:
    parameters = AcceleratorParameters(**shape)
    assert parameters.groups * parameters.requantizers == parameters.rows
    assert parameters.groups_per_word * parameters.requantizers == parameters.lanes


@pytest.mark.parametrize("shape", SHAPES)
def test_sums_fit_at_the_extremes(shape: dict[str, Any]) -> None:
    """The largest accumulator of either sign times the largest multiplier, in every pass, and a bias."""
    parameters = AcceleratorParameters(**shape)
    magnitude = max(abs(level) for level in named(parameters.weight_format).levels)
    accumulator = magnitude * parameters.depth * (2**parameters.activation_width - 1)
    total = parameters.passes * accumulator * 2 ** (MULTIPLIER_WIDTH - 1) + 2 ** (BIAS_WIDTH - 1)
    assert total < 2 ** (parameters.sum_width - 1)


@pytest.mark.parametrize(
    ("weight_format", "negative", "fold"),
    [("apot_k2n1", -4, 4 * 63), ("apot_k2n1", 4, 0), ("pot_k2", -2, 2 * 63), ("uniform_b4", -7, 0)],
)
def test_fold(weight_format: str, negative: int, fold: int) -> None:
    assert AcceleratorParameters(weight_format=weight_format).fold(negative) == fold

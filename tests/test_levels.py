"""The search for coordinates against numbers known from elsewhere, and the command that shows it."""

import json
import math
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from hdl.formats import basis
from sw.__main__ import main
from sw.bases import MISPRINT, PAPER, Fit, best_integers, optima, scaled
from sw.expectation import DISTRIBUTIONS

EVERY = [(family, planes) for family in ("laplace", "gauss") for planes in (1, 2, 3, 4)]

# Optimal coordinates and expected errors, found independently by minimising over dense grids.
OPTIMA = {
    ("laplace", 1): ((1.0,), 1.0),
    ("laplace", 2): ((1.0, 1.5936), 0.352390),
    ("laplace", 3): ((0.8303, 1.4348, 1.8960), 0.111965),
    ("laplace", 4): ((0.8596, 1.3273, 1.6207, 1.8784), 0.034868),
    ("gauss", 1): ((0.7979,), 0.363380),
    ("gauss", 2): ((0.5288, 0.9816), 0.117482),
    ("gauss", 3): ((0.4510, 0.7482, 0.9883), 0.035267),
    ("gauss", 4): ((0.2960, 0.5567, 0.7088, 1.1286), 0.009890),
}
PAPER_ERRORS = {
    ("laplace", 1): 1.0,
    ("laplace", 2): 0.352503,
    ("laplace", 3): 0.111967,
    ("laplace", 4): 0.035014,
    ("gauss", 1): 0.363385,
    ("gauss", 2): 0.117540,
    ("gauss", 3): 0.035289,
    ("gauss", 4): 0.009977,
}
# Max (1960) and Lloyd: the least error of any 4, 8 and 16 levels.
LLOYD_MAX = {
    ("gauss", 2): 0.117482,
    ("gauss", 3): 0.034548,
    ("gauss", 4): 0.009501,
    ("laplace", 3): 0.108952,
    ("laplace", 4): 0.030745,
}
# Bits, best integers and what they cost over the optimum, in percent.
INTEGERS = [
    ("laplace", 2, 4, (5, 8), 0.004),
    ("laplace", 2, 5, (17, 27), 0.003),
    ("laplace", 2, 6, (32, 51), 0.000),
    ("laplace", 3, 4, (5, 9, 12), 1.1),
    ("laplace", 3, 5, (11, 19, 25), 0.05),
    ("laplace", 3, 6, (18, 31, 41), 0.003),
    ("laplace", 4, 4, (3, 5, 6, 7), 3.7),
    ("laplace", 4, 5, (14, 21, 26, 30), 0.72),
    ("laplace", 4, 6, (20, 31, 38, 44), 0.06),
    ("gauss", 2, 4, (7, 13), 0.000),
    ("gauss", 3, 6, (15, 25, 33), 0.008),
    ("gauss", 4, 8, (41, 77, 98, 156), 0.003),
]


def density(family: str, x: np.ndarray) -> np.ndarray:
    return np.exp(-np.abs(x)) / 2 if family == "laplace" else np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def integrated_error(family: str, coordinates: tuple[float, ...]) -> float:
    """E[(x - level)²] by the trapezoid rule, levels from the definition."""
    levels = [
        sum(s * a for s, a in zip(signs, coordinates, strict=True))
        for signs in product((-1, 1), repeat=len(coordinates))
    ]
    x = np.linspace(-40, 40, 800_001)
    off = np.min([(x - level) ** 2 for level in levels], axis=0)
    return float(np.trapezoid(density(family, x) * off, x))


@pytest.mark.parametrize(("family", "planes"), EVERY)
def test_closed_form_is_the_integral(family: str, planes: int) -> None:
    for coordinates in (PAPER[family][planes - 1], tuple(0.3 + 0.2 * i for i in range(planes))):
        found = Fit(family=family, coordinates=coordinates).error
        assert found == pytest.approx(integrated_error(family, coordinates), abs=1e-7)


@pytest.mark.parametrize(("family", "planes"), EVERY)
def test_optimum(family: str, planes: int) -> None:
    coordinates, error = OPTIMA[family, planes]
    best = optima(family=family, planes=planes)[0]
    assert best.coordinates == pytest.approx(coordinates, abs=1e-4)
    assert best.error == pytest.approx(error, abs=1e-6)


@pytest.mark.parametrize(("family", "planes"), EVERY)
def test_optimum_is_one(family: str, planes: int) -> None:
    """No small step in any direction lessens the error."""
    best = optima(family=family, planes=planes)[0]
    for step in product((-1e-3, 0, 1e-3), repeat=planes):
        moved = tuple(a + s for a, s in zip(best.coordinates, step, strict=True))
        assert Fit(family=family, coordinates=moved).error >= best.error - 1e-12


def test_known_closed_forms() -> None:
    """One plane: E|x|.  Two: both Lloyd conditions, which for Laplace give A_1 = 1."""
    assert optima(family="gauss", planes=1)[0].coordinates[0] == pytest.approx(math.sqrt(2 / math.pi))
    assert optima(family="laplace", planes=2)[0].coordinates[0] == pytest.approx(1)


@pytest.mark.parametrize("family", DISTRIBUTIONS)
def test_two_planes_are_as_good_as_any_four_levels(family: str) -> None:
    """Two coordinates set two magnitudes freely: each level is the mean of its cell (Lloyd-Max)."""
    best = optima(family=family, planes=2)[0]
    x = np.linspace(0, 40, 800_001)
    weights = density(family, x)
    low = x < best.edges[2]
    for cell, level in ((low, best.levels[2]), (~low, best.levels[3])):
        assert np.sum(weights[cell] * x[cell]) / np.sum(weights[cell]) == pytest.approx(level, abs=1e-3)


@pytest.mark.parametrize(("family", "planes"), LLOYD_MAX)
def test_more_planes_are_worse_than_free_levels(family: str, planes: int) -> None:
    error = optima(family=family, planes=planes)[0].error
    if planes == 2:
        assert error == pytest.approx(LLOYD_MAX[family, planes], abs=1e-6)
    else:
        assert LLOYD_MAX[family, planes] < error < 1.2 * LLOYD_MAX[family, planes]


def test_one_start_is_not_enough() -> None:
    """Four planes have several optima; some starts end in worse ones."""
    errors = [fit.error for fit in optima(family="laplace", planes=4)]
    assert errors[:3] == pytest.approx([0.034868, 0.035625, 0.036967], abs=1e-6)
    ends = {round(optima(family="laplace", planes=4, starts=1, seed=seed)[0].error, 6) for seed in range(10)}
    assert len(ends) > 1


@pytest.mark.parametrize(("family", "planes"), EVERY)
def test_papers_tables(family: str, planes: int) -> None:
    fit = Fit(family=family, coordinates=PAPER[family][planes - 1])
    assert fit.error == pytest.approx(PAPER_ERRORS[family, planes], abs=1e-6)
    assert fit.error < 1.01 * OPTIMA[family, planes][1]


def test_the_misprint() -> None:
    family, coordinates = MISPRINT
    printed = Fit(family=family, coordinates=coordinates).error
    assert printed == pytest.approx(0.117808, abs=1e-6)
    assert printed / OPTIMA["laplace", 3][1] - 1 == pytest.approx(0.052, abs=1e-3)


@pytest.mark.parametrize(("family", "planes", "bits", "integers", "percent"), INTEGERS)
def test_best_integers(
    family: str, planes: int, bits: int, integers: tuple[int, ...], percent: float
) -> None:
    found = best_integers(family=family, planes=planes, bits=bits)
    assert found.coordinates == integers
    penalty = 100 * (found.error / OPTIMA[family, planes][1] - 1)
    assert penalty == pytest.approx(percent, abs=0.02, rel=0.05)


@pytest.mark.parametrize(("family", "planes", "bits"), [("laplace", 3, 4), ("gauss", 3, 3), ("gauss", 4, 3)])
def test_the_search_misses_nothing(family: str, planes: int, bits: int) -> None:
    """Against every set of integers of so few bits."""
    sets = [s for s in product(range(1, 2**bits), repeat=planes) if list(s) == sorted(s)]
    near = optima(family=family, planes=planes)
    least = min(scaled(family=family, coordinates=s, near=near).error for s in sets)
    assert best_integers(family=family, planes=planes, bits=bits).error == pytest.approx(least, abs=1e-9)


@pytest.mark.parametrize(("family", "planes"), EVERY)
def test_the_hardwares_integers_are_all_but_optimal(family: str, planes: int) -> None:
    chosen = basis(family=family, planes=planes)
    fit = scaled(family=family, coordinates=chosen.coordinates)
    assert fit.levels == pytest.approx(fit.scale * np.array(chosen.grid))
    assert fit.error < 1.001 * OPTIMA[family, planes][1]


@pytest.mark.parametrize(
    ("coordinates", "scale"), [((5, 8), 0.19927), ((18, 31, 41), 0.04622), ((20, 31, 38, 44), 0.04269)]
)
def test_scales(coordinates: tuple[int, ...], scale: float) -> None:
    assert scaled(family="laplace", coordinates=coordinates).scale == pytest.approx(scale, abs=5e-6)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"family": "cauchy"}, ValueError, "family must be laplace or gauss, not 'cauchy'"),
        ({"planes": 0}, ValueError, "planes must be an integer from 1 to 4, not 0"),
        ({"planes": 5}, ValueError, "planes must be an integer from 1 to 4, not 5"),
        ({"bits": 11}, ValueError, "bits must be an integer from 1 to 10, not 11"),
        ({"bits": 2.0}, TypeError, "bits must be an integer from 1 to 10, not 2.0"),
    ],
)
def test_refusals(values: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        best_integers(**{"family": "laplace", "planes": 2, "bits": 4} | values)
    assert str(caught.value) == message


def command(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(main, ["levels", *arguments], prog_name="python -m sw")


def test_command(tmp_path: Path) -> None:
    path = tmp_path / "out" / "levels.json"
    outcome = command("--family", "laplace", "--planes", "3", "--integer-bits", "5", "--json", str(path))
    assert outcome.exit_code == 0
    for text in ("0.8303 1.4348 1.8960", "0.111965", "0.8320 1.5140 1.8970", "18 31 41", "11 19 25"):
        assert text in outcome.stdout
    content = json.loads(path.read_text())
    assert [row["name"] for row in content["rows"]] == [
        "optimum",
        "paper, corrected",
        "paper, as printed",
        "hardware",
        "best of 5 bits",
    ]
    for row in content["rows"]:
        assert len(row["levels"]) == 8
        halfway = [(a + b) / 2 for a, b in pairwise(row["levels"])]
        assert row["edges"] == pytest.approx(halfway)
    assert content["rows"][2]["penalty"] == pytest.approx(0.052, abs=1e-3)
    assert content["rows"][3]["coordinates"] == [18, 31, 41]


@pytest.mark.parametrize(("family", "power"), [("laplace", 2.0), ("gauss", 1.0)])
def test_no_planes_are_one_level(family: str, power: float, tmp_path: Path) -> None:
    """A pruned channel: all of the variable's power is error."""
    path = tmp_path / "levels.json"
    outcome = command("--family", family, "--planes", "0", "--json", str(path))
    assert outcome.exit_code == 0
    (row,) = json.loads(path.read_text())["rows"]
    assert (row["coordinates"], row["levels"], row["edges"]) == ([], [0.0], [])
    assert row["expected_error"] == power


@pytest.mark.parametrize(
    ("family", "planes", "adders", "coordinates", "penalty"),
    [
        ("laplace", 3, 4, [7, 12, 16], 0.0014),
        ("gauss", 2, 1, [1, 2], 0.0116),
        ("laplace", 2, 2, [5, 8], 0.00004),
        ("gauss", 4, 3, [1, 2, 4, 8], 0.1671),
    ],
)
def test_fewer_adders(
    family: str, planes: int, adders: int, coordinates: list[int], penalty: float, tmp_path: Path
) -> None:
    """Found by a search over all small integers, apart from one from the optimum's neighbourhood."""
    path = tmp_path / "levels.json"
    assert (
        command(
            "--family", family, "--planes", str(planes), "--adders", str(adders), "--json", str(path)
        ).exit_code
        == 0
    )
    row = json.loads(path.read_text())["rows"][-1]
    assert (row["name"], row["coordinates"]) == (f"best of {adders} adder{'s'[: adders > 1]}", coordinates)
    assert row["adders"] <= adders
    assert row["penalty"] == pytest.approx(penalty, abs=5e-5)


@pytest.mark.parametrize(("family", "planes"), EVERY)
def test_default_search_finds_the_hardwares_integers(family: str, planes: int, tmp_path: Path) -> None:
    path = tmp_path / "levels.json"
    assert command("--family", family, "--planes", str(planes), "--json", str(path)).exit_code == 0
    rows = json.loads(path.read_text())["rows"]
    assert rows[-1]["name"].startswith("best of ")
    assert rows[-2]["coordinates"] == rows[-1]["coordinates"]
    assert "paper" in [row["name"] for row in rows] or "paper, corrected" in [row["name"] for row in rows]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "--family cauchy --planes 2",
            "Invalid value for '--family': 'cauchy' is not one of 'laplace', 'gauss'.",
        ),
        ("--family gauss --planes 5", "Invalid value for '--planes': 5 is not in the range 0<=x<=4."),
        ("--family gauss", "Missing option '--planes'."),
        (
            "--family gauss --planes 3 --adders 1",
            "Invalid value for '--adders': must be at least 2 for 3 planes, not 1",
        ),
    ],
)
def test_command_refuses(arguments: str, message: str) -> None:
    outcome = command(*arguments.split())
    assert (outcome.exit_code, outcome.stderr) == (2, f"python -m sw levels: {message}\n")

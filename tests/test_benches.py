"""The cocotb regression of processing elements, as shipped, on both simulators."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gen.verilog import Design, generate
from tests.closed_form import apot_levels, sign_magnitude_levels, uniform_levels
from verif.simulators import BUILD, Bench, SimulationError, run

BANK = Path(__file__).parents[1] / "verif" / "bank.v"
COPIES = 16
SHUFFLED = (3, -1, 0, 100, -128, 7, 7, -65)


def levels_of(block: str, values: dict[str, Any]) -> list[int]:
    """The levels that a block's weight codes must stand for, by the closed forms."""
    scheme = block.split("_")[0]
    chosen = {key: values[key] for key in ("k", "n", "odd", "bits") if key in values}
    if scheme == "apot":
        return apot_levels(**chosen)
    if scheme == "pot":
        return apot_levels(n=1, **chosen)
    if scheme == "uniform":
        return uniform_levels(**chosen)
    if scheme == "signmag":
        return sign_magnitude_levels(**chosen)
    return list(values["levels"])


def label(value: Any) -> str | None:
    return "-".join(f"{key}{item}" for key, item in value.items()) if isinstance(value, dict) else None


def written(design: Design) -> Path:
    """The design's file, made once for equal contents, for both simulators and all workers."""
    digest = sha256(design.verilog.encode()).hexdigest()[:16]
    path = BUILD / "verilog" / f"{design.name}-{digest}.v"
    if not path.exists():
        design.write(path)
    return path


def width_of(design: Design, port: str) -> int:
    return next(each["width"] for each in design.description["ports"] if each["name"] == port)


def run_element(block: str, values: dict[str, Any], simulator: str, **changed: Any) -> None:
    design = generate(block, **values)
    levels = levels_of(block, values)
    width = width_of(design, "accumulator")
    bench = Bench(
        module="verif.benches.processing_element",
        toplevel="bank",
        sources=[written(design), BANK],
        defines={"ELEMENT": block},
        parameters={
            "COPIES": COPIES,
            "WEIGHT_WIDTH": width_of(design, "weight"),
            "ACTIVATION_WIDTH": values["activation_width"],
            "ACCUMULATOR_WIDTH": width,
        },
    )
    config = {"copies": COPIES, "accumulator_width": width, **values, "levels": levels, **changed}
    run(bench, simulator=simulator, config=config)


def element(block: str, **values: Any) -> tuple[str, dict[str, Any]]:
    return block, {"activation_width": 8, "depth": 5, **values}


APOT = [
    element("apot_pe", k=k, n=n, activation_width=width)
    for k in (1, 2, 3)
    for n in (1, 2, 3)
    for width in (4, 8)
    if k * n + 1 + width <= 16
]
ODD = [element("apot_pe", k=2, n=n, odd=True, activation_width=width) for n in (1, 2) for width in (4, 8)]
OTHERS = [
    element("pot_pe", k=2),
    element("pot_pe", k=3, activation_width=4),
    element("uniform_pe", bits=4),
    element("uniform_pe", bits=8),
    element("signmag_pe", bits=4),
    element("table_pe", levels=SHUFFLED),
]
EVERYWHERE = [
    element("apot_pe", k=2, n=2),
    element("apot_pe", k=3, n=3, activation_width=4),
    element("apot_pe", k=2, n=1, odd=True, activation_width=4),
    *OTHERS,
]
REST = [
    *(entry for entry in [*APOT, *ODD] if entry not in EVERYWHERE),
    element("signmag_pe", bits=2),
    element("signmag_pe", bits=8, activation_width=4),
]


@pytest.mark.parametrize(("block", "values"), EVERYWHERE, ids=label)
def test_processing_element(block: str, values: dict[str, Any], simulator: str) -> None:
    run_element(block, values, simulator)


@pytest.mark.parametrize(("block", "values"), REST, ids=label)
def test_processing_element_on_icarus(block: str, values: dict[str, Any], icarus: str) -> None:
    """Icarus builds in no time, so it takes the whole sweep on every change; Verilator does at night."""
    run_element(block, values, icarus)


@pytest.mark.nightly
@pytest.mark.parametrize(("block", "values"), REST, ids=label)
def test_processing_element_on_verilator(block: str, values: dict[str, Any], verilator: str) -> None:
    run_element(block, values, verilator)


def test_the_sweep_is_whole() -> None:
    swept = {(v["k"], v["n"], v.get("odd", False)) for block, v in [*EVERYWHERE, *REST] if block == "apot_pe"}
    assert swept == {(k, n, False) for k in (1, 2, 3) for n in (1, 2, 3)} | {(2, 1, True), (2, 2, True)}


def test_a_wrong_level_is_seen(simulator: str) -> None:
    """The bench fails on a unit that multiplies by something else than the oracle says."""
    block, values = element("table_pe", levels=(3, -1, 0, 5), activation_width=2)
    with pytest.raises(SimulationError, match="sum"):
        run_element(block, values, simulator, levels=[3, -1, 0, 6])

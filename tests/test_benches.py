"""The cocotb regression of processing elements and dot products, as shipped, on both simulators."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gen.verilog import Design, generate
from tests.closed_form import apot_levels, uniform_levels
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


def run_element(block: str, values: dict[str, Any], simulator: str) -> None:
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
    config = {"levels": levels, "copies": COPIES, "accumulator_width": width, **values}
    run(bench, simulator=simulator, config=config)


def run_dot(block: str, values: dict[str, Any], simulator: str) -> None:
    design = generate(block, **values)
    bench = Bench(module="verif.benches.dot_product", toplevel=block, sources=[written(design)])
    config = {
        "folded": False,
        **values,
        "levels": levels_of(block, values),
        "accumulator_width": width_of(design, "accumulator"),
        "latency": design.description["latency"],
    }
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
    element("table_pe", levels=SHUFFLED),
]
EVERYWHERE = [
    element("apot_pe", k=2, n=2),
    element("apot_pe", k=3, n=3, activation_width=4),
    element("apot_pe", k=2, n=1, odd=True, activation_width=4),
    *OTHERS,
]
REST = [entry for entry in [*APOT, *ODD] if entry not in EVERYWHERE]


@pytest.fixture
def icarus(request: pytest.FixtureRequest) -> str:
    return only("icarus", request)


@pytest.fixture
def verilator(request: pytest.FixtureRequest) -> str:
    return only("verilator", request)


def only(simulator: str, request: pytest.FixtureRequest) -> str:
    chosen = request.config.getoption("simulator")
    if chosen and simulator not in chosen:
        pytest.skip(f"runs on {simulator}")
    return simulator


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


def dot(block: str, **values: Any) -> tuple[str, dict[str, Any]]:
    return block, {"activation_width": 6, "depth": 5 * values["lanes"], **values}


DOTS = [
    *(dot("apot_dot", k=2, n=2, lanes=lanes) for lanes in (1, 5, 16)),
    *(dot("apot_dot", k=2, n=1, odd=True, lanes=lanes, folded=True) for lanes in (1, 5, 16)),
    dot("apot_dot", k=1, n=1, lanes=16, folded=True),
    dot("pot_dot", k=2, lanes=5, folded=True),
    dot("uniform_dot", bits=4, lanes=5),
    dot("table_dot", levels=SHUFFLED, lanes=5),
]


@pytest.mark.parametrize(("block", "values"), DOTS, ids=label)
def test_dot_product(block: str, values: dict[str, Any], simulator: str) -> None:
    run_dot(block, values, simulator)


def test_a_wrong_level_is_seen(simulator: str) -> None:
    """The bench fails on a unit that multiplies by something else than the oracle says."""
    design = generate("apot_dot", k=2, n=1, lanes=1, activation_width=2, depth=5)
    bench = Bench(module="verif.benches.dot_product", toplevel="apot_dot", sources=[written(design)])
    config = {
        "levels": [0, 4, 2, 1, 0, -4, -2, -3],
        "activation_width": 2,
        "lanes": 1,
        "depth": 5,
        "folded": False,
        "accumulator_width": width_of(design, "accumulator"),
        "latency": design.description["latency"],
    }
    with pytest.raises(SimulationError, match="one_lane_at_a_time: sum 0 is -"):
        run(bench, simulator=simulator, config=config)

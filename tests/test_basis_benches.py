"""The cocotb regression of dot products on binary bases, as shipped, on both simulators."""

from itertools import product
from typing import Any

import pytest

from gen.verilog import generate
from tests.closed_form import basis_levels
from tests.test_benches import label, only, width_of, written
from verif.simulators import Bench, SimulationError, run

COORDINATES = {1: (1,), 2: (5, 8), 3: (18, 31, 41), 4: (20, 31, 38, 44)}


def configured(values: dict[str, Any]) -> dict[str, Any]:
    """What the bench must know of a unit besides its Verilog, from the closed forms."""
    coordinates = values["coordinates"]
    serial = values.get("serial", False)
    tables = [basis_levels((each,)) for each in coordinates] if serial else [basis_levels(coordinates)]
    return {
        "folded": False,
        **values,
        "levels": tables,
        "activation_levels": list(range(2 ** values["activation_width"])),
    }


def run_dot(block: str, values: dict[str, Any], simulator: str, **changed: Any) -> None:
    design = generate(block, **values)
    bench = Bench(module="verif.benches.basis_dot", toplevel=block, sources=[written(design)])
    facts = {
        "accumulator_width": width_of(design, "accumulators") // values["rows"],
        "latency": design.description["latency"],
    }
    run(bench, simulator=simulator, config={**configured(values), **facts, **changed})


def dot(block: str = "basis_dot", **values: Any) -> tuple[str, dict[str, Any]]:
    planes = values.pop("planes", None)
    chosen = {"coordinates": COORDINATES[planes]} if planes else {}
    return block, {"depth": 5 * values["lanes"], "rows": 4, **chosen, **values}


EVERYWHERE = [
    dot(planes=3, activation_width=2, lanes=6),
    dot(planes=2, activation_width=4, lanes=5, folded=True),
    dot(planes=4, activation_width=3, lanes=4, serial=True, folded=True),
    dot("popcount_dot", planes=2, activation_width=3, lanes=5),
]
"""The activations are as wide as the time for all pairs allows."""

REST = [
    *(dot(planes=planes, activation_width=5 - planes, lanes=6) for planes in (1, 2, 4)),
    dot(planes=3, activation_width=4, lanes=16, serial=True),
    *(
        dot(planes=planes, activation_width=width, lanes=lanes, folded=folded, serial=serial)
        for planes, width, lanes in ((1, 1, 1), (1, 4, 2), (2, 4, 3), (3, 2, 7), (4, 1, 2))
        for folded in (False, True)
        for serial in (False, True)
    ),
    *(
        dot("popcount_dot", planes=planes, activation_width=width, lanes=6)
        for planes, width in product((1, 2, 3, 4), repeat=2)
        if planes + width < 5
    ),
]

LONG = [
    dot(block, planes=planes, activation_width=width, lanes=2, rows=8)
    for block in ("basis_dot", "popcount_dot")
    for planes, width in product((1, 2, 3, 4), repeat=2)
    if planes + width >= 5
]
"""All the other M, N up to 4."""


@pytest.fixture
def icarus(request: pytest.FixtureRequest) -> str:
    return only("icarus", request)


@pytest.fixture
def verilator(request: pytest.FixtureRequest) -> str:
    return only("verilator", request)


@pytest.mark.parametrize(("block", "values"), EVERYWHERE, ids=label)
def test_dot_product(block: str, values: dict[str, Any], simulator: str) -> None:
    run_dot(block, values, simulator)


@pytest.mark.parametrize(("block", "values"), REST, ids=label)
def test_dot_product_on_icarus(block: str, values: dict[str, Any], icarus: str) -> None:
    """Icarus builds in no time, so it takes the whole sweep on every change; Verilator does at night."""
    run_dot(block, values, icarus)


@pytest.mark.nightly
@pytest.mark.parametrize(("block", "values"), REST, ids=label)
def test_dot_product_on_verilator(block: str, values: dict[str, Any], verilator: str) -> None:
    run_dot(block, values, verilator)


@pytest.mark.nightly
@pytest.mark.parametrize(("block", "values"), LONG, ids=label)
def test_all_planes_of_weights_and_activations(block: str, values: dict[str, Any], simulator: str) -> None:
    run_dot(block, values, simulator)


def test_a_wrong_level_is_seen(simulator: str) -> None:
    """The bench fails on a unit with another coordinate than the oracle says."""
    block, values = dot(planes=2, activation_width=2, lanes=2)
    with pytest.raises(SimulationError, match=r"one_lane_at_a_time: sum . is -?[0-9]+, not "):
        run_dot(block, values, simulator, levels=[basis_levels((5, 7))])

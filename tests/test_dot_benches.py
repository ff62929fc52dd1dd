"""The cocotb regression of dot products, as shipped, on both simulators."""

from itertools import product
from typing import Any

import pytest

from gen.verilog import generate
from tests.closed_form import (
    apot_levels,
    basis_levels,
    integer_plane_excess,
    plane_excess,
    shift_excess,
    sign_magnitude_levels,
    uniform_levels,
)
from tests.test_benches import SHUFFLED, label, width_of, written
from verif.simulators import Bench, SimulationError, run

ALL_PAIRS = 20_000
COORDINATES = {1: (1,), 2: (5, 8), 3: (18, 31, 41), 4: (20, 31, 38, 44)}


def oracle(block: str, values: dict[str, Any]) -> dict[str, Any]:
    """Levels and the rule of folding by the closed forms."""
    width, folded, serial = (
        values["activation_width"],
        values.get("folded", False),
        values.get("serial", False),
    )
    if block in ("apot_dot", "pot_dot"):
        levels = [apot_levels(k=values["k"], n=values.get("n", 1), odd=values.get("odd", False))]
        excess = shift_excess(levels[0], width=width)
    elif block in ("basis_dot", "popcount_dot"):
        coordinates = values["coordinates"]
        levels = [basis_levels((each,)) for each in coordinates] if serial else [basis_levels(coordinates)]
        excess = plane_excess(coordinates, width=width, serial=serial)
    elif block == "table_dot":
        levels, excess = [list(values["levels"])], []
    elif block == "signmag_dot":
        levels, excess = [sign_magnitude_levels(bits=values["bits"])], []
    else:
        levels = [uniform_levels(bits=values["bits"])]
        excess = integer_plane_excess(bits=values["bits"], width=width)
    none = [[[0] * len(table)] * 2 for table in levels]
    return {
        "levels": levels,
        "excess": excess if folded else none,
        "multiple": 2 if folded and block == "uniform_planes_dot" else 1,
        "folded": folded,
    }


def run_dot(block: str, values: dict[str, Any], simulator: str, **changed: Any) -> None:
    design = generate(block, **values)
    bench = Bench(module="verif.benches.dot_product", toplevel=block, sources=[written(design)])
    facts = {
        "accumulator_width": width_of(design, "accumulators") // values["rows"],
        "latency": design.description["latency"],
    }
    run(bench, simulator=simulator, config={**values, **oracle(block, values), **facts, **changed})


def dot(block: str, **values: Any) -> tuple[str, dict[str, Any]]:
    planes = values.pop("planes", None)
    chosen = {"coordinates": COORDINATES[planes]} if planes else {}
    return block, {"depth": 5 * values["lanes"], "rows": 2, **chosen, **values}


EVERYWHERE = [
    dot("apot_dot", k=2, n=2, lanes=5, activation_width=6, folded=True),
    dot("apot_dot", k=2, n=1, odd=True, lanes=5, activation_width=4),
    dot("basis_dot", planes=2, activation_width=4, lanes=5, rows=4, folded=True),
    dot("basis_dot", planes=4, activation_width=3, lanes=4, rows=4, serial=True, folded=True),
    dot("popcount_dot", planes=2, activation_width=3, lanes=5, rows=4),
    dot("uniform_planes_dot", bits=4, activation_width=3, lanes=4, folded=True),
    dot("uniform_dot", bits=4, lanes=5, activation_width=6),
    dot("signmag_dot", bits=4, lanes=5, activation_width=6),
    dot("table_dot", levels=SHUFFLED, lanes=5, activation_width=6),
]

REST = [
    *(
        dot("apot_dot", **weights, lanes=lanes, activation_width=width, folded=folded)
        for weights, lanes, width in (
            ({"k": 1, "n": 1}, 16, 6),
            ({"k": 2, "n": 1}, 16, 4),
            ({"k": 2, "n": 1, "odd": True}, 1, 8),
            ({"k": 2, "n": 2}, 16, 4),
            ({"k": 2, "n": 2, "odd": True}, 3, 2),
            ({"k": 3, "n": 2}, 2, 1),
            ({"k": 1, "n": 3}, 5, 3),
        )
        for folded in (False, True)
    ),
    *(
        dot("pot_dot", k=k, lanes=5, activation_width=4, folded=folded)
        for k in (2, 3)
        for folded in (False, True)
    ),
    *(
        dot("uniform_planes_dot", bits=bits, lanes=lanes, activation_width=width, folded=folded)
        for bits, lanes, width in ((2, 1, 1), (2, 7, 2), (3, 2, 3), (4, 16, 4), (8, 3, 8))
        for folded in (False, True)
    ),
    dot("basis_dot", planes=3, activation_width=2, lanes=6, rows=4),
    *(dot("basis_dot", planes=planes, activation_width=5 - planes, lanes=6, rows=4) for planes in (1, 2, 4)),
    dot("basis_dot", planes=3, activation_width=4, lanes=16, rows=4, serial=True),
    *(
        dot("basis_dot", planes=planes, activation_width=width, lanes=lanes, folded=folded, serial=serial)
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

CODEBOOKS = [
    {"level_width": 8, "activation_width": 4, "lanes": 16, "rows": 2, "folded": True},
    {"level_width": 3, "activation_width": 3, "lanes": 6, "rows": 2},
    {"level_width": 2, "activation_width": 1, "lanes": 1, "rows": 1, "folded": True},
    {"level_width": 6, "activation_width": 8, "lanes": 4, "rows": 3},
]


@pytest.mark.parametrize(("block", "values"), EVERYWHERE, ids=label)
def test_dot_product_on_icarus(block: str, values: dict[str, Any], icarus: str) -> None:
    run_dot(block, values, icarus)


@pytest.mark.parametrize(("block", "values"), EVERYWHERE[:1] + EVERYWHERE[3:6], ids=label)
def test_dot_product_on_verilator(block: str, values: dict[str, Any], verilator: str) -> None:
    run_dot(block, values, verilator)


@pytest.mark.parametrize(("block", "values"), REST, ids=label)
def test_the_rest_on_icarus(block: str, values: dict[str, Any], icarus: str) -> None:
    """Icarus builds in no time, so it takes the whole sweep on every change; Verilator does at night."""
    run_dot(block, values, icarus)


@pytest.mark.nightly
@pytest.mark.parametrize(("block", "values"), [*EVERYWHERE, *REST], ids=label)
def test_everything_on_verilator(block: str, values: dict[str, Any], verilator: str) -> None:
    run_dot(block, values, verilator, most_pairs=ALL_PAIRS)


@pytest.mark.nightly
@pytest.mark.parametrize(("block", "values"), LONG, ids=label)
def test_all_planes_of_weights_and_activations(block: str, values: dict[str, Any], simulator: str) -> None:
    run_dot(block, values, simulator, most_pairs=ALL_PAIRS)


def test_a_wrong_level_is_seen(simulator: str) -> None:
    """The bench fails on a unit with another coordinate than the oracle says."""
    block, values = dot("basis_dot", planes=2, activation_width=2, lanes=2)
    with pytest.raises(SimulationError, match=r"one_lane_at_a_time: sum . is -?[0-9]+, not "):
        run_dot(block, values, simulator, levels=[basis_levels((5, 7))])


def run_codebook(values: dict[str, Any], simulator: str, **changed: Any) -> None:
    values = {"depth": 5 * values["lanes"], "folded": False, **values}
    design = generate("codebook_dot", **values)
    bench = Bench(module="verif.benches.codebook", toplevel="codebook_dot", sources=[written(design)])
    facts = {
        "word_width": width_of(design, "write_data"),
        "accumulator_width": width_of(design, "accumulators") // values["rows"],
        "latency": design.description["latency"],
    }
    run(bench, simulator=simulator, config={**values, **facts, **changed})


@pytest.mark.parametrize("values", CODEBOOKS, ids=label)
def test_codebook_on_icarus(values: dict[str, Any], icarus: str) -> None:
    run_codebook(values, icarus)


@pytest.mark.parametrize("values", CODEBOOKS[1:2], ids=label)
def test_codebook_on_verilator(values: dict[str, Any], verilator: str) -> None:
    run_codebook(values, verilator)


@pytest.mark.nightly
@pytest.mark.parametrize("values", CODEBOOKS, ids=label)
def test_every_codebook_on_verilator(values: dict[str, Any], verilator: str) -> None:
    run_codebook(values, verilator)


def test_a_wrong_latency_is_seen(icarus: str) -> None:
    with pytest.raises(SimulationError, match="sums are"):
        run_codebook(CODEBOOKS[1], icarus, latency=3)

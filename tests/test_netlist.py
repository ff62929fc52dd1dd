"""What Yosys finds in generated circuits: no multiplier where shifts do, and adders that stay chains."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fpga.__main__ import main
from fpga.targets import KINDS, OBTAIN, TARGETS, elaborated
from fpga.yosys import YosysError, cells
from gen.verilog import generate

MULTIPLIERS = {"$mul", "$div", "$mod", "$pow", "$macc", "$macc_v2"}
SURPRISES = {"$mem", "$mem_v2", "$dlatch", "$adlatch", "$sr", "$shiftx", "$shift", "$tribuf"}
ROOT = Path(__file__).parents[1]

SHIFTED: list[tuple[str, dict[str, Any]]] = [
    *(("apot_pe", {"k": k, "n": n}) for k in (1, 2, 3) for n in (1, 2, 3)),
    *(("apot_pe", {"k": 2, "n": n, "odd": True}) for n in (1, 2)),
    *(("pot_pe", {"k": k}) for k in (1, 2, 3)),
    *(("apot_dot", {"k": 2, "n": 2, "lanes": lanes}) for lanes in (1, 5, 16)),
    *(("apot_dot", {"k": 2, "n": 1, "odd": True, "lanes": lanes, "folded": True}) for lanes in (1, 16)),
    *(("pot_dot", {"k": 2, "lanes": 4, "folded": folded}) for folded in (False, True)),
    *(
        ("basis_dot", {"family": "laplace", "planes": planes, "lanes": 6, "rows": 2, "serial": serial})
        for planes in (1, 2, 3, 4)
        for serial in (False, True)
    ),
    ("basis_dot", {"family": "gauss", "planes": 4, "lanes": 16, "folded": True}),
    *(
        ("popcount_dot", {"family": "laplace", "planes": planes, "lanes": 6, "rows": 2})
        for planes in (1, 2, 3, 4)
    ),
]
MULTIPLIED: list[tuple[str, dict[str, Any], int]] = [
    ("uniform_pe", {"bits": 4}, 1),
    ("table_pe", {"format": "apot_k2n2"}, 1),
    ("uniform_dot", {"bits": 4, "lanes": 5}, 5),
    ("table_dot", {"levels": (0, 1, 3, -1), "lanes": 3}, 3),
]


def label(value: Any) -> str | None:
    return "-".join(f"{key}{item}" for key, item in value.items()) if isinstance(value, dict) else None


def words(block: str, values: dict[str, Any]) -> dict[str, int]:
    """Word-level cells of a block, before anything is mapped."""
    return cells(generate(block, **values).verilog, elaborated(block))


@pytest.mark.parametrize(("block", "values"), SHIFTED, ids=label)
def test_no_multiplier_where_shifts_do(block: str, values: dict[str, Any]) -> None:
    assert not MULTIPLIERS & set(words(block, values))


@pytest.mark.parametrize(("block", "values", "count"), MULTIPLIED, ids=label)
def test_one_multiplier_a_lane_elsewhere(block: str, values: dict[str, Any], count: int) -> None:
    found = words(block, values)
    assert {cell: found[cell] for cell in MULTIPLIERS & set(found)} == {"$mul": count}


@pytest.mark.parametrize(
    ("block", "values"), [*SHIFTED, *((block, values) for block, values, _ in MULTIPLIED)], ids=label
)
def test_no_latch_memory_or_shifter(block: str, values: dict[str, Any]) -> None:
    found = words(block, values)
    assert not SURPRISES & set(found)
    assert any(cell.startswith("$dff") for cell in found)


def test_a_planted_multiplier_is_seen() -> None:
    text = generate("apot_pe", k=2, n=2).verilog
    planted = text.replace("endmodule", "wire [12:0] p = weight * activation;\nendmodule")
    assert "$mul" in cells(planted, elaborated("apot_pe")[:-1])


def test_a_planted_latch_is_seen() -> None:
    text = generate("apot_pe", k=2, n=2).verilog
    planted = text.replace("endmodule", "reg held; always @* if (enable) held = clear;\nendmodule")
    assert "$dlatch" in cells(planted, elaborated("apot_pe")[:-1])


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("lanes", [1, 2, 5, 16])
def test_dot_product_adds_in_chains(lanes: int, folded: bool) -> None:
    """A tree for each of two terms, one adder for both, one for the sum; none is merged."""
    block = "apot_dot"
    text = generate(block, k=2, n=2, lanes=lanes, folded=folded).verilog
    found = cells(text, [*elaborated(block), "opt", "alumacc"])
    assert not MULTIPLIERS & set(found)
    assert found["$alu"] == 2 * (lanes - 1) + 1 + 1


def test_registers_of_a_dot_product() -> None:
    """Only what holds state is reset: enable, clear and the sum; data flows through.

    A lane has its value turned, the field that selects it, and the product; then come the tree's levels.
    """
    found = cells(
        generate("apot_dot", k=2, n=1, lanes=4, folded=True).verilog,
        [*elaborated("apot_dot"), "opt_dff", "opt_clean"],
    )
    data = 3 * 4 + 2 + 1
    assert found["$dff"] == data


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_is_counted(target: str) -> None:
    if not TARGETS[target].available():
        pytest.skip(f"the library of {target} is not there: {OBTAIN}")
    netlist = TARGETS[target].synthesize(generate("apot_pe", k=2, n=2).verilog, top="apot_pe")
    summary = TARGETS[target].summary(netlist.cells)
    assert set(summary) == set(KINDS)
    assert summary["flip-flops"] == 27
    assert netlist.area > 27
    assert (summary["carry"] > 0) == (target not in ("generic", "osu018"))
    assert not any(summary[kind] for kind in ("LUT memories", "block memories", "multipliers"))
    assert (summary["other"] == 0) == (target != "osu018")


def test_adders_are_mapped_to_chains_of_the_same_function() -> None:
    """The techmap file against Yosys' own adders and subtractors, all inputs of either sign."""
    text = """
    module top(input signed [3:0] a, input signed [4:0] b, input [3:0] c, output signed [6:0] p, q,
               output [6:0] r, s);
      assign p = a + b; assign q = a - b; assign r = c + b; assign s = c - a;
    endmodule
    """
    commands = [
        "hierarchy -top top",
        "copy top mapped",
        f"techmap -map {ROOT / 'fpga' / 'add2alu.v'} mapped/t:$add mapped/t:$sub",
        "select -assert-count 4 mapped/t:$alu",
        "select -clear",
        "miter -equiv -flatten -make_outputs top mapped miter",
        "hierarchy -top miter",
        "sat -verify -prove trigger 0 miter",
    ]
    assert cells(text, commands)


def test_synthesis_error_is_yosys_own() -> None:
    with pytest.raises(YosysError, match=r"^ERROR: Module `missing' not found!"):
        cells("module top; endmodule", elaborated("missing"))


def test_synth_command(tmp_path: Path) -> None:
    report = tmp_path / "cells.json"
    arguments = ["synth", "pot_pe", "--k", "2", "--target", "ice40", "--json", str(report)]
    outcome = CliRunner().invoke(main, arguments, prog_name="python -m fpga")
    assert outcome.exit_code == 0
    assert "pot_pe on ice40" in outcome.stdout
    found = json.loads(report.read_text())
    assert (found["block"], found["target"], found["parameters"]["k"]) == ("pot_pe", "ice40", 2)
    assert found["summary"]["LUTs"] == found["cells"]["SB_LUT4"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("synth pot_pe --k 9", "synth pot_pe: k must be an integer from 1 to 5, not 9"),
        (
            "synth pot_pe --k 2 --target asic",
            "synth pot_pe: Invalid value for '--target': 'asic' is not one of 'ecp5', 'ice40', "
            "'xilinx', 'osu018', 'generic'.",
        ),
    ],
)
def test_refusals(arguments: str, message: str) -> None:
    outcome = CliRunner().invoke(main, arguments.split(), prog_name="python -m fpga")
    assert (outcome.exit_code, outcome.stderr) == (2, f"python -m fpga {message}\n")


def test_help_loads_no_hardware_language() -> None:
    code = "import sys, fpga.__main__; print(sorted({'amaranth', 'pyosys', 'rich'} & set(sys.modules)))"
    outcome = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=True
    )
    assert outcome.stdout == "[]\n"

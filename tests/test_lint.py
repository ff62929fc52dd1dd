"""Verilator, Icarus and Yosys take generated Verilog, with no warning that is not waived by name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gen.verilog import generate
from verif.simulators import check_installed, verilator_environment, verilator_folder

WAIVERS = Path(__file__).parents[1] / "gen" / "lint.vlt"

BLOCKS = [
    ("apot_pe", {"k": 2, "n": 2}),
    ("apot_pe", {"k": 2, "n": 1, "odd": True, "activation_width": 4}),
    ("apot_pe", {"k": 1, "n": 1, "activation_width": 1, "depth": 1}),
    ("apot_pe", {"k": 3, "n": 3}),
    ("pot_pe", {"k": 3}),
    ("uniform_pe", {"bits": 4}),
    ("signmag_pe", {"bits": 4}),
    ("signmag_pe", {"bits": 2, "activation_width": 1, "depth": 1}),
    ("table_pe", {"levels": (0, 1, 2, 4, -7, -1, -2, -4)}),
    ("table_pe", {"format": "apot_k2n2"}),
    ("apot_dot", {"k": 2, "n": 2, "lanes": 5}),
    ("apot_dot", {"k": 2, "n": 1, "odd": True, "folded": True}),
    ("pot_dot", {"k": 2, "lanes": 1}),
    ("pot_dot", {"k": 2, "folded": True, "lanes": 1}),
    ("uniform_dot", {"bits": 4, "lanes": 5}),
    ("table_dot", {"format": "apot_k2n1", "lanes": 4}),
    ("basis_dot", {"family": "laplace", "planes": 3, "lanes": 5, "rows": 2}),
    ("basis_dot", {"coordinates": (1,), "lanes": 1, "activation_width": 1, "depth": 1}),
    ("basis_dot", {"family": "gauss", "planes": 4, "lanes": 4, "folded": True}),
    ("basis_dot", {"family": "laplace", "planes": 2, "lanes": 3, "serial": True}),
    ("basis_dot", {"family": "gauss", "planes": 3, "lanes": 4, "serial": True, "folded": True}),
    ("popcount_dot", {"family": "gauss", "planes": 4, "lanes": 5, "rows": 2, "activation_width": 3}),
    ("popcount_dot", {"coordinates": (1,), "lanes": 1, "activation_width": 1, "depth": 1}),
    ("signmag_dot", {"bits": 4, "lanes": 3, "rows": 2}),
    ("uniform_planes_dot", {"bits": 4, "lanes": 5, "rows": 2}),
    ("uniform_planes_dot", {"bits": 3, "lanes": 4, "folded": True, "rows_only": True}),
    ("pair_tables", {"lanes": 5, "with_total": True}),
    ("pair_tables", {"lanes": 4, "folded": True}),
    ("codebook_dot", {"level_width": 5, "lanes": 6, "rows": 2, "folded": True}),
    ("codebook_dot", {"level_width": 2, "lanes": 1, "activation_width": 1}),
    ("activation_decoder", {"format": "apot_k2n2u", "lanes": 2}),
    ("activation_encoder", {"format": "apot_k2n2u", "lanes": 2}),
    ("lut_decoder", {"bits": 4, "lanes": 3, "banks": 3}),
    ("lcq_pe", {}),
    ("lcq_dot", {"lanes": 5}),
    ("product_dot", {"weight_bits": 2, "activation_bits": 2, "lanes": 5}),
]
NAMES = ["-".join([block, *map(str, values.values())]) for block, values in BLOCKS]


@pytest.fixture(params=BLOCKS, ids=NAMES)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    block, values = request.param
    path = tmp_path / f"{block}.v"
    generate(block, **values).write(path)
    return path


def verilator(*arguments: object) -> subprocess.CompletedProcess[str]:
    check_installed("verilator")
    command = [verilator_folder() / "verilator", "--lint-only", "-Wall", *arguments]
    environment = os.environ | verilator_environment(os.environ["PATH"])
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_verilator_says_nothing(written: Path) -> None:
    outcome = verilator(WAIVERS, written)
    assert (outcome.returncode, outcome.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("wire idle = enable;", "UNUSEDSIGNAL"),
        ("wire [1:0] short = weight;", "WIDTHTRUNC"),
        ("wire floating; assign accumulator[0] = floating;", "UNDRIVEN"),
        ("reg held; always @* if (enable) held = clear;", "LATCH"),
    ],
)
def test_verilator_sees_what_is_not_waived(line: str, rule: str, tmp_path: Path) -> None:
    text = generate("apot_pe", k=2, n=2).verilog
    path = tmp_path / "apot_pe.v"
    path.write_text(text.replace("endmodule", line + "\nendmodule"))
    assert f"%Warning-{rule}" in verilator(WAIVERS, path).stderr


def test_every_waiver_is_explained() -> None:
    paragraphs = WAIVERS.read_text().split("\n\n")[1:]
    assert paragraphs
    assert all(paragraph.startswith("// ") and "lint_off" in paragraph for paragraph in paragraphs)


def test_icarus_says_nothing(written: Path, tmp_path: Path) -> None:
    check_installed("icarus")
    command = ["iverilog", "-Wall", "-g2012", "-o", tmp_path / "out", written]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (outcome.returncode, outcome.stdout + outcome.stderr) == (0, "")


def test_icarus_takes_it_as_verilog_2001(written: Path, tmp_path: Path) -> None:
    check_installed("icarus")
    command = ["iverilog", "-Wall", "-g2001", "-o", tmp_path / "out", written]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (outcome.returncode, outcome.stdout + outcome.stderr) == (0, "")


YOSYS = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for command in sys.argv[1:]:
    libyosys.run_pass(command, design)
"""


def test_yosys_finds_no_problem(written: Path) -> None:
    commands = [f"read_verilog {written}", "hierarchy -check -auto-top", "proc", "check -assert"]
    outcome = subprocess.run(
        [sys.executable, "-c", YOSYS, *commands], capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stdout[-2000:] + outcome.stderr
    assert "Found and reported 0 problems" in outcome.stdout
    assert "Warning" not in outcome.stdout

"""The generator: its commands, the description beside the Verilog, and what it refuses."""

import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gen.__main__ import main
from gen.blocks import catalog
from gen.identifiers import KEYWORDS, check_identifier, plain
from gen.options import documented, options
from gen.parts import stream
from gen.verilog import generate
from hdl.parameters import AcceleratorParameters

ROOT = Path(__file__).parents[1]
BLOCKS = [f"{scheme}_{unit}" for unit in ("pe", "dot") for scheme in ("apot", "pot", "uniform", "table")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def gen(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, prog_name="python -m gen")


def test_writes_verilog_and_description(folder: Path) -> None:
    outcome = gen("apot_pe", "--k", "2", "--n", "2")
    assert (outcome.exit_code, outcome.stdout) == (0, "wrote apot_pe.v and apot_pe.json\n")
    assert sorted(path.name for path in folder.iterdir()) == ["apot_pe.json", "apot_pe.v"]
    ports = "clk, rst, enable, clear, weight, activation, accumulator"
    assert f"\nmodule apot_pe({ports});\n" in (folder / "apot_pe.v").read_text()


def test_description(folder: Path) -> None:
    gen("apot_pe", "--k", "2", "--n", "1", "--activation-width", "4", "--depth", "10", "-o", "x/mine.v")
    assert json.loads((folder / "x/mine.json").read_text()) == {
        "name": "apot_pe",
        "block": "apot_pe",
        "version": tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"],
        "parameters": {
            "k": 2,
            "n": 1,
            "odd": False,
            "activation_width": 4,
            "depth": 10,
            "accumulator_width": None,
        },
        "ports": [
            {"name": "clk", "direction": "input", "width": 1, "signed": False},
            {"name": "rst", "direction": "input", "width": 1, "signed": False},
            {"name": "enable", "direction": "input", "width": 1, "signed": False},
            {"name": "clear", "direction": "input", "width": 1, "signed": False},
            {"name": "weight", "direction": "input", "width": 3, "signed": False},
            {"name": "activation", "direction": "input", "width": 4, "signed": False},
            {"name": "accumulator", "direction": "output", "width": 11, "signed": True},
        ],
        "latency": 1,
        "format": "apot_k2n1",
        "code_layout": [
            {"name": "term0", "lsb": 0, "width": 2},
            {"name": "sign", "lsb": 2, "width": 1},
        ],
        "levels": [0, 4, 2, 1, 0, -4, -2, -1],
        "scale": {"max_level": 4, "real_value": "clip / max_level * level"},
        "accumulator": {"width": 11, "signed": True, "uniform_of_equal_bits": 11},
    }


@pytest.mark.parametrize(
    ("block", "values", "widths"),
    [
        ("pot_pe", {"k": 2, "activation_width": 3}, (18, 18)),
        ("pot_pe", {"k": 3, "activation_width": 4}, (24, 21)),
        ("pot_pe", {"k": 4, "activation_width": 5}, (33, 23)),
        ("pot_pe", {"k": 3, "activation_width": 4, "accumulator_width": 32}, (32, 21)),
        ("apot_pe", {"k": 2, "n": 2, "activation_width": 5}, (24, 23)),
        ("uniform_pe", {"bits": 4, "activation_width": 4}, (21, 21)),
        ("signmag_pe", {"bits": 4, "activation_width": 4}, (20, 21)),
        ("table_pe", {"levels": (0, 1), "activation_width": 1}, (14, 15)),
    ],
)
def test_an_accumulator_is_stated_beside_that_of_plain_integers(
    block: str, values: dict[str, Any], widths: tuple[int, int]
) -> None:
    """4608 products with activations of as many bits as a weight."""
    description = generate(block, **values, depth=4608).description
    expected = {"width": widths[0], "signed": True, "uniform_of_equal_bits": widths[1]}
    assert description["accumulator"] == expected
    ports = {port["name"]: port["width"] for port in description["ports"]}
    assert ports["accumulator"] == widths[0]


def test_description_of_a_folded_dot_product() -> None:
    description = generate("apot_dot", k=2, n=1, lanes=3, activation_width=4, folded=True).description
    ports = {port["name"]: port for port in description["ports"]}
    assert ports["weights"] == {
        "name": "weights",
        "direction": "input",
        "width": 9,
        "signed": False,
        "lanes": 3,
    }
    assert ports["accumulators"]["signed"] is False
    assert description["latency"] == 5
    assert description["fold"]["excess"] == [[[0, 0, 0, 0, 0, 60, 30, 15]] * 2]
    assert "fold" not in generate("apot_dot", k=2, n=1, lanes=3).description


def test_what_is_on_can_be_turned_off() -> None:
    (option,) = [each for each in options(AcceleratorParameters) if each.name == "read_back"]
    assert (option.default, option.opts, option.secondary_opts) == (True, ["--read-back"], ["--no-read-back"])


def test_standard_output_gets_the_verilog_alone(folder: Path) -> None:
    outcome = gen("pot_pe", "--k", "2", "-o", "-")
    assert outcome.exit_code == 0
    assert outcome.stdout == generate("pot_pe", k=2).verilog
    assert list(folder.iterdir()) == []


def test_module_name_is_chosen(folder: Path) -> None:
    assert gen("pot_pe", "--k", "2", "--name", "shifter").exit_code == 0
    assert "\nmodule shifter(" in (folder / "shifter.v").read_text()
    assert json.loads((folder / "shifter.json").read_text())["name"] == "shifter"
    assert json.loads((folder / "shifter.json").read_text())["block"] == "pot_pe"


def test_same_bytes_on_every_run() -> None:
    command = [sys.executable, "-m", "gen", "apot_dot", "--k", "2", "--n", "2", "--lanes", "3", "-o", "-"]
    runs = {
        subprocess.run(
            command, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(runs) == 1


def test_names_in_verilog_are_plain() -> None:
    for block, values in [("apot_pe", {"k": 2, "n": 2}), ("table_dot", {"format": "apot_k2n2"})]:
        text = generate(block, **values).verilog
        assert "\\" not in text
        assert "$auto" not in text
        assert str(ROOT) not in text


def test_list_shows_every_block() -> None:
    outcome = gen("list")
    assert outcome.exit_code == 0
    assert all(name in outcome.stdout for name in BLOCKS)
    assert all(name in catalog() for name in BLOCKS)


@pytest.mark.parametrize("name", catalog())
def test_every_field_is_an_option_with_help(name: str) -> None:
    block = catalog()[name]
    text = gen(name, "--help").stdout
    assert "Examples:" in text
    for field in fields(block.parameters):
        assert f"--{field.name.replace('_', '-')}" in text
        assert documented(block.parameters)[field.name].endswith(".")


@pytest.mark.parametrize(
    ("name", "example"), [(name, example) for name in BLOCKS for example in catalog()[name].examples]
)
@pytest.mark.usefixtures("folder")
def test_examples_work(name: str, example: str) -> None:
    assert gen(name, *example.split()).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("apot_pe --k 2", "Missing option '--n'."),
        ("apot_pe --k two --n 2", "Invalid value for '--k': 'two' is not a valid integer."),
        ("apot_pe --k 0 --n 2", "k must be an integer from 1 to 5, not 0"),
        ("apot_pe --k 2 --n 9", "n must be an integer from 1 to 8, not 9"),
        (
            "apot_pe --k 4 --n 4",
            "k and n must give magnitude codes of at most 12 bits, not 16 (k=4, n=4)",
        ),
        ("apot_pe --k 3 --n 2 --odd", "k must be 2 in the odd-bit form (eq. 6), not 3"),
        ("pot_pe --k 6", "k must be an integer from 1 to 5, not 6"),
        ("uniform_pe --bits 1", "bits must be an integer from 2 to 16, not 1"),
        (
            "apot_pe --k 2 --n 2 --activation-width 17",
            "activation_width must be an integer from 1 to 16, not 17",
        ),
        ("apot_pe --k 2 --n 2 --depth 0", "depth must be an integer from 1 to 16777216, not 0"),
        (
            "apot_pe --k 2 --n 2 --depth 4096 --accumulator-width 26",
            "accumulator_width must be at least 27 for sums of 4096 products, not 26",
        ),
        (
            "apot_pe --k 2 --n 2 --accumulator-width 129",
            "accumulator_width must be an integer from 1 to 128, not 129",
        ),
        ("apot_dot --k 2 --n 2 --lanes 0", "lanes must be an integer from 1 to 256, not 0"),
        ("table_pe", "levels or format must be given, and not both"),
        ("table_pe --levels 0,1 --format pot_k2", "levels or format must be given, and not both"),
        ("table_pe --levels 0,1,2", "table must hold 2, 4, 8, … or 256 levels, not 3"),
        (
            "table_pe --levels 0,x",
            "Invalid value for '--levels': must be integers separated by commas, not '0,x'",
        ),
        (
            "table_pe --format apot",
            "format must be a name like 'apot_k2n2' or 'uniform_b8u' "
            "(uniform, signmag, pot, apot, basis, companded, laplace, gauss), not 'apot'",
        ),
        ("table_pe --format pot_k2u", "weight_format must be signed, not 'pot_k2u'"),
        (
            "pot_pe --k 2 --name 2x",
            "name must be letters, digits and underscores, not first a digit, not '2x'",
        ),
        (
            "pot_pe --k 2 --name logic",
            "name must not be a keyword of Verilog or SystemVerilog, not 'logic'",
        ),
        ("pot_pe --k 2 -o x.json", "-o must name a Verilog file, not 'x.json'"),
        ("pot_pe --k 2 -o .", "-o must name a Verilog file, not '.'"),
    ],
)
def test_refusals(arguments: str, message: str, folder: Path) -> None:
    outcome = gen(*arguments.split())
    assert outcome.exit_code == 2
    assert outcome.stderr == f"python -m gen {arguments.split()[0]}: {message}\n"
    assert outcome.stdout == ""
    assert list(folder.iterdir()) == []


def test_unknown_block(folder: Path) -> None:
    outcome = gen("apot_tree")
    assert outcome.exit_code == 2
    assert outcome.stderr.startswith("python -m gen: No such command 'apot_tree'.")
    assert list(folder.iterdir()) == []


def test_unknown_block_in_a_call() -> None:
    with pytest.raises(ValueError, match=r"^block must be one of .*apot_pe.*, not 'apot_tree'$"):
        generate("apot_tree")


def test_both_files_or_neither(folder: Path) -> None:
    (folder / "pot_pe.json").mkdir()
    outcome = gen("pot_pe", "--k", "2")
    assert outcome.exit_code == 1
    assert outcome.stderr.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == ["pot_pe.json"]


def test_help_loads_no_hardware_language() -> None:
    code = (
        "import sys, gen.__main__; print(sorted({'amaranth', 'torch', 'numpy', 'rich'} & set(sys.modules)))"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert outcome.stdout == "[]\n"


@pytest.mark.parametrize("value", ["module", "", "a b", "a-b", "1a", "é"])
def test_identifiers_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"^name must "):
        check_identifier("name", value)


def test_identifier_of_a_wrong_type() -> None:
    with pytest.raises(TypeError, match=r"^name must be a string, not 3$"):
        check_identifier("name", 3)


def test_keywords_are_verilogs() -> None:
    assert {"module", "reg", "logic", "always_ff", "interface", "xnor", "wire"} <= KEYWORDS
    assert len(KEYWORDS) == 248  # IEEE 1800-2017, table B.1


def test_plain_names_are_unique_and_consistent() -> None:
    text = plain("wire \\a.b ; wire a_b; wire \\a$b ; wire \\1 ; wire \\reg ; assign \\a.b  = a_b;")
    assert text == "wire a_b_2; wire a_b; wire a_b_3; wire net_1; wire reg_2; assign a_b_2 = a_b;"
    assert not re.search(r"\\", text)


def test_a_stream_part_that_there_is_not_is_refused() -> None:
    names = "packet_reader, payload_mover, responder"
    with pytest.raises(ValueError, match=f"name must be one of {names}, not 'engine'"):
        stream("engine", AcceleratorParameters())

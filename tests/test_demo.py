"""The demo on few images: what its table says, and that a wrong output is not overlooked."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sw.compiler.schedule import program_cycles
from sw.image import read_image
from verif import demo
from verif.__main__ import main
from verif.network import Answers, classify

pytestmark = pytest.mark.xdist_group("accelerator")

FILES = {"network": "network.pt", "image": "network.bin", "verilog": "accelerator.v", "waves": "waves.fst"}
SECTIONS = ("program", "weights", "channels", "tables", "boundaries")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run left behind and printed, and what its simulators answered."""

    folder: Path
    result: Result
    answers: dict[str, Answers]


def run_demo(folder: Path, *arguments: str) -> Result:
    options = ["--epochs", "1", "--images", "3", "--folder", str(folder), *arguments]
    return CliRunner().invoke(main, ["demo", *options], env={"COLUMNS": "200"})


def rows(result: Result) -> dict[str, str]:
    """The table's second column by its first; the title is the line before."""
    pairs = (re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in result.stdout.splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The one run that is simulated."""
    answers = {}

    def recorded(*arguments: Any, simulator: str, **options: Any) -> Answers:
        answers[simulator] = classify(*arguments, simulator=simulator, **options)
        return answers[simulator]

    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "classify", recorded)
        return Run(folder=folder, result=run_demo(folder), answers=answers)


def replay(monkeypatch: pytest.MonkeyPatch, answers: dict[str, Answers]) -> None:
    """Let the next run take these answers for its simulators'; the Verilog stays as it is."""
    monkeypatch.setattr(demo, "classify", lambda *_, simulator, **__: answers[simulator])
    monkeypatch.setattr(demo, "accelerator", lambda _: SimpleNamespace(write=Path.exists))


def test_the_table(first: Run) -> None:
    folder, result = first.folder, first.result
    assert result.exit_code == 0, result.stderr
    table = rows(result)
    assert "APoT 4/4 on digits" in result.stdout
    for name in ("float accuracy", "quantized accuracy"):
        assert re.fullmatch(r"\d+\.\d\d%", table[name])
    assert re.fullmatch(r"(0.00|33.33|66.67|100.00)% \(3 held-out images\)", table["accelerator accuracy"])
    assert table["mismatching outputs"] == "0 of 40"
    assert table["equal to the float model"].endswith("% of classes")
    compiled = read_image(folder / "network.bin")
    cycles = program_cycles(compiled.schedule)
    assert table["cycles per image"] == f"{cycles:,}"
    peak = compiled.parameters.rows * compiled.parameters.lanes
    share = sum(layer.macs for layer in compiled.schedule) / (cycles * peak)
    assert table["share of peak MACs"] == f"{share:.1%} of {peak} a cycle"
    assert {name: table[name] for name in FILES} == {key: str(folder / name) for key, name in FILES.items()}


def test_every_file_is_there_and_no_other(first: Run) -> None:
    hexes = [f"network.{section}.hex" for section in SECTIONS]
    found = {path.name for path in first.folder.iterdir()}
    assert found == {*FILES.values(), *hexes, "accelerator.json", "network.csv", "network.jsonl"}
    assert (first.folder / "waves.fst").stat().st_size > 10_000


@pytest.mark.parametrize(("wrong", "image"), [("verilator", 2), ("icarus", 0)])
def test_one_wrong_output_fails_and_nothing_is_trained_again(
    first: Run, monkeypatch: pytest.MonkeyPatch, wrong: str, image: int
) -> None:
    logits = first.answers[wrong].logits.copy()
    logits[image, 7] += 1
    answers = first.answers | {wrong: replace(first.answers[wrong], logits=logits)}
    replay(monkeypatch, answers)
    trained = (first.folder / "network.pt").stat()
    result = run_demo(first.folder)
    assert result.exit_code == 1
    message = "accelerator's outputs must equal the reference, but 1 differ"
    assert result.stderr.splitlines()[-1].endswith(f": {message}")
    assert "Traceback" not in result.output
    table = rows(result)
    assert table["mismatching outputs"] == "1 of 40"
    assert table["quantized accuracy"] == rows(first.result)["quantized accuracy"]
    again = (first.folder / "network.pt").stat()
    assert (again.st_mtime_ns, again.st_ino) == (trained.st_mtime_ns, trained.st_ino)


def test_other_cycles_than_planned_fail(first: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    late = first.answers["verilator"].cycles + 1
    answers = first.answers | {"verilator": replace(first.answers["verilator"], cycles=late)}
    replay(monkeypatch, answers)
    result = run_demo(first.folder)
    assert result.exit_code == 1
    message = f"runs must take {late[0] - 1} cycles as planned, but took [{late[0]}]"
    assert result.stderr.splitlines()[-1].endswith(message)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--bits", "9/4"], 2, "weight_bits must be"),
        (["--bits", "4"], 2, "--bits"),
        (["--dataset", "cifar"], 2, "dataset must be"),
        (["--images", "0"], 2, "--images"),
        (["--epochs", "0"], 2, "epochs must be"),
        (["--dataset", "mnist", "--data-dir", "nowhere"], 1, "nowhere"),
    ],
)
def test_refusals(tmp_path: Path, arguments: list[str], status: int, message: str) -> None:
    result = run_demo(tmp_path / "demo", *arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "demo").exists()

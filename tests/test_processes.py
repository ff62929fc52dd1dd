"""Training by several processes: equal to one, alike in all, and started by torchrun."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hdl.console import RefusedError
from sw import checkpoint as checkpoints
from sw.execution import Execution
from sw.recipe import Recipe
from sw.training import Trainer
from tests.few_digits import few_digits
from tests.two_processes import run

# One worker, which starts the two processes once.
pytestmark = pytest.mark.xdist_group("processes")

ROOT = Path(__file__).parents[1]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

COMMON = {"epochs": 2, "batch_size": 32, "lr": 0.005, "weight_bits": 3, "activation_bits": 3}
ALLOCATED = {"scheme": "dmbq", "average_bits": [2.5, 2.5], "lba_end": 2, "lba_ratio": 0.4}
BINS = {"scheme": "lsq", "regularizer": "br", "br_start": 1, "strength": 0.01}
STAGES = {**BINS, "amp": "fp16", "progressive": True, "weight_bits": 4, "activation_bits": 4}
EQUAL = {
    "apot": {"scheme": "apot"},
    "bins": BINS,
    "lcq": {"scheme": "lcq", "regularizer": "kure"},
    "lloyd": {"scheme": "lloyd"},
    "channels": {**ALLOCATED, "lba": "cp"},
    "layers": {**ALLOCATED, "lba": "lp"},
    "fp16": {**BINS, "amp": "fp16"},
}
RUNS = {
    **{name: {**options, "how": "fixed"} for name, options in EQUAL.items()},
    "statistics": {"scheme": "lsq", "how": "whole"},
    "straight": {**STAGES, "how": "straight"},
    "parts": {**STAGES, "how": "in parts"},
    "diverging": {"scheme": "lsq", "lr": 1e30, "how": "whole"},
}


def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*TORCHRUN, *(str(argument) for argument in arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What both processes came to, of every run."""
    folder = tmp_path_factory.mktemp("together")
    runs = {name: COMMON | options for name, options in RUNS.items()}
    done = torchrun("-m", "tests.two_processes", folder, json.dumps(runs))
    assert done.returncode == 0, done.stderr
    return {
        name: [torch.load(folder / f"{name}.{rank}.pt", weights_only=True) for rank in (0, 1)]
        for name in [*RUNS, "threads"]
    }


@pytest.mark.parametrize("name", sorted(RUNS.keys() - {"diverging"}))
def test_processes_come_to_the_same(together, name):
    first, second = together[name]
    assert first["rows"] == second["rows"]
    assert first["model"].keys() == second["model"].keys()
    assert all(torch.equal(value, second["model"][key]) for key, value in first["model"].items())


def test_no_thread_of_the_group_outlives_it(together):
    """One that lets go of a tensor while the interpreter ends aborts the process."""
    for threads in together["threads"]:
        assert threads
        assert not any("gloo" in name for name in threads)


@pytest.mark.parametrize("name", EQUAL)
def test_two_processes_equal_one(together, name):
    """To rounding, where batch normalization is a constant; the same steps, and the same bits taken."""
    alone, first = run(COMMON | EQUAL[name], Execution(), fixed=True), together[name][0]
    for key, value in alone["model"].items():
        if value.is_floating_point():
            assert torch.allclose(first["model"][key], value, rtol=2e-3, atol=2e-4), key
        else:
            assert torch.equal(first["model"][key], value), key
    for found, expected in zip(first["rows"], alone["rows"], strict=True):
        for column in ("loss", "train_accuracy", "test_accuracy", "weight_bits", "activation_bits"):
            assert found[column] == pytest.approx(expected[column], rel=1e-3), column
    rows = first["rows"]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert (rows[-1]["weight_bits"] < 3) == (rows[-1]["activation_bits"] < 3) == ("lba" in EQUAL[name])


def test_statistics_of_half_a_batch_are_the_difference(together):
    """With batch normalization in each process they learn almost, but not quite, what one would."""
    alone = run(COMMON | {"scheme": "lsq"}, Execution(), fixed=False)
    found = together["statistics"][0]["rows"][-1]["loss"]
    assert found != alone["rows"][-1]["loss"]
    assert found == pytest.approx(alone["rows"][-1]["loss"], rel=0.2)


def test_processes_go_on_to_the_same_result(together):
    """Three stages, interrupted in the second: as if nothing had been."""
    parts = together["parts"][0]
    assert parts["kept"] == 3
    straight = together["straight"][0]
    assert parts["rows"] == straight["rows"]
    assert all(torch.equal(value, straight["model"][key]) for key, value in parts["model"].items())


def test_all_processes_refuse_a_loss_that_is_none(together):
    first, second = together["diverging"]
    assert first == second
    assert first["refused"].startswith("loss became ")


def test_each_process_takes_its_share_in_order():
    recipe, data = Recipe(batch_size=32), few_digits()
    whole = list(Trainer(recipe, data, stage=0).batches())
    parts = [
        list(Trainer(recipe, data, stage=0, execution=Execution(rank=rank, size=4)).batches())
        for rank in range(4)
    ]
    for step, (images, labels) in enumerate(whole):
        assert torch.equal(torch.cat([part[step][0] for part in parts]), images)
        assert torch.equal(torch.cat([part[step][1] for part in parts]), labels)
    samples = torch.arange(10)
    seen = torch.cat([Execution(rank=rank, size=4).every(samples) for rank in range(4)])
    assert sorted(seen.tolist()) == samples.tolist()


@pytest.mark.parametrize("size", [3, 32])
def test_a_batch_that_cannot_be_shared(size):
    message = f"--batch-size must be a multiple of the {size} processes, and larger, not 32"
    with pytest.raises(RefusedError) as caught:
        Trainer(Recipe(batch_size=32), few_digits(), stage=0, execution=Execution(size=size))
    assert str(caught.value) == message


def test_torchrun_trains(tmp_path):
    """The command as it is documented: one of the processes writes and speaks."""
    path = tmp_path / "net.pt"
    command = ("-m", "sw", "train", "--images", 96, "--batch-size", 32, "--scheme", "lsq", "--epochs", 1)
    done = torchrun(*command, "--tensorboard", tmp_path / "runs", "-o", path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test accuracy") == 1
    assert done.stderr.count("epoch   1") == 1
    assert "Warning" not in done.stderr
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["net.csv", "net.jsonl", "net.pt", "runs"]
    assert len(list((tmp_path / "runs").iterdir())) == 1
    assert checkpoints.load(path).finished

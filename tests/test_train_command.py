"""The `train` command: options, refusals, interruption and resuming."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from sw import checkpoint as checkpoints
from sw import training
from sw.__main__ import main
from sw.progress import Bar
from sw.recipe import Recipe
from tests.few_digits import few_digits

ROOT = Path(__file__).parents[1]
RECIPE = Recipe(progressive=True, epochs=2, batch_size=32)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A short run and its file."""
    path = tmp_path_factory.mktemp("straight") / "net.pt"
    return training.train(RECIPE, few_digits(), path), path


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="python -m sw")
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bits", "4"], "must be two integers W/A like 4/4, not '4'"),
        (["--bits", "1/4"], "weight_bits must be an integer from 2 to 8, not 1"),
        (["--scheme", "log"], "'log' is not one of 'float', 'uniform', 'pot', 'apot', 'lsq', "),
        (["--lr", "-1"], "lr must be a positive number, not -1.0"),
        (["--regularizer", "br"], "regularizer br must have scheme lsq, whose steps are learned, not 'apot'"),
        (["--regularizer", "l2"], "'l2' is not one of 'br', 'kure'"),
        (["--regularizer", "kure", "--lambda", "0"], "strength must be a positive number, not 0.0"),
        (["--lba", "cp"], "lba must have scheme dmbq or dmbq_gauss, not 'apot'"),
        (["--average-bits", "2"], "must be two numbers W/A like 2.0/1.5, not '2'"),
        (["--average-bits", "2/-1"], "average_bits must be a positive number, not -1.0"),
        (["--lba-ratio", "2"], "lba_ratio must be at most 1, not 2.0"),
        (["--lba-start", "5", "--lba-end", "4"], "lba_end must be an integer of at least 5, not 4"),
        (["--epochs", "0"], "0 is not in the range x>=1"),
        (["--init", "a.pt", "--resume"], "--init must not be given with --resume"),
    ],
)
def test_wrong_options_exit_with_2(tmp_path, arguments, message):
    code, output = invoke("train", "-o", tmp_path / "n.pt", *arguments)
    assert code == 2
    assert message in output
    assert output.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_bad_input_exits_with_1(tmp_path):
    (tmp_path / "text.pt").write_text("hello")
    out = tmp_path / "n.pt"
    missing = tmp_path / "missing.pt"
    for arguments, message in (
        (["--init", missing], f"python -m sw: {missing}: no such file or directory"),
        (
            ["--init", tmp_path / "text.pt"],
            f"python -m sw: {tmp_path / 'text.pt'}: must be a checkpoint written by 'train'",
        ),
        (["--resume"], f"python -m sw: {out}: no such file or directory"),
        (
            ["--dataset", "mnist", "--data-dir", tmp_path],
            f"{tmp_path / 'train-images-idx3-ubyte'}: no such file",
        ),
        (
            ["--batch-size", "9999"],
            "python -m sw: --batch-size must be at most the 1442 training images, not 9999",
        ),
        (["--lr", "1e30", "--epochs", "1"], "at apot 4/4: --lr must be less than 1e+30"),
    ):
        code, output = invoke("train", "-o", out, *arguments)
        assert code == 1
        assert message in output
        assert output.strip().count("\n") == 0
        assert not out.exists()


def test_resume_with_other_options_is_refused(straight, tmp_path):
    path = tmp_path / "net.pt"
    path.write_bytes(straight[1].read_bytes())
    code, output = invoke(
        "train", "-o", path, "--resume", "--epochs", "2", "--seed", "5", "--batch-size", "32"
    )
    assert code == 1
    assert (
        output
        == f"python -m sw: {path}: --resume needs the options it was written with: progressive True, seed 0\n"
    )


def test_command_trains_and_resumes(tmp_path):
    path = tmp_path / "sub" / "net.pt"
    arguments = ("train", "-o", path, "--scheme", "uniform", "--bits", "3/3", "--epochs", "1")
    code, output = invoke(*arguments)
    assert code == 0
    assert f"{path}: test accuracy " in output
    assert checkpoints.load(path).recipe.scheme == "uniform"
    before = path.read_bytes()
    assert invoke(*arguments, "--resume")[0] == 0
    assert path.read_bytes() == before


def test_regularizers_and_allocation_from_the_command_line(tmp_path):
    """Each changes the weights of the first epoch that it takes part in; bits are logged and shown."""
    common = ("train", "--bits", "3/4", "--epochs", "2", "--batch-size", "700")
    states = {}
    for name, options in {
        "plain": ("--scheme", "lsq"),
        "br": ("--scheme", "lsq", "--regularizer", "br", "--br-start", "1", "--lambda", "0.5"),
        "late": ("--scheme", "lsq", "--regularizer", "br", "--br-start", "2"),
        "kure": ("--scheme", "lsq", "--regularizer", "kure"),
    }.items():
        code, output = invoke(*common, *options, "-o", tmp_path / f"{name}.pt")
        assert code == 0, output
        assert "  bits 3/4\n" in output
        states[name] = checkpoints.load(tmp_path / f"{name}.pt").model["blocks.1.convolution.weight"]
    assert torch.equal(states["late"], states["plain"])
    assert not torch.equal(states["br"], states["plain"])
    assert not torch.equal(states["kure"], states["plain"])
    path = tmp_path / "lba.pt"
    code, output = invoke(*common, "--scheme", "dmbq", "--lba", "lp", "--average-bits", "1/4", "-o", path)
    assert code == 0
    assert "python -m sw train: average bits are 2.71/4.00, not 1/4 yet: --lba-end must be later" in output
    assert path.with_suffix(".csv").read_text().splitlines()[-1].endswith(",2.7143,4.0")


def test_options_go_over_a_recipe(tmp_path):
    recipe, path = tmp_path / "recipe.toml", tmp_path / "net.pt"
    recipe.write_text('scheme = "pot"\nweight_bits = 3\nactivation_bits = 2\nepochs = 1\nbatch_size = 500\n')
    code, output = invoke("train", "--recipe", recipe, "--seed", "3", "--scheme", "uniform", "-o", path)
    assert code == 0, output
    expected = Recipe(scheme="uniform", weight_bits=3, activation_bits=2, epochs=1, batch_size=500, seed=3)
    assert checkpoints.load(path).recipe == expected
    recipe.write_text("epoch = 1\n")
    code, output = invoke("train", "--recipe", recipe, "-o", path)
    assert code == 1
    assert output.startswith(f"python -m sw: {recipe}: key must be one of dataset, ")


def test_interrupt_keeps_the_last_checkpoint(tmp_path):
    path = tmp_path / "net.pt"
    command = [sys.executable, "-m", "sw", "train", "--scheme", "float", "--epochs", "500", "-o", str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    *_, kept, last = filter(None, errors.splitlines())
    epoch = checkpoints.load(path).epoch
    assert kept == f"python -m sw train: {path} keeps epoch {epoch} of float; go on with --resume"
    assert last == "python -m sw: interrupted"


def test_the_bar_shows_loss_accuracy_and_bits():
    recipe = Recipe(batch_size=32, weight_bits=3)
    with Bar(recipe) as bar:
        training.Trainer(recipe, few_digits(), stage=0).run_epoch(bar)
        (task,) = bar.progress.tasks
        assert re.fullmatch(r"loss \d+\.\d{4}  train \d+\.\d\d%  bits 3/4", task.fields["note"])
        assert task.description == "apot 3/4"
        assert task.completed == pytest.approx(1)
        assert task.total == 12


def test_help_loads_no_torch():
    code = (
        "import sys\nfrom sw.__main__ import main\n"
        "try:\n    main(sys.argv[1:], prog_name='sw')\n"
        "finally:\n    print({'torch', 'amaranth', 'sklearn'} & sys.modules.keys())"
    )
    for arguments in (["--help"], ["train", "--help"], ["export", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert "Examples:" in done.stdout
        assert done.stdout.endswith("set()\n")

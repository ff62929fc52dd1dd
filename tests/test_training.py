"""Training: stages, repeatability, resuming, checkpoints, and what the command line says."""

import csv
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from hdl.console import RefusedError
from sw import checkpoint as checkpoints
from sw import models, training
from sw.__main__ import main
from sw.data import Dataset, digits
from sw.precision import SCHEMES, Precision
from sw.recipe import MODELS, Recipe

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def few() -> Dataset:
    """A few digits, to train in a blink."""
    data = digits()
    return Dataset(
        train_images=data.train_images[:96],
        train_labels=data.train_labels[:96],
        test_images=data.test_images[:50],
        test_labels=data.test_labels[:50],
    )


RECIPE = Recipe(progressive=True, epochs=2, batch_size=32)


def same_states(left: dict, right: dict) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def draw(_trainer, _loss, row):
    """Use torch's global generator in every step, as a model with dropout would."""
    if row is None:
        torch.rand(1)


@pytest.fixture(scope="module")
def straight(few, tmp_path_factory):
    """The run of `RECIPE` without interruption, and its file."""
    path = tmp_path_factory.mktemp("straight") / "net.pt"
    return training.train(RECIPE, few, path, report=draw), path


def test_stages_of_a_progressive_recipe():
    def names(**options):
        return [str(stage) for stage in Recipe(progressive=True, **options).stages]

    assert names() == ["float", "apot 5/5", "apot 4/4"]
    assert names(weight_bits=2, activation_bits=4) == [
        "float", "apot 5/5", "apot 4/4", "apot 3/4", "apot 2/4",
    ]  # fmt: skip
    assert names(scheme="uniform", weight_bits=8, activation_bits=8) == ["float", "uniform 8/8"]
    assert names(scheme="float") == ["float"]
    assert [str(stage) for stage in Recipe().stages] == ["apot 4/4"]


def test_formats_of_the_schemes():
    def names(**options):
        return tuple(fmt.name for fmt in Precision(**options).formats())

    assert names(scheme="apot") == ("apot_k2n1o", "apot_k2n2u")
    assert names(scheme="apot", weight_bits=2, activation_bits=2) == ("apot_k1n1", "apot_k2n1u")
    assert names(scheme="uniform") == ("uniform_b4", "uniform_b4u")
    assert names(scheme="pot") == ("pot_k3", "uniform_b4u")
    assert names(scheme="lsq") == ("uniform_b4", "uniform_b4u")


def test_model_names_match():
    assert set(models.MODELS) == set(MODELS)


def test_layers_of_a_quantized_model():
    model = models.build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=Precision(scheme="apot"))
    formats = [block.convolution.quantizer.format.name for block in model.chain()]
    assert formats == ["uniform_b8", "apot_k2n1o", "apot_k2n1o", "apot_k2n1o"]
    assert model.classifier.quantizer.format.name == "uniform_b8"
    assert {block.activation.format.name for block in model.chain()} == {"apot_k2n2u"}


def test_float_and_quantized_models_share_their_weights():
    def state(scheme):
        torch.manual_seed(3)
        return models.build(
            "small_cnn", input_shape=(1, 8, 8), classes=10, precision=Precision(scheme=scheme)
        ).state_dict()

    plain, quantized = state("float"), state("apot")
    assert all(torch.equal(plain[key], quantized[key]) for key in plain)
    assert {key.rsplit(".", 1)[1] for key in quantized.keys() - plain.keys()} == {"alpha"}


def test_log_and_history(straight):
    done, path = straight
    with training.log_path(path).open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["stage"], row["epoch"]) for row in rows] == [
        (stage, epoch) for stage in ("float", "apot 5/5", "apot 4/4") for epoch in ("1", "2")
    ]
    assert [{key: str(value) for key, value in row.items()} for row in done.history] == rows
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert done.finished


def test_saved_checkpoint_is_the_returned_one(straight):
    done, path = straight
    loaded = checkpoints.load(path)
    assert loaded.recipe == done.recipe == RECIPE
    assert same_states(loaded.model, done.model)
    assert loaded.history == done.history


@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_resumed_run_equals_straight_run(straight, few, tmp_path, stop):
    """Interrupted in the middle of the epoch after `stop` whole ones."""
    path = tmp_path / "net.pt"
    rows = []

    def interrupt(trainer, loss, row):
        draw(trainer, loss, row)
        if row is not None:
            rows.append(row)
        elif len(rows) == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(RECIPE, few, path, report=interrupt)
    kept = checkpoints.load(path)
    assert len(kept.history) == stop
    torch.manual_seed(99)
    done = training.train(RECIPE, few, path, resumed=kept, report=draw)
    assert same_states(done.model, straight[0].model)
    assert torch.equal(done.rng, straight[0].rng)
    assert done.history == straight[0].history
    assert training.log_path(path).read_text() == training.log_path(straight[1]).read_text()


def test_seed_decides(straight, few, tmp_path):
    again = training.train(RECIPE, few, tmp_path / "a.pt")
    other = training.train(replace(RECIPE, seed=1), few, tmp_path / "b.pt")
    assert same_states(again.model, straight[0].model)
    assert not same_states(other.model, straight[0].model)


def test_progressive_stage_starts_from_the_one_before(few, tmp_path):
    def first_state(stage, source):
        trainer = training.Trainer(RECIPE, few, stage=stage)
        checkpoints.initialize(trainer.model, source, name="it")
        return trainer.model.state_dict()

    plain = training.train(Recipe(scheme="float", epochs=1, batch_size=32), few, tmp_path / "f.pt")
    five = first_state(1, plain)
    assert all(torch.equal(five[key], value) for key, value in plain.model.items())
    assert five["blocks.1.convolution.quantizer.alpha"] == 3.0

    higher = training.train(
        Recipe(weight_bits=5, activation_bits=5, epochs=1, batch_size=32), few, tmp_path / "5.pt"
    )
    assert same_states(first_state(2, higher), higher.model)
    assert higher.model["blocks.1.convolution.quantizer.alpha"] != 3.0


@pytest.mark.parametrize("progressive", [False, True])
def test_every_stage_starts_from_the_weights_before(straight, few, tmp_path, progressive):
    """At a rate of nothing, the initial weights come out of the last stage."""
    recipe = Recipe(epochs=1, batch_size=32, lr=1e-30, seed=7, progressive=progressive)
    done = training.train(recipe, few, tmp_path / "n.pt", initial=("it", straight[0]))
    for key, value in straight[0].model.items():
        if key.endswith(("weight", "bias")):
            assert torch.equal(done.model[key], value), key


def test_each_epoch_has_its_own_order(few):
    orders = []
    for stage in (0, 1):
        trainer = training.Trainer(RECIPE, few, stage=stage)
        for trainer.epoch in (0, 1):
            batches = list(trainer.batches())
            assert [len(labels) for _, labels in batches] == [32, 32, 32]
            orders.append([tuple(image.flatten().tolist()) for images, _ in batches for image in images])
    everything = sorted(tuple(image.flatten().tolist()) for image in few.train_images)
    assert all(sorted(order) == everything for order in orders)
    assert len({tuple(order) for order in orders}) == 4


def test_initial_weights_of_another_model_are_refused(straight):
    model = models.build("small_cnn", input_shape=(1, 28, 28), classes=10, precision=Precision(scheme="apot"))
    with pytest.raises(RefusedError) as caught:
        checkpoints.initialize(model, straight[0], name="old.pt")
    assert str(caught.value) == (
        "old.pt: must hold the same model for the same images: "
        "classifier.weight must have shape (10, 3136), not (10, 256)"
    )


def test_digits_are_learned_at_four_bits(tmp_path):
    done = training.train(Recipe(progressive=True, epochs=4), digits(), tmp_path / "net.pt")
    final = {row["stage"]: row["test_accuracy"] for row in done.history}
    assert final["float"] > 0.95
    assert final["apot 4/4"] > 0.95


def test_divergence_is_refused_and_the_last_checkpoint_kept(few, tmp_path):
    path = tmp_path / "net.pt"
    training.train(RECIPE, few, path)
    before = path.read_bytes()
    recipe = Recipe(epochs=3, batch_size=32, lr=1e30)
    with pytest.raises(RefusedError) as caught:
        training.train(recipe, few, path)
    message = str(caught.value)
    assert message.startswith("loss became ")
    assert message.endswith("at apot 4/4: --lr must be less than 1e+30")
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["net.csv", "net.pt"]


def test_batch_larger_than_the_data(few):
    with pytest.raises(RefusedError, match="--batch-size must be at most the 96 training images, not 97"):
        training.Trainer(Recipe(batch_size=97), few, stage=0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"dataset": "cifar"},
            ValueError,
            "dataset must be one of digits, mnist, fashion_mnist, not 'cifar'",
        ),
        ({"model": "vgg"}, ValueError, f"model must be one of {', '.join(MODELS)}, not 'vgg'"),
        ({"scheme": "int"}, ValueError, f"scheme must be one of {', '.join(SCHEMES)}, not 'int'"),
        ({"weight_bits": 1}, ValueError, "weight_bits must be an integer from 2 to 8, not 1"),
        ({"activation_bits": 9}, ValueError, "activation_bits must be an integer from 1 to 8, not 9"),
        ({"scheme": "pot", "weight_bits": 8}, ValueError, "k must be an integer from 1 to 5, not 7"),
        ({"progressive": 1}, TypeError, "progressive must be True or False, not 1"),
        ({"epochs": 0}, ValueError, "epochs must be an integer of at least 1, not 0"),
        ({"batch_size": 1}, ValueError, "batch_size must be an integer of at least 2, not 1"),
        ({"seed": -1}, ValueError, "seed must be an integer from 0 to 2147483647, not -1"),
        ({"threads": 0}, ValueError, "threads must be an integer from 1 to 1024, not 0"),
        ({"lr": 0.0}, ValueError, "lr must be a positive number, not 0.0"),
        ({"lr": float("nan")}, ValueError, "lr must be a positive number, not nan"),
        ({"lr": True}, TypeError, "lr must be a positive number, not True"),
        ({"lr": "fast"}, TypeError, "lr must be a positive number, not 'fast'"),
    ],
)
def test_recipe_refusals(options, error, message):
    with pytest.raises(error) as caught:
        Recipe(**options)
    assert str(caught.value) == message


def rewritten(path: Path, out: Path, **changes: object) -> Path:
    content = torch.load(path, weights_only=True) | changes
    torch.save({key: value for key, value in content.items() if value is not None}, out)
    return out


def test_bad_checkpoints_are_refused(straight, tmp_path):
    good, bad = straight[1], tmp_path / "bad.pt"
    unreadable = "must be a checkpoint written by 'train' (unreadable or truncated)"
    wrong_shape = torch.load(good, weights_only=True)["model"] | {"classifier.bias": torch.zeros(9)}
    cases = {
        unreadable: [
            b"",
            b"not a checkpoint",
            good.read_bytes()[:-100],
            good.read_bytes()[:100],
            b"\x80\x04cos\nsystem\n.",
        ],
        "must be a checkpoint written by 'train', not another torch file": [{"kind": "theirs"}],
        "checkpoint version must be 1, not 7: train again": [{"version": 7}],
        "damaged checkpoint (KeyError: 'scheduler')": [{"scheduler": None}],
        "damaged checkpoint (ValueError: scheme must be": [{"recipe": {"scheme": "x"}}],
        "damaged checkpoint (RuntimeError: Error(s) in loading": [{"model": wrong_shape}],
        "damaged checkpoint (IndexError": [{"stage": 40}],
    }
    for message, contents in cases.items():
        for content in contents:
            if isinstance(content, bytes):
                bad.write_bytes(content)
            else:
                rewritten(good, bad, **content)
            with pytest.raises(RefusedError) as caught:
                checkpoints.load(bad)
            assert str(caught.value).startswith(f"{bad}: {message}")
    torch.save([1], bad)
    with pytest.raises(RefusedError, match="not another torch file"):
        checkpoints.load(bad)


def test_checkpoints_run_no_code(tmp_path):
    path = tmp_path / "evil.pt"
    torch.save({"kind": checkpoints.KIND, "call": print}, path)
    with pytest.raises(RefusedError, match="must be a checkpoint"):
        checkpoints.load(path)


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


@pytest.mark.parametrize("first", range(256))
def test_a_text_file_of_any_kind_is_refused(tmp_path, first):
    """Arbitrary bytes are a program to an unpickler, which may fail at any of its operations."""
    path = tmp_path / "text.pt"
    path.write_bytes(bytes([first]) + b"root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:q\n")
    with pytest.raises(RefusedError, match=r"must be a checkpoint written by 'train'"):
        checkpoints.load(path)

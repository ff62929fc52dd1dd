"""Training: stages, repeatability, resuming, checkpoints, and what the command line says."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hdl.console import RefusedError
from sw import checkpoint as checkpoints
from sw import models, training
from sw.data import Dataset, digits
from sw.logs import log_path
from sw.precision import Precision
from sw.recipe import MODELS, Recipe
from sw.schemes import SCHEMES
from tests.few_digits import few_digits

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def few() -> Dataset:
    return few_digits()


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
    with log_path(path).open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["stage"], row["epoch"]) for row in rows] == [
        (stage, epoch) for stage in ("float", "apot 5/5", "apot 4/4") for epoch in ("1", "2")
    ]
    assert [{key: str(value) for key, value in row.items()} for row in done.history] == rows
    lines = path.with_suffix(".jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == done.history
    assert [row["lr"] for row in rows[:3]] == ["0.1", "0.05", "0.1"]
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
    assert log_path(path).read_text() == log_path(straight[1]).read_text()


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
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["net.csv", "net.jsonl", "net.pt"]


def test_fewer_images_are_the_first_ones(few, tmp_path):
    small = replace(few, train_images=few.train_images[:64], train_labels=few.train_labels[:64])
    recipe = Recipe(epochs=1, batch_size=32)
    part = training.train(replace(recipe, images=64), few, tmp_path / "a.pt")
    assert same_states(part.model, training.train(recipe, small, tmp_path / "b.pt").model)
    assert not same_states(part.model, training.train(recipe, few, tmp_path / "c.pt").model)
    with pytest.raises(RefusedError, match=r"^--images must be at most the 96 training images, not 97$"):
        training.Trainer(replace(recipe, images=97), few, stage=0)
    with pytest.raises(RefusedError, match=r"^--batch-size must be at most the 30 training images, not 32$"):
        training.Trainer(replace(recipe, images=30), few, stage=0)


def with_images(few: Dataset, *shape: int) -> Dataset:
    """The labels of a data set, with blank images of another shape."""
    return replace(
        few,
        train_images=torch.zeros(len(few.train_labels), *shape, dtype=torch.uint8),
        test_images=torch.zeros(len(few.test_labels), *shape, dtype=torch.uint8),
    )


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_images_of_another_shape(straight, few, tmp_path):
    message = r"net.pt: images must have shape \(1, 8, 8\) as before, not \(1, 9, 8\)"
    with pytest.raises(RefusedError, match=message):
        training.train(RECIPE, with_images(few, 1, 9, 8), straight[1], resumed=straight[0])
    small = Recipe(model="vgg_small", scheme="float", epochs=1, batch_size=32)
    with pytest.raises(RefusedError) as caught:
        training.train(small, with_images(few, 1, 3, 5), tmp_path / "net.pt")
    assert str(caught.value).startswith(
        "--model vgg_small must have larger images than (1, 3, 5): Given input"
    )
    assert not list(tmp_path.iterdir())


def test_memory_that_is_full(few, tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand so on")

    monkeypatch.setattr(training.Trainer, "train_step", full)
    message = r"^--batch-size must be less than 32: the GPU's memory is full$"
    with pytest.raises(RefusedError, match=message):
        training.train(RECIPE, few, tmp_path / "net.pt")


def test_batch_larger_than_the_data(few):
    with pytest.raises(RefusedError, match="--batch-size must be at most the 96 training images, not 97"):
        training.Trainer(Recipe(batch_size=97), few, stage=0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"dataset": "cifar"},
            ValueError,
            "dataset must be one of digits, mnist, fashion_mnist, cifar10, not 'cifar'",
        ),
        ({"model": "vgg"}, ValueError, f"model must be one of {', '.join(MODELS)}, not 'vgg'"),
        ({"scheme": "int"}, ValueError, f"scheme must be one of {', '.join(SCHEMES)}, not 'int'"),
        ({"weight_bits": 1}, ValueError, "weight_bits must be an integer from 2 to 8, not 1"),
        ({"activation_bits": 9}, ValueError, "activation_bits must be an integer from 1 to 8, not 9"),
        ({"scheme": "pot", "weight_bits": 8}, ValueError, "k must be an integer from 1 to 5, not 7"),
        ({"progressive": 1}, TypeError, "progressive must be True or False, not 1"),
        ({"amp": "half"}, ValueError, "amp must be one of off, bf16, fp16, not 'half'"),
        ({"images": 0}, ValueError, "images must be an integer of at least 1, not 0"),
        ({"images": "all"}, TypeError, "images must be an integer of at least 1, not 'all'"),
        ({"epochs": 0}, ValueError, "epochs must be an integer of at least 1, not 0"),
        ({"batch_size": 1}, ValueError, "batch_size must be an integer of at least 2, not 1"),
        ({"seed": -1}, ValueError, "seed must be an integer from 0 to 2147483647, not -1"),
        ({"threads": 0}, ValueError, "threads must be an integer from 1 to 1024, not 0"),
        ({"regularizer": "l2"}, ValueError, "regularizer must be br or kure, not 'l2'"),
        (
            {"scheme": "lsq", "regularizer": "br", "br_start": -1},
            ValueError,
            "br_start must be an integer of at least 0, not -1",
        ),
        ({"strength": 0.0}, ValueError, "strength must be a positive number, not 0.0"),
        ({"lba": "xp"}, ValueError, "lba must be gp, lp, cp or None, not 'xp'"),
        ({"average_bits": [2, 2]}, TypeError, "average_bits must be two numbers, not [2, 2]"),
        ({"average_bits": (2.0, "2")}, TypeError, "average_bits must be a positive number, not '2'"),
        ({"lba_start": 0}, ValueError, "lba_start must be an integer of at least 1, not 0"),
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

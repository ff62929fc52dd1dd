"""Where training runs: devices, mixed precision around exact quantizers, compilation, logs."""

import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from hdl.console import RefusedError
from sw import checkpoint as checkpoints
from sw import execution, training
from sw.__main__ import main
from sw.execution import Execution, compiler_trouble, pick_device, usual_amp
from sw.logs import Board
from sw.models import build
from sw.precision import Precision
from sw.quantizers import MixedActivation, MixedDMBQWeight, Quantizer
from sw.quantizers.catalog import CATALOG, activation_quantizer, weight_quantizer
from sw.recipe import Recipe
from sw.schemes import LayerPrecision
from tests.few_digits import few_digits

ROOT = Path(__file__).parents[1]
AMP = ["bf16", "fp16"]


def quantizers() -> dict[str, Quantizer]:
    """One of every kind that rounds weights or activations of four channels."""
    found: dict[str, Quantizer] = {}
    for scheme in CATALOG:
        layer = LayerPrecision(scheme=scheme, weight_bits=3, activation_bits=3)
        found[f"{scheme} weights"] = weight_quantizer(layer)
        found[f"{scheme} activations"] = activation_quantizer(layer)
        found[f"{scheme} signed"] = activation_quantizer(layer, signed=True)
    found["mixed weights"] = MixedDMBQWeight(channels=4, bits=3)
    found["mixed activations"] = MixedActivation(channels=4, bits=3)
    return found


@pytest.mark.parametrize("name", quantizers())
@pytest.mark.parametrize("amp", AMP)
def test_mixed_precision_leaves_levels_exact(name, amp):
    """What a half-precision layer puts out is rounded to levels × scale as in float32, to the last bit."""
    torch.manual_seed(0)
    quantizer = quantizers()[name]
    values = torch.randn(4, 4, 5, 5).to(execution.AMP_TYPES[amp]).requires_grad_()
    quantizer(values.float())  # measures a step
    quantizer.eval()
    with Execution().autocast(amp):
        found = quantizer(values)
    exact = values.detach().float()
    assert found.dtype == torch.float32
    assert torch.equal(found, quantizer.levels(exact) * quantizer.scale(exact))
    found.sum().backward()
    assert values.grad.dtype == values.dtype


def test_layers_between_quantizers_are_in_half_precision():
    model = build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=Precision(scheme="apot"))
    images = few_digits().train_images[:8]
    with Execution().autocast("bf16"):
        assert model(images).dtype == torch.bfloat16
    with Execution().autocast("off"):
        assert model(images).dtype == torch.float32


# Lloyd's quantizer makes its table where the default is and moves it, which is right but not seen here.
PLACED = {
    **{scheme: {"scheme": scheme} for scheme in ("float", *CATALOG) if scheme != "lloyd"},
    "lba": {"scheme": "dmbq", "lba": "cp"},
    "br": {"scheme": "lsq", "regularizer": "br", "br_start": 0},
    "kure": {"scheme": "lcq", "regularizer": "kure", "amp": "fp16"},
    "signed": {"scheme": "lcq", "model": "mobilenet_v2"},
}


@pytest.mark.parametrize("options", PLACED.values(), ids=PLACED)
def test_tensors_are_made_where_the_network_is(options):
    """As on a GPU, the default device is another one; a tensor that lands there cannot be computed with."""
    recipe = Recipe(weight_bits=3, activation_bits=3, batch_size=32, **options)
    trainer = training.Trainer(recipe, few_digits(), stage=0)
    batch = next(trainer.batches())
    with torch.device("meta"):
        loss, _ = trainer.train_step(*batch)
    assert loss.isfinite()


@pytest.mark.parametrize("amp", AMP)
def test_training_in_mixed_precision_goes_on_to_the_same_result(tmp_path, amp):
    recipe = Recipe(scheme="lsq", amp=amp, epochs=3, batch_size=32)
    data, path = few_digits(), tmp_path / "net.pt"
    straight = training.train(recipe, data, tmp_path / "straight.pt")
    exact = training.train(replace(recipe, amp="off"), data, tmp_path / "exact.pt")
    assert straight.history[-1]["loss"] < straight.history[0]["loss"]
    assert straight.history[-1]["loss"] == pytest.approx(exact.history[-1]["loss"], rel=0.2)
    assert straight.history != exact.history
    assert all(value.dtype != execution.AMP_TYPES[amp] for value in straight.model.values())

    def interrupt(_trainer, _loss, row):
        if row is not None and row["epoch"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(recipe, data, path, report=interrupt)
    kept = checkpoints.load(path)
    assert bool(kept.scaler) == (amp == "fp16")
    done = training.train(recipe, data, path, resumed=kept)
    assert all(torch.equal(done.model[key], value) for key, value in straight.model.items())
    assert done.scaler == straight.scaler
    assert done.history == straight.history


def test_sensitivities_are_those_of_the_loss_itself():
    """Not of the loss times fp16's factor, which changes while bits compete."""
    totals = {}
    for amp in ("off", "fp16"):
        recipe = Recipe(scheme="dmbq", lba="lp", amp=amp, batch_size=32)
        trainer = training.Trainer(recipe, few_digits(), stage=0)
        trainer.train_step(*next(trainer.batches()))
        totals[amp] = torch.cat([tensor.total for tensor in trainer.allocator.weights.tensors])
    assert totals["off"].all()
    assert (totals["fp16"] / totals["off"]).log().abs().max() < 1


def test_a_step_that_overflowed_is_left_out():
    """fp16 gradients of a loss times 2⁴⁰ are infinite: weights stay, and the factor halves at each step."""
    trainer = training.Trainer(Recipe(amp="fp16", batch_size=32), few_digits(), stage=0)
    trainer.scaler.load_state_dict(trainer.scaler.state_dict() | {"scale": 2.0**40})
    before = {name: value.clone() for name, value in trainer.model.named_parameters()}
    trainer.run_epoch(lambda *_: None)
    assert trainer.scaler.get_scale() == 2.0**37
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.named_parameters())


def test_checkpoints_from_before_mixed_precision_load(tmp_path):
    path = tmp_path / "net.pt"
    training.train(Recipe(epochs=1, batch_size=32), few_digits(), path)
    content = torch.load(path, weights_only=True)
    del content["scaler"], content["recipe"]["amp"], content["recipe"]["images"]
    torch.save(content, path)
    kept = checkpoints.load(path)
    assert kept.recipe == Recipe(epochs=1, batch_size=32)
    assert kept.scaler == {}


def with_gpus(monkeypatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_devices_by_name(monkeypatch):
    with_gpus(monkeypatch, 0)
    assert pick_device("cpu") == pick_device("auto") == torch.device("cpu")
    assert pick_device("auto", local_rank=3) == torch.device("cpu")
    with_gpus(monkeypatch, 2)
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda:0")
    assert pick_device("cuda:1") == pick_device("auto", local_rank=1) == torch.device("cuda:1")


@pytest.mark.parametrize(
    ("count", "name", "rank", "message"),
    [
        (0, "cuda", None, "--device must be cpu, not cuda: torch finds no CUDA device"),
        (0, "cuda:1", None, "--device must be cpu, not cuda:1: torch finds no CUDA device"),
        (2, "cuda:2", None, "--device must be one of cuda:0 … cuda:1, not cuda:2"),
        (2, "auto", 2, "--device must be one of cuda:0 … cuda:1, not cuda:2"),
        (2, "cuda:1", 0, "--device must be cuda, not cuda:1: each process of torchrun takes its own GPU"),
    ],
)
def test_devices_that_are_not_there(monkeypatch, count, name, rank, message):
    with_gpus(monkeypatch, count)
    with pytest.raises(RefusedError) as caught:
        pick_device(name, local_rank=rank)
    assert str(caught.value) == message


def test_mixed_precision_is_usual_where_it_costs_nothing(monkeypatch):
    assert usual_amp(torch.device("cpu")) == "off"
    for has_it, expected in ((True, "bf16"), (False, "off")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda it=has_it, **_: it)
        assert usual_amp(torch.device("cuda:0")) == expected


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="python -m sw")
    return result.exit_code, result.output


QUICK = ("train", "--images", 64, "--batch-size", 32, "--epochs", 1)


def test_without_a_compiler_training_goes_on(monkeypatch, tmp_path):
    def missing(_function):
        raise RuntimeError("no C++ compiler\nand more lines of it")

    monkeypatch.setattr(torch, "compile", missing)
    assert compiler_trouble(torch.device("cpu")) == "no C++ compiler"
    code, output = invoke(*QUICK, "--compile", "-o", tmp_path / "net.pt")
    assert code == 0
    assert output.startswith("python -m sw train: not compiled: no C++ compiler\n")


@pytest.mark.nightly
def test_a_compiled_network_learns_alike(tmp_path):
    assert compiler_trouble(torch.device("cpu")) == ""
    recipe, data = Recipe(scheme="lsq", epochs=1, batch_size=32), few_digits()
    plain = training.train(recipe, data, tmp_path / "a.pt")
    compiled = training.train(recipe, data, tmp_path / "b.pt", execution=Execution(compiled=True))
    for key, value in plain.model.items():
        assert torch.allclose(compiled.model[key].float(), value.float(), rtol=1e-3, atol=1e-3), key


def test_mixed_precision_from_the_command_line(tmp_path):
    path, recipe = tmp_path / "net.pt", tmp_path / "recipe.toml"
    recipe.write_text('amp = "bf16"\n')
    for options, expected in (
        ((), "off"),
        (("--amp", "bf16"), "bf16"),
        (("--recipe", recipe), "bf16"),
        (("--recipe", recipe, "--amp", "fp16"), "fp16"),
    ):
        code, output = invoke(*QUICK, "--device", "cpu", *options, "-o", path)
        assert code == 0, output
        assert checkpoints.load(path).recipe.amp == expected
    code, output = invoke(*QUICK, "--resume", "-o", path)
    assert code == 1
    assert "--resume needs the options it was written with: amp 'fp16'" in output


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--device", "gpu"), 2, "must be auto, cpu, cuda or cuda:N, not 'gpu'"),
        (("--device", "cuda:-1"), 2, "must be auto, cpu, cuda or cuda:N, not 'cuda:-1'"),
        (("--amp", "half"), 2, "'half' is not one of 'off', 'bf16', 'fp16'"),
        (("--images", "0"), 2, "0 is not in the range x>=1"),
        (("--images", "2000"), 1, "--images must be at most the 1442 training images, not 2000"),
    ],
)
def test_wrong_options(tmp_path, options, code, message):
    found, output = invoke("train", *options, "-o", tmp_path / "net.pt")
    assert found == code
    assert message in output
    assert output.count("\n") == 1


def events(folder: Path) -> list[bytes]:
    """Records of TensorBoard's files, in the order of their names: length, checksum, data, checksum."""
    records = []
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack_from("<Q", content)
            records.append(content[12 : 12 + length])
            content = content[16 + length :]
    return records


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Values by name and epoch, less what a later run hides, as TensorBoard reads them."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    found: dict[str, dict[int, float]] = {}
    for record in events(folder):
        event = Event.FromString(record)
        if event.session_log.status == SessionLog.START:
            found = {
                name: {step: value for step, value in values.items() if step < event.step}
                for name, values in found.items()
            }
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_tensorboard_shows_the_log(tmp_path):
    path, folder = tmp_path / "net.pt", tmp_path / "runs"
    command = (*QUICK, "--scheme", "lsq", "--progressive", "--bits", "4/4")
    code, output = invoke(*command, "--tensorboard", folder, "-o", path)
    assert code == 0, output
    history = checkpoints.load(path).history
    found = scalars(folder)
    assert found.keys() == history[0].keys() - {"stage", "epoch"}
    for name, values in found.items():
        expected = {epoch: row[name] for epoch, row in enumerate(history, start=1)}
        assert values == pytest.approx(expected), name


def test_a_resumed_log_hides_what_was_lost(tmp_path):
    for done, values in ((0, (0.5, 0.25, 0.125)), (1, (7.0,))):
        board = Board(tmp_path, done=done)
        for value in values:
            board.write({"stage": "float", "epoch": 1, "loss": value})
        board.close()
    assert scalars(tmp_path) == {"loss": {1: 0.5, 2: 7.0}}

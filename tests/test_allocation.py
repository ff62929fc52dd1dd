"""Bit allocation by hand: schedule, sensitivities, who loses a bit; training that reaches its averages."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from hdl.console import RefusedError
from sw import checkpoint as checkpoints
from sw import training
from sw.__main__ import main
from sw.agreement import agreement
from sw.allocation import Allocation, Allocator, Sensitivity, Side, gather, mixed
from sw.compiler.compile import compile_network
from sw.compiler.fitting import fitting_parameters
from sw.execution import Execution
from sw.executor import Machine
from sw.export import integer_network
from sw.graph import Convolution
from sw.image import read_image
from sw.lowering import interchange
from sw.models import build, predictions
from sw.precision import Precision
from sw.quantizers import MixedActivation, MixedDMBQWeight
from sw.recipe import Recipe
from tests.few_digits import few_digits
from verif.reference import run


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors here are too small for threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_the_share_rises_from_a_hundredth_to_the_ratio():
    """(0.3 - 0.01)(e - e0) / (e1 - e0) + 0.01."""
    allocation = Allocation(start=3, end=7, ratio=0.3)
    shares = [allocation.share(epoch) for epoch in range(1, 10)]
    assert shares == pytest.approx([0, 0, 0.01, 0.0825, 0.155, 0.2275, 0.3, 0, 0])
    assert Allocation(start=4, end=4, ratio=0.25).share(4) == 0.25


def backward(sensitivity: Sensitivity, values: list, gradient: list, *, scale: float = 1.0) -> None:
    values = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    sensitivity.quantizer(values).backward(scale * torch.tensor(gradient, dtype=torch.float64))
    gather([sensitivity], Execution(), scale=scale)


@pytest.mark.parametrize(("by_channel", "expected"), [(True, [0.2, 0.6]), (False, [0.2])])
def test_sensitivity_of_activations(by_channel, expected):
    """One bit and α = 1 round .2 .9 to 0 1, and .6 -.5 to 1 0: errors .2 -.1 and -.4 0."""
    quantizer = MixedActivation(channels=2, bits=1, alpha=1.0).double()
    sensitivity = Sensitivity(quantizer, axis=1, by_channel=by_channel)
    backward(sensitivity, [[[0.2, 0.9], [0.6, -0.5]]], [[[1, -2], [3, 4]]])
    assert sensitivity.total.tolist() == pytest.approx(expected)
    assert sensitivity.elements == 2
    # The sum of magnitudes, not of signed values; both samples of a batch count in n.
    backward(sensitivity, [[[0.2, 0.9], [0.6, -0.5]]] * 2, [[[-1, 2], [-3, -4]]] * 2, scale=1024)
    assert sensitivity.total.tolist() == pytest.approx([2 * each for each in expected])
    assert sensitivity.elements == 2
    # A pass that overflowed.
    backward(sensitivity, [[[0.2, 0.9], [0.6, -0.5]]], [[[float("inf")] * 2, [float("nan")] * 2]])
    assert sensitivity.total.tolist() == pytest.approx([2 * each for each in expected])
    sensitivity.reset()
    quantizer.eval()
    backward(sensitivity, [[[0.2, 0.9], [0.6, -0.5]]], [[[1, -2], [3, 4]]])
    assert not sensitivity.total.any()


@pytest.mark.parametrize(("by_channel", "expected"), [(True, [2.0, 1.5]), (False, [1.75])])
def test_sensitivity_of_weights(by_channel, expected):
    """One plane rounds 1 3 to 2 2, and -1 -2 to -1.5 -1.5: errors -1 1 and .5 -.5."""
    quantizer = MixedDMBQWeight(channels=2, bits=1, centred=False).double()
    sensitivity = Sensitivity(quantizer, axis=0, by_channel=by_channel)
    backward(sensitivity, [[1.0, 3.0], [-1.0, -2.0]], [[1, 5], [7, 1]])
    assert sensitivity.total.tolist() == pytest.approx(expected, rel=1e-5)
    assert sensitivity.elements == 2


class Twins(Execution):
    """Two processes that see the same."""

    def total(self, numbers: Tensor) -> Tensor:
        return numbers * self.size


@pytest.mark.parametrize(
    ("kind", "axis", "part"),
    [(MixedActivation, 1, 0.5), (MixedDMBQWeight, 0, 1.0)],
    ids=["images", "weights"],
)
def test_what_is_counted_over_processes(kind, axis, part):
    """|Σ (x - x^) g| / n of twice the images with half the gradient each; weights have the mean gradient."""
    totals = []
    for place in (Execution(), Twins(size=2)):
        sensitivity = Sensitivity(kind(channels=2, bits=1), axis=axis, by_channel=True)
        values = torch.tensor([[0.2, 0.9], [0.6, 0.5]], requires_grad=True)
        sensitivity.quantizer(values).backward(torch.tensor([[1.0, -2], [3, 4]]))
        gather([sensitivity], place)
        totals.append(sensitivity.total)
    assert totals[0].any()
    assert torch.equal(totals[1], totals[0] * part)


def side(*tensors: tuple[list[int], list[float], int], granularity: str = "cp") -> Side:
    """Tensors of given bits, sensitivities and elements of a channel."""
    watched = []
    for bits, totals, elements in tensors:
        quantizer = MixedActivation(channels=len(bits))
        quantizer.bits.copy_(torch.tensor(bits))
        sensitivity = Sensitivity(quantizer, axis=1, by_channel=granularity == "cp")
        sensitivity.total, sensitivity.elements = torch.tensor(totals, dtype=torch.float64), elements
        watched.append(sensitivity)
    return Side(watched, granularity=granularity)


def bits_of(found: Side) -> list[list[int]]:
    return [tensor.quantizer.bits.tolist() for tensor in found.tensors]


def test_the_least_sensitive_channels_of_all_layers_lose_a_bit():
    """Two of five channels at 40 %: .1 and .2.  The average weighs channels by their elements."""
    found = side(([4, 4, 3], [0.5, 0.1, 0.3], 10), ([4, 4], [0.2, 0.9], 30))
    assert found.average == (11 * 10 + 8 * 30) / 90
    assert found.take(share=0.4, target=2.0) == 2
    assert bits_of(found) == [[4, 3, 3], [3, 4]]
    assert found.average == (10 * 10 + 7 * 30) / 90


def test_channels_without_bits_are_not_ranked():
    found = side(([0, 4, 1], [0.0, 0.1, 0.05], 1))
    assert found.take(share=0.7, target=0.1) == 2
    assert bits_of(found) == [[0, 3, 0]]


def test_taking_stops_at_the_average():
    """16 bits of 4 channels to 2.7 of 4: all could go, but after 4 + 2 the average is 2.5."""
    found = side(([4, 4, 4, 4], [0.4, 0.3, 0.2, 0.1], 1))
    assert found.take(share=1.0, target=2.7) == 4
    assert found.take(share=1.0, target=2.7) == 2
    assert bits_of(found) == [[3, 3, 2, 2]]
    assert found.take(share=1.0, target=2.7) == 0
    assert found.average == 2.5


def test_nothing_is_taken_for_no_share_and_one_at_least_for_any():
    found = side(([4, 4, 4], [0.3, 0.2, 0.1], 1))
    assert found.take(share=0.0, target=1.0) == 0
    assert found.take(share=0.01, target=1.0) == 1
    assert bits_of(found) == [[4, 4, 3]]


@pytest.mark.parametrize(
    ("granularity", "expected"), [("lp", [[4, 4, 4], [3, 3]]), ("gp", [[3, 3, 3], [3, 3]])]
)
def test_layers_and_networks_lose_bits_as_a_whole(granularity, expected):
    found = side(([4, 4, 4], [0.5], 10), ([4, 4], [0.2], 30), granularity=granularity)
    assert found.take(share=0.5, target=2.0) == 1
    assert bits_of(found) == expected


def network(bits: int = 4) -> torch.nn.Module:
    torch.manual_seed(0)
    precision = Precision(scheme="dmbq", weight_bits=bits, activation_bits=bits)
    return mixed(build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=precision))


def loss(model: torch.nn.Module) -> Tensor:
    data = few_digits()
    return torch.nn.functional.cross_entropy(model(data.train_images), data.train_labels)


def test_a_network_is_watched_where_it_is_quantized():
    model = network()
    allocator = Allocator(model, Allocation(end=1, ratio=0.5))
    loss(model).backward()
    allocator.observe(Execution())
    assert [len(each.total) for each in allocator.weights.tensors] == [32, 32, 64]
    assert [each.elements for each in allocator.weights.tensors] == [16 * 9, 32 * 9, 32 * 9]
    assert [len(each.total) for each in allocator.activations.tensors] == [16, 32, 32, 64]
    assert [each.elements for each in allocator.activations.tensors] == [64, 16, 16, 4]
    totals = [each.total for each in (*allocator.weights.tensors, *allocator.activations.tensors)]
    assert all(total.any() for total in totals)
    allocator.step(1)
    assert (allocator.weights.bits == 3).sum() == 64
    assert not any(each.total.any() for each in allocator.weights.tensors)
    assert {type(block.convolution.quantizer).__name__ for block in model.chain()} == {
        "AbsMaxWeight", "MixedDMBQWeight",
    }  # fmt: skip


def test_any_model_gives_bits():
    """Activations are quantized at the inputs of layers; the shortcut's is one of its own."""
    torch.manual_seed(0)
    precision = Precision(scheme="dmbq", weight_bits=3, activation_bits=2)
    model = mixed(build("resnet20_projection", input_shape=(3, 8, 8), classes=10, precision=precision))
    allocator = Allocator(model, Allocation(end=1, ratio=1.0))
    images = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)
    model(images).square().sum().backward()
    allocator.observe(Execution())
    assert [len(side.tensors) for side in (allocator.weights, allocator.activations)] == [20, 20]
    assert (allocator.weights.average, allocator.activations.average) == (3, 2)
    allocator.step(1)
    assert (allocator.weights.average, allocator.activations.average) == (2, 2)


def test_bits_are_taken_in_the_last_stage_only(tmp_path):
    recipe = replace(RECIPE, progressive=True, epochs=1, lba_end=1, average_bits=(3.5, 4.0), weight_bits=4)
    done = training.train(recipe, few_digits(), tmp_path / "net.pt")
    assert [(row["stage"], row["weight_bits"], row["activation_bits"]) for row in done.history] == [
        ("float", 32, 32), ("dmbq 4/5", 4, 5), ("dmbq 4/4", pytest.approx(3.5, abs=0.01), 4.0),
    ]  # fmt: skip
    assert [recipe.allocates(stage) for stage in range(3)] == [False, False, True]
    assert checkpoints.load(tmp_path / "net.pt").network() is not None


RECIPE = Recipe(
    scheme="dmbq", epochs=6, batch_size=32, lba="cp", average_bits=(2.0, 3.3), lba_end=5, lba_ratio=0.9
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("lba") / "net.pt"
    return training.train(RECIPE, few_digits(), path), path


def test_training_reaches_the_averages_and_never_gives_back(trained):
    rows = trained[0].history
    for column, target in (("weight_bits", 2.0), ("activation_bits", 3.3)):
        found = [row[column] for row in rows]
        assert found == sorted(found, reverse=True)
        assert found[0] > target
        assert target - 0.02 < found[-1] <= target
    bits = [value for key, value in trained[0].model.items() if key.endswith("quantizer.bits")]
    assert len({*torch.cat(bits).tolist()}) > 1


def test_an_interrupted_allocation_goes_on(trained, tmp_path):
    path = tmp_path / "net.pt"
    rows = []

    def interrupt(_trainer, _loss, row):
        if row is not None:
            rows.append(row)
        elif len(rows) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(RECIPE, few_digits(), path, report=interrupt)
    done = training.train(RECIPE, few_digits(), path, resumed=checkpoints.load(path))
    assert all(torch.equal(done.model[key], value) for key, value in trained[0].model.items())


def test_mixed_weights_export_exactly_and_pack(tmp_path):
    """Activations keep their bits; some of their channels, and of the weights', are pruned."""
    recipe = replace(RECIPE, epochs=2, average_bits=(0.7, 4.0), lba_ratio=1.0)
    model = training.train(recipe, few_digits(), tmp_path / "net.pt").network()
    blocks = list(model.chain())
    blocks[1].activation.bits[:5] = 0
    blocks[2].convolution.quantizer.bits[3] = 0
    network, tensors = integer_network(model), interchange(model).tensors
    for block, layer in zip(blocks, network.nodes, strict=False):
        with torch.no_grad():
            expected = block.convolution.quantizer(block.convolution.weight).numpy()
        scale = tensors[f"{layer.name}.scale"].reshape(-1, 1, 1, 1)
        assert np.array_equal(layer.weights.astype(np.float32) * scale, expected)
        assert isinstance(block.convolution.quantizer, MixedDMBQWeight) == (f"{layer.name}.bits" in tensors)
    assert not network.nodes[2].weights[3].any()
    assert network.nodes[2].weight_format.startswith("uniform_b")
    assert network.nodes[1].multiplier[:5].tolist() == [0] * 5
    assert [node.encodings[0].format for node in network.nodes[:-1]] == ["uniform_b4u"] * 4
    compile_network(network, fitting_parameters(network))


@pytest.mark.parametrize("level_width", [None, 4, 2])
def test_channels_of_different_activation_bits_pack_and_answer_alike(trained, level_width):
    """Each layer is one convolution, the classifier too, of one tensor or of some."""
    model = trained[0].network()
    network = integer_network(model, level_width=level_width)
    layers = [node for node in network.nodes if isinstance(node, Convolution)]
    assert [layer.name for layer in layers] == [
        *(f"blocks.{index}.convolution" for index in range(4)),
        "classifier",
    ]
    assert any(layer.addends for layer in layers) == (level_width is not None)
    images = few_digits().test_images
    trace = run(network, images)
    found = trace.logits.argmax(1)
    assert (found == predictions(model, images)).double().mean() > 0.95
    agreed = agreement(model, images, codes=trace.codes, logits=trace.logits, level_width=level_width)
    assert agreed.codes.keys() == trace.codes.keys()
    assert min(agreed.codes.values()) > 0.95
    parameters = fitting_parameters(network, level_width=level_width)
    assert parameters.activation_width == (level_width or 7)
    results = Machine(compile_network(network, parameters)).run(images[:8].numpy())
    assert np.array_equal(results, trace.logits[:8].numpy())


def test_commands_for_narrow_levels(trained, tmp_path):
    """Packed and verified with what fits, exported, and packed for an accelerator that is there already."""
    model, image, file = tmp_path / "net.pt", tmp_path / "net.bin", tmp_path / "net.safetensors"
    checkpoints.save(trained[0], model)
    assert invoke("pack", model, "--level-width", 2, "-o", image) == 0
    parameters = read_image(image).parameters
    assert (parameters.code_width, parameters.activation_width) == (2, 2)
    assert invoke("verify", model, image, "--dataset", "digits", "--rtl-images", 0) == 0
    described = tmp_path / "accelerator.json"
    described.write_text(
        json.dumps({"parameters": asdict(parameters), "build_id": f"{parameters.build_id:08x}"})
    )
    packed = image.read_bytes()
    assert invoke("pack", model, "--accelerator", described, "-o", image) == 0
    assert image.read_bytes() == packed
    assert invoke("export", model, "--level-width", 2, "-o", file) == 0
    assert invoke("pack", file, "--accelerator", described, "-o", image) == 0
    assert image.read_bytes() == packed
    assert invoke("export", model, "-o", file) == 0
    assert invoke("pack", file, "--accelerator", described, "-o", image) == 1


def invoke(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)]).exit_code


def test_bits_must_be_there_to_be_taken():
    model = build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=Precision(scheme="apot"))
    with pytest.raises(
        RefusedError, match="model must have layers of scheme dmbq, from which bits can be taken"
    ):
        Allocator(mixed(model), Allocation())
    wide = build(
        "small_cnn", input_shape=(1, 8, 8), classes=10, precision=Precision(scheme="dmbq", activation_bits=5)
    )
    with pytest.raises(RefusedError, match="--bits of an activation must be at most 4 with --lba, not 5"):
        mixed(wide)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"granularity": "xp"}, ValueError, "granularity must be gp, lp, cp, not 'xp'"),
        ({"weight_bits": 0}, ValueError, "weight_bits must be a positive number, not 0"),
        ({"activation_bits": "2"}, TypeError, "activation_bits must be a positive number, not '2'"),
        ({"start": 0}, ValueError, "start must be an integer of at least 1, not 0"),
        ({"start": 5, "end": 4}, ValueError, "end must be an integer of at least 5, not 4"),
        ({"ratio": 1.5}, ValueError, "ratio must be at most 1, not 1.5"),
        ({"ratio": float("nan")}, ValueError, "ratio must be a positive number, not nan"),
    ],
)
def test_refusals(options, error, message):
    with pytest.raises(error) as caught:
        Allocation(**options)
    assert str(caught.value) == message

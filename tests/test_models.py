"""The networks by name: shapes, totals, and the same layers as the accounting's own list."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from hdl.console import RefusedError
from sw import recipe
from sw.architectures import ARCHITECTURES, architecture
from sw.models import FLOAT_MODELS, MODELS, Pixels, build, classes_of, predictions
from sw.models.resnet import Subsampling
from sw.models.shapes import architecture_of
from sw.precision import LayerRule, Precision

LARGE = ("resnet18", "resnet34", "resnet50", "mobilenet_v2")

# Trainable parameters; those of the large networks are torchvision's for 1000 classes.
PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "mobilenet_v2": 3_504_872,
    "resnet20": 269_722,
    # Convolutions of 8, 16 and 32 channels, each followed by normalization, and the linear layer.
    "resnet20_small": 49 * 8
    + 9 * (6 * 8 * 8 + 8 * 16 + 5 * 16 * 16 + 16 * 32 + 5 * 32 * 32)
    + 2 * (7 * 8 + 6 * 16 + 6 * 32)
    + (32 * 10 + 10),
    "resnet20_projection": 269_722 + 16 * 32 + 32 * 64 + 2 * (32 + 64),
    "resnet56": 853_018,
    "resnet56_projection": 853_018 + 16 * 32 + 32 * 64 + 2 * (32 + 64),
    "vgg_small": 4_660_106,
    # First convolution, four stages (the first without a shortcut), linear layer.
    "resnet10": (49 * 16 + 32)
    + (2 * 9 * 16 * 16 + 2 * 32)
    + sum(9 * w * w // 2 + 9 * w * w + w * w // 2 + 3 * 2 * w for w in (32, 64, 128))
    + (128 * 10 + 10),
}


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors here are too small for threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def shape_of(name: str) -> tuple[int, int, int]:
    return (
        (3, 224, 224)
        if name in LARGE
        else (1, 28, 28)
        if name in ("resnet10", "resnet20_small")
        else (3, 32, 32)
    )


def on_meta(name: str, *, input_shape: tuple[int, int, int] | None = None) -> nn.Module:
    with torch.device("meta"):
        return FLOAT_MODELS[name](
            input_shape=input_shape or shape_of(name), classes=1000 if name in LARGE else 10
        )


def quantized(name: str, *, bits: int = 4) -> nn.Module:
    precision = Precision(scheme="apot", weight_bits=bits, activation_bits=bits)
    return build(name, input_shape=(1, 28, 28), classes=10, precision=precision)


def test_names():
    assert tuple(MODELS) == recipe.MODELS == ("small_cnn", *FLOAT_MODELS)
    assert set(PARAMETERS) == set(FLOAT_MODELS)


@pytest.mark.parametrize("name", FLOAT_MODELS)
def test_parameters_and_output(name):
    model = on_meta(name)
    assert sum(each.numel() for each in model.parameters()) == PARAMETERS[name]
    images = torch.empty(3, *shape_of(name), dtype=torch.uint8, device="meta")
    logits = model(images)
    assert logits.shape == (3, 1000 if name in LARGE else 10)
    assert logits.dtype == torch.float32


@pytest.mark.parametrize("name", FLOAT_MODELS)
def test_images_of_one_channel_and_28_pixels(name):
    model = on_meta(name, input_shape=(1, 28, 28))
    assert model(torch.empty(2, 1, 28, 28, device="meta")).shape[0] == 2


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_layers_are_those_of_the_accounting(name):
    """One network in two descriptions: names apart, each layer is the same, and so all that is counted."""
    listed = architecture(name).layers
    found = architecture_of(on_meta(name), name=name, input_shape=shape_of(name)).layers
    assert [replace(layer, name="") for layer in found] == [replace(layer, name="") for layer in listed]


def test_architecture_of_a_quantized_model_is_the_float_one():
    for name in ("small_cnn", "resnet10"):
        float_model = build(name, input_shape=(1, 28, 28), classes=10, precision=Precision(scheme="float"))
        plain, coded = (
            architecture_of(model, name=name, input_shape=(1, 28, 28))
            for model in (float_model, quantized(name))
        )
        assert plain == coded
        assert plain.parameters == sum(each.numel() for each in float_model.parameters())
    assert plain.first.macs == 14 * 14 * 49 * 16
    assert [layer.name for layer in plain.layers if layer.shortcut] == [
        f"layer{stage}.0.downsample.0" for stage in (2, 3, 4)
    ]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Conv2d(1, 2, (1, 3), padding=(0, 1)), "layer  must have a square kernel and map, not 1 × 3"),
        (nn.Conv2d(1, 2, 3), "model must have convolutions and then one linear layer"),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 2)),
            "model must have convolutions and then one linear layer",
        ),
    ],
)
def test_architecture_refusals(model, message):
    with pytest.raises(RefusedError) as caught:
        architecture_of(model, name="it", input_shape=(1, 8, 8))
    assert str(caught.value) == message


def test_layer_names_are_torchvisions():
    names = on_meta("resnet18").state_dict().keys()
    assert {
        "conv1.weight",
        "bn1.running_mean",
        "layer2.0.downsample.1.bias",
        "layer4.1.conv2.weight",
    } <= names
    assert {"fc.weight", "fc.bias"} <= names
    names = on_meta("mobilenet_v2").state_dict().keys()
    assert {"features.0.0.weight", "features.1.conv.1.weight", "features.17.conv.3.bias"} <= names
    assert {"features.18.1.running_var", "classifier.1.weight"} <= names


def test_a_state_without_pixels_loads():
    """As published ones are."""
    torch.manual_seed(0)
    model, other = (FLOAT_MODELS["resnet20"](input_shape=(3, 8, 8), classes=10) for _ in range(2))
    state = {key: value for key, value in other.state_dict().items() if not key.startswith("pixels.")}
    assert len(state) == len(other.state_dict()) - 2
    model.load_state_dict(state)
    images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(model.eval()(images), other.eval()(images))


def test_pixels():
    images = torch.randint(256, (2, 3, 4, 4), dtype=torch.uint8)
    assert torch.equal(Pixels(3)(images), images * (1 / 255))
    mean, deviation = (0.1, 0.2, 0.3), (0.5, 0.25, 0.125)
    expected = torch.stack([(images[:, c] / 255 - mean[c]) / deviation[c] for c in range(3)], dim=1)
    made = Pixels(3, mean=mean, deviation=deviation)
    torch.testing.assert_close(made(images), expected)
    assert made.double()(images).dtype == torch.float64
    fresh = Pixels(3)
    fresh.load_state_dict(made.float().state_dict())
    assert torch.equal(fresh(images), made(images))


def test_subsampling():
    values = torch.arange(2 * 4 * 4, dtype=torch.float32).reshape(1, 2, 4, 4)
    reduced = Subsampling(2, 6, stride=2)(values)
    assert reduced.shape == (1, 6, 2, 2)
    assert torch.equal(reduced[:, 2:4], values[:, :, ::2, ::2])
    assert not reduced[:, :2].any()
    assert not reduced[:, 4:].any()


@pytest.mark.parametrize("name", ["resnet10", "resnet20", "resnet20_projection", "mobilenet_v2"])
def test_quantized_models_train(name):
    torch.manual_seed(0)
    model = quantized(name, bits=3)
    images = torch.randint(256, (2, 1, 28, 28), dtype=torch.uint8)
    nn.functional.cross_entropy(model(images), torch.tensor([1, 2])).backward()
    missing = [key for key, value in model.named_parameters() if value.grad is None]
    assert not missing
    assert all(value.grad.isfinite().all() for value in model.parameters())
    assert predictions(model, images).shape == (2,)
    assert model.training


def test_rules_of_the_small_network():
    """A block ends with the quantizer of the next layer's input."""
    precision = Precision(
        scheme="apot",
        rules=(LayerRule(pattern="blocks.2.*", weight_bits=3, activation_bits=2),),
    )
    model = build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=precision)
    weights = [block.convolution.quantizer.format.name for block in model.chain()]
    inputs = [block.activation.format.name for block in model.chain()]
    assert weights == ["uniform_b8", "apot_k2n1o", "apot_k2n1", "apot_k2n1o"]
    assert inputs == ["apot_k2n2u", "apot_k2n1u", "apot_k2n2u", "apot_k2n2u"]
    with pytest.raises(RefusedError, match=r"^layer 'fc' must be one of blocks.0.convolution, .*classifier"):
        build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=replace(precision, outer=("fc",)))


def test_classes_are_read_from_a_state():
    for name in ("small_cnn", "resnet20", "vgg_small", "mobilenet_v2"):
        with torch.device("meta"):
            model = build(name, input_shape=(1, 16, 16), classes=7, precision=Precision(scheme="float"))
        assert classes_of(model.state_dict()) == 7


def test_page_of_the_models():
    """Every network stands in the table with its parameters, for the images and classes beside it."""
    page = (Path(__file__).parents[1] / "docs" / "models.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \| (\d+) × (\d+) × (\d+), (\d+) \|", page, re.MULTILINE)
    assert [name for name, *_ in rows] == list(MODELS)
    for name, total, *shape, classes in rows:
        with torch.device("meta"):
            model = build(
                name,
                input_shape=tuple(map(int, shape)),
                classes=int(classes),
                precision=Precision(scheme="float"),
            )
        assert f"{sum(each.numel() for each in model.parameters()):,}" == total, name


def test_unknown_model():
    with pytest.raises(ValueError, match=r"^model must be one of small_cnn, .*mobilenet_v2, not 'vgg'$"):
        build("vgg", input_shape=(1, 8, 8), classes=10, precision=Precision(scheme="float"))

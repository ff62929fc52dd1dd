"""What cannot be exported is refused in one line: the call, where it was written, and what is wrong."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hdl.console import RefusedError
from sw.allocation import mixed
from sw.interchange import integers
from sw.lowering import interchange, lower
from sw.models import Pixels, build
from sw.precision import LayerRule, Precision
from sw.quantize import quantize
from sw.quantizers import MixedActivation, RCFActivation
from tests.float_oracle import random_model

SHAPE = (2, 9, 9)
APOT = Precision(scheme="apot")


class Model(nn.Module):
    """A convolution, whatever comes between, another convolution and a linear layer over the mean."""

    def __init__(self, between, *, last: nn.Module | None = None) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)
        self.between = between
        self.inner = between if isinstance(between, nn.Module) else nn.Identity()
        self.last = last or nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        values = self.norm(self.first(images / 255))
        values = self.inner(values) if self.inner is self.between else self.between(values)
        return self.fc(functional.adaptive_avg_pool2d(self.last(values), 1).flatten(1))


def refusal(model: nn.Module, precision: Precision = APOT, shape=SHAPE) -> str:
    torch.manual_seed(0)
    with pytest.raises(RefusedError) as caught:
        integers(interchange(quantize(model, precision).eval(), shape))
    assert "\n" not in str(caught.value)
    return str(caught.value)


HERE = "test_lowering_refusals.py line"
NO_SUCH = (
    "must be an operation that can be exported; supported are Conv2d, Linear, BatchNorm2d, ReLU, ReLU6, "
)

CALLS = [
    (functional.gelu, "gelu (gelu, ", NO_SUCH),
    (lambda x: torch.cat([x, x], 1)[:, :4], "cat (cat, ", NO_SUCH),
    (lambda x: x.sigmoid(), "sigmoid (sigmoid, ", NO_SUCH),
    (lambda x: x * x, "mul (mul, ", "a factor or summand must be a number or the like, not Value"),
    (lambda x: x.relu() + x.relu(), "add (add, ", "one side must be a convolution's output"),
    (lambda x: torch.add(x, x, alpha=2), "add (add, ", "alpha must be 1, not 2"),
    (lambda x: x.flatten(2).view(-1, 4, 7, 7), "flatten (flatten, ", "flatten must start at 1"),
    (lambda x: x.view(-1, 4, 49), "view (view, ", "a change of shape must flatten all but the batch"),
    (lambda x: x.mean(1, keepdim=True) + x, "mean (mean, ", "a mean must be over rows and columns"),
    (
        lambda x: functional.hardtanh(x, -1.0, 1.0),
        "hardtanh (hardtanh, ",
        "hardtanh must start at 0, not -1.0",
    ),
    (
        lambda x: functional.avg_pool2d(x, 2, ceil_mode=True),
        "avg_pool2d (avg_pool2d, ",
        "pooling must have no",
    ),
    (lambda x: functional.adaptive_avg_pool2d(x, 3), "adaptive_avg_pool2d (", "output size must be 1, not 3"),
    (lambda x: functional.max_pool2d(x, 9), "max_pool2d (", "window 9×9 must fit in its padded input"),
    (
        lambda x: x + x.relu_(),
        "relu_ (relu_, ",
        "must not be in place, since its input is used elsewhere too",
    ),
]

MODULES = [
    (nn.Sigmoid(), "between (Sigmoid, ", NO_SUCH),
    (nn.Hardtanh(), "between (Hardtanh, ", NO_SUCH),
    (nn.AvgPool2d(3, padding=1, count_include_pad=False), "between (AvgPool2d, ", "an average must not be"),
    (nn.MaxPool2d(2, ceil_mode=True), "between (MaxPool2d, ", "pooling must have no ceil_mode"),
    (nn.MaxPool2d(3, stride=(1, 2)), "between (MaxPool2d, ", "stride and padding must be the same in both"),
    (nn.AdaptiveAvgPool2d(2), "between (AdaptiveAvgPool2d, ", "output size must be 1, not 2"),
    (nn.BatchNorm2d(4, track_running_stats=False), "between (BatchNorm2d, ", "batch normalization must keep"),
]

LAST = "last (QuantizedConv2d, "
LAYERS = [
    (nn.Conv2d(4, 4, 3, padding=1), LAST, "input may be negative, so it must not be padded"),
    (nn.Conv2d(4, 4, 3, dilation=2), LAST, "must be padded with zeros and not dilated, "),
    (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), LAST, "must be padded with zeros"),
    (nn.Conv2d(4, 4, 3, stride=(1, 2)), LAST, "stride must be the same in both directions"),
    (nn.Conv2d(4, 4, (1, 3), padding=(0, 1)), LAST, "padding must be the same in both"),
    (nn.Conv2d(4, 4, 2, padding="same"), LAST, "padding 'same' must have an odd kernel"),
    (nn.Conv2d(4, 4, 1, groups=2), LAST, "groups must be 1, or the channels before and after"),
]


@pytest.mark.parametrize(("between", "where", "message"), CALLS + MODULES)
def test_calls_are_named(between, where, message):
    found = refusal(Model(between))
    assert found.startswith(where)
    assert HERE in found
    assert f"): {message}" in found


@pytest.mark.parametrize(("last", "where", "message"), LAYERS)
def test_layers_are_named(last, where, message):
    found = refusal(Model(nn.Identity(), last=last))
    assert found.startswith(f"{where}{HERE} ")
    assert f"): {message}" in found


REAL = 32
RULES = [
    (LayerRule(pattern="last", activation_bits=REAL), LAST, "input must be quantized"),
    (LayerRule(pattern="last", weight_bits=REAL), LAST, "weights must be quantized"),
    (
        LayerRule(pattern="last", weight_bits=REAL, activation_bits=REAL),
        "last (Conv2d, ",
        "must be quantized",
    ),
    (LayerRule(pattern="fc", scheme="dmbq", weight_bits=2), "fc: ", "must have one scale for all weights"),
]


@pytest.mark.parametrize(("rule", "where", "message"), RULES)
def test_layers_left_in_float_are_named(rule, where, message):
    found = refusal(Model(nn.ReLU()), Precision(scheme="apot", rules=(rule,)))
    assert found.startswith(where)
    assert message in found


def test_float_models_are_refused():
    for name in ("small_cnn", "resnet20"):
        model = build(name, input_shape=(3, 16, 16), classes=10, precision=Precision(scheme="float"))
        with pytest.raises(RefusedError, match="model must be quantized, not float"):
            lower(model, (3, 16, 16))


def test_the_shape_of_an_image_must_be_known():
    model = random_model("resnet20", (3, 8, 8), APOT)
    with pytest.raises(
        RefusedError, match="input_shape must be given: the model does not know its images' shape"
    ):
        lower(model)
    with pytest.raises(
        RefusedError, match=r"conv1 \(QuantizedConv2d, .*: input must have 3 channels, not 1$"
    ):
        lower(model, (1, 8, 8))
    small = random_model("vgg_small", (3, 16, 16), APOT)
    with pytest.raises(
        RefusedError, match=r"fc \(QuantizedLinear, .*: input must have 2048 values, not 512$"
    ):
        lower(small, (3, 8, 8))


def test_a_model_on_another_device_is_refused():
    model = random_model("resnet20", (3, 8, 8), APOT).to("meta")
    with pytest.raises(RefusedError, match="model must be on the CPU, not on meta"):
        lower(model, (3, 8, 8))


def test_steps_that_were_never_measured_are_refused():
    model = build("resnet20", input_shape=(3, 8, 8), classes=10, precision=Precision(scheme="lsq")).eval()
    with pytest.raises(
        RefusedError, match=r"layer1\.0\.conv1.*: the activations' step must have been measured"
    ):
        lower(model, (3, 8, 8))


def test_a_call_that_no_line_of_the_model_makes_has_a_name_alone():
    found = refusal(nn.Sequential(nn.Conv2d(2, 4, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(196, 3)))
    assert found.startswith("1 (Sigmoid): must be an operation that can be exported; supported are ")


class Branching(Model):
    """Depends on values."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) if images.sum() > 0 else images


def test_a_forward_pass_that_depends_on_values_is_refused():
    model = Branching(nn.ReLU())
    quantize(model, Precision(scheme="apot", outer=("first", "fc"), signed=()))
    with pytest.raises(RefusedError, match="model must have a forward pass that"):
        lower(model, SHAPE)


class TwoInputs(Model):
    def forward(self, images: Tensor, more: Tensor) -> Tensor:
        return super().forward(images + more)


class TwoResults(Model):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(images), images


class Rectified(Model):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).relu()


class Map(Model):
    def forward(self, images: Tensor) -> Tensor:
        return self.first(images)


class TwoNormalizations(Model):
    def forward(self, images: Tensor) -> Tensor:
        both = self.first(images / 255).relu() + self.first(images - 3)
        return self.fc(self.last(both).mean((2, 3)))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (TwoInputs, "more (more): a model must have one input, the image"),
        (TwoResults, "model must return one tensor that its layers compute"),
        (Rectified, "fc: the result must be a layer's output that nothing else reads"),
        (Map, "first: the result must be one pixel, not 7 × 7"),
        (TwoNormalizations, "first:2: the image must be normalized as for first"),
    ],
)
def test_other_inputs_and_results_are_refused(kind, message):
    model = kind(nn.ReLU())
    quantize(model, Precision(scheme="apot", outer=("first", "fc"), signed=()))
    model.eval()
    with torch.no_grad():
        model.last.input_quantizer.alpha.fill_(3)
    with pytest.raises(RefusedError) as caught:
        lower(model, SHAPE)
    assert str(caught.value) == message


class Twice(nn.Module):
    """Two layers that read the image with paddings of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.pixels = Pixels(2, mean=(0.5,))
        self.wide, self.narrow = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(2, 4, 1)
        self.fc = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        values = self.pixels(images)
        return self.fc((self.wide(values) + self.narrow(values)).relu().mean((2, 3)))


def test_a_border_is_the_same_for_all_readers():
    rule = LayerRule(pattern="narrow", activation_bits=REAL)
    found = refusal(Twice(), Precision(scheme="apot", rules=(rule,)))
    assert found == "wide: the image must be padded as for narrow"


class Cut(nn.Module):
    """What ReLU6 cuts is added."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 1)
        self.fc = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        values = functional.relu6(self.first(images / 255))
        return self.fc((self.second(values) + values).mean((2, 3)))


def test_what_relu6_cuts_cannot_be_added():
    assert refusal(Cut()).endswith("what a ReLU6 cuts must not be added to anything")


def test_quantizing_twice_is_refused():
    model = quantize(Model(nn.Identity()), APOT)
    model.inner = model.between = RCFActivation(APOT.formats()[1])
    with pytest.raises(
        RefusedError, match=r"last .*: input must be quantized once, not by (inner|between) and last"
    ):
        lower(model.eval(), SHAPE)


def test_bits_are_those_of_channels():
    """A linear layer over a map of 2 × 2 pixels has 256 inputs, of 64 channels."""
    model = mixed(build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=Precision(scheme="dmbq")))
    block = model.blocks[-1]
    block.activation = MixedActivation(channels=256)
    with pytest.raises(RefusedError, match="input must have bits for each of its 64 channels, not 256"):
        lower(model.eval(), (1, 8, 8))

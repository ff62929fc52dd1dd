"""Any model, quantized in place: what is swapped, what stays, what is followed, what is refused."""

import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hdl.console import RefusedError
from hdl.formats import named
from sw.models import FLOAT_MODELS, build
from sw.precision import LayerRule, Precision
from sw.quantize import quantize, weighted_layers
from sw.quantizers import AbsMaxWeight, LSQWeight, RCFActivation, RCFWeight
from sw.recipe import Recipe
from sw.schemes import REAL, SCHEMES, LayerPrecision

APOT = Precision(scheme="apot", weight_bits=3, activation_bits=2)


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors here are too small for threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


class Branches(nn.Module):
    """Layers defined in another order than they are called, some of them twice, with and without a sign."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(6, 3)
        self.middle = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=True, padding_mode="reflect")
        self.signed = nn.Conv2d(4, 4, 1)
        self.gate = nn.Linear(4, 6)
        self.first = nn.Conv2d(2, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, values: Tensor) -> Tensor:
        values = functional.relu(self.norm(self.first(values)))
        values = values + self.middle(functional.max_pool2d(values, 2, stride=1, padding=0)).abs().mean()
        values = torch.cat([self.middle(values)[:, :2], values[:, 2:]], dim=1)
        values = self.signed(values)
        values = self.gate(functional.hardtanh(values).sigmoid().mean((2, 3)))
        return self.last(functional.gelu(values))


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 2, 6, 6)


def formats(model: nn.Module) -> dict[str, tuple[str | None, str | None]]:
    """Names of the formats of each layer's weights and input."""
    return {
        name: tuple(
            part and part.format.name for part in (layer.quantizer, layer.input_quantizer)
        )
        for name, layer in weighted_layers(model).items()
    }  # fmt: skip


def test_every_layer_by_the_order_of_calls_and_the_sign_of_its_input():
    model = Branches()
    assert quantize(model, APOT) is model
    assert formats(model) == {
        "first": ("uniform_b8", None),
        "middle": ("apot_k2n1", "apot_k2n1u"),
        "signed": ("apot_k2n1", "apot_k1n1"),
        "gate": ("apot_k2n1", "apot_k2n1u"),
        "last": ("uniform_b8", "uniform_b8"),
    }
    assert model(images()).shape == (2, 3)


def test_layers_compute_with_quantized_weights_and_inputs():
    model = quantize(Branches(), APOT).eval()
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    for name, layer in weighted_layers(model).items():
        layer.register_forward_hook(
            lambda _, inputs, output, name=name: seen.update({name: (inputs[0], output)})
        )
    model(images())
    middle, (values, output) = model.middle, seen["middle"]
    codes = middle.input_quantizer(values)
    levels = codes / middle.input_quantizer.scale(values)
    assert set(levels.round().int().unique().tolist()) <= {0, 1, 2, 4}
    padded = functional.pad(codes, (1, 1, 1, 1), mode="reflect")
    weight = middle.quantizer(middle.weight)
    expected = functional.conv2d(padded, weight, middle.bias, groups=2)
    torch.testing.assert_close(output, expected)
    values, output = seen["last"]
    codes = model.last.input_quantizer(values)
    expected = codes @ model.last.quantizer(model.last.weight).T + model.last.bias
    torch.testing.assert_close(output, expected)


def test_weights_and_names_stay():
    model = Branches().double()
    before = dict(model.named_parameters())
    layers = dict(model.named_modules())
    state = deepcopy(model.state_dict())
    quantize(model, APOT)
    assert {name: module for name, module in model.named_modules() if name in layers} == layers
    after = dict(model.named_parameters())
    assert all(after[name] is parameter for name, parameter in before.items())
    assert {key.rsplit(".", 1)[1] for key in model.state_dict().keys() - state.keys()} == {"alpha"}
    assert model.middle.quantizer.alpha.dtype == torch.float64
    assert all(torch.equal(model.state_dict()[key], value) for key, value in state.items())


def test_the_state_of_the_float_model_loads():
    source, model = Branches(), quantize(Branches(), APOT)
    model.middle.quantizer.alpha.data.fill_(1.25)
    model.load_state_dict(source.state_dict())
    assert all(torch.equal(model.state_dict()[key], value) for key, value in source.state_dict().items())
    assert model.middle.quantizer.alpha == 1.25
    other = quantize(Branches(), APOT)
    other.load_state_dict(model.state_dict())
    assert other.middle.quantizer.alpha == 1.25


def test_a_state_with_half_of_a_quantizer_does_not_load():
    model = quantize(Branches(), Precision(scheme="lcq"))
    state = model.state_dict()
    del state["middle.quantizer.theta"]
    with pytest.raises(RuntimeError, match=r"middle\.quantizer\.theta"):
        model.load_state_dict(state)


@pytest.mark.parametrize("scheme", SCHEMES[1:])
def test_every_scheme_trains_every_layer(scheme):
    model = quantize(Branches(), Precision(scheme=scheme))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        model(images(4)).square().sum().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
        optimizer.step()


def test_bits_change_in_place_and_clipping_values_stay():
    """Progressive initialization: each stage starts from the weights and clipping values before."""
    model, weights = Branches(), None
    recipe = Recipe(scheme="lcq", weight_bits=2, activation_bits=2, progressive=True)
    names = []
    for stage in recipe.stages:
        quantize(model, stage)
        if weights is None:
            weights = model.middle.weight.detach().clone()
        else:
            assert torch.equal(model.middle.weight, weights)
            if names:
                assert model.middle.quantizer.alpha == 1.5
                assert model.signed.input_quantizer.alpha == 2.5
                assert torch.equal(model.middle.quantizer.theta, torch.arange(16.0))
            with torch.no_grad():
                model.middle.quantizer.alpha.fill_(1.5)
                model.signed.input_quantizer.alpha.fill_(2.5)
                model.middle.quantizer.theta.copy_(torch.arange(16.0))
            names.append(str(stage))
            assert model.middle.quantizer.format.code_width == stage.weight_bits
    assert names == ["lcq 5/5", "lcq 4/4", "lcq 3/3", "lcq 2/2"]


def test_steps_are_measured_anew_where_bits_change():
    def precision(activation_bits):
        return Precision(scheme="lsq", weight_bits=4, activation_bits=activation_bits)

    model = quantize(Branches(), precision(4))
    model(images())
    weight_step = model.middle.quantizer.step
    assert weight_step > 0
    quantize(model, precision(3))
    assert model.middle.quantizer.step is weight_step
    assert model.middle.input_quantizer.step == 0
    same = model.middle.input_quantizer
    quantize(model, precision(3))
    assert model.middle.input_quantizer is same


def test_signs_may_be_given_instead():
    model = quantize(Branches(), APOT)
    weights = {name: layer.quantizer for name, layer in weighted_layers(model).items()}
    quantize(model, replace(APOT, signed=("ga*",)))
    assert [name for name, layer in weighted_layers(model).items() if layer.signed_input] == ["gate"]
    inputs = {name: each for name, (_, each) in formats(model).items()}
    assert (inputs["gate"], inputs["signed"], inputs["middle"]) == ("apot_k1n1", "apot_k2n1u", "apot_k2n1u")
    assert all(layer.quantizer is weights[name] for name, layer in weighted_layers(model).items())


def test_to_another_scheme_and_back_to_float():
    model = Branches()
    values = images()
    plain = model.eval()(values)
    quantize(model, APOT)
    assert not torch.equal(model(values), plain)
    quantize(model, Precision(scheme="uniform", weight_bits=3))
    assert isinstance(model.middle.quantizer, RCFWeight)
    assert not model.middle.quantizer.training
    quantize(model, Precision(scheme="float"))
    assert torch.equal(model(values), plain)
    assert model.state_dict().keys() == Branches().state_dict().keys()


def test_rules_and_outer_layers_by_name():
    precision = Precision(
        scheme="apot",
        outer=("last",),
        outer_bits=6,
        rules=(
            LayerRule(pattern="m*", scheme="lsq", weight_bits=5),
            LayerRule(pattern="gate", scheme="float"),
            LayerRule(pattern="signed", activation_bits=REAL),
        ),
    )
    model = quantize(Branches(), precision)
    assert type(model.gate) is nn.Linear
    del model.gate
    assert formats(model) == {
        "first": ("apot_k2n1o", "apot_k2n1o"),
        "middle": ("uniform_b5", "uniform_b4u"),
        "signed": ("apot_k2n1o", None),
        "last": ("uniform_b6", None),
    }
    assert isinstance(model.middle.quantizer, LSQWeight)
    assert isinstance(model.last.quantizer, AbsMaxWeight)


def test_no_outer_layers_at_all():
    model = quantize(Branches(), Precision(scheme="apot", outer=()))
    assert set(formats(model).values()) == {("apot_k2n1o", "apot_k2n2u"), ("apot_k2n1o", "apot_k2n1o")}


def test_a_recipe_stands_for_its_precision():
    assert formats(quantize(Branches(), Recipe(weight_bits=3, activation_bits=2))) == formats(
        quantize(Branches(), APOT)
    )


class Looping(nn.Module):
    """Its forward pass depends on values, so that it cannot be followed."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 2, 1)
        self.body = nn.Conv2d(2, 2, 1)
        self.head = nn.Linear(2, 2)

    def forward(self, values: Tensor) -> Tensor:
        values = self.stem(values).relu()
        while values.abs().max() > 1:
            values = self.body(values) / 2
        return self.head(values.mean((2, 3)))


def test_a_model_that_cannot_be_followed_needs_names():
    model = Looping()
    with pytest.raises(RefusedError) as caught:
        quantize(model, APOT)
    assert str(caught.value).startswith(
        "model must have a forward pass that torch.fx can trace, or a recipe that names its outer and "
        "signed layers (symbolically traced variables cannot be used as inputs to control flow"
    )
    assert "\n" not in str(caught.value)
    named_layers = Precision(scheme="apot", outer=("stem", "head"), signed=("bo*",))
    assert formats(quantize(model, named_layers)) == {
        "stem": ("uniform_b8", None),
        "body": ("apot_k2n1o", "apot_k2n1o"),
        "head": ("uniform_b8", "uniform_b8u"),
    }


def chain(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 2, 1), *layers, nn.Flatten(), nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("between", "signed"),
    [
        ((), True),
        ((nn.ReLU(),), False),
        ((nn.ReLU6(),), False),
        ((nn.Hardtanh(-1, 1),), True),
        ((nn.Hardtanh(0, 1),), False),
        ((nn.GELU(),), True),
        ((nn.Sigmoid(), nn.MaxPool2d(1), nn.AvgPool2d(1), nn.Dropout(), nn.AdaptiveAvgPool2d(1)), False),
        ((nn.ReLU(), nn.BatchNorm2d(2)), True),
        ((RCFActivation(named("uniform_b4u")),), None),
    ],
)
def test_signs_through_modules(between, signed):
    model = chain(*between)
    if signed is None:
        with pytest.raises(RefusedError, match=r"^model must not have quantizers beside its layers, like 1$"):
            quantize(model, APOT)
        return
    quantize(model, APOT)
    assert model[-1].signed_input == signed


class Through(nn.Module):
    """A function between two layers."""

    def __init__(self, function) -> None:
        super().__init__()
        self.first, self.last, self.function = nn.Linear(4, 4), nn.Linear(4, 4), function

    def forward(self, values: Tensor) -> Tensor:
        return self.last(self.function(self.first(values)))


@pytest.mark.parametrize(
    ("function", "signed"),
    [
        (lambda x: x, True),
        (torch.relu, False),
        (lambda x: x.relu() + 1, False),
        (lambda x: x.relu() + -1, True),
        (lambda x: x.relu() - 1, True),
        (lambda x: x.relu() * -2, True),
        (lambda x: 2 * x.relu(), False),
        (lambda x: x.relu() + x, True),
        (lambda x: x.relu() + x.abs(), False),
        (lambda x: -x.relu(), True),
        (lambda x: x.relu().view(-1, 4).reshape(-1, 4), False),
        (lambda x: functional.pad(x.relu(), (0, 0)), False),
        (lambda x: functional.pad(x.relu(), (0, 0), "constant", -1.0), True),
        (lambda x: functional.pad(x.relu(), (0, 0), value=-1.0), True),
        (lambda x: torch.cat([x.relu(), x.abs()], 1)[:, 2:6], False),
        (lambda x: torch.cat([x.relu(), x], 1)[:, 2:6], True),
        (lambda x: functional.dropout(functional.softmax(x, 1)), False),
        (lambda x: x.relu().view(x.size(0), x.shape[1] // 2, 2).transpose(1, 2).flatten(1), False),
        (lambda x: torch.cat(x.relu().chunk(2, 1)[::-1], 1), False),
        (lambda x: torch.cat(torch.chunk(x, 2, 1), 1), True),
        (lambda x: torch.add(x.relu(), x.relu(), alpha=-1), True),
        (lambda x: x.relu() // -2, True),
        (torch.tanh, True),
    ],
)
def test_signs_through_functions(function, signed):
    model = quantize(Through(function), APOT)
    assert model.last.signed_input == signed
    values = model.function(model.first(torch.randn(50, 4)))
    assert signed or values.min() >= 0


class Own(nn.Module):
    """Convolves with weights of its own."""

    def __init__(self, call) -> None:
        super().__init__()
        self.layer, self.call = nn.Conv2d(2, 2, 1), call
        self.weight = nn.Parameter(torch.ones(2, 2, 1, 1))

    def forward(self, values: Tensor) -> Tensor:
        return self.call(self.layer(values), self.weight)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (functional.conv2d, "conv2d"),
        (torch.conv2d, "conv2d"),
        (lambda x, w: functional.linear(x, w[:, :, 0, 0]), "linear"),
        (functional.conv_transpose2d, "conv_transpose2d"),
    ],
)
def test_functions_of_layers_are_refused(call, name):
    with pytest.raises(RefusedError, match=rf"^model must call layers, not torch.nn.functional.{name} \(at "):
        quantize(Own(call), APOT)


class Scaled(nn.Conv2d):
    """A convolution whose forward pass is its own."""


@pytest.mark.parametrize(
    ("model", "precision", "message"),
    [
        (nn.ReLU(), APOT, "model must have a layer to quantize, a torch.nn.Conv2d or torch.nn.Linear"),
        (
            nn.Sequential(nn.Conv1d(2, 2, 1), nn.Flatten(), nn.Linear(4, 2)),
            APOT,
            "layer 0 must be a torch.nn.Conv2d or torch.nn.Linear itself, not Conv1d "
            "(or be left in float by a rule)",
        ),
        (
            chain(Scaled(2, 2, 1)),
            APOT,
            "layer 1 must be a torch.nn.Conv2d or torch.nn.Linear itself, not Scaled "
            "(or be left in float by a rule)",
        ),
        (
            chain(),
            Precision(scheme="apot", rules=(LayerRule(pattern="3", weight_bits=3),)),
            "layer '3' must be one of 0, 2 or a pattern of them",
        ),
        (
            chain(nn.Conv2d(2, 2, 1)),
            Precision(scheme="apot", activation_bits=1),
            "layer 1: bits must be an integer from 2 to 9, not 1",
        ),
        (
            chain(nn.Conv2d(2, 2, 1)),
            Precision(scheme="pot", rules=(LayerRule(pattern="1", weight_bits=7),)),
            "layer 1: k must be an integer from 1 to 5, not 6",
        ),
    ],
)
def test_refusals_leave_the_model_as_it_was(model, precision, message):
    before, keys = str(model), list(model.state_dict())
    with pytest.raises(RefusedError) as caught:
        quantize(model, precision)
    assert str(caught.value) == message
    assert (str(model), list(model.state_dict())) == (before, keys)


def test_layers_that_are_not_called():
    class Idle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, values: Tensor) -> Tensor:
            return values

    with pytest.raises(RefusedError, match=r"^model must call its layers in its forward pass$"):
        quantize(Idle(), APOT)


def test_other_kinds_of_layers_may_stay_in_float():
    model = nn.Sequential(nn.Conv1d(2, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    rules = (LayerRule(pattern="0", scheme="float"),)
    quantize(model, Precision(scheme="apot", outer=(), rules=rules))
    assert type(model[0]) is nn.Conv1d
    assert model[3].quantizer.format.name == "apot_k2n1o"


def test_a_network_with_quantizers_between_its_layers_is_refused():
    model = build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=APOT)
    with pytest.raises(RefusedError, match=r"beside its layers, like blocks.0.activation$"):
        quantize(model, APOT)


@pytest.mark.parametrize("name", FLOAT_MODELS)
def test_inputs_with_a_sign_in_the_networks(name):
    """The image, and in MobileNetV2 what follows a block's linear end; nothing is computed for it."""
    with torch.device("meta"):
        model = FLOAT_MODELS[name](input_shape=(3, 32, 32), classes=10)
        quantize(model, APOT)
    signed = [key for key, layer in weighted_layers(model).items() if layer.signed_input]
    if name == "mobilenet_v2":
        expanding = [f"features.{block}.conv.0.0" for block in range(2, 18)]
        assert signed == ["features.0.0", *expanding, "features.18.0"]
    else:
        assert signed == [next(iter(weighted_layers(model)))]
    for key, layer in weighted_layers(model).items():
        outer = key in (signed[0], list(weighted_layers(model))[-1])
        expected = LayerPrecision(scheme="apot", weight_bits=3, activation_bits=2)
        assert outer or layer.precision == expected


def test_programs_of_the_page():
    page = (Path(__file__).parents[1] / "docs" / "models.md").read_text()
    names: dict[str, object] = {}
    for program in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        exec(program, names)
    assert formats(names["model"]) == {
        "0": ("uniform_b8", None),
        "2": ("apot_k1n1", "apot_k2n1u"),
        "5": ("uniform_b8", "uniform_b8u"),
    }


def test_tied_layers_are_one_layer():
    layer = nn.Linear(4, 4)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), layer, layer, nn.ReLU(), nn.Linear(4, 4))
    quantize(model, APOT)
    assert model[2] is model[3] is layer
    assert layer.signed_input

"""Learned steps against section 2 of the paper written out, and from training to the packed network."""

from math import sqrt

import numpy as np
import pytest
import torch
from torch import Tensor

from hdl.formats import Uniform, apot
from sw import checkpoint as checkpoints
from sw import training
from sw.compiler.compile import compile_network
from sw.compiler.fitting import fitting_parameters
from sw.data import Dataset, digits
from sw.export import integer_network
from sw.models import build
from sw.precision import Precision
from sw.quantizers import LSQActivation, LSQWeight
from sw.recipe import Recipe


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors here are too small for threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def limits(bits: int, *, signed: bool) -> tuple[int, int]:
    """-Qn and Qp, section 2."""
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def quantizer(bits: int, *, signed: bool, step: float | None = None):
    made = (LSQWeight if signed else LSQActivation)(Uniform(bits=bits, signed=signed)).double()
    if step is not None:
        with torch.no_grad():
            made.step.fill_(step)
    return made


CASES = [*((bits, True) for bits in (2, 3, 4, 8)), *((bits, False) for bits in (1, 2, 3, 4, 8))]


@pytest.mark.parametrize(("bits", "signed"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_level_is_reached_and_halves_go_down(bits, signed, dtype):
    low, high = limits(bits, signed=signed)
    step = 0.25
    halves = torch.arange(2 * low - 5, 2 * high + 6, dtype=dtype) / 2
    made = quantizer(bits, signed=signed, step=step).to(dtype)
    # An independent rounding: the ceiling of a value less a half.
    expected = (halves - 0.5).ceil().clamp(low, high)
    assert torch.equal(made.levels(halves * step), expected.long())
    assert made.levels(halves * step).unique().tolist() == list(range(low, high + 1))
    assert torch.equal(made(halves * step), expected * step)


def gradients(made, values: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    values = values.clone().requires_grad_()
    made(values).backward(upstream)
    assert values.grad is not None
    return values.grad, made.step.grad


@pytest.mark.parametrize(("bits", "signed"), CASES)
def test_gradients_are_those_of_section_2_1(bits, signed):
    generator = torch.Generator().manual_seed(bits)
    step = 0.17
    low, high = limits(bits, signed=signed)
    shape = (6, 5, 10)
    values = torch.randn(shape, dtype=torch.float64, generator=generator) * step * high
    upstream = torch.randn(shape, dtype=torch.float64, generator=generator)
    to_values, to_step = gradients(quantizer(bits, signed=signed, step=step), values, upstream)
    ratio = values / step
    slope = torch.where(ratio <= low, low, torch.where(ratio >= high, high, ratio.round() - ratio))
    features = values.numel() if signed else values[0].numel()
    expected = (upstream * slope).sum() / sqrt(features * high)
    torch.testing.assert_close(to_step, expected, rtol=1e-10, atol=1e-12)
    assert torch.equal(to_values, upstream * ((ratio > low) & (ratio < high)))
    assert ((ratio > low) & (ratio < high)).any()
    assert (ratio >= high).any()
    assert (ratio <= low).any()


def test_the_first_training_batch_sets_the_step():
    values = torch.tensor([[-3.0, 1.0], [2.0, -0.5]], dtype=torch.float64)
    weight, activation = quantizer(4, signed=True), quantizer(4, signed=False)
    weight(values)
    activation(values)
    assert weight.step.item() == pytest.approx(2 * 6.5 / 4 / sqrt(7), rel=1e-15)
    assert activation.step.item() == pytest.approx(2 * 3 / 4 / sqrt(15), rel=1e-15)
    before = weight.step.item()
    weight(values * 10)
    assert weight.step.item() == before == weight.scale(values)


def test_evaluation_measures_but_keeps_nothing():
    values = torch.linspace(-1, 2, 40)
    made = LSQWeight(Uniform(bits=3)).eval()
    assert torch.equal(made.levels(values).float() * made.scale(values), made(values))
    assert made.step.item() == 0
    assert made.scale(values) == made.train().first_step(values)
    made(values)
    assert made.step.item() == made.scale(values * 7)


def test_nothing_but_zeros_leaves_the_step_to_be_measured():
    made = LSQActivation(Uniform(bits=4, signed=False))
    assert torch.equal(made(torch.full((2, 3), -1.0)), torch.zeros(2, 3))
    assert made.step.item() == 0
    assert made(torch.ones(2, 3)).unique().tolist() == pytest.approx([2 / sqrt(15) * 2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LSQWeight(apot(bits=4)), "fmt must be a signed uniform format, not 'apot_k2n1o'"),
        (
            lambda: LSQWeight(Uniform(bits=4, signed=False)),
            "fmt must be a signed uniform format, not 'uniform_b4u'",
        ),
        (
            lambda: LSQActivation(apot(bits=4, signed=False)),
            "fmt must be an unsigned uniform format, not 'apot_k2n2u'",
        ),
        (
            lambda: LSQActivation(Uniform(bits=4)),
            "fmt must be an unsigned uniform format, not 'uniform_b4'",
        ),
    ],
)
def test_refusals(make, message):
    with pytest.raises(ValueError, match="fmt must be") as caught:
        make()
    assert str(caught.value) == message


@pytest.fixture(scope="module")
def few() -> Dataset:
    data = digits()
    return Dataset(
        train_images=data.train_images[:640],
        train_labels=data.train_labels[:640],
        test_images=data.test_images,
        test_labels=data.test_labels,
    )


def test_a_progressive_recipe_trains_and_measures_steps_at_each_precision(few, tmp_path):
    recipe = Recipe(scheme="lsq", progressive=True, weight_bits=4, activation_bits=4, epochs=3)
    done = training.train(recipe, few, tmp_path / "net.pt")
    final = {row["stage"]: row["test_accuracy"] for row in done.history}
    assert list(final) == ["float", "lsq 5/5", "lsq 4/4"]
    assert final["lsq 4/4"] > 0.9
    steps = [value for key, value in done.model.items() if key.endswith(".step")]
    assert len(steps) == 3 + 4
    assert all(step > 0 for step in steps)
    fresh = build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=Precision(scheme="lsq"))
    checkpoints.initialize(fresh, done, name="net.pt")
    assert all(value == 0 for key, value in fresh.state_dict().items() if key.endswith(".step"))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_weights_at_the_lowest_level_pack_as_they_are(bits):
    """Two's complement has one level more below zero, and the array's codes hold it."""
    torch.manual_seed(bits)
    precision = Precision(scheme="lsq", weight_bits=bits, activation_bits=4)
    model = build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=precision)
    model(digits().train_images[:64])
    convolution = list(model.chain())[1].convolution
    with torch.no_grad():
        convolution.weight[3, 2, 1, :2] = torch.tensor([-100.0, 100.0])
    network = integer_network(model.eval())
    layer = network.nodes[1]
    assert layer.weights[3, 2, 1, 0] == layer.weights.min() == -(2 ** (bits - 1))
    assert layer.weights.max() == 2 ** (bits - 1) - 1
    expected = convolution.quantizer.levels(convolution.weight)
    np.testing.assert_array_equal(layer.weights, expected.numpy())
    parameters = fitting_parameters(network)
    assert parameters.weight_format == f"uniform_b{bits}"
    compile_network(network, parameters)


def test_only_the_magnitude_of_a_step_counts():
    """Carried past 0 by a descent step, it rounds as before and is pulled back to the same magnitude."""
    values, gradient = torch.randn(64), torch.randn(64)
    found = {}
    for sign in (1, -1):
        quantizer = LSQWeight(Uniform(bits=3))
        quantizer.step.data.fill_(sign * 0.3)
        rounded = quantizer(values)
        rounded.backward(gradient)
        found[sign] = rounded.detach(), quantizer.scale(values), quantizer.step.grad * sign
        assert torch.equal(rounded, quantizer.levels(values) * quantizer.scale(values))
    assert len(found[1][0].unique()) > 4
    assert torch.equal(found[1][0], found[-1][0])
    assert found[1][1] == found[-1][1]
    assert found[1][2] == found[-1][2] != 0

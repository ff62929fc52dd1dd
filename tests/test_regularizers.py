"""Regularizers against the papers' formulas bin by bin, closed-form gradients and known distributions."""

import pytest
import torch
from torch import Tensor, nn

from hdl.formats import Uniform
from sw.models import Network, build
from sw.precision import Precision
from sw.quantizers import LSQWeight
from sw.regularizers import BinRegularization, KurtosisRegularization, bin_losses, kurtosis

STEP = 0.3


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors here are too small for threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def weights(seed: int = 0, count: int = 400) -> Tensor:
    return torch.randn(count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def codes(values: Tensor, bits: int, step: float = STEP) -> Tensor:
    """LSQ's code, with no use of the quantizer."""
    return (values / step).round().clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).long()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_a_bin_loss_is_squared_mean_error_plus_biased_variance(bits):
    """Eq. 5 as written; 400 weights leave some of 8 bits' bins empty and some with one weight."""
    values = weights(bits)
    levels = codes(values, bits)
    expected = []
    for level in range(-(2 ** (bits - 1)), 2 ** (bits - 1)):
        inside = values[levels == level]
        if len(inside):
            spread = inside.var(correction=0) if len(inside) > 1 else 0.0
            expected.append((inside.mean() - level * STEP) ** 2 + spread)
    assert bits < 8 or min((levels == level).sum() for level in levels) == 1
    found = bin_losses(values.view(20, 20), levels.view(20, 20), torch.tensor(STEP, dtype=torch.float64))
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("bits", [2, 4])
def test_bin_loss_gradients_are_the_closed_forms(bits):
    values, step = weights(bits).requires_grad_(), torch.tensor(STEP, dtype=torch.float64).requires_grad_()
    levels = codes(values.detach(), bits)
    bin_losses(values, levels, step).sum().backward()
    to_values, to_step = torch.zeros(400, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for level in levels.unique().tolist():
        inside = levels == level
        error = values.detach() - level * STEP
        to_values += torch.where(inside, 2 * error / inside.sum(), 0.0)
        to_step -= 2 * level * (values.detach()[inside].mean() - level * STEP)
    torch.testing.assert_close(values.grad, to_values, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(step.grad, to_step, rtol=1e-12, atol=1e-15)


def test_bin_loss_by_finite_differences():
    values = weights(7, 40)
    levels = codes(values, 3)
    step = torch.tensor(STEP, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w, s: bin_losses(w, levels, s), (values.requires_grad_(), step))


def lsq_network() -> Network:
    torch.manual_seed(0)
    precision = Precision(scheme="lsq", weight_bits=3, activation_bits=4)
    return build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=precision)


def test_bin_regularization_of_a_network_in_its_two_stages():
    model = lsq_network()
    regularizer = BinRegularization(strength=0.5, start=3)
    assert regularizer(model, 0).item() == 0
    with pytest.raises(ValueError, match="model must have seen a training batch, which sets its steps"):
        regularizer(model, 3)
    model(torch.randint(256, (8, 1, 8, 8), dtype=torch.uint8))
    assert regularizer(model, 2).item() == 0
    inner = [block.convolution for block in model.chain()][1:]
    expected = 0.0
    for layer in inner:
        step = layer.quantizer.step.item()
        levels = codes(layer.weight.detach(), 3, step)
        for level in range(-4, 4):
            inside = layer.weight.detach()[levels == level]
            if len(inside):
                expected += (inside - level * step).square().mean().item()
    loss = regularizer(model, 3)
    assert loss.item() == pytest.approx(0.5 * expected, rel=1e-5)
    loss.backward()
    touched = {name for name, value in model.named_parameters() if value.grad is not None}
    assert touched == {
        f"blocks.{index}.convolution.{part}" for index in (1, 2, 3) for part in ("weight", "quantizer.step")
    }


def test_bin_regularization_gathers_weights_at_their_levels():
    quantizer = LSQWeight(Uniform(bits=3)).double()
    layer = weights(3).mul(0.2).requires_grad_()
    quantizer(layer)
    errors = []
    for _ in range(200):
        loss = bin_losses(layer, quantizer.levels(layer), quantizer.step).sum()
        to_layer, to_step = torch.autograd.grad(loss, (layer, quantizer.step))
        with torch.no_grad():
            layer -= 5 * to_layer
            quantizer.step -= 1e-3 * to_step
        errors.append((quantizer(layer) - layer).square().mean().item())
    assert errors[-1] < 0.1 * errors[0]


def laplace(count: int) -> Tensor:
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count - 0.5
    return -uniform.sign() * (1 - 2 * uniform.abs()).log()


@pytest.mark.parametrize(
    ("values", "anchor", "tolerance"),
    [
        (torch.linspace(-3, 5, 100_001, dtype=torch.float64), 1.8, 1e-4),
        (torch.erfinv((2 * torch.arange(10**6, dtype=torch.float64) + 1) / 10**6 - 1), 3.0, 2e-3),
        (laplace(10**6), 6.0, 1e-2),
        (torch.full((9,), 0.25, dtype=torch.float64), 0.0, 0.0),
    ],
    ids=["uniform", "normal", "laplace", "constant"],
)
def test_kurtosis_of_known_distributions(values, anchor, tolerance):
    assert kurtosis(values).item() == pytest.approx(anchor, abs=tolerance)
    assert kurtosis(values * -7 + 2).item() == pytest.approx(kurtosis(values).item(), rel=1e-9)


def test_unbiased_deviation_scales_the_kurtosis():
    values = weights(1, 12)
    biased = ((values - values.mean()) / values.std(correction=0)).pow(4).mean()
    torch.testing.assert_close(kurtosis(values, unbiased=False), biased)
    torch.testing.assert_close(kurtosis(values), biased * (11 / 12) ** 2)
    official = ((values - values.mean()) / values.std()).pow(4).mean()
    torch.testing.assert_close(kurtosis(values), official)


@pytest.mark.parametrize("unbiased", [True, False])
def test_kurtosis_gradient(unbiased):
    values = weights(2, 30).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: kurtosis(w, unbiased=unbiased), (values,))
    (found,) = torch.autograd.grad(kurtosis(values, unbiased=unbiased), values)
    flat = values.detach()
    deviation = flat.std(correction=0)
    z = (flat - flat.mean()) / deviation
    closed = 4 * (z**3 - (z**3).mean() - (z**4).mean() * z) / (len(z) * deviation)
    torch.testing.assert_close(found, closed * ((29 / 30) ** 2 if unbiased else 1), rtol=1e-10, atol=1e-12)
    constant = torch.ones(5, requires_grad=True)
    (flat_gradient,) = torch.autograd.grad(kurtosis(constant), constant)
    assert torch.equal(flat_gradient, torch.zeros(5))


def test_kurtosis_regularization_is_the_mean_over_inner_layers():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 3), nn.Linear(5, 6), nn.Linear(6, 2)).double()
    expected = sum((kurtosis(model[i].weight).item() - 2.5) ** 2 for i in (1, 2)) / 2
    loss = KurtosisRegularization(strength=3.0, target=2.5)(model, 0)
    assert loss.item() == pytest.approx(3 * expected, rel=1e-12)
    loss.backward()
    touched = [name for name, value in model.named_parameters() if value.grad is not None]
    assert touched == ["1.weight", "2.weight"]
    assert KurtosisRegularization()(model[:2], 0).item() == 0
    biased = KurtosisRegularization(unbiased=False)(model, 0).item()
    expected = sum((kurtosis(model[i].weight, unbiased=False).item() - 1.8) ** 2 for i in (1, 2)) / 2
    assert biased == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: BinRegularization(strength=0), ValueError, "strength must be a positive number, not 0"),
        (
            lambda: BinRegularization(strength="1"),
            TypeError,
            "strength must be a positive number, not '1'",
        ),
        (lambda: BinRegularization(start=-1), ValueError, "start must be an integer of at least 0, not -1"),
        (lambda: BinRegularization(start=1.5), TypeError, "start must be an integer of at least 0, not 1.5"),
        (
            lambda: KurtosisRegularization(strength=float("inf")),
            ValueError,
            "strength must be a positive number, not inf",
        ),
        (
            lambda: KurtosisRegularization(target=True),
            TypeError,
            "target must be a positive number, not True",
        ),
        (
            lambda: KurtosisRegularization(unbiased=1),
            TypeError,
            "unbiased must be True or False, not 1",
        ),
    ],
)
def test_refusals(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == message

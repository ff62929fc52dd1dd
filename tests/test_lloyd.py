"""Lloyd's centroids against the published optima for a normal variable, and against what defines them."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from hdl.formats import Companded, Table, named
from sw.quantizers import LloydWeight
from sw.quantizers.lloyd import lloyd_step, normal_centroids

# Max, "Quantizing for minimum distortion" (1960): magnitudes and mean squared error, by number of levels.
MAX = {
    2: ((0.7980,), 0.3634),
    3: ((0.0, 1.224), 0.1902),
    4: ((0.4528, 1.510), 0.1175),
    7: ((0.0, 0.5606, 1.188, 2.033), 0.04400),
    8: ((0.2451, 0.7560, 1.344, 2.152), 0.03454),
    15: ((0.0, 0.2739, 0.5549, 0.8512, 1.175, 1.546, 2.007, 2.681), 0.01073),
    16: ((0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733), 0.009497),
}
CASES = [(2, True), (3, True), (4, True), (5, True), (2, False), (3, False), (4, False)]


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors here are too small for threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def normal(count: int) -> Tensor:
    """Quantiles of N(0, 1)."""
    points = (2 * torch.arange(count, dtype=torch.float64) + 1) / count - 1
    return points.erfinv() * 2**0.5


def weights(seed: int = 0, count: int = 3000) -> Tensor:
    """Neither normal nor centred."""
    generator = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(count, dtype=torch.float64, generator=generator).pow(3) + 0.1


@pytest.mark.parametrize("levels", MAX)
def test_centroids_of_a_normal_variable_are_the_published_ones(levels):
    zero = bool(levels % 2)
    centroids, error = MAX[levels]
    found = normal_centroids(count=len(centroids), zero=zero)
    assert found == pytest.approx(centroids, abs=6e-4)
    values = normal(10**5)
    grid = torch.tensor([*found, *(-each for each in found)], dtype=torch.float64)
    nearest = (values[:, None] - grid).square().min(1).values
    assert nearest.mean().item() == pytest.approx(error, rel=1e-3)


@pytest.mark.parametrize("zero", [True, False])
def test_a_step_takes_means_of_what_is_nearest(zero):
    magnitudes = torch.tensor([0.1, 0.2, 0.6, 0.7, 2.0, 3.0], dtype=torch.float64)
    centroids = torch.tensor([0.0 if zero else 0.1, 0.5, 2.4, 9.0], dtype=torch.float64)
    moved = lloyd_step(magnitudes, centroids, zero=zero)
    expected = torch.tensor([0.0 if zero else 0.15, 0.65, 2.5, 9.0], dtype=torch.float64)
    torch.testing.assert_close(moved, expected)


@pytest.mark.parametrize(("bits", "zero"), CASES)
def test_training_settles_where_lloyds_conditions_hold(bits, zero):
    """Every centroid is the mean of the magnitudes nearest to it, and the error only falls."""
    quantizer, values = LloydWeight(bits=bits, zero=zero, outer_bits=16).double(), weights()
    moved = (values - values.mean()) / (values.std(correction=0) + 1e-5)
    errors = []
    for _ in range(300):
        result = quantizer(values)
        errors.append((result - moved).square().mean().item())
    assert errors[-1] < errors[0]
    assert all(later < before + 1e-6 for before, later in pairwise(errors))
    centroids = quantizer.centroids
    owner = (moved.abs()[:, None] - centroids).abs().argmin(1)
    for index in range(bool(zero), len(centroids)):
        assert moved.abs()[owner == index].mean().item() == pytest.approx(centroids[index].item(), abs=1e-6)
    assert not zero or centroids[0] == 0


@pytest.mark.parametrize(("bits", "zero"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_levels_times_scale_is_the_fake_quantized_tensor(bits, zero, dtype):
    quantizer = LloydWeight(bits=bits, zero=zero).to(dtype)
    values = weights(1).to(dtype).view(20, 150)
    for training in (True, False):
        result = quantizer.train(training)(values)
        levels = quantizer.levels(values)
        assert levels.dtype == torch.int64
        assert torch.equal(levels.to(dtype) * quantizer.scale(values), result)
    fmt = quantizer.format
    assert isinstance(fmt, Companded if zero else Table)
    assert fmt.code_width == bits
    assert len(fmt.grid) == 2**bits - zero
    assert fmt.max_level == 127
    assert levels.unique().tolist() == [level for level in fmt.grid if (levels == level).any()]
    assert not zero or named(fmt.name) == fmt


@pytest.mark.parametrize(("bits", "zero"), CASES)
def test_weights_go_to_the_nearest_rounded_centroid(bits, zero):
    quantizer, values = LloydWeight(bits=bits, zero=zero).double().eval(), weights(2)
    moved = (values - values.mean()) / (values.std(correction=0) + 1e-5)
    magnitudes = [round(each / quantizer.centroids[-1].item() * 127) for each in quantizer.centroids.tolist()]
    grid = torch.tensor(sorted({sign * each for each in magnitudes for sign in (1, -1)}))
    nearest = grid[(moved[:, None] / quantizer.scale() - grid).abs().argmin(1)]
    assert torch.equal(quantizer.levels(values), nearest)


def test_evaluation_leaves_centroids_alone_and_the_state_keeps_them():
    quantizer, values = LloydWeight(bits=3), weights(3).float()
    before = quantizer.centroids.clone()
    quantizer.eval()(values)
    assert torch.equal(quantizer.centroids, before)
    expected = quantizer.train()(values)
    assert not torch.equal(quantizer.centroids, before)
    other = LloydWeight(bits=3).eval()
    other.load_state_dict(quantizer.state_dict())
    assert torch.equal(other(values), expected)


def test_gradient_is_that_of_the_normalization():
    quantizer = LloydWeight(bits=3).double()
    values, upstream = weights(4).requires_grad_(), weights(5)
    quantizer(values).backward(upstream)
    again = values.detach().clone().requires_grad_()
    (((again - again.mean()) / (again.std(correction=0) + 1e-5)) * upstream).sum().backward()
    torch.testing.assert_close(values.grad, again.grad, rtol=1e-9, atol=1e-12)


def test_constant_weights_are_zero():
    quantizer = LloydWeight(bits=4)
    assert torch.equal(quantizer(torch.full((9,), 0.5)), torch.zeros(9))
    assert quantizer.centroids.diff().min() > 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"bits": 1}, ValueError, "bits must be an integer from 2 to 8, not 1"),
        ({"bits": 4, "zero": 1}, TypeError, "zero must be True or False, not 1"),
        ({"bits": 4, "outer_bits": 3}, ValueError, "outer_bits must be an integer from 4 to 16, not 3"),
        ({"bits": 4, "detach": None}, TypeError, "detach must be True or False, not None"),
    ],
)
def test_refusals(options, error, message):
    with pytest.raises(error) as caught:
        LloydWeight(**options)
    assert str(caught.value) == message

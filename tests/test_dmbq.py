"""Multi-bit binary weights against brute force over all sums of signs, and the paper's expected errors."""

from itertools import product

import pytest
import torch
from torch import Tensor

from hdl.formats import Basis, Uniform, basis
from sw.quantizers import DMBQWeight

CASES = [(family, planes) for family in ("laplace", "gauss") for planes in (1, 2, 3, 4)]

# Least expected errors of any coordinates, and those of the paper's own, both by numerical integration.
OPTIMA = {
    ("laplace", 1): 1.0, ("laplace", 2): 0.352390, ("laplace", 3): 0.111965, ("laplace", 4): 0.034868,
    ("gauss", 1): 0.363380, ("gauss", 2): 0.117482, ("gauss", 3): 0.035267, ("gauss", 4): 0.009890,
}  # fmt: skip
LITERAL = [
    ("laplace", (1009, 1591), 0.352503),
    ("laplace", (832, 1434, 1897), 0.111967),
    ("laplace", (832, 1514, 1897), 0.117808),
    ("laplace", (838, 1324, 1619, 1879), 0.035014),
    ("gauss", (521, 981), 0.117540),
    ("gauss", (300, 547, 710, 1120), 0.009977),
]


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors here are too small for threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def weights(*shape: int, seed: int = 0) -> Tensor:
    """Channels of different means and spreads."""
    generator = torch.Generator().manual_seed(seed)
    spread = torch.rand(shape[0], *[1] * (len(shape) - 1), dtype=torch.float64, generator=generator) + 0.1
    return (torch.randn(shape, dtype=torch.float64, generator=generator) + 0.3) * spread


def spreads(family: str, centred: Tensor) -> Tensor:
    flat = centred.flatten(1)
    found = flat.abs().mean(1) if family == "laplace" else (flat**2).mean(1).sqrt()
    return found.view(-1, *[1] * (centred.dim() - 1))


@pytest.mark.parametrize(("family", "planes"), CASES)
@pytest.mark.parametrize("centred", [True, False])
def test_weights_go_to_the_nearest_sum_of_signs_of_their_channel(family, planes, centred):
    values = weights(5, 4, 3, 3)
    fmt = basis(family=family, planes=planes)
    quantizer = DMBQWeight(fmt, family=family, unit=0.02, centred=centred)
    moved = values - values.mean((1, 2, 3), keepdim=True) if centred else values
    scale = 0.02 * spreads(family, moved)
    sums = sorted(
        {
            sum(s * a for s, a in zip(signs, fmt.coordinates, strict=True))
            for signs in product((-1, 1), repeat=planes)
        }
    )
    real = torch.tensor(sums, dtype=torch.float64) * scale.unsqueeze(-1)
    nearest = (moved.unsqueeze(-1) - real).abs().argmin(-1)
    expected = torch.tensor(sums)[nearest]
    assert torch.equal(quantizer.levels(values), expected)
    torch.testing.assert_close(quantizer.scale(values), scale, rtol=1e-14, atol=0)
    assert torch.equal(quantizer(values), expected * quantizer.scale(values))


@pytest.mark.parametrize("shape", [(6, 40), (6, 4, 3, 3)])
def test_levels_times_scales_is_the_fake_quantized_tensor(shape):
    values = weights(*shape).float()
    quantizer = DMBQWeight(basis(family="laplace", planes=3))
    levels, scales = quantizer.levels(values), quantizer.scale(values)
    assert (levels.dtype, scales.dtype, scales.numel()) == (torch.int64, torch.float32, 6)
    assert torch.equal(levels.float() * scales, quantizer(values))
    assert set(levels.unique().tolist()) <= set(quantizer.format.grid)


def samples(family: str) -> Tensor:
    """Quantiles of the unit distribution as one channel."""
    points = (torch.arange(2 * 10**5, dtype=torch.float64) + 0.5) / 10**5 - 1
    values = -points.sign() * (1 - points.abs()).log() if family == "laplace" else points.erfinv() * 2**0.5
    return values.view(1, -1)


@pytest.mark.parametrize(("family", "planes"), CASES)
def test_integer_coordinates_come_close_to_the_least_error(family, planes):
    values = samples(family)
    quantizer = DMBQWeight(basis(family=family, planes=planes), family=family)
    error = (quantizer(values) - values).square().mean().item()
    assert error == pytest.approx(OPTIMA[family, planes], rel=2e-3)


@pytest.mark.parametrize(("family", "coordinates", "expected"), LITERAL)
def test_the_papers_coordinates_have_the_papers_error(family, coordinates, expected):
    values = samples(family)
    quantizer = DMBQWeight(Basis(coordinates=coordinates), family=family, unit=0.001)
    assert (quantizer(values) - values).square().mean().item() == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("centred", [True, False])
def test_gradient_passes_where_nothing_is_clipped(centred):
    values = weights(4, 90, seed=2).requires_grad_()
    upstream = weights(4, 90, seed=3)
    quantizer = DMBQWeight(Basis(coordinates=(5, 8)), unit=0.1, centred=centred)
    quantizer(values).backward(upstream)
    moved = values.detach() - (values.detach().mean(1, keepdim=True) if centred else 0)
    inside = moved.abs() <= 13 * 0.1 * spreads("laplace", moved)
    assert 0.1 < inside.double().mean() < 0.95
    torch.testing.assert_close(values.grad, upstream * inside, rtol=1e-14, atol=0)


def test_the_mean_stays_out():
    values = weights(3, 50)
    quantizer = DMBQWeight(Basis(coordinates=(5, 8)))
    torch.testing.assert_close(quantizer(values + 7.0), quantizer(values), rtol=1e-12, atol=0)


def test_a_constant_channel_is_as_good_as_zero():
    values = torch.full((2, 9), 0.5, requires_grad=True)
    result = DMBQWeight(Basis(coordinates=(5, 8)))(values)
    result.sum().backward()
    assert result.abs().max() < 1e-10
    assert values.grad is not None
    assert values.grad.isfinite().all()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: DMBQWeight(Uniform(bits=2)),
            TypeError,
            "fmt must be a basis, not Uniform(signed=True, bits=2)",
        ),
        (
            lambda: DMBQWeight(Basis(coordinates=(1,)), family="cauchy"),
            ValueError,
            "family must be laplace or gauss, not 'cauchy'",
        ),
        (
            lambda: DMBQWeight(Basis(coordinates=(1,)), unit="1"),
            TypeError,
            "unit must be a positive number or None, not '1'",
        ),
        (
            lambda: DMBQWeight(Basis(coordinates=(1,)), unit=0.0),
            ValueError,
            "unit must be a positive number or None, not 0.0",
        ),
        (
            lambda: DMBQWeight(Basis(coordinates=(1,)), centred=0),
            TypeError,
            "centred must be True or False, not 0",
        ),
    ],
)
def test_refusals(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == message

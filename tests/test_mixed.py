"""Bits by channel: every channel is what a quantizer of its own bits would make of it."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from hdl.formats import Uniform, basis
from sw.quantizers import DMBQWeight, MixedActivation, MixedDMBQWeight

BITS = [3, 0, 1, 4, 2, 0, 4]


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors here are too small for threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def weights_quantizer(**options) -> MixedDMBQWeight:
    quantizer = MixedDMBQWeight(channels=len(BITS), **options).double()
    quantizer.bits.copy_(torch.tensor(BITS))
    return quantizer


def activation_quantizer(bits: list[int]) -> MixedActivation:
    quantizer = MixedActivation(channels=len(bits), alpha=1.5).double()
    quantizer.bits.copy_(torch.tensor(bits))
    return quantizer


@pytest.mark.parametrize("family", ["laplace", "gauss"])
@pytest.mark.parametrize("centred", [True, False])
def test_channels_are_those_of_the_plain_quantizer(family, centred):
    values, upstream = (normal(len(BITS), 5, 3, 3, seed=seed) + 0.2 for seed in (0, 1))
    leaf = values.clone().requires_grad_()
    result = weights_quantizer(family=family, centred=centred)(leaf)
    result.backward(upstream)
    for channel, planes in enumerate(BITS):
        if planes == 0:
            assert not result[channel].any()
            assert not leaf.grad[channel].sub(leaf.grad[channel].mean()).any()
            continue
        plain = DMBQWeight(basis(family=family, planes=planes), family=family, centred=centred)
        alone = values[channel : channel + 1].clone().requires_grad_()
        expected = plain(alone)
        expected.backward(upstream[channel : channel + 1])
        torch.testing.assert_close(result[channel], expected[0], rtol=1e-6, atol=0)
        torch.testing.assert_close(leaf.grad[channel], alone.grad[0], rtol=1e-6, atol=1e-12)
    assert leaf.grad.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_weight_levels_times_scale_are_the_fake_quantized_weights(dtype):
    quantizer, values = weights_quantizer().to(dtype), normal(len(BITS), 40).to(dtype)
    levels = quantizer.levels(values)
    assert torch.equal(levels.to(dtype) * quantizer.scale(values), quantizer(values))
    for channel, planes in enumerate(BITS):
        allowed = basis(family="laplace", planes=planes).grid if planes else (0,)
        assert set(levels[channel].tolist()) <= set(allowed)
    assert quantizer.format == Uniform(bits=9)
    assert set(levels.unique().tolist()) <= set(quantizer.format.grid)


def test_the_order_in_memory_does_not_matter():
    weights, activations = normal(len(BITS), 5, 3, 3), normal(2, len(BITS), 4, 4)
    for quantizer, values in ((weights_quantizer(), weights), (activation_quantizer(BITS), activations)):
        other = values.contiguous(memory_format=torch.channels_last)
        assert torch.equal(quantizer(other), quantizer(values))
        assert torch.equal(quantizer.levels(other), quantizer.levels(values))


def test_weights_format_is_as_wide_as_the_widest_channel():
    quantizer = MixedDMBQWeight(channels=3)
    for bits, width in ((3, 8), (2, 5), (1, 2), (0, 2)):
        quantizer.bits.fill_(bits)
        assert quantizer.format == Uniform(bits=width)


@pytest.mark.parametrize("shape", [(6, len(BITS)), (2, len(BITS), 4, 4)])
def test_activations_are_uniform_with_the_channels_own_step(shape):
    quantizer, values = activation_quantizer(BITS), normal(*shape)
    result = quantizer(values)
    for channel, bits in enumerate(BITS):
        steps = 2**bits - 1
        ratio = (values[:, channel] / 1.5).clamp(0, 1)
        expected = (ratio * steps).round() / steps * 1.5 if bits else torch.zeros_like(ratio)
        torch.testing.assert_close(result[:, channel], expected, rtol=1e-12, atol=1e-12)
    levels = quantizer.levels(values)
    assert torch.equal(levels.double() * quantizer.scale(), result)
    assert levels.max() == 105
    assert set(levels[:, 0].unique().tolist()) <= set(range(0, 106, 15))


@pytest.mark.parametrize(
    ("bits", "highest"), [([4, 4], 15), ([2, 0], 3), ([1, 3], 7), ([4, 3], 105), ([3, 2], 21), ([0, 0], 1)]
)
def test_activations_count_in_the_coarsest_common_part(bits, highest):
    quantizer = activation_quantizer(bits)
    levels = {0, highest}.union(*(range(0, highest, highest // (2**each - 1)) for each in bits if each))
    used = sorted(levels)
    assert quantizer.format.grid[: len(used)] == tuple(used)
    assert quantizer.format.code_width == (len(used) - 1).bit_length()
    assert quantizer.format.level_width == highest.bit_length()
    assert quantizer.edges().tolist() == [(low + high) / 2 for low, high in pairwise(used)]
    assert isinstance(quantizer.format, Uniform) == (used == [*range(highest + 1)])
    assert quantizer.scale() == pytest.approx(1.5 / highest, rel=1e-15)
    levels = quantizer.levels(torch.full((1, 2), 9.0))
    assert levels[0].tolist() == [highest if width else 0 for width in bits]


def test_activation_gradients_are_those_of_eq_8_in_channels_with_bits():
    quantizer = activation_quantizer(BITS)
    values, upstream = normal(3, len(BITS), 4, seed=2).requires_grad_(), normal(3, len(BITS), 4, seed=3)
    result = quantizer(values)
    result.backward(upstream)
    x, alive = values.detach(), (torch.tensor(BITS) > 0).view(-1, 1)
    inside = (x >= 0) & (x <= 1.5) & alive
    torch.testing.assert_close(values.grad, upstream * inside, rtol=1e-14, atol=0)
    slope = torch.where(inside, result.detach() / 1.5 - x / 1.5, (x > 1.5).double()) * alive
    torch.testing.assert_close(quantizer.alpha.grad, (upstream * slope).sum(), rtol=1e-12, atol=1e-12)


def test_not_a_number_stays_so():
    values = torch.tensor([[float("nan"), 1.0, 2.0], [1.0, 2.0, 3.0]])
    assert MixedDMBQWeight(channels=2)(values)[0].isnan().all()
    assert MixedActivation(channels=3)(values)[0].isnan().tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: MixedDMBQWeight(channels=0), ValueError, "channels must be an integer of at least 1, not 0"),
        (
            lambda: MixedDMBQWeight(channels=2, bits=5),
            ValueError,
            "bits must be an integer from 1 to 4, not 5",
        ),
        (
            lambda: MixedActivation(channels=2, bits=0),
            ValueError,
            "bits must be an integer from 1 to 4, not 0",
        ),
        (lambda: MixedActivation(channels=2, alpha=0), ValueError, "alpha must be a positive number, not 0"),
        (
            lambda: MixedActivation(channels=True),
            TypeError,
            "channels must be an integer of at least 1, not True",
        ),
    ],
)
def test_refusals(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == message

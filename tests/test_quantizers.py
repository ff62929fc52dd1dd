"""Quantizers against the paper's closed forms and brute force."""

import pytest
import torch
from torch import Tensor

from hdl.formats import APoT, Format, PoT, Table, Uniform, apot
from sw.quantizers import AbsMaxWeight, Quantizer, RCFActivation, RCFWeight, normalized, projection
from sw.quantizers.projection import Lookup, Rounding, Search

FORMATS = [
    *(apot(bits=bits) for bits in range(2, 7)),
    *(apot(bits=bits, signed=False) for bits in range(1, 6)),
    *(Uniform(bits=bits) for bits in (2, 3, 4, 8)),
    *(Uniform(bits=bits, signed=False) for bits in (1, 4, 8)),
    PoT(k=2),
    PoT(k=3, signed=False),
    PoT(k=4),
]


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors here are too small for threads, and waiting for one on a busy machine takes minutes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def brute_force(units: Tensor, fmt: Format) -> Tensor:
    """Nearest level of values in level units, the lower of two equally near, by trying every level."""
    grid = torch.tensor([level for level in fmt.grid if abs(level) <= fmt.max_level], dtype=torch.float64)
    clipped = units.double().clamp(-fmt.max_level if fmt.signed else 0, fmt.max_level)
    distance = (clipped.unsqueeze(-1) - grid).abs()
    # argmin takes the first, and so the lower, of equal distances.
    return grid[distance.argmin(-1)]


def dense(fmt: Format) -> Tensor:
    """Every level, every boundary, their neighbours in float32, and points between and beyond."""
    top = fmt.max_level
    halves = torch.arange(-2 * min(top, 2000) - 4, 2 * min(top, 2000) + 5) / 2
    exact = torch.cat([halves, torch.tensor(fmt.boundaries).float() / 2, torch.tensor(fmt.grid).float()])
    up, down = torch.tensor(torch.inf), torch.tensor(-torch.inf)
    between = torch.linspace(-1.3 * top, 1.3 * top, 4001)
    return torch.cat([exact, torch.nextafter(exact, up), torch.nextafter(exact, down), between])


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("kind", [Rounding, Lookup, Search])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_projection_is_the_nearest_level(fmt, kind, dtype):
    if kind is Rounding and fmt.grid != tuple(range(fmt.grid[0], fmt.grid[-1] + 1)):
        assert not isinstance(projection(fmt), Rounding)
        return
    units = dense(fmt)
    levels = kind(fmt).levels(units.to(dtype), 1.0)
    assert levels.dtype == dtype
    assert torch.equal(levels.double(), brute_force(units, fmt))


@pytest.mark.parametrize("fmt", FORMATS, ids=lambda fmt: fmt.name)
def test_projection_equals_bucketize_of_the_same_quotients(fmt):
    scale = 0.037
    values = dense(fmt) * scale
    low = -fmt.max_level if fmt.signed else 0
    units = (values / torch.tensor(scale)).clamp(low, fmt.max_level)
    expected = torch.tensor(fmt.grid)[torch.bucketize(units, torch.tensor(fmt.boundaries) / 2, right=False)]
    project = projection(fmt)
    assert torch.equal(project.levels(values, scale).long(), expected)
    assert torch.equal(project(values, scale), expected.float() * scale)


def test_projection_of_any_shape_and_memory_layout():
    project = Lookup(apot(bits=4, signed=False))
    values = torch.randn(3, 5, 7, 2, generator=torch.Generator().manual_seed(0)) * 30
    expected = project.levels(values.flatten(), 1.0).view(values.shape)
    assert torch.equal(project.levels(values, 1.0), expected)
    assert torch.equal(project.levels(values.contiguous(memory_format=torch.channels_last), 1.0), expected)
    assert project.levels(torch.tensor(7.2), 1.0) == 8
    assert project.levels(torch.zeros(0, 3), 1.0).shape == (0, 3)
    many = values.repeat(300, 1, 1, 1)[:, :, :, :1].expand(-1, -1, -1, 40)
    assert torch.equal(project.levels(many, 1.0)[:3], expected[..., :1].expand(-1, -1, -1, 40))


@pytest.mark.parametrize("kind", [Rounding, Lookup, Search])
def test_not_a_number_stays_so_and_infinities_clip(kind):
    values = torch.tensor([torch.nan, torch.inf, -torch.inf, 1.2])
    for fmt, clipped in ((Uniform(bits=4), [7, -7, 1]), (Uniform(bits=4, signed=False), [15, 0, 1])):
        levels = kind(fmt).levels(values, 1.0)
        assert levels[0].isnan()
        assert levels[1:].tolist() == clipped


def test_projection_is_chosen_by_the_grid():
    assert isinstance(projection(Uniform(bits=8)), Rounding)
    assert isinstance(projection(apot(bits=2)), Rounding)
    assert isinstance(projection(apot(bits=4)), Lookup)
    assert isinstance(projection(Table(table=(-5, -1, 2, 9))), Lookup)
    assert isinstance(projection(PoT(k=4)), Search)


QUANTIZERS = [
    *(RCFWeight(fmt, alpha=2.7) for fmt in FORMATS if fmt.signed),
    *(RCFActivation(fmt, alpha=1.9) for fmt in FORMATS if not fmt.signed),
    AbsMaxWeight(),
]


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda q: f"{type(q).__name__}-{q.format.name}")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_levels_times_scale_is_the_fake_quantized_tensor(quantizer, dtype):
    values = torch.randn(40, 30, generator=torch.Generator().manual_seed(1)).to(dtype) * 1.3
    levels = quantizer.levels(values)
    assert levels.dtype == torch.int64
    assert set(levels.unique().tolist()) <= set(quantizer.format.grid)
    assert levels.abs().max() == quantizer.format.max_level
    assert torch.equal(levels.to(dtype) * quantizer.scale(values), quantizer(values))


@pytest.mark.parametrize("bits", range(2, 7))
def test_k1_apot_equals_uniform(bits):
    values = torch.randn(5000, generator=torch.Generator().manual_seed(bits))
    unsigned = APoT(k=1, n=bits, signed=False), Uniform(bits=bits, signed=False)
    signed = APoT(k=1, n=bits - 1), Uniform(bits=bits)
    for apot_format, uniform, kind in ((*unsigned, RCFActivation), (*signed, RCFWeight)):
        assert torch.equal(kind(apot_format, alpha=2.0)(values), kind(uniform, alpha=2.0)(values))


def test_two_bit_weights_are_ternary():
    weights = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    assert RCFWeight(apot(bits=2)).levels(weights).unique().tolist() == [-1, 0, 1]


def test_four_bit_apot_levels_of_the_paper():
    """Section 2.2: b = 4, k = 2 has γ = 2α/3 and the smallest positive level 2^-4/3."""
    quantizer = RCFActivation(apot(bits=4, signed=False), alpha=1.0).double()
    grid = quantizer(torch.linspace(0, 1, 100_001, dtype=torch.float64)).detach().unique()
    p0, p1 = (0, 2**0, 2**-2, 2**-4), (0, 2**-1, 2**-3, 2**-5)
    expected = torch.tensor(sorted(2 / 3 * (a + b) for a in p0 for b in p1), dtype=torch.float64)
    torch.testing.assert_close(grid, expected, rtol=1e-14, atol=0)
    assert grid[1] == pytest.approx(2**-4 / 3)


def rcf_gradients(quantizer: Quantizer, values: Tensor, upstream: Tensor) -> tuple[Tensor, Tensor]:
    values = values.clone().requires_grad_()
    alpha = quantizer.alpha
    alpha.grad = None
    quantizer(values).backward(upstream)
    assert values.grad is not None
    return values.grad, alpha.grad


@pytest.mark.parametrize("fmt", [f for f in FORMATS if not f.signed], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("masked", [True, False])
def test_activation_gradients_are_equation_8(fmt, masked):
    generator = torch.Generator().manual_seed(2)
    values = torch.randn(300, dtype=torch.float64, generator=generator) * 3
    upstream = torch.randn(300, dtype=torch.float64, generator=generator)
    alpha = 2.25
    quantizer = RCFActivation(fmt, alpha=alpha, masked=masked).double()
    to_values, to_alpha = rcf_gradients(quantizer, values, upstream)
    ratio = values / alpha
    projected = brute_force(ratio * fmt.max_level, fmt) / fmt.max_level
    slope = torch.where(values > alpha, 1.0, torch.where(values < 0, 0.0, projected - ratio))
    torch.testing.assert_close(to_alpha, (upstream * slope).sum(), rtol=1e-10, atol=1e-10)
    inside = (values > 0) & (values < alpha)
    assert torch.equal(to_values, upstream * inside if masked else upstream)


@pytest.mark.parametrize("fmt", [f for f in FORMATS if f.signed], ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("masked", [True, False])
def test_weight_gradients_are_equation_8_through_the_normalization(fmt, masked):
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(12, 25, dtype=torch.float64, generator=generator) * 0.2 + 0.05
    upstream = torch.randn(12, 25, dtype=torch.float64, generator=generator)
    alpha = 1.375
    quantizer = RCFWeight(fmt, alpha=alpha, masked=masked).double()
    to_weights, to_alpha = rcf_gradients(quantizer, weights, upstream)

    leaf = weights.clone().requires_grad_()
    reference = (leaf - leaf.mean()) / (leaf.std(correction=0) + 1e-5)
    ratio = reference.detach() / alpha
    outside = ratio.abs() > 1
    projected = brute_force(ratio * fmt.max_level, fmt) / fmt.max_level
    slope = torch.where(outside, ratio.sign(), projected - ratio)
    torch.testing.assert_close(to_alpha, (upstream * slope).sum(), rtol=1e-10, atol=1e-10)
    reference.backward(upstream.masked_fill(outside, 0) if masked else upstream)
    torch.testing.assert_close(to_weights, leaf.grad, rtol=1e-9, atol=1e-10)


def test_normalization_is_equation_9():
    weights = torch.randn(6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) * 3 + 1
    mean, variance = weights.mean(), ((weights - weights.mean()) ** 2).mean()
    torch.testing.assert_close(normalized(weights), (weights - mean) / (variance.sqrt() + 1e-5))


def test_normalization_gradient_by_finite_differences():
    weights = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    assert torch.autograd.gradcheck(normalized, (weights.requires_grad_(),))


def test_detached_normalization_scales_the_gradient():
    weights = torch.randn(
        50, dtype=torch.float64, generator=torch.Generator().manual_seed(6)
    ).requires_grad_()
    normalized(weights, detach=True).backward(torch.arange(50.0, dtype=torch.float64))
    expected = torch.arange(50.0, dtype=torch.float64) / (weights.detach().std(correction=0) + 1e-5)
    torch.testing.assert_close(weights.grad, expected)


def test_constant_weights_are_zero_without_slope():
    weights = torch.full((9,), 0.5, requires_grad=True)
    result = RCFWeight(apot(bits=4))(weights)
    result.sum().backward()
    assert torch.equal(result.detach(), torch.zeros(9))
    assert weights.grad is not None
    assert torch.equal(weights.grad, torch.zeros(9))


def test_absmax_grid_and_gradient():
    weights = torch.tensor([-2.54, -0.01, 0.03, 1.27, 0.0], requires_grad=True)
    quantizer = AbsMaxWeight()
    assert quantizer.format.name == "uniform_b8"
    assert quantizer.scale(weights) == pytest.approx(0.02)
    # 0.01 and 0.03 lie halfway: the lower neighbour; 63.5 too.
    halves = torch.tensor([-127.0, -0.5, 1.5, 63.5, 0.0])
    assert quantizer.levels(halves).tolist() == [-127, -1, 1, 63, 0]
    quantizer(weights).backward(torch.arange(5.0))
    assert torch.equal(weights.grad, torch.arange(5.0))
    assert torch.equal(quantizer(torch.zeros(4)), torch.zeros(4))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: RCFWeight(apot(bits=4, signed=False)),
            ValueError,
            "fmt must be a signed format, not 'apot_k2n2u'",
        ),
        (lambda: RCFActivation(apot(bits=4)), ValueError, "fmt must be an unsigned format, not 'apot_k2n1o'"),
        (lambda: RCFWeight(apot(bits=4), alpha=0.0), ValueError, "alpha must be a positive number, not 0.0"),
        (
            lambda: RCFWeight(apot(bits=4), alpha=float("nan")),
            ValueError,
            "alpha must be a positive number, not nan",
        ),
        (lambda: RCFWeight(apot(bits=4), alpha="3"), TypeError, "alpha must be a positive number, not '3'"),
        (lambda: RCFWeight(apot(bits=4), masked=1), TypeError, "masked must be True or False, not 1"),
        (lambda: RCFWeight(apot(bits=4), detach=None), TypeError, "detach must be True or False, not None"),
        (lambda: AbsMaxWeight(bits=1), ValueError, "bits must be an integer from 2 to 16, not 1"),
    ],
)
def test_refusals(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == message

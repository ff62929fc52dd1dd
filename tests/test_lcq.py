"""Learned companding against the definition written with autograd through straight-through roundings."""

import numpy as np
import pytest
import torch
from torch import Tensor

from hdl.formats import named
from sw.quantizers import LCQActivation, LCQWeight
from sw.quantizers.companding import companded_format, curve, rounding
from sw.quantizers.pieces import PairTable, Pieces, Search, finder

CASES = [*((True, bits) for bits in (3, 4, 5)), *((False, bits) for bits in (2, 3, 4))]


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors here are too small for threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made(signed: bool, bits: int, *, bent: float = 1.0, **options):
    """A quantizer in float64 whose curve is not straight."""
    quantizer = (LCQWeight if signed else LCQActivation)(bits=bits, alpha=1.7, **options).double()
    generator = torch.Generator().manual_seed(bits)
    with torch.no_grad():
        quantizer.theta.copy_(bent * torch.randn(len(quantizer.theta), generator=generator))
    return quantizer


def values(seed: int = 0, count: int = 500) -> Tensor:
    return torch.randn(count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 1.2 + 0.2


def rounded(x: Tensor) -> Tensor:
    """Straight-through."""
    return x + (x.round() - x).detach()


def companded(v: Tensor, theta: Tensor, *, steps: int, outer: int) -> Tensor:
    """g'(v) of 0 ≤ v < 1 as the paper defines it, interval by interval."""
    count = len(theta)
    p = theta.softmax(0)
    beta = torch.cat([p.new_zeros(1), p.cumsum(0)])
    gamma = p * count
    up = torch.zeros_like(v)
    for k in range(count):
        here = (v >= k / count) & (v < (k + 1) / count)
        up = torch.where(here, gamma[k] * (v - k / count) + beta[k], up)
    y = rounded(steps * up) / steps
    down = torch.zeros_like(v)
    for k in range(count):
        top = y.detach() <= 1.5 if k == count - 1 else y.detach() < beta[k + 1].detach()
        here = (y.detach() >= beta[k].detach()) & top
        down = torch.where(here, (y - beta[k]) / gamma[k] + k / count, down)
    return rounded(outer * down) / outer


def reference(x: Tensor, alpha: Tensor, theta: Tensor, *, signed: bool, steps: int, outer: int) -> Tensor:
    """Q(x), every dependence on α and θ in the graph: the exact chain."""
    sign = x.detach().sign() if signed else (x.detach() > 0).to(x.dtype)
    v = sign * x / alpha
    inside = v.detach() < 1
    g = companded(torch.where(inside, v, 0.0), theta, steps=steps, outer=outer)
    return sign * alpha * torch.where(inside, g, 1.0)


def prepared(quantizer, x: Tensor) -> tuple[Tensor, Tensor]:
    if not quantizer.signed:
        return x, quantizer.alpha
    return x - x.mean(), quantizer.alpha * x.std(correction=0)


@pytest.mark.parametrize(("signed", "bits"), CASES)
@pytest.mark.parametrize("bent", [0.0, 0.7, 2.0])
@pytest.mark.parametrize("intervals", [1, 5, 16])
def test_values_are_those_of_the_definition(signed, bits, bent, intervals):
    quantizer = made(signed, bits, bent=bent, intervals=intervals)
    x, bound = prepared(quantizer, values())
    expected = reference(
        x, bound, quantizer.theta, signed=signed, steps=quantizer.steps, outer=quantizer.outer
    )
    torch.testing.assert_close(quantizer(values()), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("signed", "bits"), CASES)
@pytest.mark.parametrize("exact", [False, True])
def test_gradients_of_the_curve_and_the_clipping_value(signed, bits, exact):
    """θ: autograd through the definition.  α: that too if exact, else eq. 12; the values' is 1 inside."""
    quantizer = made(signed, bits, exact=exact)
    raw, upstream = values(1), values(2)
    leaf = raw.clone().requires_grad_()
    quantizer(leaf).backward(upstream)

    x, bound = (each.detach() for each in prepared(quantizer, raw))
    a, theta = bound.clone().requires_grad_(), quantizer.theta.detach().clone().requires_grad_()
    out = reference(x, a, theta, signed=signed, steps=quantizer.steps, outer=quantizer.outer)
    to_bound, to_theta = torch.autograd.grad(out, (a, theta), upstream)
    torch.testing.assert_close(quantizer.theta.grad, to_theta, rtol=1e-9, atol=1e-10)
    assert quantizer.theta.grad.abs().max() > 0.1

    inside = (x.abs() < bound) & (signed or x > 0)
    ratio = x / bound
    equation_12 = (upstream * (out.detach() / bound - torch.where(inside, ratio, 0.0))).sum()
    slope = to_bound if exact else equation_12
    assert (to_bound - equation_12).abs() > 0.1
    deviation = raw.std(correction=0) if signed else 1.0
    torch.testing.assert_close(quantizer.alpha.grad, slope * deviation, rtol=1e-9, atol=1e-10)

    if signed:
        # Through mean and deviation: w → w - µ, and α σ.
        weights = raw.clone().requires_grad_()
        centred = weights - weights.mean()
        clip = quantizer.alpha.detach() * centred.square().mean().sqrt()
        surrogate = (centred * (upstream * inside)).sum() + clip * slope
        (expected,) = torch.autograd.grad(surrogate, weights)
    else:
        expected = upstream * inside
    torch.testing.assert_close(leaf.grad, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("signed", "bits"), CASES)
def test_a_straight_curve_is_the_uniform_quantizer(signed, bits):
    quantizer = made(signed, bits, bent=0.0, outer_bits=16)
    steps, outer = quantizer.steps, 2 ** (16 - signed) - 1
    x, bound = (each.detach() for each in prepared(quantizer, values(4)))
    ratio = (x / bound).clamp(-1 if signed else 0, 1)
    uniform = (ratio * steps).round()
    levels = quantizer.levels(values(4))
    assert torch.equal(levels, (uniform / steps * outer).round().long())
    assert len(levels.unique()) == (2 * steps + 1 if signed else steps + 1)
    same = made(signed, bits, bent=0.0, outer_bits=bits)
    assert torch.equal(same.levels(values(4)), uniform.long())


@pytest.mark.parametrize(("signed", "bits"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_levels_times_scale_is_the_fake_quantized_tensor(signed, bits, dtype):
    quantizer = made(signed, bits).to(dtype)
    x = values(5).to(dtype).view(20, 25)
    levels = quantizer.levels(x)
    assert levels.dtype == torch.int64
    assert torch.equal(levels.to(dtype) * quantizer.scale(x), quantizer(x))
    assert levels.max() == quantizer.outer == (127 if signed else 255)
    assert levels.min() == (-127 if signed else 0)
    assert len(levels.unique()) <= 2**bits


def test_two_bit_weights_are_ternary_and_have_no_curve_to_learn():
    quantizer = LCQWeight(bits=2).double()
    x = values(6).requires_grad_()
    assert quantizer.levels(x.detach()).unique().tolist() == [-127, 0, 127]
    quantizer(x).sum().backward()
    assert not quantizer.theta.requires_grad
    assert quantizer.theta.grad is None
    assert quantizer.alpha.grad is not None


def test_weights_only_lose_their_mean():
    """Limited normalization: the result keeps the weights' size (eq. 13)."""
    quantizer = made(True, 4)
    torch.testing.assert_close(quantizer(values() * 5 + 3), quantizer(values()) * 5, rtol=1e-9, atol=1e-12)


def test_not_a_number_stays_so_and_constants_are_zero():
    x = torch.tensor([torch.nan, 9.0, -9.0, 0.0])
    assert LCQActivation(bits=3)(x)[0].isnan()
    assert LCQActivation(bits=3)(x)[1:].tolist() == [6.0, 0.0, 0.0]
    constant = torch.full((7,), 0.5, requires_grad=True)
    result = LCQWeight(bits=3)(constant)
    result.sum().backward()
    assert torch.equal(result.detach(), torch.zeros(7))
    assert constant.grad is not None
    assert constant.grad.isfinite().all()


@pytest.mark.parametrize("place", [0, 7, 15])
@pytest.mark.parametrize("extreme", [-500.0, -25.0, -15.0, 15.0, 500.0])
def test_extreme_curves_still_ascend_to_the_top(place, extreme):
    quantizer = LCQActivation(bits=4)
    with torch.no_grad():
        quantizer.theta.copy_(torch.linspace(-0.3, 0.4, 16))
        quantizer.theta[place] = extreme
    bent = quantizer.rounding()
    assert (np.diff(bent.edges) >= 0).all()
    assert (np.diff(bent.levels) >= 0).all()
    assert (bent.levels[0], bent.levels[-1]) == (0, 255)
    x = torch.linspace(-1, 7, 500, requires_grad=True)
    quantizer(x).sum().backward()
    assert quantizer.theta.grad.isfinite().all()


def expanded(theta: Tensor, height: float) -> float:
    """f⁻¹ by bisection of the curve's definition."""
    p = theta.softmax(0).tolist()

    def f(v: float) -> float:
        whole = min(int(v * len(p)), len(p) - 1)
        return sum(p[:whole]) + p[whole] * (v * len(p) - whole)

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if f(middle) < height else (low, middle)
    return high


def test_compress_and_expand_are_inverse():
    theta = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    bent = curve(theta)
    assert bent.slopes.mean().item() == pytest.approx(1)
    assert bent.starts == pytest.approx([0, *theta.softmax(0).cumsum(0)[:-1].tolist()])
    v = np.linspace(0, 1, 301)
    up = bent.compress(v)
    assert (np.diff(up) > 0).all()
    assert (up[0], up[-1]) == (0, pytest.approx(1))
    assert bent.expand(up)[0] == pytest.approx(v, abs=1e-12)
    for height in (0.1, 0.5, 0.99):
        assert bent.expand(np.array(height))[0] == pytest.approx(expanded(theta, height), abs=1e-9)


def around(points: Tensor) -> Tensor:
    """Points, and their neighbours in the same type."""
    up, down = torch.tensor(torch.inf), torch.tensor(-torch.inf)
    return torch.cat([points, torch.nextafter(points, up), torch.nextafter(points, down)])


def taken(way, numbers, x: Tensor) -> Tensor:
    """The number of the piece of every value."""
    result = torch.empty_like(x)
    way.take(numbers, way.find(x), out=result)
    return result


@pytest.mark.parametrize("bits", [1, 2, 4, 6])
@pytest.mark.parametrize("intervals", [1, 5, 16])
@pytest.mark.parametrize("bent", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("bound", [1e-3, 1.0, 6.0, 123.4])
def test_the_table_of_pieces_equals_a_search(bits, intervals, bent, bound):
    """At all edges and ends of intervals, one float32 beside them, and between and beyond."""
    theta = bent * torch.randn(intervals, generator=torch.Generator().manual_seed(bits + intervals))
    table = rounding(curve(theta), steps=2**bits - 1, outer=255)
    plain = Pieces(table, bound=bound)
    edges, ends = torch.from_numpy(plain.edges), torch.linspace(0, bound, intervals + 1)
    special = torch.tensor([-0.0, -1.0, 1e-30, -1e-30, 2 * bound, 1e30])
    x = around(torch.cat([edges, ends, special, torch.linspace(-0.1, 1.2, 2001) * bound])).repeat(2)
    assert isinstance(finder(plain, x), PairTable)
    levels = torch.from_numpy(table.levels)[torch.bucketize(x, edges)]
    numbers = np.arange(len(plain.index), dtype=np.float32)
    found = taken(Search(plain), numbers, x)
    for way in (Search(plain), PairTable(plain)):
        assert torch.equal(taken(way, table.levels[plain.index], x), levels)
        assert torch.equal(taken(way, numbers, x), found)
        counts = way.sums(torch.ones_like(x), way.find(x))
        assert counts.tolist() == torch.bincount(found.int(), minlength=len(numbers)).tolist()
    expected = (x / bound * intervals).clamp(0, intervals - 1).floor()
    # Ends of intervals may be off by the rounding of a quotient.
    here = ((x / bound * intervals).frac() - 0.5).abs() < 0.499
    assert torch.equal(torch.from_numpy(plain.interval)[found.long()][here], expected[here].long())


@pytest.mark.parametrize(
    ("intervals", "x"),
    [
        (16, torch.ones(3)),
        (16, torch.tensor([1.0, torch.nan])),
        (16, torch.tensor([1.0, torch.inf])),
        (16, torch.ones(2, dtype=torch.float64)),
        (200, torch.ones(2)),
    ],
)
def test_what_no_table_fits_is_searched(intervals, x):
    """An odd number of values, what is not finite or not float32, more pieces than 127."""
    pieces = Pieces(rounding(curve(torch.zeros(intervals)), steps=15, outer=255), bound=2.0)
    assert isinstance(finder(pieces, x), Search)


@pytest.mark.parametrize(("place", "edge"), [(0, 1e-4), (7, 0.5799), (14, 1.0)])
def test_edges_too_close_for_a_table_are_searched(place, edge):
    """To 0, to one another, to the bound."""
    table = rounding(curve(torch.zeros(16)), steps=15, outer=255)
    table.edges[7:9], table.edges[place] = (0.5, 0.58), edge
    x = torch.linspace(0, 2.2, 1000)
    pieces = Pieces(table, bound=2.0)
    way = finder(pieces, x)
    assert isinstance(way, Search)
    levels = torch.from_numpy(table.levels)[torch.bucketize(x, torch.from_numpy(pieces.edges))]
    assert torch.equal(taken(way, table.levels[pieces.index], x), levels)


def test_a_step_is_the_same_by_table_and_by_search():
    """With one more value, which is 0 and so changes no sum, the count is odd."""
    x = torch.randn(4000, generator=torch.Generator().manual_seed(9)) * 2
    upstream = torch.randn(4000, generator=torch.Generator().manual_seed(10))
    gradients = []
    for extra in (0, 1):
        quantizer = made(False, 4).float()
        leaf = torch.nn.functional.pad(x, (0, extra)).requires_grad_()
        quantizer(leaf).backward(torch.nn.functional.pad(upstream, (0, extra)))
        gradients.append((leaf.grad[:4000], quantizer.alpha.grad, quantizer.theta.grad))
    for paired, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(paired, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("signed", "bits"), CASES)
@pytest.mark.parametrize("outer_bits", [8, 12])
def test_format_holds_the_expanded_and_rounded_heights(signed, bits, outer_bits):
    """Every f⁻¹(k / s) times the highest outer level, rounded, is a magnitude."""
    quantizer = made(signed, bits, outer_bits=outer_bits)
    fmt = quantizer.format
    heights = [k / quantizer.steps for k in range(quantizer.steps + 1)]
    expected = {round(expanded(quantizer.theta, y) * quantizer.outer) for y in heights}
    assert expected <= set(fmt.magnitudes)
    assert len(expected) > 0.8 * len(heights)
    assert (fmt.signed, fmt.outer_bits, fmt.code_width) == (signed, outer_bits, bits)
    assert named(fmt.name) == fmt
    assert set(quantizer.levels(values(7)).unique().tolist()) <= set(fmt.grid)


@pytest.mark.parametrize(("signed", "bits"), CASES)
@pytest.mark.parametrize("bent", [1.0, 6.0, 30.0])
def test_counting_edges_gives_the_code_of_every_level(signed, bits, bent):
    """The largest curves give several heights one level, and the table unused places."""
    quantizer = made(signed, bits, bent=bent)
    x = values(8)
    moved = x - x.mean() if signed else x
    ranks = torch.bucketize(moved / quantizer.scale(x), quantizer.edges())
    assert len(quantizer.edges()) == len(quantizer.format.grid) - 1 == (2**bits - 1 - signed)
    assert torch.equal(torch.tensor(quantizer.format.grid)[ranks], quantizer.levels(x))


def test_levels_that_coincide_leave_room_for_others():
    assert companded_format([0, 3, 3, 127], signed=True, outer_bits=8).magnitudes == (0, 3, 126, 127)
    assert companded_format([0, 0, 0, 3], signed=False, outer_bits=2).magnitudes == (0, 1, 2, 3)
    assert companded_format([0, 2, 9, 15], signed=False, outer_bits=8).magnitudes == (0, 2, 9, 15)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: LCQWeight(bits=1), ValueError, "bits must be an integer from 2 to 8, not 1"),
        (lambda: LCQActivation(bits=0), ValueError, "bits must be an integer from 1 to 8, not 0"),
        (
            lambda: LCQWeight(bits=4, intervals=0),
            ValueError,
            "intervals must be an integer from 1 to 256, not 0",
        ),
        (
            lambda: LCQWeight(bits=4, outer_bits=3),
            ValueError,
            "outer_bits must be an integer from 4 to 16, not 3",
        ),
        (lambda: LCQWeight(bits=4, exact=1), TypeError, "exact must be True or False, not 1"),
        (lambda: LCQWeight(bits=4, alpha=-1.0), ValueError, "alpha must be a positive number, not -1.0"),
        (lambda: LCQActivation(bits=4, alpha="6"), TypeError, "alpha must be a positive number, not '6'"),
    ],
)
def test_refusals(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == message

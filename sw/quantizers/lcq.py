"""Learned companding: uniform rounding of values that a learned curve bends (Yamamoto, CVPR 2021)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hdl.formats import Companded, check_bool, check_int

from ..checks import check_positive
from .base import SMALLEST_SCALE, Quantizer
from .companding import Floats, Rounding, companded_format, curve, rounding
from .normalize import dot
from .pieces import Pieces, Search, finder
from .projection import chunks

SMALLEST_VARIANCE = 1e-24


class _Compand(torch.autograd.Function):
    """``sgn(x) α g'(|x| / α)``, and eqs. 7, 11 and 12 in closed form, straight through both roundings.

    All that the curve's gradient needs of values and gradients are two sums over each of its pieces.
    α and θ are not read, but receive the gradients: `scale` and the quantizer's curve stand for them.
    """

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, _alpha: Tensor, _theta: Tensor, quantizer: "_Companded", scale: float
    ) -> Tensor:
        rounded = quantizer.rounding()
        ctx.quantizer, ctx.rounded, ctx.bound = quantizer, rounded, scale * quantizer.outer
        ctx.pieces = Pieces(rounded, bound=ctx.bound)
        ctx.finder = finder(ctx.pieces, values)
        levels = rounded.levels[ctx.pieces.index] * rounded.levels.dtype.type(scale)
        result = torch.empty_like(values, memory_format=torch.contiguous_format)
        found = []
        for part, out in chunks(values, result):
            found.append(ctx.finder.find(part.abs() if quantizer.signed else part))
            ctx.finder.take(levels, found[-1], out=out)
        ctx.found = torch.cat(found)
        if quantizer.signed:
            result.copysign_(values)
        ctx.save_for_backward(values, result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        (gradient,) = gradients
        values, result = ctx.saved_tensors
        signed, bound = ctx.quantizer.signed, ctx.bound
        inside = torch.ops.aten.hardtanh_backward(gradient, values, -bound if signed else 0.0, bound)
        sources = (inside * values.sign() if signed else inside), inside * values
        pushes, moments = (ctx.finder.sums(each.reshape(-1), ctx.found) for each in sources)
        to_bound = dot(gradient, result).item()
        to_theta, linear = _curve_gradient(ctx, pushes, moments)
        return (
            inside,
            gradient.new_tensor((to_bound - linear) / bound),
            gradient.new_tensor(to_theta),
            None,
            None,
        )


def _curve_gradient(ctx: Any, pushes: Floats, moments: Floats) -> tuple[Floats, float]:
    """θ's gradient, and what the clipping value's one loses to ``x dQ/dx``, from sums over pieces.

    Parameters
    ----------
    pushes, moments
        For each piece the sum of the unclipped gradient, with the value's sign, and of its product with
        the values.
    """
    rounded, pieces = ctx.rounded, ctx.pieces
    bent, count = rounded.curve, pieces.count
    slopes = bent.slopes
    # Of the interval where each piece's rounded height is expanded again.
    target = rounded.pieces[pieces.index]
    back = slopes[target]
    linear = moments * slopes[pieces.interval] / back if ctx.quantizer.exact else moments
    pushed = pushes * ctx.bound / back
    risen = (pieces.index / pieces.steps - bent.starts[target]) / back
    places = np.concatenate([pieces.interval, target])
    offsets = np.concatenate([moments / back - pushed * pieces.interval / count, -pushed * risen])
    to_slopes = np.bincount(places, offsets, minlength=count)
    to_starts = np.bincount(places, np.concatenate([pushed, -pushed]), minlength=count)
    # Every later interval starts higher by what this one rises.
    to_shares = count * to_slopes + to_starts.sum() - to_starts.cumsum()
    return bent.shares * (to_shares - bent.shares @ to_shares), linear.sum()


def _deviation(centred: Tensor) -> Tensor:
    """The biased deviation of values whose mean is 0; never quite 0."""
    return (dot(centred, centred) / centred.numel()).clamp_min(SMALLEST_VARIANCE).sqrt()


class _Centre(torch.autograd.Function):
    """``w - µ`` and σ, with closed-form gradients: autograd would take seven kernels for either way."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor) -> tuple[Tensor, Tensor]:
        centred = weights - weights.mean()
        deviation = _deviation(centred)
        ctx.save_for_backward(centred, deviation)
        return centred, deviation

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        to_centred, to_deviation = gradients
        centred, deviation = ctx.saved_tensors
        # dσ/dw = (w - µ) / (N σ), whose mean is 0; constant weights, whose σ is a fixed one, are 0 there.
        slope = to_deviation / (deviation * centred.numel())
        return torch.addcmul(to_centred - to_centred.mean(), centred, slope)


class _Companded(Quantizer):
    """Clipping value and curve, common to weights and activations."""

    signed: bool

    def __init__(self, *, bits: int, alpha: float, intervals: int, outer_bits: int, exact: bool) -> None:
        super().__init__()
        check_int("bits", bits, low=1 + self.signed, high=8)
        check_int("intervals", intervals, low=1, high=256)
        check_int("outer_bits", outer_bits, low=bits, high=16)
        check_bool("exact", exact)
        check_positive("alpha", alpha)
        self.steps, self.outer = (2 ** (each - self.signed) - 1 for each in (bits, outer_bits))
        self.exact, self.outer_bits = exact, outer_bits
        self.alpha = nn.Parameter(torch.tensor(float(alpha)))
        # With one step there is nothing between 0 and the bound to bend.
        self.theta = nn.Parameter(torch.zeros(intervals), requires_grad=self.steps > 1)

    def rounding(self) -> Rounding:
        """The curve of the present parameters, and the table that it is rounded to."""
        return rounding(curve(self.theta), steps=self.steps, outer=self.outer)

    @property
    def format(self) -> Companded:
        return companded_format(
            self.rounding().levels.astype(int).tolist(), signed=self.signed, outer_bits=self.outer_bits
        )

    def prepared(self, values: Tensor) -> Tensor:
        """What is rounded."""
        return values

    def bound(self, _prepared: Tensor) -> Tensor:
        """The clipping value, in the values' unit."""
        return self.alpha

    @torch.no_grad()
    def scale(self, values: Tensor) -> float:
        """Real value of one outer level for this tensor, positive."""
        return self._scale(self.bound(self.prepared(values)))

    def _scale(self, bound: Tensor) -> float:
        return max(bound.item() / self.outer, SMALLEST_SCALE)

    @torch.no_grad()
    def levels(self, values: Tensor) -> Tensor:
        """The outer level of every value (int64)."""
        rounded, prepared = self.rounding(), self.prepared(values)
        pieces = Pieces(rounded, bound=self._scale(self.bound(prepared)) * self.outer)
        flat, search = prepared.reshape(-1), Search(pieces)
        levels = torch.empty_like(flat)
        found = search.find(flat.abs() if self.signed else flat)
        search.take(rounded.levels[pieces.index], found, out=levels)
        return (levels.copysign_(flat) if self.signed else levels).reshape(prepared.shape).long()

    def edges(self) -> Tensor:
        rounded = self.rounding()
        places = np.searchsorted(rounded.levels, self.format.magnitudes[1:]) - 1
        upper = torch.from_numpy(rounded.edges[places] * self.outer).to(self.theta.device)
        return torch.cat([-upper.flip(0), upper]) if self.signed else upper

    def forward(self, values: Tensor) -> Tensor:
        prepared = self.prepared(values)
        bound = self.bound(prepared)
        return _Compand.apply(prepared, bound, self.theta, self, self._scale(bound.detach()))


class LCQWeight(_Companded):
    """Weights centred, clipped at α standard deviations, companded, and rounded to signed levels.

    ``Q(w) = sgn(w) α g'(|w| / α)``, where ``g'`` bends its argument by a learned curve, rounds to
    ``k / (2^(b-1) - 1)``, bends back, and rounds to ``k / (2^(outer_bits-1) - 1)``.  Two views agree bit for
    bit: ``quantizer(w) == quantizer.levels(w) * quantizer.scale(w)``.  With limited weight normalization
    (eq. 13) ``σ Q((w - µ) / σ)`` is the same as ``Q(w - µ)`` with the bound α σ, and so it is computed; σ is
    the biased deviation.

    Parameters
    ----------
    bits
        2 to 8.  Two-bit weights are ternary, and θ is not trained.
    alpha
        Initial clipping value, in standard deviations.
    intervals
        K, pieces of the curve.
    outer_bits
        Width of the levels that are stored and multiplied, at least `bits`.
    exact
        Give α the gradient of the whole chain, with both slopes of the curve, instead of eq. 12.

    Members
    -------
    alpha, theta : Parameter
        Clipping value and the curve's parameters; θ = 0 is a straight curve.
    steps, outer : int
        The highest index and the highest level.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range.
    """

    signed = True

    def __init__(
        self,
        *,
        bits: int,
        alpha: float = 3.0,
        intervals: int = 16,
        outer_bits: int = 8,
        exact: bool = False,
    ) -> None:
        super().__init__(bits=bits, alpha=alpha, intervals=intervals, outer_bits=outer_bits, exact=exact)

    def prepared(self, values: Tensor) -> Tensor:
        return values - values.mean()

    def bound(self, prepared: Tensor) -> Tensor:
        return self.alpha * _deviation(prepared)

    def forward(self, values: Tensor) -> Tensor:
        prepared, deviation = _Centre.apply(values)
        bound = self.alpha * deviation
        return _Compand.apply(prepared, bound, self.theta, self, self._scale(bound.detach()))


class LCQActivation(_Companded):
    """Activations clipped to 0 … α, companded, and rounded to unsigned levels; see `LCQWeight`.

    Parameters
    ----------
    bits
        1 to 8.
    alpha, intervals, outer_bits, exact
        See `LCQWeight`; α is in the activations' unit.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range.
    """

    signed = False

    def __init__(
        self,
        *,
        bits: int,
        alpha: float = 6.0,
        intervals: int = 16,
        outer_bits: int = 8,
        exact: bool = False,
    ) -> None:
        super().__init__(bits=bits, alpha=alpha, intervals=intervals, outer_bits=outer_bits, exact=exact)

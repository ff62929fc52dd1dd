"""Learned companding: uniform rounding of values that a learned curve bends (Yamamoto, CVPR 2021)."""

from typing import Any

import torch
from torch import Tensor, nn

from hdl.formats import Companded, check_bool, check_int

from ..checks import check_positive
from .base import SMALLEST_SCALE, Quantizer
from .companding import Pieces, Rounding, companded_format, curve, rounding
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
        rounded, pieces, levels = quantizer.pieces(scale)
        table = (levels * scale).to(values.dtype)
        result = torch.empty_like(values, memory_format=torch.contiguous_format)
        found = torch.empty(result.shape, dtype=torch.int16, device=values.device)
        for part, piece, out in chunks(values, found, result):
            index = pieces.find(part)
            piece.copy_(index)
            torch.index_select(table, 0, index, out=out)
        ctx.save_for_backward(values, found, result)
        ctx.rounded, ctx.pieces, ctx.quantizer, ctx.bound = (
            rounded,
            pieces,
            quantizer,
            scale * quantizer.outer,
        )
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        (gradient,) = gradients
        values, found, result = ctx.saved_tensors
        pieces, bound = ctx.pieces, ctx.bound
        masked = torch.empty_like(gradient, memory_format=torch.contiguous_format)
        count = len(pieces.index) + 1
        pushes, moments = gradient.new_zeros(count), gradient.new_zeros(count)
        to_bound = gradient.new_zeros(())
        low = -bound if ctx.quantizer.signed else 0.0
        for g, x, piece, q, inside in chunks(gradient, values, found, result, masked):
            torch.ops.aten.hardtanh_backward.grad_input(g, x, low, bound, grad_input=inside)
            index = piece.int()
            pushes.index_add_(0, index, inside)
            moments.index_add_(0, index, inside * x)
            to_bound += torch.dot(g, q)
        to_theta, linear = _curve_gradient(ctx, pushes[:-1], moments[:-1])
        return masked, (to_bound - linear) / bound, to_theta, None, None


def _curve_gradient(ctx: Any, pushes: Tensor, moments: Tensor) -> tuple[Tensor, Tensor]:
    """θ's gradient, and what the clipping value's one loses to ``x dQ/dx``, from sums over pieces.

    Parameters
    ----------
    pushes, moments
        For each piece the sum of the unclipped gradient, and of its product with the values.
    """
    rounded, pieces, quantizer = ctx.rounded, ctx.pieces, ctx.quantizer
    bent, dtype = rounded.curve, pushes.dtype
    slopes, count = bent.slopes, len(bent.shares)
    # Slope where each rounded height is expanded again.
    back = slopes[rounded.pieces][pieces.index]
    linear = moments * slopes[pieces.interval] / back if quantizer.exact else moments
    pushed = pieces.sign * ctx.bound / back * pushes
    offset = moments / back - pushed * (pieces.interval.to(dtype) / count)
    zeros = torch.zeros_like(bent.shares)
    to_slopes = zeros.index_add(0, pieces.interval, offset)
    to_starts = zeros.index_add(0, pieces.interval, pushed)
    # What expanding takes off depends on the rounded height only.
    summed = pushed.new_zeros(len(rounded.levels)).index_add(0, pieces.index, pushed)
    heights = torch.arange(len(summed), dtype=dtype, device=pushed.device) / quantizer.steps
    rises = (heights - bent.starts[rounded.pieces]) / slopes[rounded.pieces]
    to_slopes = to_slopes.index_add(0, rounded.pieces, -summed * rises)
    to_starts = to_starts.index_add(0, rounded.pieces, -summed)
    later = to_starts.flip(0).cumsum(0).flip(0) - to_starts
    to_shares = count * to_slopes + later
    return bent.shares * (to_shares - torch.dot(bent.shares, to_shares)), linear.sum()


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

    @torch.no_grad()
    def rounding(self) -> Rounding:
        """The curve of the present parameters, and the table that it is rounded to."""
        return rounding(curve(self.theta), steps=self.steps, outer=self.outer)

    @property
    def format(self) -> Companded:
        return companded_format(
            self.rounding().levels.int().tolist(), signed=self.signed, outer_bits=self.outer_bits
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
    def pieces(self, scale: float) -> tuple[Rounding, Pieces, Tensor]:
        """The rounded curve, its pieces for a scale, and their levels; then that of what is not a number."""
        rounded = self.rounding()
        pieces = Pieces(rounded, signed=self.signed, bound=scale * self.outer)
        levels = pieces.sign * rounded.levels[pieces.index]
        return rounded, pieces, torch.cat([levels, levels.new_tensor([float("nan")])])

    @torch.no_grad()
    def levels(self, values: Tensor) -> Tensor:
        """The outer level of every value (int64)."""
        _, pieces, levels = self.pieces(self.scale(values))
        prepared = self.prepared(values)
        return levels[pieces.find(prepared.reshape(-1))].reshape(prepared.shape).long()

    @torch.no_grad()
    def edges(self) -> Tensor:
        rounded, fmt = self.rounding(), self.format
        magnitudes = rounded.levels.new_tensor(fmt.magnitudes[1:])
        upper = rounded.edges[torch.bucketize(magnitudes, rounded.levels) - 1] * self.outer
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
        return self.alpha * prepared.square().mean().clamp_min(SMALLEST_VARIANCE).sqrt()


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

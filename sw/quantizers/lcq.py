"""Learned companding: uniform rounding of values that a learned curve bends (Yamamoto, CVPR 2021)."""

from typing import Any

import torch
from torch import Tensor, nn

from hdl.formats import Companded, check_bool, check_int

from ..checks import check_positive
from .base import SMALLEST_SCALE, Quantizer
from .companding import Rounding, companded_format, curve, rounding

SMALLEST_VARIANCE = 1e-24


class _Compand(torch.autograd.Function):
    """``sgn(x) α g'(|x| / α)``, and eqs. 7, 11 and 12 in closed form, straight through both roundings.

    α and θ are not read, but receive the gradients: `scale` and the quantizer's curve stand for them.
    """

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, _alpha: Tensor, _theta: Tensor, quantizer: "_Companded", scale: float
    ) -> Tensor:
        rounded = quantizer.rounding()
        bound = scale * quantizer.outer
        ratio = (quantizer.magnitude(values) / bound).contiguous()
        index = torch.bucketize(ratio, rounded.edges)
        levels = rounded.levels[index]
        result = quantizer.signs(values) * levels * scale
        ctx.save_for_backward(values, ratio, index, result)
        ctx.rounded, ctx.quantizer, ctx.bound = rounded, quantizer, bound
        return result.masked_fill_(values.isnan(), float("nan"))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        (gradient,) = gradients
        values, ratio, index, result = ctx.saved_tensors
        rounded, quantizer, bound = ctx.rounded, ctx.quantizer, ctx.bound
        bent = rounded.curve
        slopes, count = bent.slopes, len(bent.shares)
        inside = (ratio < 1) & (quantizer.signs(values) != 0)
        masked = gradient * inside
        # Interval of each argument and slope there; slope where its rounded value is expanded.
        here = bent.intervals(ratio)
        back = slopes[rounded.pieces][index]
        linear = masked * values
        if quantizer.exact:
            linear = linear * slopes[here] / back
        to_alpha = ((gradient * result).sum() - linear.sum()) / bound
        pushed = (masked * quantizer.signs(values) * bound / back).reshape(-1)
        here = here.reshape(-1)
        offset = (ratio.reshape(-1) * count - here) / count
        zeros = torch.zeros_like(bent.shares)
        to_slopes = zeros.index_add(0, here, pushed * offset)
        to_starts = zeros.index_add(0, here, pushed)
        # What expanding takes off depends on the rounded value only.
        summed = pushed.new_zeros(len(rounded.levels)).index_add(0, index.reshape(-1), pushed)
        heights = torch.arange(len(summed), dtype=pushed.dtype, device=pushed.device) / quantizer.steps
        rises = (heights - bent.starts[rounded.pieces]) / slopes[rounded.pieces]
        to_slopes = to_slopes.index_add(0, rounded.pieces, -summed * rises)
        to_starts = to_starts.index_add(0, rounded.pieces, -summed)
        later = to_starts.flip(0).cumsum(0).flip(0) - to_starts
        to_shares = count * to_slopes + later
        to_theta = bent.shares * (to_shares - torch.dot(bent.shares, to_shares))
        return masked, to_alpha, to_theta, None, None


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

    def signs(self, values: Tensor) -> Tensor:
        """-1, 0 or 1: the sign if signed, else whether a value is above 0."""
        return values.sign() if self.signed else (values > 0).to(values.dtype)

    def magnitude(self, values: Tensor) -> Tensor:
        """Distance from 0; values below it have none if unsigned."""
        return values.abs() if self.signed else values.relu()

    @torch.no_grad()
    def scale(self, values: Tensor) -> float:
        """Real value of one outer level for this tensor, positive."""
        return self._scale(self.bound(self.prepared(values)))

    def _scale(self, bound: Tensor) -> float:
        return max(bound.item() / self.outer, SMALLEST_SCALE)

    @torch.no_grad()
    def levels(self, values: Tensor) -> Tensor:
        """The outer level of every value (int64)."""
        prepared, rounded = self.prepared(values), self.rounding()
        ratio = (self.magnitude(prepared) / (self.scale(values) * self.outer)).contiguous()
        return (self.signs(prepared) * rounded.levels[torch.bucketize(ratio, rounded.edges)]).long()

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

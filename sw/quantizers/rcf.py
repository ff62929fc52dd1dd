"""Reparameterized clipping: quantization with a learned clipping value (APoT paper, eqs. 7 and 8)."""

from typing import Any

import torch
from torch import Tensor, nn

from hdl.formats import Format, check_bool

from .base import SMALLEST_SCALE, Quantizer
from .normalize import normalized
from .projection import Projection, chunks


class _Clip(torch.autograd.Function):
    """``α Π(clip(x / α))``, and eq. 8 in the shape that needs the fewest passes over memory.

    Scaling x and α together scales the result, so by Euler's theorem ``α dQ/dα = Q - x dQ/dx``, where
    dQ/dx is 1 inside the clipping range and 0 outside: eq. 8's ``Π - x/α`` and ``sign(x)`` at once.
    """

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, _alpha: Tensor, scale: float, projection: Projection, masked: bool
    ) -> Tensor:
        result = projection(values, scale)
        ctx.save_for_backward(values, result)
        ctx.bound = scale * projection.high
        ctx.low = -ctx.bound if projection.low else 0.0
        ctx.masked = masked
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (gradient,) = gradients
        values, result = ctx.saved_tensors
        inside = torch.empty_like(gradient, memory_format=torch.contiguous_format)
        slope = gradient.new_zeros(())
        for g, x, q, masked in chunks(gradient, values, result, inside):
            torch.ops.aten.hardtanh_backward.grad_input(g, x, ctx.low, ctx.bound, grad_input=masked)
            slope += torch.dot(g, q).sub_(torch.dot(masked, x))
        return (inside if ctx.masked else gradient), slope.div_(ctx.bound), None, None, None


class _Clipped(Quantizer):
    """The learned clipping value, common to weights and activations."""

    def __init__(self, fmt: Format, *, alpha: float, masked: bool) -> None:
        super().__init__(fmt)
        check_bool("masked", masked)
        if not isinstance(alpha, (int, float)) or isinstance(alpha, bool):
            raise TypeError(f"alpha must be a positive number, not {alpha!r}")
        if not 0 < alpha < float("inf"):
            raise ValueError(f"alpha must be a positive number, not {alpha!r}")
        self.alpha = nn.Parameter(torch.tensor(float(alpha)))
        self.masked = masked

    def scale(self, _values: Tensor | None = None) -> float:
        return max(self.alpha.item() / self.format.max_level, SMALLEST_SCALE)

    def forward(self, values: Tensor) -> Tensor:
        return _Clip.apply(
            self.prepared(values), self.alpha, self.scale(values), self.projection, self.masked
        )


class RCFWeight(_Clipped):
    """Normalized weights, clipped at a learned ±α and rounded to a signed format.

    Parameters
    ----------
    fmt
        A signed format.
    alpha
        Initial clipping value, in standard deviations of the weights.
    masked
        Stop the gradient of weights outside ±α.  The paper passes it everywhere.
    detach
        Take the weights' mean and deviation as constants in the gradient.

    Raises
    ------
    TypeError, ValueError
        If `fmt` is not signed, `alpha` not positive, or an option not a bool.
    """

    def __init__(
        self, fmt: Format, *, alpha: float = 3.0, masked: bool = False, detach: bool = False
    ) -> None:
        if not fmt.signed:
            raise ValueError(f"fmt must be a signed format, not {fmt.name!r}")
        super().__init__(fmt, alpha=alpha, masked=masked)
        check_bool("detach", detach)
        self.detach = detach

    def prepared(self, values: Tensor) -> Tensor:
        return normalized(values, detach=self.detach)


class RCFActivation(_Clipped):
    """Activations, clipped to 0 … a learned α and rounded to an unsigned format; the clip at 0 is the ReLU.

    Parameters
    ----------
    fmt
        An unsigned format.
    alpha
        Initial clipping value.
    masked
        Stop the gradient of activations outside 0 … α, the default.

    Raises
    ------
    TypeError, ValueError
        If `fmt` is signed, `alpha` not positive, or `masked` not a bool.
    """

    def __init__(self, fmt: Format, *, alpha: float = 6.0, masked: bool = True) -> None:
        if fmt.signed:
            raise ValueError(f"fmt must be an unsigned format, not {fmt.name!r}")
        super().__init__(fmt, alpha=alpha, masked=masked)

"""Straight-through rounding, plain and with a learned range (APoT paper, eqs. 7 and 8), shared by schemes."""

from typing import Any

import torch
from torch import Tensor

from .normalize import dot
from .projection import Projection


class StraightThrough(torch.autograd.Function):
    """Rounding whose gradient is that of the identity, everywhere."""

    @staticmethod
    def forward(_ctx: Any, values: Tensor, scale: float, projection: Projection) -> Tensor:
        return projection(values, scale)

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0], None, None


class Clip(torch.autograd.Function):
    """``α Π(clip(x / α))``, and eq. 8 in the shape that needs the fewest passes over memory.

    Scaling x and α together scales the result, so by Euler's theorem ``α dQ/dα = Q - x dQ/dx``, where
    dQ/dx is 1 inside the clipping range and 0 outside: eq. 8's ``Π - x/α`` and ``sign(x)`` at once.
    α itself is not read: `scale` stands for it, and the tensor only receives the gradient, so that one
    may pass a multiple of α to have its gradient multiplied.
    """

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, _alpha: Tensor, scale: float, projection: Projection, masked: bool
    ) -> Tensor:
        result = projection(values, scale)
        ctx.save_for_backward(values, result)
        ctx.bound = scale * projection.high
        ctx.low = scale * projection.low
        ctx.masked = masked
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        (gradient,) = gradients
        values, result = ctx.saved_tensors
        inside = torch.ops.aten.hardtanh_backward(gradient, values, ctx.low, ctx.bound)
        slope = dot(gradient, result).sub_(dot(inside, values)).div_(ctx.bound)
        return (inside if ctx.masked else gradient), slope, None, None, None

"""Weight normalization before quantization (APoT paper, section 2.4, eq. 9)."""

from math import sqrt
from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-5


def dot(left: Tensor, right: Tensor) -> Tensor:
    """Sum of products over all elements, without a temporary."""
    return torch.dot(left.reshape(-1), right.reshape(-1))


class _Normalize(torch.autograd.Function):
    """Closed-form gradient: a third of the kernels that autograd would launch for so small a tensor."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, detach: bool) -> Tensor:
        centred = weights - weights.mean()
        deviation = sqrt(dot(centred, centred).item() / weights.numel())
        ctx.divisor, ctx.detach = deviation + EPSILON, detach
        # dσ/dw = (w - µ) / (N σ); constant weights have no slope.
        ctx.growth = ctx.divisor / deviation / weights.numel() if deviation else 0.0
        result = centred.div_(ctx.divisor)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        if ctx.detach:
            return gradient / ctx.divisor, None
        (result,) = ctx.saved_tensors
        slope = dot(gradient, result).item() * ctx.growth
        centred = torch.sub(gradient, result, alpha=slope).sub_(gradient.mean())
        return centred.div_(ctx.divisor), None


def normalized(weights: Tensor, *, detach: bool = False) -> Tensor:
    """Weights with zero mean and unit variance over the whole tensor: ``(w - µ) / (σ + 1e-5)``.

    σ is the biased deviation.  Nothing multiplies by σ afterwards: batch normalization absorbs it.

    Parameters
    ----------
    detach
        Take µ and σ as constants in the gradient, as the authors' CIFAR code does.
    """
    return _Normalize.apply(weights, detach)

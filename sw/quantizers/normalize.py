"""Weight normalization before quantization (APoT paper, section 2.4, eq. 9)."""

from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-5


class _Normalize(torch.autograd.Function):
    """Closed-form gradient: a fifth of the kernels that autograd would launch for so small a tensor."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor) -> Tensor:
        deviation, mean = torch.std_mean(weights, correction=0)
        divisor = deviation + EPSILON
        result = (weights - mean).div_(divisor)
        ctx.save_for_backward(result, deviation, divisor)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        result, deviation, divisor = ctx.saved_tensors
        slope = (gradient * result).mean() * (divisor / deviation.clamp_min(torch.finfo(result.dtype).tiny))
        return (gradient - gradient.mean()).sub_(result * slope).div_(divisor)


def normalized(weights: Tensor, *, detach: bool = False) -> Tensor:
    """Weights with zero mean and unit variance over the whole tensor: ``(w - µ) / (σ + 1e-5)``.

    σ is the biased deviation.  Nothing multiplies by σ afterwards: batch normalization absorbs it.

    Parameters
    ----------
    detach
        Take µ and σ as constants in the gradient, as the authors' CIFAR code does.
    """
    if not detach:
        return _Normalize.apply(weights)
    deviation, mean = torch.std_mean(weights.detach(), correction=0)
    return (weights - mean) / (deviation + EPSILON)

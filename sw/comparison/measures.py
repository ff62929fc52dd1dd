"""What is measured of a trained network's weights."""

from fractions import Fraction
from math import ceil

import torch
from torch import Tensor, nn

from ..layers import Quantized
from ..quantizers import LloydWeight, MixedDMBQWeight, Quantizer
from ..quantizers.normalize import normalized
from ..regularizers import kurtosis
from ..schemes import REAL

LAYERS = (nn.Conv2d, nn.Linear)


@torch.no_grad()
def weight_facts(model: nn.Module) -> dict[str, float | int | None]:
    """What a network's weights look like and take; means are over the layers but the first and the last.

    Returns
    -------
    dict
        ``weight_error``
            Mean squared difference of quantized and latent weights, over the latent ones' mean square; None
            if nothing is quantized.  Latent weights are those that are rounded: with most schemes normalized,
            and of mean 0.
        ``bin_loss``
            The same with equal shares for all bins that are not empty, however few weights they hold: the
            mean over bins of ``(mean - level)² + variance``, what bin regularization sums.
        ``kurtosis``
            Of the latent weights.
        ``bytes``
            Codes of all weights, the first and the last layer's too, without scales and biases.
    """
    layers = [module for module in model.modules() if isinstance(module, LAYERS)]
    errors = [
        relative_errors(layer.weight, layer.quantizer)
        for layer in layers[1:-1]
        if isinstance(layer, Quantized) and layer.quantizer is not None
    ]
    return {
        "weight_error": _mean([error for error, _ in errors]),
        "bin_loss": _mean([loss for _, loss in errors]),
        "kurtosis": _mean([kurtosis(layer.weight, unbiased=False).item() for layer in layers[1:-1]]),
        "bytes": sum(map(weight_bytes, layers)),
    }


def relative_errors(weights: Tensor, quantizer: Quantizer) -> tuple[float, float]:
    """Mean squared error of all weights, and the mean of the bins' ones, over the weights' mean square."""
    latent = latent_weights(weights, quantizer).double()
    levels = quantizer.levels(weights)
    errors = (levels * quantizer.scale(weights) - latent).square().flatten()
    bins, counts = levels.unique(return_inverse=True, return_counts=True)[1:]
    sums = torch.zeros(len(counts), dtype=errors.dtype).index_add(0, bins.flatten(), errors)
    power = latent.square().mean()
    return (errors.mean() / power).item(), ((sums / counts).mean() / power).item()


def latent_weights(weights: Tensor, quantizer: Quantizer) -> Tensor:
    """What a quantizer rounds: the weights, or what it makes of them before."""
    if isinstance(quantizer, LloydWeight):
        return normalized(weights)
    prepared = getattr(quantizer, "prepared", None)
    return weights if prepared is None else prepared(weights)


def weight_bytes(layer: nn.Module) -> int:
    """Bytes of a layer's weights, packed without gaps."""
    quantizer = layer.quantizer if isinstance(layer, Quantized) else None
    weights = layer.weight
    assert isinstance(weights, Tensor)
    bits: int | Fraction
    if isinstance(quantizer, MixedDMBQWeight):
        bits = Fraction(int(quantizer.bits.sum()), len(quantizer.bits))
    else:
        bits = REAL if quantizer is None else quantizer.format.code_width
    return ceil(weights.numel() * bits / 8)


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None

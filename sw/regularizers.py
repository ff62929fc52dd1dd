"""Penalties added to the loss that shape weights for quantization: bin regularization and kurtosis.

Each is called with the model and the number of epochs done, and returns a scalar to add to the loss.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hdl.formats import check_bool, check_int

from .checks import check_positive
from .models import QuantizedConv2d, QuantizedLinear
from .quantizers import LSQWeight
from .recipe import Recipe

UNIFORM_KURTOSIS = 1.8

# Below this variance weights count as constant, so that their kurtosis has a finite gradient.
_LEAST_VARIANCE = 1e-24


def bin_losses(weights: Tensor, levels: Tensor, step: Tensor) -> Tensor:
    """For every level that occurs, ascending, ``(mean - level·step)² + variance`` of its weights.

    With the biased variance this is the mean of ``(w - level·step)²`` over the bin, which is how it is
    computed; a single weight's variance is 0.  Differentiable in `weights` and `step`.

    Parameters
    ----------
    weights
        Real weights, any shape.
    levels
        The integer level of each, same shape: its bin.
    step
        Real value of one level, a scalar.
    """
    flat, places = weights.reshape(-1), levels.reshape(-1)
    bins = places - places.min()
    counts = bins.bincount()
    errors = (flat - places.to(flat.dtype) * step).square()
    return errors.new_zeros(len(counts)).index_add(0, bins, errors / counts[bins])[counts > 0]


def kurtosis(weights: Tensor, *, unbiased: bool = True) -> Tensor:
    """``E[((w - µ) / σ)⁴]``: 1.8 for uniform weights, 3 for normal ones, 6 for Laplace's; 0 if constant.

    Parameters
    ----------
    unbiased
        σ² divides by n - 1, as the authors' code does, rather than by n.
    """
    flat = weights.reshape(-1)
    centred = flat - flat.mean()
    variance = centred.square().sum() / max(len(flat) - unbiased, 1)
    return (centred.square() / variance.clamp_min(_LEAST_VARIANCE)).square().mean()


@dataclass(frozen=True, kw_only=True)
class BinRegularization:
    """Pulls the weights of every bin to its level: the sum of `bin_losses` over layers with a learned step.

    The first stage trains without it, until steps have settled; in the second one both weights and steps
    get its gradient (Bin Regularization, eq. 5; the bins' variance is biased).

    Parameters
    ----------
    strength
        λ; the paper's best are 1, 0.5 and 0.5 at 4, 3 and 2 bits.
    start
        m, the epochs of the first stage; the paper trains 30 of 90 without.

    Raises
    ------
    TypeError, ValueError
        If `strength` is not a positive number or `start` not an integer of at least 0.  When called,
        ValueError if a layer's step is not measured yet.
    """

    strength: float = 1.0
    start: int = 30

    def __post_init__(self) -> None:
        check_positive("strength", self.strength)
        check_int("start", self.start, low=0)

    def __call__(self, model: nn.Module, epoch: int) -> Tensor:
        total = _zero(model)
        if epoch < self.start:
            return total
        for weight, quantizer in _stepped(model):
            if not quantizer.step.item():
                raise ValueError("model must have seen a training batch, which sets its steps")
            total = total + bin_losses(weight, quantizer.levels(weight), quantizer.step.abs()).sum()
        return self.strength * total


@dataclass(frozen=True, kw_only=True)
class KurtosisRegularization:
    """Flattens weights: the mean over layers of ``(kurtosis - target)²`` (KURE).

    Layers are the model's convolutions and linear layers in the order of definition, less the first and
    the last one; the model may be a float one.

    Parameters
    ----------
    strength
        λ.
    target
        The kurtosis aimed at; a uniform distribution has 1.8.
    unbiased
        See `kurtosis`.

    Raises
    ------
    TypeError, ValueError
        If `strength` or `target` is not a positive number or `unbiased` not a bool.
    """

    strength: float = 1.0
    target: float = UNIFORM_KURTOSIS
    unbiased: bool = True

    def __post_init__(self) -> None:
        check_positive("strength", self.strength)
        check_positive("target", self.target)
        check_bool("unbiased", self.unbiased)

    def __call__(self, model: nn.Module, _epoch: int) -> Tensor:
        layers = [module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))][1:-1]
        if not layers:
            return _zero(model)
        each = [kurtosis(layer.weight, unbiased=self.unbiased) - self.target for layer in layers]
        return self.strength * torch.stack(each).square().mean()


def regularizer(recipe: Recipe) -> "BinRegularization | KurtosisRegularization | None":
    """The penalty that a recipe asks for."""
    if recipe.regularizer == "br":
        start = recipe.epochs // 3 if recipe.br_start is None else recipe.br_start
        return BinRegularization(strength=recipe.strength, start=start)
    if recipe.regularizer == "kure":
        return KurtosisRegularization(strength=recipe.strength)
    return None


def _stepped(model: nn.Module) -> Iterator[tuple[Tensor, LSQWeight]]:
    """Weights and quantizers of the layers whose step is learned."""
    for module in model.modules():
        if isinstance(module, (QuantizedConv2d, QuantizedLinear)) and isinstance(module.quantizer, LSQWeight):
            yield module.weight, module.quantizer


def _zero(model: nn.Module) -> Tensor:
    return next(model.parameters()).new_zeros(())

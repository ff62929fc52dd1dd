"""Where a network's weights come from: training, or chance."""

import math

import torch
from torch import Tensor, nn

from hdl.console import RefusedError
from sw.allocation import mixed
from sw.comparison.cache import Cache
from sw.comparison.execution import Outcome, execute, key
from sw.comparison.protocol import Run
from sw.data import Dataset
from sw.layers import Quantized
from sw.models import build
from sw.quantizers.mixed import MAX_PLANES, MixedActivation, MixedQuantizer

from .protocol import Entry

CALIBRATION_IMAGES = 8
DEVIATIONS = 3.0
"""Where activations are clipped, in root mean squares of what comes."""


def trained(run: Run, dataset: Dataset, data: str, cache: Cache) -> Outcome:
    """The outcome of a run with its network: as it is kept, or trained now, after what it starts from.

    Parameters
    ----------
    data
        `sw.comparison.execution.fingerprint` of the data set.

    Raises
    ------
    RefusedError
        If training fails.
    """
    name = key(run, data)
    kept = cache.find(name)
    if kept is not None:
        return cache.with_network(name, kept)
    start = None if run.start is None else trained(run.start, dataset, data, cache)
    outcome = execute(run, dataset, start)
    if outcome.failed:
        raise RefusedError(f"{run}: {outcome.failed}")
    cache.keep(name, run, outcome)
    return outcome


def random_images(shape: tuple[int, int, int], *, count: int, seed: int) -> Tensor:
    """Pixels of 0 … 255, each by itself."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, *shape), dtype=torch.uint8, generator=generator)


@torch.no_grad()
def random_network(entry: Entry, *, seed: int) -> nn.Module:
    """A network with random weights and batch normalization, in evaluation mode.

    With `lba`, channels have random bits, all that lie about the average as often.  Running statistics, steps
    and clipping values are measured by random images.
    """
    assert entry.shape is not None
    torch.manual_seed(seed)
    model = build(
        entry.model, input_shape=entry.shape, classes=entry.classes, precision=entry.recipe.precision
    )
    generator = torch.Generator().manual_seed(seed)
    if entry.lba:
        _draw_bits(mixed(model), entry.average_bits, generator)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.copy_(0.5 + torch.rand(module.weight.shape, generator=generator))
            module.bias.copy_(0.4 * torch.randn(module.bias.shape, generator=generator))
            module.momentum = None
    quantizers = [layer.input_quantizer for layer in model.modules() if isinstance(layer, Quantized)]
    hooks = [
        quantizer.register_forward_pre_hook(_measure_clipping)
        for quantizer in quantizers
        if quantizer is not None and hasattr(quantizer, "alpha")
    ]
    model.train()
    model(random_images(entry.shape, count=CALIBRATION_IMAGES, seed=seed))
    for hook in hooks:
        hook.remove()
    return model.eval()


def _draw_bits(model: nn.Module, averages: tuple[float, float], generator: torch.Generator) -> None:
    """Give every channel of weights and of activations bits, from as far below the average as above."""
    for quantizer in model.modules():
        if isinstance(quantizer, MixedQuantizer):
            average = averages[isinstance(quantizer, MixedActivation)]
            span = min(average, MAX_PLANES - average)
            choices = torch.arange(math.ceil(average - span), math.floor(average + span) + 1)
            channels = len(quantizer.bits)
            drawn = choices.repeat(-(-channels // len(choices)))[:channels]
            quantizer.bits.copy_(drawn[torch.randperm(channels, generator=generator)])


def _measure_clipping(quantizer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    alpha = quantizer.alpha
    assert isinstance(alpha, Tensor)
    alpha.copy_(DEVIATIONS * inputs[0].square().mean().sqrt())

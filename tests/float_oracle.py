"""The float model in float64, watched: what codes it computes, of which real values.

It shares with the product only the quantizers' own rounding of activations.  Weights are those that the model
computes with in float32.
"""

from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sw.layers import Quantized
from sw.lowering import Lowering
from sw.models import build
from sw.precision import Precision
from sw.quantizers import Quantizer


class Seen(NamedTuple):
    """Codes by tensor, the real values that they round, and logits."""

    codes: dict[str, Tensor]
    reals: dict[str, Tensor]
    logits: Tensor


@torch.no_grad()
def watched(model: nn.Module, lowering: Lowering, images: Tensor) -> Seen:
    """Run images, as the graph takes them, through the model in float64."""
    weights = {
        name: layer.quantized_weight()
        for name, layer in model.named_modules()
        if isinstance(layer, Quantized)
    }
    model = deepcopy(model).double()
    for name, weight in weights.items():
        layer = model.get_submodule(name)
        layer.weight.copy_(weight)
        layer.quantizer = None
    codes, reals = {}, {}

    def keep(tensor: str) -> object:
        def hook(quantizer: Quantizer, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
            reals[tensor] = inputs[0].clone()
            if tensor in lowering.parts:
                parts = torch.from_numpy(lowering.parts[tensor]).view(1, -1, 1, 1)
                codes[tensor] = torch.where(parts > 0, quantizer.levels(inputs[0]) / parts, 0).long()
                return
            grid = torch.tensor(quantizer.format.grid)
            if quantizer.format.signed:
                grid = grid[grid >= quantizer.levels(torch.tensor([-1e9]).double())]
            codes[tensor] = torch.searchsorted(grid, quantizer.levels(inputs[0]).contiguous())

        return hook

    for tensor, name in lowering.quantizers.items():
        model.get_submodule(name).register_forward_hook(keep(tensor))
    return Seen(codes, reals, model(taken(lowering, images)))


def taken(lowering: Lowering, images: Tensor) -> Tensor:
    """What the model rounds to these images, if it rounds what it takes."""
    rounding = lowering.content.header["rounding"]
    if rounding is None:
        return images.double()
    scale, offset = (torch.tensor(rounding[name], dtype=torch.float64) for name in ("scale", "offset"))
    return (images - offset.view(-1, 1, 1)) / scale.view(-1, 1, 1)


def random_images(shape: tuple[int, int, int], *, count: int, seed: int = 1) -> Tensor:
    """Pixels of 0 … 255."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, *shape), dtype=torch.uint8, generator=generator)


@torch.no_grad()
def calibrated(
    model: nn.Module, shape: tuple[int, int, int], *, seed: int = 0, images: Tensor | None = None
) -> nn.Module:
    """Random gains, offsets and clipping values; running statistics and steps as of random images."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            module.weight.copy_(0.5 + torch.rand(module.weight.shape, generator=generator))
            module.weight[0] *= -1
            module.bias.copy_(0.4 * torch.randn(module.bias.shape, generator=generator))
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
        if isinstance(module, Quantizer) and hasattr(module, "alpha"):
            module.alpha.copy_(1.5 + 2 * torch.rand((), generator=generator))
    model.train()
    model(random_images(shape, count=16, seed=seed) if images is None else images)
    return model.eval()


def random_model(name: str, shape: tuple[int, int, int], precision: Precision, *, seed: int = 0) -> nn.Module:
    """A network of the project with random weights, calibrated."""
    torch.manual_seed(seed)
    return calibrated(build(name, input_shape=shape, classes=10, precision=precision), shape, seed=seed)

"""The layers of a torch model as plain shapes, for the accounting of `sw.accounting`."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from hdl.console import RefusedError

from ..architectures import Architecture, Layer
from ..layers import Quantized
from ..quantizers import Quantizer

# Parts of a module's name that say it stands beside a residual block.
SHORTCUTS = ("downsample", "shortcut")


def architecture_of(model: nn.Module, *, name: str, input_shape: tuple[int, int, int]) -> Architecture:
    """The convolutions and the linear layer of a model, in the order of their calls.

    Nothing is computed: a copy of the model runs on torch's meta device.  Layers have their modules' names.

    Parameters
    ----------
    model
        Float or quantized, of square convolutions over square maps, with one linear layer at the end.
    name
        Of the architecture.
    input_shape
        Channels, height, width of an image.

    Raises
    ------
    RefusedError
        If the model is not of this kind.
    """
    layers: list[Layer] = []
    bare = _without_quantizers(model)
    for label, module in bare.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(
                lambda module, _, output, label=label: layers.append(_layer(label, module, output))
            )
    bare(torch.empty(1, *input_shape, device="meta"))
    convolutional = [isinstance(bare.get_submodule(layer.name), nn.Conv2d) for layer in layers]
    if len(layers) < 2 or convolutional != [True] * (len(layers) - 1) + [False]:
        raise RefusedError("model must have convolutions and then one linear layer")
    return Architecture(name=name, layers=tuple(layers))


def _layer(name: str, module: nn.Conv2d | nn.Linear, output: Tensor) -> Layer:
    if isinstance(module, nn.Linear):
        return Layer(name=name, inputs=module.in_features, outputs=module.out_features)
    shapes = module.kernel_size, tuple(output.shape[2:])
    for height, width in shapes:
        if height != width:
            raise RefusedError(f"layer {name} must have a square kernel and map, not {height} × {width}")
    return Layer(
        name=name,
        inputs=module.in_channels,
        outputs=module.out_channels,
        kernel=shapes[0][0],
        size=shapes[1][0],
        groups=module.groups,
        shortcut=any(part in SHORTCUTS for part in name.split(".")),
    )


def _without_quantizers(model: nn.Module) -> nn.Module:
    """A copy without values; quantizers, which look at values, are left out."""
    bare = deepcopy(model).to("meta").eval()
    for module in bare.modules():
        for name, child in module.named_children():
            if isinstance(child, Quantizer):
                setattr(module, name, None if isinstance(module, Quantized) else nn.Identity())
    return bare

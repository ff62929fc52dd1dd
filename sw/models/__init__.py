"""Networks that train in float or quantized from one definition, by name."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ..layers import Quantized, QuantizedConv2d, QuantizedLinear
from ..precision import Precision
from ..quantize import quantize
from .chain import Block, Network, small_cnn
from .mobilenet import MobileNetV2
from .pixels import IMAGE_FORMAT, IMAGE_SCALE, Pixels
from .resnet import Bottleneck, ResNet, Subsampling
from .vgg import VGGSmall

__all__ = [
    "FLOAT_MODELS",
    "IMAGE_FORMAT",
    "IMAGE_SCALE",
    "MODELS",
    "Block",
    "Network",
    "Pixels",
    "Quantized",
    "QuantizedConv2d",
    "QuantizedLinear",
    "build",
    "classes_of",
    "predictions",
]

# Float networks by name, made from the shape of an image and the number of classes.
FLOAT_MODELS: dict[str, Callable[..., nn.Module]] = {
    "resnet10": partial(ResNet, blocks=(1, 1, 1, 1), width=16, stem=7),
    "resnet20": partial(ResNet, blocks=(3, 3, 3), width=16, shortcut=Subsampling),
    "resnet20_small": partial(ResNet, blocks=(3, 3, 3), width=8, stem=7, shortcut=Subsampling),
    "resnet20_projection": partial(ResNet, blocks=(3, 3, 3), width=16),
    "resnet56": partial(ResNet, blocks=(9, 9, 9), width=16, shortcut=Subsampling),
    "resnet56_projection": partial(ResNet, blocks=(9, 9, 9), width=16),
    "vgg_small": VGGSmall,
    "resnet18": partial(ResNet, blocks=(2, 2, 2, 2), width=64, stem=7),
    "resnet34": partial(ResNet, blocks=(3, 4, 6, 3), width=64, stem=7),
    "resnet50": partial(ResNet, blocks=(3, 4, 6, 3), width=64, stem=7, block=Bottleneck),
    "mobilenet_v2": MobileNetV2,
}


def _quantized(make: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    def make_quantized(*, input_shape: tuple[int, int, int], classes: int, precision: Precision) -> nn.Module:
        return quantize(make(input_shape=input_shape, classes=classes), precision)

    return make_quantized


MODELS: dict[str, Callable[..., nn.Module]] = {
    "small_cnn": small_cnn,
    **{name: _quantized(make) for name, make in FLOAT_MODELS.items()},
}


def build(name: str, *, input_shape: tuple[int, int, int], classes: int, precision: Precision) -> nn.Module:
    """The named model with fresh weights from torch's global generator.

    Parameters
    ----------
    name
        One of `MODELS`.
    input_shape
        Channels, height, width of an image.
    classes
        Number of logits.
    precision
        What its layers are made with; the weights do not depend on it.

    Raises
    ------
    ValueError
        If no model has that name.
    RefusedError
        If the precision names a layer that the model does not have.
    """
    if name not in MODELS:
        raise ValueError(f"model must be one of {', '.join(MODELS)}, not {name!r}")
    return MODELS[name](input_shape=input_shape, classes=classes, precision=precision)


def classes_of(state: dict[str, Tensor]) -> int:
    """The number of classes of a model in `MODELS`, from its state: the length of the last layer's bias."""
    return len([value for name, value in state.items() if name.endswith(".bias")][-1])


@torch.no_grad()
def predictions(model: nn.Module, images: Tensor, *, batch: int = 500) -> Tensor:
    """The class of each image, in evaluation mode; the model's mode is restored."""
    training = model.training
    model.eval()
    try:
        return torch.cat([model(part).argmax(1) for part in images.split(batch)])
    finally:
        model.train(training)

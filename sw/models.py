"""Networks that train in float or quantized from one definition, and export layer by layer."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from hdl.formats import Format, Uniform

from .precision import Precision
from .quantizers import AbsMaxWeight, LSQActivation, LSQWeight, Quantizer, RCFActivation, RCFWeight

IMAGE_FORMAT = Uniform(bits=8, signed=False)
IMAGE_SCALE = 1 / 255

# Quantizers of weights and of activations; every other scheme learns a clipping value.
_QUANTIZERS: dict[str, tuple[Callable[[Format], Quantizer], Callable[[Format], Quantizer]]] = {
    "lsq": (LSQWeight, LSQActivation),
}
_CLIPPING = (RCFWeight, RCFActivation)


def outer_weight(precision: Precision) -> Quantizer | None:
    """Quantizer of the first and last layers' weights: 8-bit uniform whatever the scheme, none in float."""
    return AbsMaxWeight(bits=8) if precision.quantized else None


def inner_weight(precision: Precision) -> Quantizer | None:
    """Quantizer of every other layer's weights, none in float."""
    if not precision.quantized:
        return None
    weight, _ = _QUANTIZERS.get(precision.scheme, _CLIPPING)
    return weight(precision.formats()[0])


def activation(precision: Precision) -> nn.Module:
    """What stands between two layers: a quantizer that clips at 0, in float the ReLU."""
    if not precision.quantized:
        return nn.ReLU()
    _, activation = _QUANTIZERS.get(precision.scheme, _CLIPPING)
    return activation(precision.formats()[1])


class QuantizedConv2d(nn.Conv2d):
    """A convolution without bias whose weights pass a quantizer, if it has one."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        padding: int = 1,
        quantizer: Quantizer | None,
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)
        self.quantizer = quantizer

    def forward(self, values: Tensor) -> Tensor:
        weight = self.weight if self.quantizer is None else self.quantizer(self.weight)
        return self._conv_forward(values, weight, None)


class QuantizedLinear(nn.Linear):
    """A linear layer whose weights pass a quantizer, if it has one; the bias stays real."""

    def __init__(self, inputs: int, outputs: int, *, quantizer: Quantizer | None) -> None:
        super().__init__(inputs, outputs)
        self.quantizer = quantizer

    def forward(self, values: Tensor) -> Tensor:
        weight = self.weight if self.quantizer is None else self.quantizer(self.weight)
        return nn.functional.linear(values, weight, self.bias)


class Block(nn.Module):
    """Convolution, batch normalization, and the activation: a quantizer, or a ReLU in float."""

    convolution: QuantizedConv2d
    norm: nn.BatchNorm2d
    activation: nn.Module

    def __init__(self, convolution: QuantizedConv2d, activation: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = nn.BatchNorm2d(convolution.out_channels)
        self.activation = activation

    def forward(self, values: Tensor) -> Tensor:
        return self.activation(self.norm(self.convolution(values)))


class Network(nn.Module):
    """A chain of blocks and a linear classifier over the flattened map (channel, row, column).

    Parameters
    ----------
    input_shape
        Channels, height, width of an image.
    blocks
        In order; the first one takes the image.
    classifier
        From the last block's flattened output to the logits.
    precision
        What the layers were made with.

    Members
    -------
    input_shape, precision, classifier
        The same.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, int, int],
        blocks: list[Block],
        classifier: QuantizedLinear,
        precision: Precision,
    ) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.precision = precision
        self.blocks = nn.ModuleList(blocks)
        self.classifier = classifier

    def chain(self) -> Iterator[Block]:
        """The blocks in order."""
        for block in self.blocks:
            assert isinstance(block, Block)
            yield block

    def forward(self, images: Tensor) -> Tensor:
        """Logits of uint8 images, shape (batch, channels, height, width); a pixel counts 1/255."""
        values = images.to(self.classifier.weight.dtype).mul_(IMAGE_SCALE)
        for block in self.chain():
            values = block(values)
        return self.classifier(values.flatten(1))


def small_cnn(*, input_shape: tuple[int, int, int], classes: int, precision: Precision) -> Network:
    """3×3 convolutions of 16, 32, 32 and 64 channels, the second and fourth with stride 2; a classifier."""
    channels, height, width = input_shape
    blocks: list[Block] = []
    for outputs, stride in ((16, 1), (32, 2), (32, 1), (64, 2)):
        quantizer = inner_weight(precision) if blocks else outer_weight(precision)
        convolution = QuantizedConv2d(channels, outputs, stride=stride, quantizer=quantizer)
        blocks.append(Block(convolution, activation(precision)))
        channels, height, width = outputs, -(-height // stride), -(-width // stride)
    classifier = QuantizedLinear(channels * height * width, classes, quantizer=outer_weight(precision))
    return Network(input_shape=input_shape, blocks=blocks, classifier=classifier, precision=precision)


MODELS: dict[str, Callable[..., Network]] = {"small_cnn": small_cnn}


def build(name: str, *, input_shape: tuple[int, int, int], classes: int, precision: Precision) -> Network:
    """The named model with fresh weights from torch's global generator.

    Raises
    ------
    ValueError
        If no model has that name.
    """
    if name not in MODELS:
        raise ValueError(f"model must be one of {', '.join(MODELS)}, not {name!r}")
    return MODELS[name](input_shape=input_shape, classes=classes, precision=precision)


@torch.no_grad()
def predictions(model: Network, images: Tensor, *, batch: int = 500) -> Tensor:
    """The class of each image, in evaluation mode; the model's mode is restored."""
    training = model.training
    model.eval()
    try:
        return torch.cat([model(part).argmax(1) for part in images.split(batch)])
    finally:
        model.train(training)

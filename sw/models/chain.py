"""Chains of convolutions: the small network whose every layer the accelerator runs."""

from collections.abc import Iterator

from torch import Tensor, nn

from ..layers import QuantizedConv2d, QuantizedLinear
from ..precision import Precision
from ..quantizers.catalog import activation_quantizer, weight_quantizer
from ..schemes import LayerPrecision
from .pixels import IMAGE_SCALE


def activation(precision: LayerPrecision) -> nn.Module:
    """What stands between two layers: a quantizer that clips at 0, in float the ReLU."""
    return activation_quantizer(precision) or nn.ReLU()


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
    """3×3 convolutions of 16, 32, 32 and 64 channels, the second and fourth with stride 2; a classifier.

    Rules of the precision mean the layers ``blocks.0.convolution`` … and ``classifier``.  A quantizer stands
    at the end of a block, so a rule's activation bits count there: those of the next layer's input.
    """
    shapes = ((16, 1), (32, 2), (32, 1), (64, 2))
    names = [*(f"blocks.{index}.convolution" for index in range(len(shapes))), "classifier"]
    precision.check_names(names)
    outer = (names[0], names[-1]) if precision.outer is None else precision.outer
    inputs = {name: precision.layer(name) for name in names}
    weights = {name: precision.layer(name, outer=outer) for name in names}
    channels, height, width = input_shape
    blocks: list[Block] = []
    for (outputs, stride), name, following in zip(shapes, names[:-1], names[1:], strict=True):
        quantizer = weight_quantizer(weights[name])
        convolution = QuantizedConv2d(channels, outputs, stride=stride, quantizer=quantizer)
        blocks.append(Block(convolution, activation(inputs[following])))
        channels, height, width = outputs, -(-height // stride), -(-width // stride)
    classifier = QuantizedLinear(
        channels * height * width, classes, quantizer=weight_quantizer(weights["classifier"])
    )
    return Network(input_shape=input_shape, blocks=blocks, classifier=classifier, precision=precision)

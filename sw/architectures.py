"""Layer shapes of the networks the papers measure, as plain data: no weights, no framework."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A convolution without bias and with batch normalization, or the linear layer at the end, with bias.

    Members
    -------
    name : str
    inputs, outputs : int
        Channels; of the linear layer, features.
    kernel : int
        Height and width of the kernel, 1 for the linear layer.
    size : int
        Height and width of the output map, 1 for the linear layer.
    groups : int
        Groups of channels; as many as inputs in a depthwise convolution.
    shortcut : bool
        Whether it stands beside a residual block instead of in it.
    weights : int
        Number of weights, without the bias.
    macs : int
        Multiply-accumulates for one image.
    """

    name: str
    inputs: int
    outputs: int
    kernel: int = 1
    size: int = 1
    groups: int = 1
    shortcut: bool = False

    @property
    def weights(self) -> int:
        return self.outputs * self.inputs // self.groups * self.kernel**2

    @property
    def macs(self) -> int:
        return self.weights * self.size**2


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network as a list of its layers; every scheme here keeps the first and the last one at 8 bits.

    Members
    -------
    name : str
    layers : tuple of Layer
        In order of execution, a linear layer last.
    first, last : Layer
    inner : tuple of Layer
        All the others, which are quantized.
    normalized : int
        Channels with batch normalization.
    parameters : int
        Weights, the last layer's bias, and gain and offset of every normalized channel.
    macs : int
        Multiply-accumulates for one image.
    """

    name: str
    layers: tuple[Layer, ...]

    @property
    def first(self) -> Layer:
        return self.layers[0]

    @property
    def last(self) -> Layer:
        return self.layers[-1]

    @property
    def inner(self) -> tuple[Layer, ...]:
        return self.layers[1:-1]

    @property
    def normalized(self) -> int:
        return sum(layer.outputs for layer in self.layers[:-1])

    @property
    def parameters(self) -> int:
        return sum(layer.weights for layer in self.layers) + self.last.outputs + 2 * self.normalized

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)


class _Map:
    """Follows the shape of the feature map while layers are listed."""

    def __init__(self, *, channels: int, size: int) -> None:
        self.channels, self.size = channels, size

    def convolution(
        self, name: str, outputs: int, *, kernel: int = 3, stride: int = 1, depthwise: bool = False
    ) -> Layer:
        """A convolution padded so that only the stride makes the map smaller."""
        inputs, self.channels = self.channels, outputs
        self.size = -(-self.size // stride)
        groups = inputs if depthwise else 1
        return Layer(name=name, inputs=inputs, outputs=outputs, kernel=kernel, size=self.size, groups=groups)

    def pool(self) -> None:
        """Halve the map."""
        self.size = -(-self.size // 2)

    def linear(self, outputs: int, *, flatten: bool = False) -> Layer:
        """The last layer, after averaging the map or flattening it."""
        return Layer(name="fc", inputs=self.channels * (self.size**2 if flatten else 1), outputs=outputs)


def _resnet_imagenet(*, blocks: tuple[int, ...], bottleneck: bool) -> Iterator[Layer]:
    """ResNet for 224 × 224 images (He et al., CVPR 2016); the stride is in the 3 × 3 convolution."""
    flow = _Map(channels=3, size=224)
    yield flow.convolution("conv1", 64, kernel=7, stride=2)
    flow.pool()
    for stage, count in enumerate(blocks):
        width = 64 * 2**stage
        for block in range(count):
            name, stride = f"layer{stage + 1}.{block}", 2 if stage and not block else 1
            beside = _Map(channels=flow.channels, size=flow.size)
            if bottleneck:
                yield flow.convolution(f"{name}.conv1", width, kernel=1)
                yield flow.convolution(f"{name}.conv2", width, stride=stride)
                yield flow.convolution(f"{name}.conv3", 4 * width, kernel=1)
            else:
                yield flow.convolution(f"{name}.conv1", width, stride=stride)
                yield flow.convolution(f"{name}.conv2", width)
            if stride > 1 or beside.channels != flow.channels:
                shortcut = beside.convolution(f"{name}.shortcut", flow.channels, kernel=1, stride=stride)
                yield replace(shortcut, shortcut=True)
    yield flow.linear(1000)


def _resnet_cifar(*, blocks: int) -> Iterator[Layer]:
    """ResNet for 32 × 32 images; its shortcuts have no weights (He et al., option A)."""
    flow = _Map(channels=3, size=32)
    yield flow.convolution("conv1", 16)
    for stage in range(3):
        for block in range(blocks):
            name, stride = f"layer{stage + 1}.{block}", 2 if stage and not block else 1
            yield flow.convolution(f"{name}.conv1", 16 * 2**stage, stride=stride)
            yield flow.convolution(f"{name}.conv2", 16 * 2**stage)
    yield flow.linear(10)


# Of each stage: expansion, output channels, blocks, stride of the first one (Sandler et al., CVPR 2018).
_MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _mobilenet_v2() -> Iterator[Layer]:
    flow = _Map(channels=3, size=224)
    yield flow.convolution("conv1", 32, stride=2)
    for stage, (expansion, outputs, count, first_stride) in enumerate(_MOBILENET_V2):
        for block in range(count):
            name, width = f"stage{stage + 1}.{block}", expansion * flow.channels
            if expansion > 1:
                yield flow.convolution(f"{name}.expand", width, kernel=1)
            stride = 1 if block else first_stride
            yield flow.convolution(f"{name}.depthwise", width, stride=stride, depthwise=True)
            yield flow.convolution(f"{name}.project", outputs, kernel=1)
    yield flow.convolution("conv2", 1280, kernel=1)
    yield flow.linear(1000)


def _vgg_small() -> Iterator[Layer]:
    """Six convolutions and one linear layer for 32 × 32 images (Zhang et al., LQ-Nets, ECCV 2018)."""
    flow = _Map(channels=3, size=32)
    widths = (128, 128, 256, 256, 512, 512)
    for index, (width, following) in enumerate(pairwise((*widths, 0))):
        yield flow.convolution(f"conv{index + 1}", width)
        if width != following:
            flow.pool()
    yield flow.linear(10, flatten=True)


ARCHITECTURES = {
    "resnet18": lambda: _resnet_imagenet(blocks=(2, 2, 2, 2), bottleneck=False),
    "resnet34": lambda: _resnet_imagenet(blocks=(3, 4, 6, 3), bottleneck=False),
    "resnet50": lambda: _resnet_imagenet(blocks=(3, 4, 6, 3), bottleneck=True),
    "mobilenet_v2": _mobilenet_v2,
    "resnet20": lambda: _resnet_cifar(blocks=3),
    "resnet56": lambda: _resnet_cifar(blocks=9),
    "vgg_small": _vgg_small,
}


@cache
def architecture(name: str) -> Architecture:
    """The architecture of a name in `ARCHITECTURES`.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"architecture must be one of {', '.join(ARCHITECTURES)}, not {name!r}")
    return Architecture(name=name, layers=tuple(ARCHITECTURES[name]()))

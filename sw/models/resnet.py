"""Residual networks (He et al., CVPR 2016); layers have the names that torchvision and APoT's authors use."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from .pixels import Pixels


def convolution(inputs: int, outputs: int, *, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Without bias, padded so that only the stride makes the map smaller."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)


def initialize(model: nn.Module) -> None:
    """Normal weights of convolutions by fan-out (He et al., ICCV 2015); other layers have torch's own."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class Projection(nn.Sequential):
    """A shortcut with weights: a 1 × 1 convolution and batch normalization (option B)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__(convolution(inputs, outputs, kernel=1, stride=stride), nn.BatchNorm2d(outputs))


class Subsampling(nn.Module):
    """A shortcut without weights: every other pixel, and channels of 0 on either side (option A)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int) -> None:
        super().__init__()
        self.stride, before = stride, (outputs - inputs) // 2
        self.padding = (0, 0, 0, 0, before, outputs - inputs - before)

    def forward(self, values: Tensor) -> Tensor:
        return functional.pad(values[:, :, :: self.stride, :: self.stride], self.padding)


class BasicBlock(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, *, stride: int, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = convolution(inputs, width, kernel=3, stride=stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = convolution(width, width, kernel=3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut

    def forward(self, values: Tensor) -> Tensor:
        inner = self.relu(self.bn1(self.conv1(values)))
        inner = self.bn2(self.conv2(inner))
        return self.relu(inner + (values if self.downsample is None else self.downsample(values)))


class Bottleneck(nn.Module):
    """1 × 1, 3 × 3 and 1 × 1 convolutions beside a shortcut; the stride is in the middle."""

    expansion = 4

    def __init__(self, inputs: int, width: int, *, stride: int, shortcut: nn.Module | None) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = convolution(inputs, width, kernel=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, kernel=3, stride=stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = convolution(width, outputs, kernel=1)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut

    def forward(self, values: Tensor) -> Tensor:
        inner = self.relu(self.bn1(self.conv1(values)))
        inner = self.relu(self.bn2(self.conv2(inner)))
        inner = self.bn3(self.conv3(inner))
        return self.relu(inner + (values if self.downsample is None else self.downsample(values)))


class ResNet(nn.Module):
    """Residual stages after one convolution; the map is halved at the start of each stage but the first.

    Parameters
    ----------
    input_shape
        Channels, height, width of an image.
    classes
        Number of logits.
    blocks
        Blocks in each stage.
    width
        Of the first stage; each has twice the width of the one before.
    block
        What a stage is made of.
    stem
        Kernel of the first convolution.  With 7 it has stride 2, and a max-pool that halves the map again
        follows it, as for large images.
    shortcut
        What stands beside a block that changes the shape.
    """

    def __init__(
        self,
        *,
        input_shape: tuple[int, int, int],
        classes: int,
        blocks: tuple[int, ...],
        width: int,
        block: type[BasicBlock] | type[Bottleneck] = BasicBlock,
        stem: int = 3,
        shortcut: Callable[..., nn.Module] = Projection,
    ) -> None:
        super().__init__()
        self.pixels = Pixels(input_shape[0])
        self.conv1 = convolution(input_shape[0], width, kernel=stem, stride=2 if stem == 7 else 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if stem == 7 else nn.Identity()
        inputs, self.stages = width, []
        for stage, count in enumerate(blocks):
            chain = []
            for index in range(count):
                stride, outputs = 2 if stage and not index else 1, width * 2**stage * block.expansion
                changed = stride > 1 or inputs != outputs
                beside = shortcut(inputs, outputs, stride=stride) if changed else None
                chain.append(block(inputs, width * 2**stage, stride=stride, shortcut=beside))
                inputs = outputs
            self.stages.append(f"layer{stage + 1}")
            self.add_module(self.stages[-1], nn.Sequential(*chain))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images, shape (batch, channels, height, width), 0 … 255."""
        values = self.maxpool(self.relu(self.bn1(self.conv1(self.pixels(images)))))
        for stage in self.stages:
            values = self.get_submodule(stage)(values)
        return self.fc(self.avgpool(values).flatten(1))

"""MobileNetV2 (Sandler et al., CVPR 2018); layers have torchvision's names."""

from torch import Tensor, nn

from .pixels import Pixels
from .resnet import convolution, initialize

# Of each stage: expansion, output channels, blocks, stride of the first one.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM, HEAD = 32, 1280


def unit(inputs: int, outputs: int, *, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution, batch normalization and ReLU6."""
    return nn.Sequential(
        convolution(inputs, outputs, kernel=kernel, stride=stride, groups=groups),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """Widen, convolve each channel by itself, and narrow again without an activation."""

    def __init__(self, inputs: int, outputs: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        width = inputs * expansion
        widen = [unit(inputs, width, kernel=1)] if expansion > 1 else []
        depthwise = unit(width, width, kernel=3, stride=stride, groups=width)
        narrow = convolution(width, outputs, kernel=1)
        self.conv = nn.Sequential(*widen, depthwise, narrow, nn.BatchNorm2d(outputs))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, values: Tensor) -> Tensor:
        inner = self.conv(values)
        return values + inner if self.residual else inner


class MobileNetV2(nn.Module):
    """Inverted residual blocks whose ends may be negative, so that convolutions after them see both signs.

    Parameters
    ----------
    input_shape
        Channels, height, width of an image.
    classes
        Number of logits.
    """

    def __init__(self, *, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        self.pixels = Pixels(input_shape[0])
        layers: list[nn.Module] = [unit(input_shape[0], STEM, kernel=3, stride=2)]
        inputs = STEM
        for expansion, outputs, count, stride in STAGES:
            for index in range(count):
                first = 1 if index else stride
                layers.append(InvertedResidual(inputs, outputs, expansion=expansion, stride=first))
                inputs = outputs
        self.features = nn.Sequential(*layers, unit(inputs, HEAD, kernel=1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(HEAD, classes))
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images, shape (batch, channels, height, width), 0 … 255."""
        return self.classifier(self.avgpool(self.features(self.pixels(images))).flatten(1))

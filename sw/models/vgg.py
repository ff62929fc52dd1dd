"""VGG-small, the plain network of the CIFAR experiments (Zhang et al., LQ-Nets, ECCV 2018)."""

from itertools import pairwise

from torch import Tensor, nn

from .pixels import Pixels
from .resnet import convolution, initialize

WIDTHS = (128, 128, 256, 256, 512, 512)


class VGGSmall(nn.Module):
    """Six 3 × 3 convolutions, a max-pool after every second one, and a linear layer over the map.

    Parameters
    ----------
    input_shape
        Channels, height, width of an image; at least 8 × 8.
    classes
        Number of logits.
    """

    def __init__(self, *, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.pixels = Pixels(channels)
        layers: list[nn.Module] = []
        for outputs, following in pairwise((*WIDTHS, 0)):
            layers += [
                convolution(channels, outputs, kernel=3),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            channels = outputs
            if outputs != following:
                layers.append(nn.MaxPool2d(2))
                height, width = height // 2, width // 2
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(channels * height * width, classes)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images, shape (batch, channels, height, width), 0 … 255."""
        return self.fc(self.features(self.pixels(images)).flatten(1))

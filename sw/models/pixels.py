"""What an image is to a model."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hdl.formats import Uniform

IMAGE_FORMAT = Uniform(bits=8, signed=False)
IMAGE_SCALE = 1 / 255


class Pixels(nn.Module):
    """Images of 0 … 255 as real numbers: ``(pixel / 255 - mean) / deviation`` for each channel.

    A state that says nothing of it, like that of a published checkpoint, leaves it as it is.

    Parameters
    ----------
    channels
        Of an image.
    mean, deviation
        One number a channel, 0 and 1 by default.

    Members
    -------
    scale, offset : Tensor
        A pixel's factor and what is added to the product, shape (channels, 1, 1).
    """

    scale: Tensor
    offset: Tensor

    def __init__(
        self, channels: int, *, mean: Sequence[float] = (0.0,), deviation: Sequence[float] = (1.0,)
    ) -> None:
        super().__init__()
        means, deviations = (
            torch.tensor(values, dtype=torch.float64).broadcast_to(channels) for values in (mean, deviation)
        )
        default = torch.get_default_dtype()
        self.register_buffer("scale", (IMAGE_SCALE / deviations).to(default).reshape(-1, 1, 1))
        self.register_buffer("offset", (-means / deviations).to(default).reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Shape (batch, channels, height, width), uint8 or floating-point."""
        return images * self.scale + self.offset

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name, value in self.named_buffers():
            state_dict.setdefault(prefix + name, value)
        super()._load_from_state_dict(state_dict, prefix, *rest)

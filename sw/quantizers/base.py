"""What every quantizer offers: fake-quantized values to train with, integer levels and a scale to export."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from hdl.formats import Format

from .projection import projection

SMALLEST_SCALE = 1e-12


class Quantizer(nn.Module, ABC):
    """Rounds a tensor to ``scale × levels`` of a format, with gradients of its own.

    The three views of a tensor agree bit for bit::

        quantizer(x) == quantizer.levels(x) * quantizer.scale(x)

    Parameters
    ----------
    fmt
        The format whose levels are used; its `max_level` stands for the clipping value.

    Members
    -------
    format : Format
        The same.
    projection : Projection
        Nearest-level rounding for that format.
    """

    def __init__(self, fmt: Format) -> None:
        super().__init__()
        self.format = fmt
        self.projection = projection(fmt)

    @abstractmethod
    def scale(self, values: Tensor) -> float:
        """Real value of one level for this tensor, positive; arithmetic rounds it to the tensor's type."""

    def prepared(self, values: Tensor) -> Tensor:
        """What is rounded: the values themselves, unless a scheme normalizes them first."""
        return values

    @torch.no_grad()
    def levels(self, values: Tensor) -> Tensor:
        """The integer level of every value (int64)."""
        return self.projection.levels(self.prepared(values), self.scale(values)).long()

    def extra_repr(self) -> str:
        return self.format.name

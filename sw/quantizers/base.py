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

    Within ``torch.autocast`` the call takes values of any width, computes in float32 and returns float32.

    Members
    -------
    format : Format
        The format whose levels are used; a scheme that learns its levels has another one after each step.
    """

    def __call__(self, values: Tensor) -> Tensor:
        # Mixed precision ends here for every scheme: products of levels and scales need all of float32.
        if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
            with torch.autocast(values.device.type, enabled=False):
                return super().__call__(values.float())
        return super().__call__(values)

    @property
    @abstractmethod
    def format(self) -> Format: ...

    @abstractmethod
    def scale(self, values: Tensor) -> float | Tensor:
        """Real value of one level for this tensor, positive; arithmetic rounds it to the tensor's type.

        One number, or one for each output channel, shaped to multiply `values`.
        """

    @abstractmethod
    def levels(self, values: Tensor) -> Tensor:
        """The integer level of every value (int64)."""

    def edges(self) -> Tensor | None:
        """Where rounding steps from each level to the next, in levels; None if halfway between them."""
        return None

    def extra_repr(self) -> str:
        return self.format.name


class NearestQuantizer(Quantizer):
    """A quantizer to the nearest level of a format that is given, by one scale for the tensor.

    Parameters
    ----------
    fmt
        The format; its `max_level` stands for the clipping value.

    Members
    -------
    projection : Projection
        Nearest-level rounding for that format.
    """

    def __init__(self, fmt: Format) -> None:
        super().__init__()
        self._format = fmt
        self.projection = projection(fmt)

    @property
    def format(self) -> Format:
        return self._format

    @abstractmethod
    def scale(self, values: Tensor) -> float: ...

    def prepared(self, values: Tensor) -> Tensor:
        """What is rounded: the values themselves, unless a scheme normalizes them first."""
        return values

    @torch.no_grad()
    def levels(self, values: Tensor) -> Tensor:
        return self.projection.levels(self.prepared(values), self.scale(values)).long()

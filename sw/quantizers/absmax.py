"""Eight-bit (or any) uniform weights scaled by their largest magnitude: first and last layers."""

import torch
from torch import Tensor

from hdl.formats import Uniform

from .base import SMALLEST_SCALE, NearestQuantizer
from .clip import StraightThrough


class AbsMaxWeight(NearestQuantizer):
    """Symmetric uniform weights, ``scale = max|w| / max_level``, straight-through gradient.

    With 8 bits the levels are -127 … 127.  Nothing is learned and nothing is clipped.  The authors'
    code scales by the signed maximum instead, which lets levels pass -127; that grid is not used.

    Parameters
    ----------
    bits
        Width of a weight, 2 to 16.
    """

    def __init__(self, *, bits: int = 8) -> None:
        super().__init__(Uniform(bits=bits))

    def scale(self, values: Tensor) -> float:
        largest = torch.linalg.vector_norm(values.detach(), float("inf")).item()
        return max(largest / self.format.max_level, SMALLEST_SCALE)

    def forward(self, values: Tensor) -> Tensor:
        return StraightThrough.apply(values, self.scale(values), self.projection)

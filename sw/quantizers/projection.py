"""Nearest level of a format, for whole tensors: the forward half of every quantizer."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hdl.formats import Format

# Up to this level a table lists the level of every half-integer; above, a binary search finds it.
_LOOKUP_LIMIT = 1 << 12

# Values that a CPU works on together: so many that starting a pass costs little, and few enough for
# temporaries to come from memory at hand, since larger ones go back to the system after each use.
_CHUNK = 1 << 18


def chunks(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Tensors of one shape, flat and cut alike into pieces that fit in the cache.

    The pieces of a contiguous tensor are views, and may be written to.
    """
    flat = [tensor.reshape(-1) for tensor in tensors]
    if flat[0].numel() <= _CHUNK or not flat[0].is_cpu:
        return iter([tuple(flat)])
    return zip(*(tensor.split(_CHUNK) for tensor in flat), strict=True)


class Projection(nn.Module, ABC):
    """Maps each value to the nearest level of a format; halfway between two, to the lower.

    Values are clipped to the format's largest level, and to its negative (or 0 if unsigned), before;
    what is not a number stays so.
    Exact: the level is the one that ``torch.bucketize(value / scale, boundaries)`` finds in the same
    floating-point type, to which `scale` is rounded.

    Parameters
    ----------
    fmt
        The format.  Its largest magnitude must be exact in the tensors' type.
    """

    def __init__(self, fmt: Format) -> None:
        super().__init__()
        self.low, self.high = (-fmt.max_level if fmt.signed else 0), fmt.max_level

    @abstractmethod
    def levels(self, values: Tensor, scale: float) -> Tensor:
        """The levels nearest to ``values / scale``, in the type of `values`."""

    def forward(self, values: Tensor, scale: float) -> Tensor:
        """The levels times `scale`: the same product, rounded once, for every implementation."""
        return self.levels(values, scale).mul_(scale)


class Rounding(Projection):
    """Levels that are consecutive integers: half a level less, rounded up, so that halves go down.

    Exact for values from a quarter of a level on, from which half a level can be taken without rounding.
    Those below 0 are rounded up to half-levels, then down.
    """

    def levels(self, values: Tensor, scale: float) -> Tensor:
        if self.low >= 0:
            return (values / scale).sub_(0.5).ceil_().clamp_(self.low, self.high)
        halves = (values / (scale / 2)).clamp_(2 * self.low, 2 * self.high).ceil_()
        return halves.mul_(0.5).floor_()


def half_levels(fmt: Format) -> NDArray[np.float32]:
    """The level of every half-integer from the lowest level to the highest, then not a number."""
    low = -fmt.max_level if fmt.signed else 0
    places = np.searchsorted(fmt.boundaries, np.arange(2 * low, 2 * fmt.max_level + 1))
    return np.append(np.array(fmt.grid, dtype=np.float32)[places], np.float32(np.nan))


class Lookup(Projection):
    """Any levels: boundaries are half-integers, so the value doubled and rounded up finds the level."""

    table: Tensor

    def __init__(self, fmt: Format) -> None:
        super().__init__(fmt)
        self.register_buffer("table", torch.from_numpy(half_levels(fmt)), persistent=False)

    def _lookup(self, table: Tensor, values: Tensor, scale: float) -> Tensor:
        result = torch.empty_like(values, memory_format=torch.contiguous_format)
        for part, out in chunks(values, result):
            halves = (part / (scale / 2)).clamp_(2 * self.low, 2 * self.high).ceil_()
            halves.nan_to_num_(2 * self.high + 1)
            # Half the size would do, but torch selects faster by 64-bit indexes.
            index = halves.sub_(2 * self.low).long() if self.low else halves.long()
            torch.index_select(table, 0, index, out=out)
        return result

    def levels(self, values: Tensor, scale: float) -> Tensor:
        return self._lookup(self.table.to(values.dtype), values, scale)

    def forward(self, values: Tensor, scale: float) -> Tensor:
        return self._lookup(self.table.to(values.dtype) * scale, values, scale)


class Search(Projection):
    """Any levels, however large: a binary search among the boundaries."""

    grid: Tensor
    boundaries: Tensor

    def __init__(self, fmt: Format) -> None:
        super().__init__(fmt)
        grid = torch.tensor(fmt.grid, dtype=torch.float64)
        boundaries = torch.tensor(fmt.boundaries, dtype=torch.float64) / 2
        self.register_buffer("grid", grid, persistent=False)
        self.register_buffer("boundaries", boundaries, persistent=False)

    def levels(self, values: Tensor, scale: float) -> Tensor:
        clipped = (values / scale).clamp_(self.low, self.high)
        levels = self.grid.to(values.dtype)[torch.bucketize(clipped, self.boundaries.to(values.dtype))]
        return levels.masked_fill_(clipped.isnan(), float("nan"))


def projection(fmt: Format) -> Projection:
    """The fastest projection for a format's grid."""
    grid = fmt.grid
    if grid == tuple(range(grid[0], grid[-1] + 1)):
        return Rounding(fmt)
    return Lookup(fmt) if fmt.max_level <= _LOOKUP_LIMIT else Search(fmt)

"""Where a rounded curve is one level and one straight line, found for whole tensors at once."""

from functools import lru_cache
from math import isfinite

import numpy as np
import torch
from torch import Tensor

from .companding import Floats, Integers, Rounding

# A piece and the comparison that decides between it and the next one share 32 bits.
_PIECE_SHIFT = 24
_MOST_PIECES = (1 << 31 - _PIECE_SHIFT) - 1


class Pieces:
    """The pieces of 0 … bound between the ends of a curve's K intervals and the edges of its s steps.

    Piece p is where s and K have been passed p times in all.  Values count as in the interval that
    ``value · per_unit`` falls in, and past the edges that they are larger than.

    Parameters
    ----------
    rounded
        The rounded curve.
    bound
        The value that is argument 1 of the curve.

    Members
    -------
    interval, index : array
        For every piece the interval of the curve and the rounded height.
    """

    def __init__(self, rounded: Rounding, *, bound: float) -> None:
        self.steps, self.count = len(rounded.edges), len(rounded.curve.shares)
        self.cells = 2 * self.steps * self.count
        self.bound, self.per_unit = bound, self.cells / bound
        self.edges = rounded.edges * bound
        self.edge_cells = np.minimum(self.edges * self.per_unit, self.cells).astype(int)
        passed = np.minimum(self.edge_cells // (2 * self.steps), self.count - 1)
        numbers = np.arange(self.steps + self.count)
        self.index = np.searchsorted(passed + numbers[: self.steps], numbers)
        self.interval = numbers - self.index


class Search:
    """Finds the pieces of any vector's values by a search among the edges."""

    def __init__(self, pieces: Pieces) -> None:
        self.pieces, self.width = pieces, len(pieces.index)

    def find(self, values: Tensor) -> Tensor:
        """What the other methods know the pieces of a vector's values by; values below 0 are in piece 0."""
        pieces = self.pieces
        cells = (values * pieces.per_unit).nan_to_num_(0.0).clamp_(0, pieces.cells)
        interval = cells.long().div_(2 * pieces.steps, rounding_mode="floor").clamp_(max=pieces.count - 1)
        piece = interval.add_(torch.bucketize(values, torch.from_numpy(pieces.edges).to(values.device)))
        return piece.masked_fill_(values.isnan(), self.width)

    def take(self, numbers: Floats, found: Tensor, *, out: Tensor) -> None:
        """One number for every value, given one for every piece; of what is not a number, that."""
        table = torch.from_numpy(np.append(numbers, numbers.dtype.type(np.nan)))
        torch.index_select(table.to(found.device), 0, found, out=out)

    def sums(self, values: Tensor, found: Tensor) -> Floats:
        """The sum of a vector's values over every piece."""
        return values.new_zeros(self.width + 1).index_add_(0, found, values)[:-1].cpu().numpy()


class PairTable:
    """The same as `Search` for an even number of finite float32 on a CPU, two of which are looked up at once.

    A search among so many breaks would take most of a training step, and so would a sum for every piece.
    Slopes of a curve are at most K, so that the edges of s steps are at least ``1 / (s K)`` apart: of cells
    half as wide none holds two.  Positive floats ascend as their bits do, and within a cell those bits
    differ by less than 2²⁴.  So a table has, for each cell, what to add to the bits for the sum's upper
    eight ones to be the piece, whichever side of the edge the value lies on.
    """

    def __init__(self, pieces: Pieces) -> None:
        self.pieces, self.width = pieces, len(pieces.index)
        self.shift = self.width.bit_length()
        passed, beyond = _cells(pieces.steps, pieces.count)
        before = passed + np.bincount(pieces.edge_cells + 1, minlength=len(passed) + 1)[:-1].cumsum()
        limits = (beyond / np.float32(pieces.per_unit)).view(np.int32)
        limits[pieces.edge_cells] = pieces.edges.view(np.int32)
        offsets = (before + 1 << _PIECE_SHIFT) - limits - 1
        self._offsets = torch.from_numpy(offsets.astype(np.int32))

    @staticmethod
    def fits(pieces: Pieces, values: Tensor) -> bool:
        """Whether a vector's pieces can be found so."""
        cells, edges = pieces.edge_cells, pieces.edges
        return (
            values.is_cpu
            and values.dtype == torch.float32
            and edges.dtype == np.float32
            and values.numel() % 2 == 0
            and len(pieces.index) <= _MOST_PIECES
            # Curves that are all but upright may have edges anywhere.
            and bool(edges[0] * pieces.per_unit > 0.5)
            and bool(edges[-1] < pieces.bound)
            and bool((cells[1:] > cells[:-1]).all())
            # The sum is one pass for all values.
            and isfinite(values.sum().item())
        )

    def find(self, values: Tensor) -> Tensor:
        pieces = self.pieces
        clipped = values.clamp(0.5 / pieces.per_unit, pieces.bound)
        piece = self._offsets.index_select(0, (clipped * pieces.per_unit).int())
        piece.add_(clipped.view(torch.int32)).bitwise_right_shift_(_PIECE_SHIFT)
        pairs = piece.short().view(torch.int32)
        return (pairs >> 16 - self.shift).add_(pairs).bitwise_and_((1 << 2 * self.shift) - 1)

    def take(self, numbers: Floats, found: Tensor, *, out: Tensor) -> None:
        table = np.zeros((1 << self.shift, 1 << self.shift, 2), dtype=np.float32)
        table[:, : self.width, 0] = numbers
        table[: self.width, :, 1] = numbers[:, np.newaxis]
        pairs = torch.from_numpy(table.view(np.complex64).reshape(-1))
        torch.index_select(pairs, 0, found, out=torch.view_as_complex(out.view(-1, 2)))

    def sums(self, values: Tensor, found: Tensor) -> Floats:
        table = torch.zeros(1 << 2 * self.shift, dtype=torch.complex64)
        table.index_add_(0, found, torch.view_as_complex(values.view(-1, 2)))
        pairs = table.numpy().reshape(1 << self.shift, 1 << self.shift)
        return (pairs.real.sum(0) + pairs.imag.sum(1))[: self.width]


@lru_cache(maxsize=64)
def _cells(steps: int, count: int) -> tuple[Integers, Floats]:
    """For every cell, and one more, the ends of intervals before it, and a place past it."""
    cells = np.arange(2 * steps * count + 1)
    return np.minimum(cells // (2 * steps), count - 1), (cells + 1.5).astype(np.float32)


def finder(pieces: Pieces, values: Tensor) -> Search | PairTable:
    """The fastest way to find a tensor's pieces."""
    return PairTable(pieces) if PairTable.fits(pieces, values) else Search(pieces)

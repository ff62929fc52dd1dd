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
        self.edge_cells = (self.edges * self.per_unit).astype(int).clip(0, self.cells)
        passed = np.minimum(self.edge_cells // (2 * self.steps), self.count - 1)
        numbers = np.arange(self.steps + self.count)
        self.index = np.searchsorted(passed + numbers[: self.steps], numbers)
        self.interval = numbers - self.index

    def find(self, values: Tensor) -> Tensor:
        """What the other methods know the pieces of a vector's values by; values below 0 are in piece 0."""
        cells = (values * self.per_unit).nan_to_num_(0.0).clamp_(0, self.cells)
        interval = cells.long().div_(2 * self.steps, rounding_mode="floor").clamp_(max=self.count - 1)
        piece = interval.add_(torch.bucketize(values, torch.from_numpy(self.edges).to(values.device)))
        return piece.masked_fill_(values.isnan(), len(self.index))

    def take(self, numbers: Floats, found: Tensor) -> Tensor:
        """One number for every value, given one for every piece; of what is not a number, that."""
        table = torch.from_numpy(np.append(numbers, numbers.dtype.type(np.nan)))
        return table.to(found.device).index_select(0, found)

    def sums(self, values: Tensor, found: Tensor) -> Floats:
        """The sum of a vector's values over every piece."""
        return values.new_zeros(len(self.index) + 1).index_add_(0, found, values)[:-1].cpu().numpy()


class PairedPieces(Pieces):
    """The same by a table, for an even number of finite float32 on a CPU, of which two are looked up at once.

    A search among so many breaks would take most of a training step, and so would a sum for every piece.
    Slopes of a curve are at most K, so that the edges of s steps are at least ``1 / (s K)`` apart: of cells
    half as wide none holds two.  Positive floats ascend as their bits do, and within a cell those bits
    differ by less than 2²⁴.  So a table has, for each cell, what to add to the bits for the sum's upper
    eight ones to be the piece, whichever side of the edge the value lies on.
    """

    def __init__(self, rounded: Rounding, *, bound: float) -> None:
        super().__init__(rounded, bound=bound)
        self.shift = len(self.index).bit_length()
        cells, passed, beyond = _cells(self.steps, self.count)
        before = np.searchsorted(self.edge_cells, cells) + passed
        limits = (beyond / np.float32(self.per_unit)).view(np.int32)
        limits[self.edge_cells] = self.edges.view(np.int32)
        offsets = (before + 1 << _PIECE_SHIFT) - limits - 1
        self._offsets = torch.from_numpy(offsets.astype(np.int32))

    @staticmethod
    def fit(pieces: Pieces, values: Tensor) -> bool:
        """Whether a vector's pieces can be found so."""
        return (
            values.is_cpu
            and values.dtype == torch.float32
            and pieces.edges.dtype == np.float32
            and values.numel() % 2 == 0
            and len(pieces.index) <= _MOST_PIECES
            # Curves that are all but upright may have edges anywhere.
            and bool(pieces.edges[0] * pieces.per_unit > 0.5)
            and bool(pieces.edges[-1] < pieces.bound)
            and bool((pieces.edge_cells[1:] > pieces.edge_cells[:-1]).all())
            # The sum is one pass for all values.
            and isfinite(values.sum().item())
        )

    def find(self, values: Tensor) -> Tensor:
        clipped = values.clamp(0.5 / self.per_unit, self.bound)
        piece = self._offsets.index_select(0, (clipped * self.per_unit).int())
        piece.add_(clipped.view(torch.int32)).bitwise_right_shift_(_PIECE_SHIFT)
        pairs = piece.short().view(torch.int32)
        return (pairs >> 16 - self.shift).add_(pairs).bitwise_and_((1 << 2 * self.shift) - 1).short()

    def take(self, numbers: Floats, found: Tensor) -> Tensor:
        table = np.zeros((1 << self.shift, 1 << self.shift, 2), dtype=np.float32)
        table[:, : len(numbers), 0] = numbers
        table[: len(numbers), :, 1] = numbers[:, np.newaxis]
        pairs = torch.from_numpy(table.view(np.complex64).reshape(-1)).index_select(0, found.int())
        return torch.view_as_real(pairs).view(-1)

    def sums(self, values: Tensor, found: Tensor) -> Floats:
        table = torch.zeros(1 << 2 * self.shift, dtype=torch.complex64)
        table.index_add_(0, found.int(), torch.view_as_complex(values.view(-1, 2)))
        pairs = table.numpy().reshape(1 << self.shift, 1 << self.shift)
        return (pairs.real.sum(0) + pairs.imag.sum(1))[: len(self.index)]


@lru_cache(maxsize=64)
def _cells(steps: int, count: int) -> tuple[Integers, Integers, Floats]:
    """Cells by number, one more than there are, the ends of intervals before each, and places past them."""
    cells = np.arange(2 * steps * count + 1)
    return cells, np.minimum(cells // (2 * steps), count - 1), (cells + 1.5).astype(np.float32)


def pieces_of(rounded: Rounding, values: Tensor, *, bound: float) -> Pieces:
    """The pieces of a rounded curve, which find a tensor's values the fastest way there is for them."""
    pieces = Pieces(rounded, bound=bound)
    return PairedPieces(rounded, bound=bound) if PairedPieces.fit(pieces, values) else pieces

"""Where a rounded curve is one level and one straight line, found for whole tensors at once."""

from functools import lru_cache
from itertools import pairwise
from math import isfinite

import torch
from torch import Tensor

from .companding import Rounding

# A piece and the comparison that decides between it and the next one share 32 bits.
_PIECE_SHIFT = 24
_MOST_PIECES = (1 << 31 - _PIECE_SHIFT) - 1


@lru_cache(maxsize=64)
def _cells(steps: int, count: int) -> tuple[Tensor, Tensor]:
    """The ends of intervals before each cell, one more than there are, and a place past each cell's end."""
    cells = torch.arange(2 * steps * count + 1)
    return (cells // (2 * steps)).clamp_(max=count - 1), cells + 1.5


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
    interval, index : Tensor
        For every piece the interval of the curve and the rounded height.
    """

    def __init__(self, rounded: Rounding, *, bound: float) -> None:
        self.steps, self.count = len(rounded.edges), len(rounded.curve.shares)
        self.cells, self.edges = 2 * self.steps * self.count, rounded.edges * bound
        self.bound, self.per_unit = bound, self.cells / bound
        self.edge_cells = self._cell(self.edges)
        places = self.edge_cells.div(2 * self.steps, rounding_mode="floor").clamp_(max=self.count - 1)
        numbers = torch.arange(self.steps + self.count, device=places.device)
        self.index = torch.bucketize(numbers, places + numbers[: self.steps])
        self.interval = numbers - self.index

    def _cell(self, values: Tensor) -> Tensor:
        return (values * self.per_unit).clamp_(0, self.cells).long()

    def find(self, values: Tensor) -> Tensor:
        """What the other methods know the pieces of a vector's values by; values below 0 are in piece 0."""
        interval = self._cell(values.nan_to_num(0.0)).div_(2 * self.steps, rounding_mode="floor")
        piece = torch.bucketize(values, self.edges).add_(interval.clamp_(max=self.count - 1))
        return piece.masked_fill_(values.isnan(), len(self.index))

    def take(self, numbers: Tensor, found: Tensor) -> Tensor:
        """One number for every value, given one for every piece; of what is not a number, that."""
        return torch.cat([numbers, numbers.new_tensor([float("nan")])]).index_select(0, found)

    def sums(self, values: Tensor, found: Tensor) -> Tensor:
        """The sum of a vector's values over every piece."""
        return values.new_zeros(len(self.index) + 1).index_add_(0, found, values)[:-1]


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
        passed, beyond = _cells(self.steps, self.count)
        before = torch.bucketize(torch.arange(self.cells + 1), self.edge_cells) + passed
        limits = (beyond / self.per_unit).view(torch.int32)
        limits[self.edge_cells] = self.edges.view(torch.int32)
        self._offsets = ((before + 1 << _PIECE_SHIFT) - limits - 1).int()

    @staticmethod
    def fit(pieces: Pieces, values: Tensor) -> bool:
        """Whether a vector's pieces can be found so."""
        if not (values.is_cpu and values.dtype == pieces.edges.dtype == torch.float32):
            return False
        cells, ends = pieces.edge_cells.tolist(), pieces.edges.tolist()
        return (
            values.numel() % 2 == 0
            and len(pieces.index) <= _MOST_PIECES
            # Curves that are all but upright may have edges anywhere.
            and ends[0] * pieces.per_unit > 0.5
            and ends[-1] < pieces.bound
            and all(low < high for low, high in pairwise(cells))
            # The sum is one pass for all values.
            and isfinite(values.sum().item())
        )

    def find(self, values: Tensor) -> Tensor:
        clipped = values.clamp(0.5 / self.per_unit, self.bound)
        piece = self._offsets.index_select(0, (clipped * self.per_unit).int())
        piece.add_(clipped.view(torch.int32)).bitwise_right_shift_(_PIECE_SHIFT)
        pairs = piece.short().view(torch.int32)
        return (pairs >> 16 - self.shift).add_(pairs).bitwise_and_((1 << 2 * self.shift) - 1).short()

    def take(self, numbers: Tensor, found: Tensor) -> Tensor:
        table = numbers.new_zeros(1 << self.shift, 1 << self.shift, 2)
        table[:, : len(numbers), 0] = numbers
        table[: len(numbers), :, 1] = numbers.unsqueeze(1)
        pairs = torch.view_as_complex(table).view(-1).index_select(0, found.int())
        return torch.view_as_real(pairs).view(-1)

    def sums(self, values: Tensor, found: Tensor) -> Tensor:
        table = torch.zeros(1 << 2 * self.shift, dtype=torch.complex64)
        table.index_add_(0, found.int(), torch.view_as_complex(values.view(-1, 2)))
        pairs = torch.view_as_real(table).view(1 << self.shift, 1 << self.shift, 2)
        return (pairs[..., 0].sum(0) + pairs[..., 1].sum(1))[: len(self.index)]


def pieces_of(rounded: Rounding, values: Tensor, *, bound: float) -> Pieces:
    """The pieces of a rounded curve, which find a tensor's values the fastest way there is for them."""
    pieces = Pieces(rounded, bound=bound)
    return PairedPieces(rounded, bound=bound) if PairedPieces.fit(pieces, values) else pieces

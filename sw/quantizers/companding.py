"""The companding function of LCQ: a learned curve on 0 … 1, its inverse, and its rounding to a table.

Yamamoto, *Learnable Companding Quantization*, CVPR 2021.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hdl.formats import Companded


class Curve(NamedTuple):
    """A rising function from 0 … 1 onto 0 … 1, straight over each of K equal intervals.

    Members
    -------
    shares : Tensor
        ``p``, the rise over each interval.
    starts : Tensor
        β, the cumulative heights: the function's value where each interval starts.
    """

    shares: Tensor
    starts: Tensor

    @property
    def slopes(self) -> Tensor:
        """γ = K p, the slope of each interval."""
        return self.shares * len(self.shares)

    def compress(self, arguments: Tensor) -> Tensor:
        """``f(v) = γ_k (v - d_{k-1}) + β_{k-1}``, for v in 0 … 1."""
        pieces = self.intervals(arguments)
        return self.starts[pieces] + self.shares[pieces] * (arguments * len(self.shares) - pieces)

    def expand(self, heights: Tensor) -> Tensor:
        """``f⁻¹(y) = (y - β_{k-1}) / γ_k + d_{k-1}``, for y in 0 … 1."""
        pieces = self.reaching(heights)
        return ((heights - self.starts[pieces]) / self.shares[pieces] + pieces) / len(self.shares)

    def intervals(self, arguments: Tensor) -> Tensor:
        """The interval that holds each argument, counted from 0."""
        count = len(self.shares)
        return (arguments * count).long().clamp_(0, count - 1)

    def reaching(self, heights: Tensor) -> Tensor:
        """The interval over which the function reaches each height."""
        return torch.bucketize(heights, self.starts[1:], right=True)


class Rounding(NamedTuple):
    """A curve whose heights are rounded to ``k / s``, and arguments, expanded again, to integers.

    Members
    -------
    curve : Curve
        The curve.
    pieces : Tensor
        For each of the s + 1 rounded heights, the interval of the curve that reaches it.
    edges : Tensor
        The s arguments where rounding steps up.
    levels : Tensor
        For each rounded height, its argument times the highest outer level, rounded (eq. 14).
    """

    curve: Curve
    pieces: Tensor
    edges: Tensor
    levels: Tensor


class Pieces:
    """The pieces of the real axis on which a rounded curve is one level and one straight line.

    A search among so many breaks would take most of a training step.  Slopes are at most K, so that the
    edges of s steps are at least ``1 / (s K)`` apart: of cells half as wide none holds two, and a table of
    cells with one comparison finds the piece.

    Parameters
    ----------
    rounded
        The rounded curve.
    signed
        Whether values below 0 mirror those above, or belong to level 0.
    bound
        The value that is argument 1 of the curve.

    Members
    -------
    interval, index, sign : Tensor
        For every piece the interval of the curve, the rounded height, and -1 or 1.
    """

    def __init__(self, rounded: Rounding, *, signed: bool, bound: float) -> None:
        steps, count = len(rounded.edges), len(rounded.curve.shares)
        edges = rounded.edges
        ends = torch.arange(1, count).to(edges) / count
        if signed:
            ends, edges = (torch.cat([-breaks.flip(0), breaks]) for breaks in (ends, edges))
            ends = torch.cat([ends[: count - 1], ends.new_zeros(1), ends[count - 1 :]])
        passed = torch.cat([ends, edges]).sort(stable=True).indices >= len(ends)
        edge_count, end_count = (
            torch.cat([passed.new_zeros(1), each]).cumsum(0) for each in (passed, ~passed)
        )
        above = end_count - count * signed
        self.sign = torch.where(above < 0, -1, 1).to(edges)
        self.interval = torch.where(above < 0, -1 - above, above)
        self.index = (edge_count - steps * signed).abs()
        self._cells = 2 * steps * count
        self._low = -self._cells if signed else 0
        starts = torch.arange(self._low, self._cells + 1).to(edges) / self._cells
        before = torch.bucketize(starts, edges)
        inside = before.diff() > 0
        edge = torch.where(inside, edges[before[:-1].clamp(max=len(edges) - 1)] * bound, float("inf"))
        base = before[:-1] + torch.bucketize(starts[:-1], ends, right=True)
        # One more cell, and piece, of what is not a number.
        self._edge = torch.cat([edge, edge.new_tensor([float("inf")])])
        self._base = torch.cat([base, base.new_tensor([len(self.index)])]).int()
        self._per_unit = self._cells / bound

    def find(self, values: Tensor) -> Tensor:
        """The piece of every value of a vector (int32); what is not a number gets one more than there are."""
        cell = (values * self._per_unit).sub_(self._low).clamp_(0, self._cells - self._low - 1)
        cell = cell.nan_to_num_(self._cells - self._low).int()
        return self._base.index_select(0, cell).add_(values > self._edge.index_select(0, cell))


def curve(theta: Tensor) -> Curve:
    """The curve of parameters θ: ``p = softmax(θ)``, so that θ = 0 is the straight line."""
    shares = theta.softmax(0)
    ends = shares.cumsum(0)
    return Curve(shares, torch.cat([ends.new_zeros(1), ends[:-1]]))


def rounding(bent: Curve, *, steps: int, outer: int) -> Rounding:
    """A curve rounded to ``k / steps`` between compressing and expanding, and to ``k / outer`` after."""
    heights = torch.arange(steps + 1, dtype=bent.starts.dtype, device=bent.starts.device)
    edges = bent.expand((heights[1:] - 0.5) / steps)
    levels = (bent.expand(heights / steps) * outer - 0.5).ceil().clamp(0, outer)
    # Where the last share is near 0, the sum before it rounds to 1 and the quotient above to 0.
    levels[-1] = outer
    return Rounding(bent, bent.reaching(heights / steps), edges, levels)


def companded_format(magnitudes: list[int], *, signed: bool, outer_bits: int) -> Companded:
    """The format of a codebook, given the magnitude of every index, ascending from 0.

    A format's magnitudes differ.  If two indexes share one, which very steep curves and close centroids
    have after the outer rounding, the place that becomes free holds the largest integer that is no
    magnitude; no value is rounded to it.
    """
    found = {0, *magnitudes}
    largest = 2 ** (outer_bits - signed) - 1
    spare = (each for each in range(largest, 0, -1) if each not in found)
    padded = [*found, *(next(spare) for _ in range(len(magnitudes) - len(found)))]
    return Companded(magnitudes=tuple(sorted(padded)), outer_bits=outer_bits, signed=signed)

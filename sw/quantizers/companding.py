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

    def expand(self, heights: Tensor, pieces: Tensor | None = None) -> Tensor:
        """``f⁻¹(y) = (y - β_{k-1}) / γ_k + d_{k-1}``, for y in 0 … 1, whose intervals may be known."""
        pieces = self.reaching(heights) if pieces is None else pieces
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


def curve(theta: Tensor) -> Curve:
    """The curve of parameters θ: ``p = softmax(θ)``, so that θ = 0 is the straight line."""
    shares = theta.softmax(0)
    return Curve(shares, torch.cat([shares.new_zeros(1), shares[:-1].cumsum(0)]))


def rounding(bent: Curve, *, steps: int, outer: int) -> Rounding:
    """A curve rounded to ``k / steps`` between compressing and expanding, and to ``k / outer`` after."""
    # Edges are halfway between heights, and all are expanded at once.
    heights = torch.arange(2 * steps + 1, dtype=bent.starts.dtype, device=bent.starts.device) / 2 / steps
    pieces = bent.reaching(heights)
    arguments = bent.expand(heights, pieces)
    levels = (arguments[::2] * outer).sub_(0.5).ceil_().clamp_(0, outer)
    # Where the last share is near 0, the sum before it rounds to 1 and the quotient above to 0.
    levels[-1] = outer
    return Rounding(bent, pieces[::2], arguments[1::2], levels)


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

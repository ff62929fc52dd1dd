"""The companding function of LCQ: a learned curve on 0 … 1, its inverse, and its rounding to a table.

These are a few numbers a layer, which arrays of numpy hold: torch takes longer to start than they to compute.

Yamamoto, *Learnable Companding Quantization*, CVPR 2021.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hdl.formats import Companded

# No interval is quite flat, so that every height is reached somewhere.
SMALLEST_SHARE = 1e-12

Floats = NDArray[np.floating]
Integers = NDArray[np.integer]


class Curve(NamedTuple):
    """A rising function from 0 … 1 onto 0 … 1, straight over each of K equal intervals.

    Members
    -------
    shares : array
        ``p``, the rise over each interval.
    starts : array
        β, the cumulative heights: the function's value where each interval starts.
    """

    shares: Floats
    starts: Floats

    @property
    def slopes(self) -> Floats:
        """γ = K p, the slope of each interval."""
        return self.shares * len(self.shares)

    def compress(self, arguments: Floats) -> Floats:
        """``f(v) = γ_k (v - d_{k-1}) + β_{k-1}``, for v in 0 … 1."""
        count = len(self.shares)
        pieces = (arguments * count).astype(int).clip(0, count - 1)
        return self.starts[pieces] + self.shares[pieces] * (arguments * count - pieces)

    def expand(self, heights: Floats) -> tuple[Floats, Integers]:
        """``f⁻¹(y) = (y - β_{k-1}) / γ_k + d_{k-1}``, for y in 0 … 1, and the intervals k, counted from 0."""
        pieces = np.searchsorted(self.starts[1:], heights, side="right")
        # Rounding of a start must not lead out of an interval that hardly rises.  Intervals count in the
        # heights' type, or numpy would compute in a wider one.
        within = np.minimum((heights - self.starts[pieces]) / self.shares[pieces], 1)
        return (within + pieces.astype(heights.dtype)) / len(self.shares), pieces


class Rounding(NamedTuple):
    """A curve whose heights are rounded to ``k / s``, and arguments, expanded again, to integers.

    Members
    -------
    curve : Curve
        The curve.
    pieces : array
        For each of the s + 1 rounded heights, the interval of the curve that reaches it.
    edges : array
        The s arguments where rounding steps up.
    levels : array
        For each rounded height, its argument times the highest outer level, rounded (eq. 14).
    """

    curve: Curve
    pieces: Integers
    edges: Floats
    levels: Floats


def curve(theta: Tensor) -> Curve:
    """The curve of parameters θ: ``p = softmax(θ)``, so that θ = 0 is the straight line."""
    shares = theta.detach().softmax(0).clamp_min_(SMALLEST_SHARE).cpu().numpy()
    starts = np.zeros_like(shares)
    np.cumsum(shares[:-1], out=starts[1:])
    return Curve(shares, starts)


def rounding(bent: Curve, *, steps: int, outer: int) -> Rounding:
    """A curve rounded to ``k / steps`` between compressing and expanding, and to ``k / outer`` after."""
    # Edges are halfway between heights, and all are expanded at once.
    heights = np.arange(2 * steps + 1, dtype=bent.starts.dtype) / (2 * steps)
    arguments, pieces = bent.expand(heights)
    levels = np.minimum(np.maximum(np.ceil(arguments[::2] * outer - 0.5), 0), outer)
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

"""Centroids of the weights themselves: Lloyd's algorithm, one iteration a training step (Lloyd, 1982)."""

from functools import lru_cache
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from hdl.formats import Format, Table, check_bool, check_int

from ..expectation import DISTRIBUTIONS
from .base import SMALLEST_SCALE, Quantizer
from .clip import StraightThrough
from .companding import companded_format
from .normalize import normalized
from .projection import Projection, projection

_ROUNDS = 20_000
_SETTLED = 1e-10

# Comparisons of weights with centroids that are held at a time.
_TOGETHER = 1 << 20


@lru_cache(maxsize=32)
def normal_centroids(*, count: int, zero: bool) -> tuple[float, ...]:
    """Magnitudes of least expected squared error for a normal variable, ascending (Max, 1960).

    Parameters
    ----------
    count
        How many, 0 included.
    zero
        Whether the first one is 0; each of the others stands for itself and its negative.
    """
    normal = DISTRIBUTIONS["gauss"]
    # Many centroids lie as the cube root of the density: start there, and let Lloyd's steps settle.
    wide, total = NormalDist(sigma=3**0.5), 2 * count - zero
    places = [(total - count + each + 0.5) / total for each in range(count)]
    centroids = np.array([wide.inv_cdf(place) for place in places])
    for _ in range(_ROUNDS):
        mass, mean = normal.cells(centroids)
        before, centroids = centroids, mean / mass
        if zero:
            centroids[0] = 0
        if np.abs(centroids - before).max() < _SETTLED:
            break
    return tuple(map(float, centroids))


def lloyd_step(magnitudes: Tensor, centroids: Tensor, *, zero: bool) -> Tensor:
    """One iteration of Lloyd's algorithm: the mean of the magnitudes that are nearest to each centroid.

    A centroid that is nearest to none stays where it is.

    Parameters
    ----------
    magnitudes
        Absolute values, any shape.
    centroids
        Ascending.
    zero
        Whether the first centroid is 0 and stays so.
    """
    boundaries = ((centroids[1:] + centroids[:-1]) / 2).unsqueeze(1)
    # Counts and sums of what lies above none, and above every boundary.
    counts, sums = centroids.new_zeros(2, len(centroids) + 1, dtype=torch.float64)
    counts[0] = magnitudes.numel()
    for part in magnitudes.reshape(-1).split(max(_TOGETHER // len(centroids), 1)):
        above = torch.gt(part, boundaries, out=part.new_empty(len(boundaries), len(part)))
        counts[1:-1] += above.sum(1)
        sums[1:-1] += above @ part
        sums[0] += part.sum()
    counts, sums = counts[:-1] - counts[1:], sums[:-1] - sums[1:]
    means = torch.where(counts > 0, (sums / counts.clamp(min=1)).to(centroids.dtype), centroids)
    means[:1] *= not zero
    return means


class LloydWeight(Quantizer):
    """Normalized weights, rounded to the nearest of a few centroids that follow them.

    Every call in training moves the centroids by one iteration of Lloyd's algorithm, starting from those
    that are best for a normal distribution; in evaluation they stay.  They are symmetric about zero, since
    hardware keeps a sign and an index.  The largest stands for the largest level of the outer bits, and
    the others are rounded to the nearest level: the table of a `Companded` format, or of a `Table` if there
    is no centroid at zero.  The gradient passes straight through; centroids are constants to it.

    Parameters
    ----------
    bits
        2 to 8.
    zero
        With a centroid at zero there are ``2^bits - 1``, which a sign and an index can tell apart, and
        every accelerator can pad with zero.  Without it there are all ``2^bits``; the accelerator does not
        take them.
    outer_bits
        Width of a level, its sign included; at least `bits`.
    detach
        Take the weights' mean and deviation as constants in the gradient.

    Members
    -------
    centroids : Tensor
        Their magnitudes, ascending, in standard deviations of the weights; part of the state.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range.
    """

    centroids: Tensor

    def __init__(self, *, bits: int, zero: bool = True, outer_bits: int = 8, detach: bool = False) -> None:
        super().__init__()
        check_int("bits", bits, low=2, high=8)
        check_bool("zero", zero)
        check_int("outer_bits", outer_bits, low=bits, high=16)
        check_bool("detach", detach)
        self.zero, self.outer_bits, self.detach = zero, outer_bits, detach
        self.outer = 2 ** (outer_bits - 1) - 1
        first = normal_centroids(count=2 ** (bits - 1), zero=zero)
        self.register_buffer("centroids", torch.tensor(first))

    @property
    def format(self) -> Format:
        magnitudes = (self.centroids / self.scale() - 0.5).ceil().int().clamp(0, self.outer).tolist()
        if self.zero:
            return companded_format(magnitudes, signed=True, outer_bits=self.outer_bits)
        return Table(table=(*magnitudes, *(-each for each in magnitudes)))

    def scale(self, _values: Tensor | None = None) -> float:
        return max(self.centroids[-1].item() / self.outer, SMALLEST_SCALE)

    @torch.no_grad()
    def levels(self, values: Tensor) -> Tensor:
        prepared = normalized(values, detach=self.detach)
        return self._projection().levels(prepared, self.scale()).long()

    def forward(self, values: Tensor) -> Tensor:
        prepared = normalized(values, detach=self.detach)
        if self.training:
            self.centroids.copy_(lloyd_step(prepared.detach().abs(), self.centroids, zero=self.zero))
        return StraightThrough.apply(prepared, self.scale(), self._projection())

    def _projection(self) -> Projection:
        return projection(self.format).to(self.centroids.device)

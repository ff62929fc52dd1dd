"""Expected squared error of quantizing a symmetric random variable, in closed form (DMBQ, eq. 6).

Everything is symmetric about zero, so only magnitudes occur here: `levels` are the quantizer's magnitudes,
ascending along the last axis, and axes before it are quantizers side by side.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """A random variable x with mean zero and a symmetric density.

    Parameters
    ----------
    about
        What it is.
    power
        E[x²].
    tail
        ``tail(t)`` is the probability of ``|x| > t``, elementwise for t ≥ 0.
    tail_mean
        ``tail_mean(t)`` is E[|x|; |x| > t].
    """

    about: str
    power: float
    tail: Callable[[Array], Array]
    tail_mean: Callable[[Array], Array]

    def cells(self, levels: Array) -> tuple[Array, Array]:
        """For every level, the probability that it is the nearest, and the mean of |x| over that event."""
        edges = midpoints(levels)
        start, stop = np.ones_like(levels[..., :1]), np.zeros_like(levels[..., :1])
        mass = np.concatenate([start, self.tail(edges), stop], axis=-1)
        mean = np.concatenate([start * self.tail_mean(np.zeros(1)), self.tail_mean(edges), stop], axis=-1)
        return mass[..., :-1] - mass[..., 1:], mean[..., :-1] - mean[..., 1:]

    def error(self, levels: Array) -> Array:
        """E[(x - nearest level)²], one axis fewer than `levels`."""
        mass, mean = self.cells(levels)
        return self.power + np.sum(levels * (levels * mass - 2 * mean), axis=-1)


def midpoints(levels: Array) -> Array:
    """Halfway between neighbours: the edges of eq. (3), but for the one at zero."""
    return (levels[..., :-1] + levels[..., 1:]) / 2


DISTRIBUTIONS = {
    "laplace": Distribution(
        about="Laplace variable with E|x| = 1",
        power=2.0,
        tail=lambda t: np.exp(-t),
        tail_mean=lambda t: (1 + t) * np.exp(-t),
    ),
    "gauss": Distribution(
        about="normal variable with E[x²] = 1",
        power=1.0,
        tail=lambda t: _erfc(t / math.sqrt(2)),
        tail_mean=lambda t: math.sqrt(2 / math.pi) * np.exp(-t * t / 2),
    ),
}

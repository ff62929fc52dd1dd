"""How large values become, known without any data."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DEVIATIONS = 10
"""How far from its mean, in deviations, what was normalized is expected."""


@dataclass(frozen=True)
class Bound:
    """A magnitude for each channel that values hardly exceed.

    Sums are bounded by the weights and the largest codes; what was normalized by batch normalization varies
    with deviation |gamma| around beta.  Where values are added, centres add up, and deviations as those of
    independent variables do.

    Members
    -------
    centre : array
        What is certain.
    deviation : array
        By which values vary around that.
    """

    centre: Array
    deviation: Array

    @classmethod
    def certain(cls, magnitude: Array) -> "Bound":
        """A bound that nothing exceeds."""
        return cls(magnitude, np.zeros_like(magnitude))

    @property
    def limit(self) -> Array:
        """The magnitude."""
        return self.centre + DEVIATIONS * self.deviation

    @property
    def largest(self) -> float:
        """That of all channels."""
        return float(self.limit.max())

    def scaled(self, gain: Array | float, offset: Array | float) -> "Bound":
        """Of values times a gain plus an offset."""
        return Bound(self.centre * np.abs(gain) + np.abs(offset), self.deviation * np.abs(gain))

    def plus(self, other: "Bound") -> "Bound":
        """Of sums."""
        return Bound(self.centre + other.centre, np.hypot(self.deviation, other.deviation))

    def or_less(self, other: "Bound") -> "Bound":
        """The lower of two in each channel."""
        lower = other.limit < self.limit
        return Bound(
            np.where(lower, other.centre, self.centre), np.where(lower, other.deviation, self.deviation)
        )

    def cut(self, ceiling: float | None) -> "Bound":
        """Of values that do not exceed a ceiling, if there is one."""
        if ceiling is None:
            return self
        return self.or_less(Bound.certain(np.full_like(self.centre, ceiling)))

    def padded(self, before: int, after: int) -> "Bound":
        """With channels of 0 on either side."""
        return Bound(np.pad(self.centre, (before, after)), np.pad(self.deviation, (before, after)))

"""How large values become, known without any data."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

COMMON, OWN = 3, 7
"""How many deviations what was normalized may be from its mean together with all that it is added to, and how
many more by itself."""


@dataclass(frozen=True)
class Bound:
    """A magnitude for each channel that values hardly exceed.

    Sums are bounded by the weights and the largest codes; what was normalized by batch normalization varies
    with deviation |gamma| around beta, and one alone is expected within 10 deviations.  Along a chain of
    residual sums centres add up.  The blocks' outputs are neither independent nor the same, so that
    `COMMON` deviations add up as they are, and `OWN` as those of independent variables.

    Members
    -------
    centre : array
        What is certain.
    together, apart : array
        Sum of the deviations, and root of the sum of their squares.
    """

    centre: Array
    together: Array
    apart: Array

    @classmethod
    def certain(cls, magnitude: Array) -> "Bound":
        """A bound that nothing exceeds."""
        return cls(magnitude, np.zeros_like(magnitude), np.zeros_like(magnitude))

    @classmethod
    def normal(cls, mean: Array, deviation: Array) -> "Bound":
        """Of what varies around a mean."""
        return cls(np.abs(mean), np.abs(deviation), np.abs(deviation))

    @property
    def limit(self) -> Array:
        """The magnitude."""
        return self.centre + COMMON * self.together + OWN * self.apart

    @property
    def largest(self) -> float:
        """That of all channels."""
        return float(self.limit.max())

    def scaled(self, gain: Array | float, offset: Array | float) -> "Bound":
        """Of values times a gain plus an offset."""
        slope = np.abs(gain)
        return Bound(self.centre * slope + np.abs(offset), self.together * slope, self.apart * slope)

    def plus(self, other: "Bound") -> "Bound":
        """Of sums."""
        together = self.together + other.together
        return Bound(self.centre + other.centre, together, np.hypot(self.apart, other.apart))

    def or_less(self, other: "Bound") -> "Bound":
        """The lower of two in each channel."""
        lower = other.limit < self.limit
        pairs = zip(self._parts, other._parts, strict=True)
        return Bound(*(np.where(lower, theirs, ours) for ours, theirs in pairs))

    def cut(self, ceiling: float | None) -> "Bound":
        """Of values that do not exceed a ceiling, if there is one."""
        if ceiling is None:
            return self
        return self.or_less(Bound.certain(np.full_like(self.centre, ceiling)))

    def padded(self, before: int, after: int) -> "Bound":
        """With channels of 0 on either side."""
        return Bound(*(np.pad(part, (before, after)) for part in self._parts))

    @property
    def _parts(self) -> tuple[Array, Array, Array]:
        return self.centre, self.together, self.apart

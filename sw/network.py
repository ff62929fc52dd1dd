"""The quantized network in exact integers: what training exports, the packer packs and the reference runs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hdl.formats import named

Integers = NDArray[np.int64]

MULTIPLIER_WIDTH = 18
SHIFT_LIMIT = 47


@dataclass(frozen=True, kw_only=True)
class IntegerLayer:
    """One convolution (or linear layer, as a convolution over the whole map) in integers.

    For each output value, with levels, not codes::

        accumulator = Σ weights · input levels                    exact
        y           = (accumulator · multiplier + bias) >> shift  floor

    With an output format, ``code = number of thresholds below y``, where y counts levels with `fraction`
    binary places.  Negative values get code 0, which is the ReLU.  Without one, y itself is the result (a
    logit).

    Parameters
    ----------
    name
        The layer's name in the model it came from.
    weights
        Levels of `weight_format`, shape (out, in, kernel height, kernel width).
    weight_format, input_format
        Names of a signed and an unsigned format.
    output_format
        Name of an unsigned format, or None for plain results.
    stride, padding
        Of the convolution, equal in both directions; padded values are level 0.
    multiplier, bias, shift
        One each per output channel; the multiplier fits in 18 signed bits, the shift is 0 … 47.
    fraction
        Binary places of y, at least 1 with an output format.
    boundaries
        What y is compared with, not descending and one fewer than the output format has levels; None for
        halfway between its levels.

    Members
    -------
    thresholds : tuple of int
        The boundaries, in units of y; none without an output format.
    """

    name: str
    weights: Integers
    weight_format: str
    input_format: str
    output_format: str | None
    stride: int
    padding: int
    multiplier: Integers
    bias: Integers
    shift: Integers
    fraction: int
    boundaries: tuple[int, ...] | None = None

    @property
    def thresholds(self) -> tuple[int, ...]:
        if self.output_format is None or self.boundaries is not None:
            return self.boundaries or ()
        return tuple(half << self.fraction >> 1 for half in named(self.output_format).boundaries)


@dataclass(frozen=True, kw_only=True)
class IntegerNetwork:
    """A chain of integer layers and how its ends meet the world.

    Parameters
    ----------
    input_shape
        Channels, height, width of an input image, whose values are levels of the first layer's
        input format.
    layers
        In order of execution; the last one has no output format.
    logit_scale
        Real value of one unit of the last layer's results.
    """

    input_shape: tuple[int, int, int]
    layers: tuple[IntegerLayer, ...]
    logit_scale: float

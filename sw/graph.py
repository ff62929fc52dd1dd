"""The quantized network as a graph of exact integers: what is exported, packed, and run as reference."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

MULTIPLIER_WIDTH = 18
SHIFT_LIMIT = 47

IMAGE = "image"
"""Name of the tensor of codes that a network starts from."""


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """A tensor of codes: ``code = number of thresholds below y``, y saturated to 18 signed bits.

    Parameters
    ----------
    tensor
        Its name.
    format
        Name of the unsigned format whose ranks the codes are.
    thresholds
        One fewer than the format has levels, not descending, in units of y.
    """

    tensor: str
    format: str
    thresholds: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Node:
    """What every operation does with its exact accumulators, one an output value::

        y = (accumulator · multiplier + bias) >> shift  [+ residual]     the shift is floor

    y is written in the forms that its readers need: as codes, and as values.  *Values* are y saturated to 18
    signed bits; residual sums and pooling read them, and all that are added to one another count the same
    real unit.  The last node writes neither: its y, of at most 32 bits, is the network's result.

    Parameters
    ----------
    name
        The layer's name in the model it came from.
    source
        The tensor it reads: codes for a `Convolution`, values for a `Pooling`.
    multiplier, bias, shift
        One each per output channel; the multiplier fits in 18 signed bits, the bias in 48, the shift is
        0 … 47.
    encodings
        The tensors of codes it writes.
    values
        Name of the tensor of values it writes, or None.
    rectified
        Whether values below 0 are written as 0.
    residual
        Name of a tensor of values of the output's shape, or None.
    """

    name: str
    source: str
    multiplier: Integers
    bias: Integers
    shift: Integers
    encodings: tuple[Encoding, ...] = ()
    values: str | None = None
    rectified: bool = False
    residual: str | None = None

    @property
    def is_result(self) -> bool:
        """Whether y is what the network returns."""
        return not self.encodings and self.values is None


@dataclass(frozen=True, kw_only=True)
class Addend:
    """A further tensor that a convolution's weights are multiplied with; the sum has multipliers of its own.

    Parameters
    ----------
    tensor
        Codes of the shape of the convolution's source.
    multiplier
        One each per output channel, of 18 signed bits.
    """

    tensor: str
    multiplier: Integers


@dataclass(frozen=True, kw_only=True)
class Convolution(Node):
    """``accumulator = Σ weights · levels``: convolution, also depthwise, or linear layer over a whole map.

    A channel's activations may lie in one of several tensors, in the others of which it is 0::

        y = (accumulator · multiplier + Σ accumulator of addend · its multiplier + bias) >> shift

    Parameters
    ----------
    weights
        Levels of `weight_format`, shape (out, in / groups, kernel height, kernel width).
    weight_format
        Name of a signed format.
    stride, padding
        Equal in both directions; padded values are level 0.
    groups
        1, or the number of channels (depthwise).
    addends
        The tensors besides the source.
    """

    weights: Integers
    weight_format: str
    stride: int = 1
    padding: int = 0
    groups: int = 1
    addends: tuple[Addend, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of all tensors of codes that it reads."""
        return (self.source, *(addend.tensor for addend in self.addends))

    @property
    def multipliers(self) -> Integers:
        """Of every source, (output channels, sources)."""
        return np.stack([self.multiplier, *(addend.multiplier for addend in self.addends)], axis=1)


@dataclass(frozen=True, kw_only=True)
class Pooling(Node):
    """``accumulator = max or sum of values`` over a window; what lies in the padding is left out.

    Parameters
    ----------
    kind
        What it takes of a window.
    kernel
        Height and width of the window.
    stride, padding
        Equal in both directions.
    channels_before, channels_after
        How many channels of accumulators 0 the output has before and after those of the input.
    """

    kind: Literal["maximum", "sum"]
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: int = 0
    channels_before: int = 0
    channels_after: int = 0


@dataclass(frozen=True, kw_only=True)
class ImageRounding:
    """How numbers that a model takes become the levels that it rounds them to, which are the image::

        level = number · scale + offset, the nearest integer from lowest to highest, of two the lower

    Parameters
    ----------
    scale, offset
        One each a channel; no scale is 0.
    lowest, highest
        Of the levels.
    """

    scale: tuple[float, ...]
    offset: tuple[float, ...]
    lowest: int
    highest: int


@dataclass(frozen=True, kw_only=True)
class IntegerGraph:
    """A graph of operations and how its ends meet the world.

    Parameters
    ----------
    input_shape
        Channels, height, width of an image, whose values are levels of `input_format`.
    nodes
        In order of execution: a tensor is written before it is read.  The last one is the result.
    logit_scale
        Real value of one unit of the result.
    input_format
        Name of the format of the tensor `IMAGE`, uniform; with a sign if an image's values have both.
    border
        Pixels that the host adds on every side of an image.
    fill
        What they hold, one number a channel; empty for 0.
    rounding
        What makes an image of that which the model takes; None if they are the same.
    """

    input_shape: tuple[int, int, int]
    nodes: tuple[Node, ...]
    logit_scale: float
    input_format: str = "uniform_b8u"
    border: int = 0
    fill: tuple[int, ...] = ()
    rounding: ImageRounding | None = None

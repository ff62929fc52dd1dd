"""What flows through a model while it is followed: drafts of nodes, and values as functions of them."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hdl.formats import Format

from ..graph import ImageRounding, Integers
from ..quantizers import Quantizer
from .bounds import Array, Bound
from .codes import Codes

Shape = tuple[int, int, int]


@dataclass(eq=False, kw_only=True)
class Draft:
    """A node in the making.  It computes *sums*, and writes ``gain · sums + offset + residual``.

    Members
    -------
    name : str
    shape : tuple of int
        Channels, height, width of what it computes.
    order : int
        Nodes run in this order.
    gain, offset : array or None
        For each channel, in real numbers; None until somebody reads what it writes.
    residual : Draft or None
        Its values are added.
    encodings : list of Written
        The codes that it writes.
    values : bool
        Whether it writes values.
    rectified : bool
        Whether these are not below 0.
    ceiling : float or None
        What they do not exceed.
    bound : float
        What they hardly exceed in magnitude.
    counts : bool
        Whether they are counts, rounded up, of which one is one unit.
    expected : array or None
        Mean of ``gain · sums + offset`` in each channel, where batch normalization tells.
    """

    name: str
    shape: Shape
    order: int
    gain: Array | None = None
    offset: Array | None = None
    residual: "Draft | None" = None
    encodings: "list[Written]" = field(default_factory=list)
    values: bool = False
    rectified: bool = False
    ceiling: float | None = None
    bound: float = 0.0
    counts: bool = False
    expected: Array | None = None


@dataclass(eq=False, kw_only=True)
class Written:
    """A tensor of codes that a node writes.

    Members
    -------
    codes : Codes
    draft : Draft
        The node.
    ceiling : float or None
        What the encoded values do not exceed.
    quantizer : str or None
        Name in the model of the quantizer that it stands for, if there is one.
    parts : array of int or None
        See `Grid`, of one of several tensors of a quantizer.
    """

    codes: Codes
    draft: Draft
    ceiling: float | None
    quantizer: str | None
    parts: Integers | None = None


@dataclass(eq=False, kw_only=True)
class ConvolutionDraft(Draft):
    """A convolution; `scales` is the real value of its accumulator's unit and `constant` is added to that.

    Members
    -------
    sources : tuple of Written
        The codes it reads, those of the largest scale first, which is that of the accumulator; none of the
        image.
    weights, scale : array
        Fake-quantized weights (float32) and the real value of a level, or of each channel's.
    bits : array or None
        Of each output channel, if they differ.
    excess : array of int
        What the accumulator has too much for each output channel, since a source's level 0 is not 0.
    bound_of_sums : Bound
        What the sums do not exceed in magnitude.
    image : Value or None
        What it reads if that is the image.
    partials : list of ConvolutionDraft
        Convolutions of other input channels, whose sums are added to this one's.
    """

    sources: tuple[Written, ...]
    weight_format: Format
    weights: NDArray[np.float32]
    scale: NDArray[np.float32]
    bits: Integers | None
    scales: Array
    constant: Array
    excess: Integers
    stride: int
    padding: int
    groups: int
    bound_of_sums: Bound
    image: "Value | None" = None
    partials: "list[ConvolutionDraft]" = field(default_factory=list)


@dataclass(eq=False, kw_only=True)
class PoolingDraft(Draft):
    """Pooling of another node's values."""

    source: Draft
    kind: str
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: int = 0
    channels_before: int = 0
    channels_after: int = 0


@dataclass(frozen=True, kw_only=True)
class Value:
    """``min(max(gain · sums + offset, 0), ceiling)``, where the clamps may be absent.

    Members
    -------
    draft : Draft or None
        Whose sums; None for the image.  If it is fixed (has a gain), what it writes takes their place.
    shape : tuple of int
        Channels, height, width.
    gain, offset : array
        One each a channel.
    bound : Bound
        Before the clamps.
    expected : array or None
        Its mean, where batch normalization tells.
    positive : bool
        Whether what it reads is rectified, so that it is never negative either.
    flat : bool
        Whether it was flattened.
    shared : bool
        Whether others may read it before what is yet to be done to it.
    base : Value or None
        What was rectified, if others read that too.
    quantizer : Quantizer or None
        Rounds it, called `quantizer_name`.
    format : Format or None
        Of an image's levels; None for what is no image.
    rounding : ImageRounding or None
        What makes these of the model's input, if that is rounded.
    """

    draft: Draft | None
    shape: Shape
    gain: Array
    offset: Array
    bound: Bound
    expected: Array | None = None
    rectified: bool = False
    positive: bool = False
    ceiling: float | None = None
    flat: bool = False
    shared: bool = False
    base: "Value | None" = None
    quantizer: Quantizer | None = None
    quantizer_name: str = ""
    format: Format | None = None
    rounding: ImageRounding | None = None

    @property
    def is_linear(self) -> bool:
        """Whether the sums of its draft are still free to be scaled, and by nobody else."""
        fixed = self.draft is not None and self.draft.gain is not None
        return not (fixed or self.shared or self.rectified or self.ceiling is not None or self.quantizer)

    def scaled(self, gain: Array | float, offset: Array | float, *, bound: Bound | None = None) -> "Value":
        """Of a linear value: itself times a gain plus an offset, for each channel."""
        return replace(
            self,
            gain=self.gain * gain,
            offset=self.offset * gain + offset,
            bound=self.bound.scaled(gain, offset) if bound is None else bound,
            expected=None if self.expected is None else self.expected * gain + offset,
            positive=self.positive
            and bool(np.all(np.asarray(gain) >= 0) and np.all(np.asarray(offset) >= 0)),
        )


def fresh(draft: Draft, bound: Bound) -> Value:
    """The sums of a new draft, or what a fixed one writes."""
    channels = draft.shape[0]
    return Value(
        draft=draft, shape=draft.shape, gain=np.ones(channels), offset=np.zeros(channels), bound=bound
    )

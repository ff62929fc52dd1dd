"""Multipliers of a node: their bits, the mean of what they multiply, and those of further sources."""

import numpy as np

from hdl.formats import Basis

from ..compiler.planes import channel_bases
from ..graph import MULTIPLIER_WIDTH, Integers
from .bounds import Array
from .values import ConvolutionDraft, Draft


def mean_sums(draft: Draft, gain: Array, offset: Array) -> Array | None:
    """The mean of the accumulators, where the mean of what they are scaled to is known."""
    if draft.expected is None:
        return None
    return np.divide(draft.expected - offset, gain, out=np.zeros_like(gain), where=gain != 0)


def multiplier_width(draft: Draft) -> int | Integers:
    """Bits of a multiplier; planes of a basis are passes, each with the multiplier times its coordinate."""
    if not isinstance(draft, ConvolutionDraft):
        return MULTIPLIER_WIDTH
    fmt = draft.weight_format
    if isinstance(fmt, Basis):
        return MULTIPLIER_WIDTH - max(fmt.coordinates).bit_length()
    if draft.bits is None:
        return MULTIPLIER_WIDTH
    scale = np.broadcast_to(draft.scale, len(draft.weights)).reshape(-1, 1, 1, 1)
    levels = np.rint(draft.weights / scale).astype(np.int64)
    bases = channel_bases(levels, np.ones((len(levels), 1), dtype=np.int64), weight_format=fmt)
    return np.array([MULTIPLIER_WIDTH - max(each or (0,)).bit_length() for each in bases])


def further_multipliers(draft: ConvolutionDraft, main: Integers) -> dict[str, Integers]:
    """Of all sources but the first, whose gain is the largest: parts of its multipliers."""
    scales = [source.codes.scale for source in draft.sources]
    return {
        f"addend{index}.multiplier": np.rint(main * (scale / scales[0])).astype(np.int64)
        for index, scale in enumerate(scales[1:])
    }

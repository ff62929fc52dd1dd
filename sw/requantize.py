"""From a real gain and offset per channel to the integer multiplier, bias and shift of the hardware."""

from math import copysign, frexp
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hdl.console import RefusedError
from hdl.parameters import BIAS_WIDTH, VALUE_WIDTH

from .graph import MULTIPLIER_WIDTH, SHIFT_LIMIT, Integers

# Bits of the largest level times 2^fraction: y has a sign and a bit for overshoot besides.
FRACTION_BITS = VALUE_WIDTH - 2


class Requantization(NamedTuple):
    """``y = (accumulator · multiplier + bias) >> shift`` for each output channel."""

    multiplier: Integers
    bias: Integers
    shift: Integers


def fraction_of(largest: int, *, name: str) -> int:
    """Binary places of y before an encoder: as many as keep ``largest · 2^fraction < 2^16``.

    Parameters
    ----------
    largest
        The largest level.
    name
        What to call its format in a refusal.

    Raises
    ------
    RefusedError
        If the levels leave no room for even one.
    """
    fraction = FRACTION_BITS - largest.bit_length()
    if fraction < 1:
        raise RefusedError(f"{name}: activation levels must have at most {FRACTION_BITS - 1} bits")
    return fraction


def requantization(
    gain: NDArray[np.float64],
    offset: NDArray[np.float64],
    *,
    name: str,
    width: int | Integers = MULTIPLIER_WIDTH,
    nearest: bool = False,
    excess: Integers | None = None,
    expected: NDArray[np.float64] | None = None,
) -> Requantization:
    """Integers for ``y = ceil(accumulator · gain + offset)``, as exact as the widths allow.

    Rounded up, because an encoder asks ``boundary < y`` of integer boundaries: for those, the ceiling of
    a real y answers as y itself.  The hardware's shift rounds down, so the bias carries ``2^shift - 1``, or
    half of ``2^shift`` if y is to be the nearest integer, as values are.
    Each channel gets the largest shift (at most 47) with which the multiplier fits in its signed bits and
    the bias in 48.

    Parameters
    ----------
    gain, offset
        One each per output channel, in units of y.
    name
        What to call the layer in a refusal.
    width
        Bits of the multiplier, 2 to 18, or of each channel's; fewer leave room for a product with a
        coordinate of a basis.
    nearest
        Round to the nearest integer, halves up, instead of up.
    excess
        What the accumulator has too much, one integer per output channel; the bias takes it off exactly.
    expected
        Mean of the accumulator, without the excess.  The bias makes up for what rounding the multiplier
        does to it, so that only what varies around it is less exact.

    Raises
    ------
    RefusedError
        If a value is not finite or too large for a shift of 0.
    """
    extra = np.zeros(len(gain), dtype=np.int64) if excess is None else excess
    means = np.zeros(len(gain)) if expected is None else expected
    widths = np.broadcast_to(width, len(gain))
    channels = [
        _channel(
            float(g), float(o), int(e), float(m), f"{name}: channel {index}", width=int(w), nearest=nearest
        )
        for index, (g, o, e, m, w) in enumerate(zip(gain, offset, extra, means, widths, strict=True))
    ]
    return Requantization(*(np.array(values, dtype=np.int64) for values in zip(*channels, strict=True)))


def _channel(
    gain: float, offset: float, excess: int, mean: float, where: str, *, width: int, nearest: bool
) -> tuple[int, int, int]:
    if not (np.isfinite(gain) and np.isfinite(offset)):
        raise RefusedError(f"{where}: gain and offset must be finite, not {gain!r}, {offset!r}")
    gain, offset = _limited(gain, offset, mean, width=width)
    # With a larger shift the multiplier cannot fit.
    most = width - 1 - frexp(gain)[1] if gain else SHIFT_LIMIT
    for shift in range(min(most, SHIFT_LIMIT), -1, -1):
        # Exact: a float times a power of two, then Python's integers.
        multiplier = round(gain * 2.0**shift)
        rounding = 2**shift // 2 if nearest else 2**shift - 1
        lost = (gain * 2.0**shift - multiplier) * mean
        bias = round(offset * 2.0**shift + lost) + rounding - excess * multiplier
        if _fits(multiplier, width) and _fits(bias, BIAS_WIDTH):
            return multiplier, bias, shift
    raise RefusedError(
        f"{where}: gain {gain:.6g} and offset {offset:.6g} must fit in {width} and {BIAS_WIDTH} signed bits"
    )


def _limited(gain: float, offset: float, mean: float, *, width: int) -> tuple[float, float]:
    """A gain of the largest multiplier at most.

    One unit of the accumulator takes steeper lines past all boundaries.  They are replaced by one that goes
    through the same point, which is where y is nearest to 0, so that no code changes.  A multiplier of fewer
    bits is not steep enough for that: there it is the mean of the accumulator that keeps its y.
    """
    largest, highest = 2 ** (width - 1) - 1, 2.0**FRACTION_BITS - 1
    if abs(gain) <= largest:
        return gain, offset
    pivot = round(-offset / gain if width == MULTIPLIER_WIDTH else mean)
    through = max(-highest, min(offset + gain * pivot, highest))
    slope = copysign(largest, gain)
    return slope, through - slope * pivot


def _fits(value: int, width: int) -> bool:
    return abs(value) < 2 ** (width - 1)

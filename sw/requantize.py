"""From a real gain and offset per channel to the integer multiplier, bias and shift of the hardware."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hdl.console import RefusedError
from hdl.formats import Format
from hdl.parameters import BIAS_WIDTH, VALUE_WIDTH

from .graph import MULTIPLIER_WIDTH, SHIFT_LIMIT, Integers

# Bits of the largest level times 2^fraction: y has a sign and a bit for overshoot besides.
FRACTION_BITS = VALUE_WIDTH - 2


class Requantization(NamedTuple):
    """``y = (accumulator · multiplier + bias) >> shift`` for each output channel."""

    multiplier: Integers
    bias: Integers
    shift: Integers


def fraction_of(fmt: Format) -> int:
    """Binary places of y before this format's encoder: as many as keep ``max_level · 2^fraction < 2^16``.

    Raises
    ------
    RefusedError
        If the format's levels leave no room for even one.
    """
    fraction = FRACTION_BITS - fmt.max_level.bit_length()
    if fraction < 1:
        raise RefusedError(f"{fmt.name}: activation levels must have at most {FRACTION_BITS - 1} bits")
    return fraction


def requantization(gain: NDArray[np.float64], offset: NDArray[np.float64], *, name: str) -> Requantization:
    """Integers for ``y = ceil(accumulator · gain + offset)``, as exact as the widths allow.

    Rounded up, because an encoder asks ``boundary < y`` of integer boundaries: for those, the ceiling of
    a real y answers as y itself.  The hardware's shift rounds down, so the bias carries ``2^shift - 1``.
    Each channel gets the largest shift (at most 47) with which the multiplier fits in 18 signed bits and
    the bias in 48.

    Parameters
    ----------
    gain, offset
        One each per output channel, in units of y.
    name
        What to call the layer in a refusal.

    Raises
    ------
    RefusedError
        If a value is not finite or too large for a shift of 0.
    """
    channels = [
        _channel(float(g), float(o), name, index)
        for index, (g, o) in enumerate(zip(gain, offset, strict=True))
    ]
    return Requantization(*(np.array(values, dtype=np.int64) for values in zip(*channels, strict=True)))


def _channel(gain: float, offset: float, name: str, index: int) -> tuple[int, int, int]:
    if not (np.isfinite(gain) and np.isfinite(offset)):
        raise RefusedError(
            f"{name}: gain and offset of channel {index} must be finite, not {gain!r}, {offset!r}"
        )
    for shift in range(SHIFT_LIMIT, -1, -1):
        # Exact: a float times a power of two, then Python's integers.
        multiplier = round(gain * 2.0**shift)
        bias = round(offset * 2.0**shift) + 2**shift - 1
        if _fits(multiplier, MULTIPLIER_WIDTH) and _fits(bias, BIAS_WIDTH):
            return multiplier, bias, shift
    raise RefusedError(
        f"{name}: gain {gain:.6g} and offset {offset:.6g} of channel {index} must fit in "
        f"{MULTIPLIER_WIDTH} and {BIAS_WIDTH} signed bits"
    )


def _fits(value: int, width: int) -> bool:
    return abs(value) < 2 ** (width - 1)

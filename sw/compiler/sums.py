"""How large the sums of a command get: from its weights as they are, for all activation codes there are."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdl.console import RefusedError
from hdl.formats import signed_width
from hdl.layouts import LayerOpcode
from hdl.parameters import RESULT_WIDTH, AcceleratorParameters

from ..graph import Integers
from .commands import Command, Part
from .digits import Digits
from .limits import LARGEST_VALUE, fit
from .weights import padded

Exact = NDArray[Any]
"""Python's integers: what is too large for the hardware may be too large for 64 bits as well."""

Ends = tuple[Exact, Exact]
"""The least and the greatest that each row can come to."""


@dataclass(frozen=True, kw_only=True)
class SumBits:
    """Bits, a sign included, that a command's sums need.

    Members
    -------
    passes : tuple of int
        Of the accumulators at the end of each pass; none if the command pools.
    scaled : int
        Of the sum over all passes, scaled and biased.
    result : int
        Of what the shift leaves, with a residual if there is one.
    """

    passes: tuple[int, ...]
    scaled: int
    result: int

    @property
    def widest(self) -> int:
        """Of the accumulators; 0 if the command pools."""
        return max(self.passes, default=0)


def check_sums(name: str, command: Command, parameters: AcceleratorParameters) -> SumBits:
    """The bits of a command's sums, all of which fit.

    Raises
    ------
    RefusedError
        If one does not, and the message says by how much; or if a weight has no digits.
    """
    try:
        needed = sum_bits(command, parameters)
    except ValueError as error:
        raise RefusedError(f"layer {name!r}: {error}") from error
    if needed.passes:
        number = 1 + needed.passes.index(needed.widest)
        fit(name, f"sum of pass {number}", needed.widest, parameters.accumulator_width, "bits")
    fit(name, "scaled sum", needed.scaled, parameters.sum_width, "bits")
    if command.fields.get("to_results"):
        fit(name, "result", needed.result, RESULT_WIDTH, "bits")
    return needed


def sum_bits(command: Command, parameters: AcceleratorParameters) -> SumBits:
    """Bits of a command's sums.

    The sum over all passes is judged as the sum of whole weights.  What has been added after some of the
    passes may be larger, as digits do that cancel one another, and wraps around; the last one brings it back.

    Raises
    ------
    ValueError
        If a weight has no digits.
    """
    multiplier, bias, shift = (each.astype(object) for each in command.constants)
    passes: tuple[int, ...] = ()
    if command.parts:
        passes, ends = _convolved(command, parameters)
    else:
        window = command.fields["kernel_height"] * command.fields["kernel_width"]
        count = window if command.fields["opcode"] == LayerOpcode.SUM else 1
        pooled = np.full_like(bias, -LARGEST_VALUE * count), np.full_like(bias, (LARGEST_VALUE - 1) * count)
        ends = multiples(pooled, multiplier[:, 0])
    low, high = (each + bias for each in ends)
    residual = LARGEST_VALUE if command.fields.get("add_residual") else 0
    return SumBits(
        passes=passes,
        scaled=bits((low, high)),
        result=bits(((low >> shift) - residual, (high >> shift) + residual)),
    )


def accumulated(below: Integers, above: Integers, *, largest: int, parameters: AcceleratorParameters) -> Ends:
    """Ends of each row's accumulator in a pass whose activations are 0 … `largest`.

    On the way there the accumulator holds nothing that lies beyond: it holds the sum of activations of which
    more are 0.

    Parameters
    ----------
    below, above
        Sum of each row's weights below 0, and of those above.
    """
    fold = parameters.fold(-1)
    low, high = below.astype(object), above.astype(object)
    return low * (largest - fold), high * largest - low * fold


def multiples(ends: Ends, factor: Exact) -> Ends:
    """Ends of each row's sum times its factor, which may be negative."""
    low, high = (each * factor for each in ends)
    return np.minimum(low, high), np.maximum(low, high)


def bits(ends: Ends) -> int:
    """Bits, a sign included, that every row fits in."""
    low, high = ends
    return signed_width(min(low, default=0), max(high, default=0))


def _convolved(command: Command, parameters: AcceleratorParameters) -> tuple[tuple[int, ...], Ends]:
    """Bits of each pass, and the ends of the whole sums, multiplied.

    A row that a pass does not count, because its multiplier is 0, may hold anything.
    """
    assert command.digits is not None
    places, multiplier = command.digits.places, command.constants.multiplier
    turns = list(zip(command.passes, command.tables, strict=True))
    low = high = np.zeros(len(multiplier), dtype=object)
    passes, start = list[int](), 0
    for part in command.parts:
        end = start + part.copies * len(places)
        weighting = multiplier[:, start : start + len(places)] << np.array(places)
        below, above = _level_sums(part, command.digits, weighting, parameters)
        reach = 0
        for index in range(start, end):
            turn, table = turns[index]
            digit = (index - start) % len(places)
            ends = accumulated(below[:, digit], above[:, digit], largest=max(table), parameters=parameters)
            counts = multiplier[:, index] != 0
            passes.append(bits((ends[0][counts], ends[1][counts])))
            if digit == 0:
                reach += max(table) << turn["shift"] - places[0]
        low, high = low + below[:, -1].astype(object) * reach, high + above[:, -1].astype(object) * reach
        start = end
    return tuple(passes), (low, high)


def _level_sums(
    part: Part, split: Digits, weighting: Integers, parameters: AcceleratorParameters
) -> tuple[Integers, Integers]:
    """Each channel's sum of levels below 0, and of those above: of each digit, and of multiplied weights.

    Parameters
    ----------
    weighting
        By what a digit is multiplied in the latter, (channels, digits).
    """
    digits = split.digits
    levels = np.array([digits[value] for value in sorted(digits)])
    index = padded(part.weights, digits=split, parameters=parameters)
    below, above = [], []
    # Rows that pad the last tile have no weighting, and are left out.
    for row, each in zip(index.reshape(len(index), -1), weighting, strict=False):
        counts = np.bincount(row, minlength=len(levels))
        used = np.flatnonzero(counts)
        found = np.column_stack([levels[used], levels[used] @ each])
        below.append(counts[used] @ np.minimum(found, 0))
        above.append(counts[used] @ np.maximum(found, 0))
    return np.stack(below), np.stack(above)

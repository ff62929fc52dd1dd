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
from .commands import Command
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
    if command.weights is None:
        window = command.fields["kernel_height"] * command.fields["kernel_width"]
        count = window if command.fields["opcode"] == LayerOpcode.SUM else 1
        ends = (np.full_like(bias, -LARGEST_VALUE * count), np.full_like(bias, (LARGEST_VALUE - 1) * count))
    else:
        passes, ends = _convolved(command, parameters)
    low, high = (each + bias for each in multiples(ends, multiplier))
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
    """Bits of each pass, and the ends of the whole sums, not yet multiplied.

    A row that a pass does not count, because its multiplier or its factor is 0, may hold anything.
    """
    assert command.digits is not None
    places = command.digits.places
    factors = command.factors
    if factors is None:
        factors = np.ones((len(command.constants.multiplier), len(places)), dtype=np.int64)
    below, above = _level_sums(command, factors << np.array(places), parameters)
    passes, reach = [], 0
    for index, (turn, table) in enumerate(zip(command.passes, command.tables, strict=True)):
        digit = index % len(places)
        ends = accumulated(below[:, digit], above[:, digit], largest=max(table), parameters=parameters)
        counts = (factors[:, digit] != 0) & (command.constants.multiplier != 0)
        passes.append(bits((ends[0][counts], ends[1][counts])))
        if digit == 0:
            reach += max(table) << turn["shift"] - places[0]
    return tuple(passes), (below[:, -1].astype(object) * reach, above[:, -1].astype(object) * reach)


def _level_sums(
    command: Command, weighting: Integers, parameters: AcceleratorParameters
) -> tuple[Integers, Integers]:
    """Each channel's sum of levels below 0, and of those above: of each digit, and of the whole weights.

    Parameters
    ----------
    weighting
        What a digit counts in the whole weight, (channels, digits).
    """
    assert command.weights is not None
    assert command.digits is not None
    digits = command.digits.digits
    levels = np.array([digits[value] for value in sorted(digits)])
    index = padded(command.weights, digits=command.digits, parameters=parameters)
    below, above = [], []
    # Rows that pad the last tile have no weighting, and are left out.
    for row, each in zip(index.reshape(len(index), -1), weighting, strict=False):
        counts = np.bincount(row, minlength=len(levels))
        used = np.flatnonzero(counts)
        found = np.column_stack([levels[used], levels[used] @ each])
        below.append(counts[used] @ np.minimum(found, 0))
        above.append(counts[used] @ np.maximum(found, 0))
    return np.stack(below), np.stack(above)

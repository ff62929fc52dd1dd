"""Requantization as the hardware does it, on tensors: scaled sums become codes, values and results."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdl.console import RefusedError
from hdl.parameters import RESULT_WIDTH, VALUE_WIDTH, AcceleratorParameters

from ..compiler.sums import Ends, accumulated, bits
from .memories import Constants
from .program import Fields, Instruction

EXACT_INT64 = 1 << 63
"""Sums below this do not wrap."""


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """What scales the sums of every pass, for the rows of a block of tiles.

    Members
    -------
    multiplier : int64 tensor (passes, rows)
        With the place of the pass's digit.
    bias : int64 tensor (rows,)
        Of all passes.
    shift : int64 tensor (rows,)
    """

    multiplier: Tensor
    bias: Tensor
    shift: Tensor


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What a pass sums, for the rows of a block of tiles.

    Members
    -------
    weights : int64 array (rows, numbers)
        What it multiplies the numbers it reads by.
    least, largest : int
        Of these numbers.
    reads : tuple
        Where from; passes in which that is equal read equal numbers.
    folds : int64 array (rows,)
        What the array adds too much.
    """

    weights: NDArray[np.int64]
    least: int
    largest: int
    reads: tuple[int, ...]
    folds: NDArray[np.int64]


def scaling(
    instruction: Instruction,
    tiles: range,
    constants: Constants,
    parameters: AcceleratorParameters,
    *,
    turns: list[Turn],
) -> Scaling:
    """The constants of a block of tiles, for the sums of so many passes.

    Raises
    ------
    RefusedError
        If a sum could need more bits than the accelerator adds with.
    """
    p, passes = parameters, len(instruction.passes)
    tile = np.arange(tiles.start, tiles.stop)[:, None, None]
    turn, group = np.arange(passes)[:, None], np.arange(p.groups)
    addresses = instruction.fields["channels"] + (tile * passes + turn) * p.groups + group
    words = constants.channels(addresses, command=instruction.index)
    by_pass = {name: each.transpose(1, 0, 2, 3).reshape(passes, -1) for name, each in words.items()}
    # What is pooled has no place.
    places = np.array([[1 << current["shift"] * (not instruction.pools)] for current in instruction.passes])
    multiplier = by_pass["multiplier"] * places
    if not instruction.pools:
        _check_accumulators(instruction, multiplier, turns, p)
    # In Python's integers, which never wrap.
    bias = sum(by_pass["bias"] + multiplier.astype(object) * np.stack([each.folds for each in turns]))
    low, high = _reach(instruction, multiplier, turns)
    limit, needed = min(p.sum_width, 64), bits((low + bias, high + bias))
    if needed > limit:
        raise RefusedError(f"command {instruction.index} must add at most {limit} bits, not {needed}")
    return Scaling(
        multiplier=torch.from_numpy(multiplier),
        bias=torch.from_numpy(bias.astype(np.int64)),
        shift=torch.from_numpy(np.ascontiguousarray(by_pass["shift"][-1])),
    )


def _check_accumulators(
    instruction: Instruction,
    multiplier: NDArray[np.int64],
    turns: list[Turn],
    parameters: AcceleratorParameters,
) -> None:
    """Refuse passes after which an accumulator that counts could have left its range."""
    for number, (factors, turn) in enumerate(zip(multiplier, turns, strict=True), start=1):
        counted = turn.weights[factors != 0]
        ends = accumulated(*_halves(counted), largest=turn.largest, parameters=parameters)
        if bits(ends) > parameters.accumulator_width:
            raise RefusedError(
                f"command {instruction.index} must have sums of at most {parameters.accumulator_width} bits, "
                f"not {bits(ends)} in pass {number}"
            )


def _reach(instruction: Instruction, multiplier: NDArray[np.int64], turns: list[Turn]) -> Ends:
    """How far the passes' multiplied sums together get in each row; equal reads are not counted apart."""
    sizes = [abs(turn.weights).sum(axis=1).astype(object) for turn in turns]
    if sum(abs(multiplier).astype(object) * np.stack(sizes)).max() >= EXACT_INT64:
        raise RefusedError(
            f"command {instruction.index} must have weights times multipliers whose sums are below 2^63"
        )
    whole: dict[tuple[int, ...], NDArray[np.int64]] = {}
    for factors, turn in zip(multiplier, turns, strict=True):
        each = turn.weights * factors[:, None]
        whole[turn.reads] = whole[turn.reads] + each if turn.reads in whole else each
    numbers = {turn.reads: (turn.least, turn.largest) for turn in turns}
    low, high = (np.zeros(multiplier.shape[1], dtype=object) for _ in range(2))
    for reads, each in whole.items():
        below, above = (half.astype(object) for half in _halves(each))
        least, largest = numbers[reads]
        low, high = low + below * largest + above * least, high + above * largest + below * least
    return low, high


def _halves(weights: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each row's sum of what is below 0, and of what is above."""
    return np.minimum(weights, 0).sum(axis=1), np.maximum(weights, 0).sum(axis=1)


def saturated(y: Tensor, *, width: int) -> Tensor:
    """Clipped to so many signed bits."""
    return y.clamp(-(1 << (width - 1)), (1 << (width - 1)) - 1)


def as_results(y: Tensor) -> Tensor:
    return saturated(y, width=RESULT_WIDTH)


def as_values(y: Tensor, *, rectify: bool) -> Tensor:
    values = saturated(y, width=VALUE_WIDTH).to(torch.int32)
    return values.clamp(min=0) if rectify else values


def as_codes(y: Tensor, fields: Fields, boundaries: NDArray[np.int64], *, code_width: int) -> Tensor:
    """Codes of y: found in the encoding's tree of boundaries, or a digit of the number itself."""
    values = saturated(y, width=VALUE_WIDTH).to(torch.int32)
    if fields["linear"]:
        kept = values.clamp(0, (1 << min(fields["linear_bits"], VALUE_WIDTH)) - 1)
        return (kept >> min(fields["linear_place"], VALUE_WIDTH) & (1 << code_width) - 1).to(torch.uint8)
    tree = torch.from_numpy(boundaries[fields["encoding"]].astype(np.int32))
    node = torch.ones_like(values)
    for _ in range(code_width):
        node = 2 * node + (tree[node] < values)
    return (node - (1 << code_width)).to(torch.uint8)

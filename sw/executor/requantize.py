"""Requantization as the hardware does it, on tensors: scaled sums become codes, values and results."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdl.console import RefusedError
from hdl.parameters import RESULT_WIDTH, VALUE_WIDTH, AcceleratorParameters

from .memories import Constants
from .program import Fields, Instruction


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


def scaling(
    instruction: Instruction,
    tiles: range,
    constants: Constants,
    parameters: AcceleratorParameters,
    *,
    reach: NDArray[np.int64],
    folds: NDArray[np.int64],
) -> Scaling:
    """The constants of a block of tiles.

    Parameters
    ----------
    reach
        How far from 0 the sum of each pass and row gets, (passes, rows).
    folds
        What the array adds too much to it.

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
    # In Python's integers, which never wrap.
    wide = multiplier.astype(object)
    bias = (by_pass["bias"] + wide * folds).sum(axis=0)
    most = int(((abs(wide) * reach).sum(axis=0) + abs(bias)).max())
    bits = min(p.sum_width, 64)
    if most.bit_length() + 1 > bits:
        raise RefusedError(
            f"command {instruction.index} must add at most {bits} bits, not {most.bit_length() + 1}"
        )
    return Scaling(
        multiplier=torch.from_numpy(multiplier),
        bias=torch.from_numpy(bias.astype(np.int64)),
        shift=torch.from_numpy(np.ascontiguousarray(by_pass["shift"][-1])),
    )


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

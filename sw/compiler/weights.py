"""Weights and channel parameters in the order in which the array consumes them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hdl.console import RefusedError
from hdl.layouts import CHANNEL, STREAM_WIDTH
from hdl.parameters import BIAS_WIDTH, AcceleratorParameters

from ..bits import Words, code_words, slice_words, struct_bits
from ..graph import Integers
from ..requantize import Requantization
from .commands import Part
from .digits import Digits

_TABLE_SIZE = 1 << 16


def weight_words(
    parts: Sequence[Part],
    *,
    digits: Digits,
    parameters: AcceleratorParameters,
    codebook: tuple[int, ...] | None = None,
) -> tuple[Words, list[Integers]]:
    """Words of a layer, and what the rows add too much in each pass.

    Parameters
    ----------
    parts
        What is read of each tensor.
    digits
        How each level splits; one pass per digit.
    codebook
        Levels of which words hold indices; None where they hold codes.

    Returns
    -------
    words
        One row of 32-bit slices per word, in the order tile, pass, kernel row, kernel column, word.
    folds
        For each pass an array (tiles, rows), see `AcceleratorParameters.fold`.

    Raises
    ------
    ValueError
        If a weight has no digits.
    """
    p = parameters
    code_of = p.format.codes if codebook is None else {level: at for at, level in enumerate(codebook)}
    fold_of = {level: p.fold(level) for level in p.format.grid}
    narrowest = np.min_scalar_type(2**p.weight_width - 1)
    by_digit = [
        (
            np.array([code_of[level] for level in levels], dtype=narrowest),
            np.array([fold_of[level] for level in levels], dtype=np.int64),
        )
        for levels in zip(*(digits.digits[value] for value in sorted(digits.digits)), strict=True)
    ]
    passes, folds = [], []
    for part in parts:
        index = padded(part.weights, digits=digits, parameters=p)
        split = index.reshape(-1, p.rows, index.shape[1] // p.lanes, p.lanes, *index.shape[2:])
        ordered = np.ascontiguousarray(split.transpose(0, 4, 5, 2, 1, 3))
        found = [codes[ordered] for codes, _ in by_digit]
        stacked = np.stack(found * part.copies, axis=1)
        passes.append(stacked.reshape(len(stacked), -1, p.rows * p.lanes))
        rows = zip(by_digit, found, strict=True)
        folds += [_row_sums(excess, codes, ordered) for (_, excess), codes in rows] * part.copies
    words = np.concatenate(passes, axis=1).reshape(-1, p.rows * p.lanes)
    return code_words(words, width=p.weight_width), folds


def padded(weights: Integers, *, digits: Digits, parameters: AcceleratorParameters) -> NDArray[np.int32]:
    """Where in the ascending levels of `digits` each weight is, of whole tiles and words.

    What pads them is 0 or, where no weight can be, the first level.

    Raises
    ------
    ValueError
        If a weight has no digits.
    """
    p = parameters
    outputs, inputs, height, width = weights.shape
    rows, lanes = -(-outputs // p.rows) * p.rows, -(-inputs // p.lanes) * p.lanes
    values = np.array(sorted(digits.digits))
    index = np.full((rows, lanes, height, width), np.searchsorted(values, 0), np.int32)
    index[:outputs, :inputs] = _places_in(values, weights)
    return index


def _places_in(values: Integers, weights: Integers) -> NDArray[np.int32]:
    """Where every weight is in the ascending `values`; by a table if that is small, since it is fast."""
    low, high = int(values[0]), int(values[-1])
    within = low <= weights.min() and weights.max() <= high
    if within and high - low < _TABLE_SIZE:
        table = np.full(high - low + 1, -1, dtype=np.int32)
        table[values - low] = np.arange(len(values))
        places = table.take(weights - low)
        known = places >= 0
    else:
        places = np.searchsorted(values, weights).clip(max=len(values) - 1).astype(np.int32)
        known = values[places] == weights
    if not known.all():
        raise ValueError(f"weights must be levels that the array's digits make, not {weights[~known][0]}")
    return places


def _row_sums(
    excess: NDArray[np.int64], codes: NDArray[np.unsignedinteger], ordered: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Sum over all but tiles and rows; formats that do not fold need no look-up."""
    if not excess.any():
        return np.zeros((codes.shape[0], codes.shape[4]), dtype=np.int64)
    return excess[ordered].sum(axis=(1, 2, 3, 5))


def channel_words(
    constants: Requantization,
    *,
    folds: list[Integers],
    places: list[int],
    name: str,
    parameters: AcceleratorParameters,
) -> Words:
    """Requantization words of a layer, in the order tile, pass, group.

    Every pass takes off what its rows added too much; the first one adds the layer's bias.

    Parameters
    ----------
    constants
        See `Command.constants`.
    folds
        See `weight_words`.
    places
        The power of two that each pass counts.
    name
        The layer's, for a refusal.

    Raises
    ------
    RefusedError
        If a bias does not fit in its field.
    """
    p = parameters
    tiles = folds[0].shape[0]
    shape = (tiles, 1, p.groups, p.requantizers)

    def by_tile(values: Integers, *, others: int = 0) -> Integers:
        return np.pad(values, (0, tiles * p.rows - len(values)), constant_values=others).reshape(shape)

    multiplier = np.concatenate([by_tile(each) for each in constants.multiplier.T], axis=1)
    shift = by_tile(constants.shift)
    excess = np.stack(folds, axis=1)
    excess = excess.reshape(tiles, len(places), p.groups, p.requantizers).astype(object)  # never overflows
    bias = -(excess << np.array(places)[:, None, None]) * multiplier
    # Rows without a channel write code 0 whatever the thresholds, where no weight of a reader can be 0.
    lowest = 0 if p.pads else -(1 << (BIAS_WIDTH - 1))
    bias[:, :1] += by_tile(constants.bias, others=lowest)
    if bias.min() < -(1 << (BIAS_WIDTH - 1)) or bias.max() >= 1 << (BIAS_WIDTH - 1):
        raise RefusedError(f"layer {name!r}: bias of a pass must fit in {BIAS_WIDTH} bits")
    bits = struct_bits(CHANNEL, {"multiplier": multiplier, "bias": bias.astype(np.int64), "shift": shift})
    return slice_words(bits.reshape(-1, p.requantizers * CHANNEL.size), slice_width=STREAM_WIDTH)

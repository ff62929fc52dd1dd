"""Codebooks: the levels that a layer's weights are indices of, on an array that loads them."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from hdl.formats import Format, named
from hdl.parameters import AcceleratorParameters

from ..graph import Integers
from .commands import Table
from .digits import Digits, fewest_digits


class Indexed(NamedTuple):
    """A codebook, and how weights split into digits that it holds."""

    codebook: Table
    digits: Digits


def indexed(weights: Integers, *, weight_format: str, parameters: AcceleratorParameters) -> Indexed:
    """The codebook of a layer: its format's levels if there is room for them, else those of digits.

    Digits are levels next to 0, of whichever the weights that there are need the fewest; equal formats have
    equal codebooks, so that neighbouring layers share one.

    Raises
    ------
    ValueError
        If neither serves.
    """
    array = parameters.format
    room = 1 << parameters.index_width
    own = tuple(sorted({0, *named(weight_format).grid}))
    if len(own) <= room and set(own) <= set(array.grid):
        return Indexed(own, Digits(places=(0,), digits={level: (level,) for level in own}))
    used = tuple(np.union1d(weights, 0).tolist())
    return _in_digits(used, array=array, room=room)


@lru_cache(maxsize=64)
def _in_digits(used: tuple[int, ...], *, array: Format, room: int) -> Indexed:
    choices = []
    for sign in (1, -1):
        # Of as many levels as there is room for, one more on the one side or the other.
        nearest = sorted(array.grid, key=lambda level: (abs(level), sign * level))[:room]
        codebook = tuple(sorted(nearest))
        digits = fewest_digits(used, grid=codebook)
        if digits is not None:
            choices.append(Indexed(codebook, digits))
    if not choices:
        raise ValueError(
            f"weights must be sums of {room} levels of {array.name!r} next to 0, at different places"
        )
    return min(choices, key=lambda each: len(each.digits.places))

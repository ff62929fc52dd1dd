"""From real weights back to integer levels: exact on the grid, refused off it, never rounded silently."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hdl.console import RefusedError
from hdl.formats import Format

from .graph import Integers

# How far a weight may lie from a level, in levels, and at least how far relative to the level: a
# float32 product divided by a float32 scale is off by up to 2^-23 of itself.
TOLERANCE = 1e-4
RELATIVE_TOLERANCE = 2.0**-22

# Up to this level a table says which integers are levels; above, a binary search does.
_TABLE_LIMIT = 1 << 12

# Weights looked at together: small enough for every temporary to stay in the cache.
_CHUNK = 1 << 16

# Writes the level of each value and says whether all of them are levels.
Finder = Callable[[NDArray[np.floating], Integers], bool]


def grid_levels(weights: NDArray[np.floating], scale: float, fmt: Format, *, name: str) -> Integers:
    """The level of every weight, given the real value of one level.

    Parameters
    ----------
    weights
        Any shape; float32 for speed.
    scale
        Positive and finite.
    fmt
        The format they must be levels of.
    name
        What to call the tensor in a refusal.

    Raises
    ------
    RefusedError
        If the scale is not positive, or a weight is further than `TOLERANCE` levels from a level: the
        message names the first such weight, its value and the nearest level.
    """
    if not (np.isfinite(scale) and scale > 0):
        raise RefusedError(f"{name}: scale must be a positive number, not {scale!r}")
    flat = np.ascontiguousarray(weights).reshape(-1)
    result = np.empty(flat.size, dtype=np.int64)
    find = _table_finder(fmt) if fmt.max_level <= _TABLE_LIMIT else _search_finder(fmt)
    with np.errstate(all="ignore"):
        for start in range(0, flat.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            units = flat[part] / flat.dtype.type(scale)
            if not find(units, result[part]):
                _refuse(flat[part], start, scale, fmt, np.shape(weights), name)
    return result.reshape(np.shape(weights))


def _table_finder(fmt: Format) -> Finder:
    """For small integers: round, then look up whether the integer is a level."""
    low, high = fmt.grid[0], fmt.grid[-1]
    tolerance = max(TOLERANCE, fmt.max_level * RELATIVE_TOLERANCE)
    is_level = np.zeros(high - low + 1, dtype=bool)
    is_level[np.array(fmt.grid) - low] = True

    def find(units: NDArray[np.floating], out: Integers) -> bool:
        nearest = np.rint(units)
        units -= nearest
        close = -tolerance <= units.min() and units.max() <= tolerance
        if not (close and low <= nearest.min() and nearest.max() <= high):
            return False
        out[:] = nearest
        return bool(is_level.all() or is_level.take(out - low).all())

    return find


def _search_finder(fmt: Format) -> Finder:
    """For levels of any size: the nearest level, then its distance."""

    def find(units: NDArray[np.floating], out: Integers) -> bool:
        out[:] = nearest_levels(units, fmt)
        return bool(_close(units, out).all())

    return find


def nearest_levels(units: NDArray[np.floating], fmt: Format) -> Integers:
    """The level nearest to each value in level units; halfway between two, the lower."""
    grid, boundaries = np.array(fmt.grid), np.array(fmt.boundaries) / 2
    return grid[np.searchsorted(boundaries, units, side="left")]


def _close(units: NDArray[np.floating], levels: Integers) -> NDArray[np.bool_]:
    return np.abs(units - levels) <= np.maximum(TOLERANCE, np.abs(levels) * RELATIVE_TOLERANCE)


def _refuse(
    part: NDArray[np.floating], start: int, scale: float, fmt: Format, shape: tuple[int, ...], name: str
) -> None:
    units = part.astype(np.float64) / scale
    levels = nearest_levels(units, fmt)
    first = int(np.flatnonzero(~_close(units, levels))[0])
    index = ", ".join(str(int(i)) for i in np.unravel_index(start + first, shape))
    raise RefusedError(
        f"{name}[{index}]: must be a level of {fmt.name} times the scale {scale:.9g}, not {part[first]:.9g} "
        f"(nearest level {levels[first]}, {levels[first] * scale:.9g})"
    )

"""Digits: wide integers as sums of levels an array has, each in its place (a power of two).

This is how 8-bit layers run on a narrow array: one pass per digit.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

from hdl.formats import Format, Uniform
from hdl.layouts import PASS_SHIFT_WIDTH

MAX_PLACE = 2**PASS_SHIFT_WIDTH - 1


@dataclass(frozen=True, kw_only=True)
class Digits:
    """How values split: ``value = Σ_i digits[value][i] · 2^places[i]``.

    Members
    -------
    places : tuple of int
        Ascending powers of two, one per digit.
    digits : dict
        For every value the level of each digit.
    """

    places: tuple[int, ...]
    digits: dict[int, tuple[int, ...]]


@lru_cache(maxsize=64)
def weight_digits(*, values: Format, array: Format) -> Digits:
    """The fewest digits, each a level of `array`, that make every level of `values`.

    The most negative level of a two's complement format, which symmetric quantizers never use, costs no
    further digit: it is there only if the others' digits make it too.  Of several sets of places the
    smallest is taken, and of several splits the one with the most zero digits, so the result is the same
    on every run.

    Raises
    ------
    ValueError
        If no places of up to 15 serve.
    """
    wanted = [level for level in values.grid if abs(level) <= values.max_level]
    span, limit = values.max_level.bit_length(), max(values.max_level, -values.grid[0])
    for count in range(1, span + 1):
        for higher in combinations(range(1, min(span, MAX_PLACE) + 1), count - 1):
            sums = _sums((0, *higher), array.grid, limit=limit)
            if all(level in sums for level in wanted):
                made = {level: sums[level] for level in values.grid if level in sums}
                return Digits(places=(0, *higher), digits=made)
    raise ValueError(f"format {values.name!r} cannot be made of digits of {array.name!r}")


def _sums(places: tuple[int, ...], grid: tuple[int, ...], *, limit: int) -> dict[int, tuple[int, ...]]:
    """Every sum of one level per place, with the digits that make it."""
    sums: dict[int, tuple[int, ...]] = {0: ()}
    levels = sorted(grid, key=lambda level: (abs(level), level))
    for place in places:
        longer: dict[int, tuple[int, ...]] = {}
        for level in levels:
            for total, digits in sums.items():
                longer.setdefault(total + (level << place), (*digits, level))
        sums = longer
    return {total: digits for total, digits in sums.items() if abs(total) <= limit}


def activation_digits(
    values: Format, *, code_width: int, activation_width: int
) -> list[tuple[int, tuple[int, ...]]]:
    """Place and level table of each digit of an activation.

    A format that fits the array's tables is its own single digit; wider uniform integers are cut into
    digits of as many bits as codes have.

    Raises
    ------
    ValueError
        If the format does not fit and is not uniform.
    """
    if values.code_width <= code_width and values.level_width <= activation_width:
        return [(0, values.levels)]
    if not isinstance(values, Uniform):
        raise ValueError(
            f"format {values.name!r} must have codes of at most {code_width} bits and levels of at most "
            f"{activation_width} bits, or be uniform"
        )
    digit = min(code_width, activation_width)
    return [(place, tuple(range(2**digit))) for place in range(0, values.code_width, digit)]

"""Digits: wide integers as sums of levels an array has, each in its place (a power of two).

This is how 8-bit layers run on a narrow array: one pass per digit.
"""

from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import combinations
from math import prod
from operator import or_

from hdl.formats import Format, Uniform
from hdl.parameters import PASS_SHIFT_WIDTH

MAX_PLACE = 2**PASS_SHIFT_WIDTH - 1
WIDEST = 2**16
"""The largest value that is split; formats of larger ones need an array of their own levels."""


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
        If no places of up to 15 serve, or values beyond 2^16 would need more than one digit.
    """
    wanted = tuple(level for level in values.grid if abs(level) <= values.max_level)
    found = fewest_digits(wanted, grid=array.grid, beside=values.grid)
    if found is None:
        raise ValueError(f"format {values.name!r} cannot be made of digits of {array.name!r}")
    return found


def fewest_digits(
    wanted: tuple[int, ...], *, grid: tuple[int, ...], beside: tuple[int, ...] = ()
) -> Digits | None:
    """The fewest digits, each of `grid`, that make all of `wanted`; None if no places serve.

    Parameters
    ----------
    wanted, grid
        Ascending.
    beside
        Levels, ascending, that get digits too if those of `wanted` make them.
    """
    limit = max(map(abs, wanted))
    span = limit.bit_length()
    for count in range(1, span + 1 if limit <= WIDEST else 2):
        for higher in combinations(range(1, min(span, MAX_PLACE) + 1), count - 1):
            places = (0, *higher)
            choices = [_choices(grid, place, limit=limit) for place in places]
            if _reach(choices, wanted):
                return Digits(places=places, digits=_splits(places, choices, beside or wanted))
    return None


def _choices(grid: tuple[int, ...], place: int, *, limit: int) -> list[int]:
    """What a digit in this place may add; sums far beyond the values would only cancel one another."""
    return [level << place for level in grid if abs(level) << place <= 4 * limit]


def _reach(choices: list[list[int]], wanted: tuple[int, ...]) -> bool:
    """Whether sums of one choice each make all of `wanted`.

    A set of sums is an integer with a bit for each, counted from the smallest sum; so thousands of places
    are tried in a second.
    """
    low, high = sum(each[0] for each in choices), sum(each[-1] for each in choices)
    ways = prod(map(len, choices))
    if not (low <= wanted[0] and wanted[-1] <= high and ways >= len(wanted)):
        return False
    if len(choices) == 1:
        return set(wanted) <= set(choices[0])
    sums = 1
    for each in choices:
        sums = reduce(or_, (sums << (choice - each[0]) for choice in each))
    bits = format(sums >> (wanted[0] - low), "b")[::-1]
    return all(bits[level - wanted[0] : level - wanted[0] + 1] == "1" for level in wanted)


def _splits(
    places: tuple[int, ...], choices: list[list[int]], wanted: tuple[int, ...]
) -> dict[int, tuple[int, ...]]:
    """The digits of each wanted level that the choices make; the most zeros, then small digits at the top."""
    sums: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, ())}
    for index, (place, each) in enumerate(zip(places, choices, strict=True)):
        above = choices[index + 1 :]
        low = wanted[0] - sum(higher[-1] for higher in above)
        high = wanted[-1] - sum(higher[0] for higher in above)
        longer: dict[int, tuple[int, tuple[int, ...]]] = {}
        for choice in sorted(each, key=lambda choice: (abs(choice), choice)):
            for total, (zeros, digits) in sums.items():
                key, found = total + choice, zeros + (choice == 0)
                if low <= key <= high and (key not in longer or found > longer[key][0]):
                    longer[key] = (found, (*digits, choice >> place))
        sums = longer
    return {level: sums[level][1] for level in wanted if level in sums}


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

"""Sums over subsets of a few levels: what tables hold that multiply by looking up."""

from collections.abc import Sequence

from .checks import check_bool, check_int

GROUP = 4
"""Lanes that share a table."""


def subset_sums(levels: Sequence[int], *, level_width: int, folded: bool = False) -> tuple[int, ...]:
    """The words of one table of `hdl.codebook.CodebookDot`, in the order of its entries.

    Entry e is the sum of the levels whose bit in e is 1.  Folded, every entry is larger by the sum of
    ``max(0, -level)``, which makes the least of them 0.

    Parameters
    ----------
    levels
        Of neighbouring lanes, the first in bit 0; at most four, the missing ones count as 0.
    level_width
        Bits of a level; levels are at most ``2^(level_width - 1) - 1`` in magnitude.

    Raises
    ------
    TypeError, ValueError
        If there are more than four levels, or one does not fit.
    """
    check_int("level_width", level_width, low=2)
    check_bool("folded", folded)
    if len(levels) > GROUP:
        raise ValueError(f"levels must be at most {GROUP}, not {len(levels)!r}")
    most = 2 ** (level_width - 1) - 1
    for level in levels:
        check_int("levels", level, low=-most, high=most)
    excess = sum(max(0, -level) for level in levels) if folded else 0
    return tuple(
        excess + sum(level for lane, level in enumerate(levels) if entry >> lane & 1)
        for entry in range(2**GROUP)
    )


def word_range(level_width: int, *, folded: bool) -> tuple[int, int]:
    """The least and the greatest word that `subset_sums` gives."""
    most = GROUP * (2 ** (level_width - 1) - 1)
    return (0 if folded else -most, most)

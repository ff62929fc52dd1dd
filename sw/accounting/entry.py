"""A number of a paper beside ours."""

from dataclasses import dataclass, replace
from fractions import Fraction

from .published import Printed

TOLERANCE = Fraction(7, 1000)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One number of a paper and ours.

    Members
    -------
    name : str
        Network, method and bits of weight/activation; with `formula` unique in its table.
    formula : str
        How ours is computed.
    ours : Fraction or None
        In operations or bytes; None if the paper says too little to compute it.
    printed : Printed
        The paper's.
    reason : str
        Why the two differ, where they are known to; empty elsewhere.
    difference : Fraction or None
        ``ours / paper - 1``.
    within : bool
        Whether the difference is at most 0.7 %.
    same_digits : bool
        Whether ours, rounded or cut off to the printed digits, is what is printed.
    accepted : bool
        Whether one of the two holds: two printed digits are coarser than 0.7 %.
    """

    name: str
    formula: str
    ours: Fraction | None
    printed: Printed
    reason: str = ""

    @property
    def difference(self) -> Fraction | None:
        return None if self.ours is None else self.ours / self.printed.value - 1

    @property
    def within(self) -> bool:
        return self.difference is not None and abs(self.difference) <= TOLERANCE

    @property
    def same_digits(self) -> bool:
        return self.ours is not None and self.printed.same_digits(self.ours)

    @property
    def accepted(self) -> bool:
        return self.within or self.same_digits

    def because(self, reason: str) -> "Entry":
        """The same entry with the reason why the two differ."""
        return replace(self, reason=reason)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of a paper, or a column of one.

    Members
    -------
    name : str
        As on the command line.
    title, source : str
    entries : tuple of Entry
    """

    name: str
    title: str
    source: str
    entries: tuple[Entry, ...]

"""Additive powers of two: every level is a sum of a few powers of two (Li, Dong, Wang, ICLR 2020)."""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import ClassVar

from .base import Field, Format
from .checks import check_bool, check_int

MAX_MAGNITUDE_WIDTH = 12


@dataclass(frozen=True, kw_only=True)
class Term:
    """One addend of a magnitude: the bit field that selects it and what it selects.

    Members
    -------
    offset, width : int
        Position and width of the field in a native code.
    shifts : tuple of int
        The exponent selected by field values 1, 2, …; value 0 selects nothing.
    """

    offset: int
    width: int
    shifts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class APoT(Format):
    """Sums of `n` terms, each zero or one of ``2^k - 1`` powers of two.

    With ``odd``, one more term of a single bit is added, so that magnitudes have ``kn + 1`` bits
    (eq. 6); without it they have ``kn`` bits (eq. 5).  The powers are scaled by ``2^S`` so that
    every level is an integer and the smallest positive one is 1.

    A signed code is, from the least significant bit, the odd bit if there is one, the fields of term
    n-1 … 0, and the sign; the two codes of zero are equal.  An unsigned code is the level's rank.

    Parameters
    ----------
    k
        Bits of a term's field, 1 to 5; 2 if `odd`.
    n
        Terms, 1 to 8, as long as magnitude codes fit in 12 bits.
    odd
        Add the one-bit term of eq. (6).

    Members
    -------
    terms : tuple of Term
        The addends of a magnitude, in native code order.

    Raises
    ------
    TypeError, ValueError
        If a parameter, or the width that follows from it, is out of range.
    """

    scheme: ClassVar[str] = "apot"
    pattern: ClassVar[str] = r"apot_k(?P<k>\d+)n(?P<n>\d+)(?P<odd>o?)"

    k: int
    n: int
    odd: bool = False

    def __post_init__(self) -> None:
        check_bool("signed", self.signed)
        check_int("k", self.k, low=1, high=5)
        check_int("n", self.n, low=1, high=8)
        check_bool("odd", self.odd)
        if self.odd and self.k != 2:
            raise ValueError(f"k must be 2 in the odd-bit form (eq. 6), not {self.k!r}")
        if self.magnitude_width > MAX_MAGNITUDE_WIDTH:
            raise ValueError(
                f"k and n must give magnitude codes of at most {MAX_MAGNITUDE_WIDTH} bits, "
                f"not {self.magnitude_width!r} (k={self.k}, n={self.n})"
            )

    @property
    def name(self) -> str:
        return f"apot_k{self.k}n{self.n}{'o' if self.odd else ''}{'' if self.signed else 'u'}"

    @property
    def magnitude_width(self) -> int:
        """Bits of a magnitude's code."""
        return self.k * self.n + self.odd

    @property
    def code_width(self) -> int:
        return self.magnitude_width + self.signed

    @property
    def fields(self) -> tuple[Field, ...]:
        if not self.signed:
            return (Field("rank", self.code_width),)
        odd = (Field("odd", 1),) if self.odd else ()
        terms = tuple(Field(f"term{i}", self.k) for i in reversed(range(self.n)))
        return (*odd, *terms, Field("sign", 1))

    @property
    def _top_exponent(self) -> int:
        """S of the paper's ``2^-e`` → ``2^(S-e)``: the largest exponent e of any term."""
        return self.n * (2**self.k - 1) - 1 + self.odd

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        top, last = self._top_exponent, 2**self.k - 2
        odd = (Term(offset=0, width=1, shifts=(top - self.n * last,)),) if self.odd else ()
        return odd + tuple(
            Term(
                offset=self.odd + self.k * (self.n - 1 - i),
                width=self.k,
                shifts=tuple(top - i - j * self.n - (self.odd and j == last) for j in range(last + 1)),
            )
            for i in reversed(range(self.n))
        )

    @cached_property
    def _magnitudes(self) -> tuple[int, ...]:
        """Level of every native magnitude code."""
        choices = [(0, *(1 << shift for shift in term.shifts)) for term in reversed(self.terms)]
        return tuple(sum(addends) for addends in product(*choices))

    @cached_property
    def levels(self) -> tuple[int, ...]:
        if not self.signed:
            return tuple(sorted(self._magnitudes))
        return (*self._magnitudes, *(-level for level in self._magnitudes))


@dataclass(frozen=True, kw_only=True)
class PoT(APoT):
    """Powers of two: APoT with one term (`n` = 1), so ``2^k - 1`` powers and zero.

    The set of the authors' code, exponents down to ``-(2^k - 2)``; the paper's eq. (3) has one level
    more at the lower end.
    """

    scheme: ClassVar[str] = "pot"
    pattern: ClassVar[str] = r"pot_k(?P<k>\d+)"

    n: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n != 1 or self.odd:
            raise ValueError(f"n must be 1 and odd False for powers of two, not {self.n!r} and {self.odd!r}")

    @property
    def name(self) -> str:
        return f"pot_k{self.k}{'' if self.signed else 'u'}"


def apot(*, bits: int, signed: bool = True) -> APoT:
    """The paper's APoT format of `bits` bits: k = 2, the odd-bit form if the magnitude's width is odd.

    A one-bit magnitude is {0, 1}, so two-bit weights are ternary.

    Raises
    ------
    TypeError, ValueError
        If `bits` is not an integer from 2 to 9 (signed) or 1 to 8 (unsigned).
    """
    check_bool("signed", signed)
    check_int("bits", bits, low=1 + signed, high=8 + signed)
    magnitude = bits - signed
    if magnitude == 1:
        return APoT(k=1, n=1, signed=signed)
    return APoT(k=2, n=magnitude // 2, odd=bool(magnitude % 2), signed=signed)

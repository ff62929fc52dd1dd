"""Levels in code order from the papers' equations, as real numbers: an oracle that shares no code."""

from fractions import Fraction
from itertools import product


def apot_levels(*, k: int, n: int, odd: bool = False) -> list[int]:
    """Eq. (5), or (6) if `odd`, for signed codes, over the smallest positive level.

    A code is, from the top, sign, p_0 … p_(n-1) of k bits each, and the odd bit.  Field value j > 0 picks
    the j-th power of its set.
    """
    last = 2**k - 2
    sets = [
        [Fraction(0)]
        + [Fraction(1, 2 ** (i + j * n + (1 if odd and j == last else 0))) for j in range(last + 1)]
        for i in range(n)
    ]
    if odd:
        sets.append([Fraction(0), Fraction(1, 2 ** (2 * n))])
    magnitudes = [sum(choice, Fraction(0)) for choice in product(*sets)]
    unit = min(value for value in magnitudes if value)
    assert all((value / unit).denominator == 1 for value in magnitudes)
    return [int(sign * value / unit) for sign in (1, -1) for value in magnitudes]


def uniform_levels(*, bits: int) -> list[int]:
    """Two's complement integers."""
    return [code - (code >> (bits - 1)) * 2**bits for code in range(2**bits)]


def basis_levels(coordinates: tuple[int, ...]) -> list[int]:
    """DMBQ, eq. (1): Σ s_i A_i, where s_i is 1 if bit i of the code is set and -1 if not."""
    return [
        sum((1 if code >> i & 1 else -1) * each for i, each in enumerate(coordinates))
        for code in range(2 ** len(coordinates))
    ]

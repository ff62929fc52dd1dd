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


def sign_magnitude_levels(*, bits: int) -> list[int]:
    """A sign above the binary digits of a magnitude."""
    half = 2 ** (bits - 1)
    return [(code % half) * (-1) ** (code // half) for code in range(2**bits)]


def basis_levels(coordinates: tuple[int, ...]) -> list[int]:
    """DMBQ, eq. (1): Σ s_i A_i, where s_i is 1 if bit i of the code is set and -1 if not."""
    return [
        sum((1 if code >> i & 1 else -1) * each for i, each in enumerate(coordinates))
        for code in range(2 ** len(coordinates))
    ]


Excess = list[list[list[int]]]
"""What folded sums hold too much, by plane (one, unless serial), lane modulo 2, and weight code."""


def shift_excess(levels: list[int], *, width: int) -> Excess:
    """A complemented activation is 2^width - 1 less the activation."""
    codes = [(2**width - 1) * max(0, -level) for level in levels]
    return [[codes, codes]]


def plane_excess(coordinates: tuple[int, ...], *, width: int, serial: bool = False) -> Excess:
    """A minus complements a sum of width + 1 bits, of which an odd lane has one less."""
    units = (2**width, 2**width - 1)
    if serial:
        return [[[each * unit, 0] for unit in units] for each in coordinates]
    levels, top = basis_levels(coordinates), sum(coordinates)
    return [[[(top - level) // 2 * unit for level in levels] for unit in units]]


def integer_plane_excess(*, bits: int, width: int) -> Excess:
    """2 w + 1 is a sum of ± powers of two; what the activation itself is short of 2^width - 1 is added."""
    powers = tuple(1 << bit for bit in range(bits))
    units = (2**width, 2**width - 1)
    odd = [2 * level + 1 for level in uniform_levels(bits=bits)]
    return [[[(sum(powers) - each) // 2 * unit + units[1] for each in odd] for unit in units]]

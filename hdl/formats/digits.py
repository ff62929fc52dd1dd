"""Integers as sums of signed powers of two: what multiplying by them costs in shifts and adds."""

from typing import NamedTuple


class Digit(NamedTuple):
    """One signed power of two: ``sign · 2^shift``."""

    shift: int
    sign: int


def signed_digits(number: int) -> tuple[Digit, ...]:
    """The fewest signed powers of two that add up to a number, the lowest first (canonical signed digits).

    No two are neighbours, and the last has the number's sign; 31 is ``-1 + 32``.
    """
    digits = []
    shift = 0
    while number:
        if number % 2:
            sign = 2 - number % 4
            digits.append(Digit(shift, sign))
            number -= sign
        number //= 2
        shift += 1
    return tuple(digits)


def adders(numbers: tuple[int, ...]) -> int:
    """Two-operand adders of a sum of values, each times one of these positive numbers."""
    return sum(len(signed_digits(number)) for number in numbers) - 1

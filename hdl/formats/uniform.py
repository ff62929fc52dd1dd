"""Uniform levels: plain integers, the baseline of every comparison, in either of two codes."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from .base import Field, Format
from .checks import check_bool, check_int


@dataclass(frozen=True, kw_only=True)
class Uniform(Format):
    """Plain `bits`-bit integers: two's complement if signed, binary if not.

    A quantizer whose clipping value stands for `max_level` never produces the lowest signed code, so
    its set is the symmetric one of APoT eq. (2), ``j / (2^(b-1) - 1)``.

    Parameters
    ----------
    bits
        Code width: 2 to 16 if signed, 1 to 16 if not.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range.
    """

    scheme: ClassVar[str] = "uniform"
    pattern: ClassVar[str] = r"uniform_b(?P<bits>\d+)"

    bits: int

    def __post_init__(self) -> None:
        check_bool("signed", self.signed)
        check_int("bits", self.bits, low=2 if self.signed else 1, high=16)

    @property
    def name(self) -> str:
        return f"uniform_b{self.bits}{'' if self.signed else 'u'}"

    @property
    def code_width(self) -> int:
        return self.bits

    @property
    def fields(self) -> tuple[Field, ...]:
        return (Field("integer" if self.signed else "rank", self.bits),)

    @cached_property
    def levels(self) -> tuple[int, ...]:
        half = 1 << (self.bits - 1)
        if self.signed:
            return (*range(half), *range(-half, 0))
        return tuple(range(2 * half))


@dataclass(frozen=True, kw_only=True)
class SignMagnitude(Format):
    """Plain `bits`-bit integers as a magnitude with, on top, a sign; the two codes of zero are equal.

    The symmetric set of APoT eq. (2), ``j / (2^(b-1) - 1)``, and nothing else: two's complement has one level
    more, which quantizers do not use.

    Parameters
    ----------
    bits
        Code width: 2 to 16.

    Raises
    ------
    TypeError, ValueError
        If `bits` is out of range, or `signed` is False.
    """

    scheme: ClassVar[str] = "signmag"
    pattern: ClassVar[str] = r"signmag_b(?P<bits>\d+)"

    bits: int

    def __post_init__(self) -> None:
        if self.signed is not True:
            raise ValueError(f"signed must be True, since a code has a sign, not {self.signed!r}")
        check_int("bits", self.bits, low=2, high=16)

    @property
    def name(self) -> str:
        return f"signmag_b{self.bits}"

    @property
    def code_width(self) -> int:
        return self.bits

    @property
    def fields(self) -> tuple[Field, ...]:
        return (Field("magnitude", self.bits - 1), Field("sign", 1))

    @cached_property
    def levels(self) -> tuple[int, ...]:
        magnitudes = range(1 << (self.bits - 1))
        return (*magnitudes, *(-magnitude for magnitude in magnitudes))

"""Companded levels: a table of a few integers that stand close where values are dense (LCQ, CVPR 2021)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from .base import Field, Format
from .checks import check_bool, check_int
from .uniform import Uniform

OUTER_BITS = 8


@dataclass(frozen=True, kw_only=True)
class Companded(Format):
    """Magnitudes given one by one, each an integer that fits the *outer bits*, and a sign for weights.

    What a learned companding function leaves after its outer rounding (Yamamoto, CVPR 2021, eq. 14), and
    what Lloyd's algorithm gives once its centroids are rounded: a table that hardware loads at run time.

    A signed code is the magnitude's index and, on top, the sign; the two codes of zero are equal.  An
    unsigned code is the level's rank, which is its index.

    Parameters
    ----------
    magnitudes
        2, 4, 8, … or 128 integers (256 if unsigned), ascending from 0 without repeats.
    outer_bits
        Bits of a level, 2 to 16, its sign included.

    Members
    -------
    largest : int
        The largest magnitude that fits the outer bits.

    Raises
    ------
    TypeError
        If `magnitudes` is not a tuple of integers, or another parameter has a wrong type.
    ValueError
        If the magnitudes have another length, do not ascend from 0, or do not fit the outer bits.
    """

    scheme: ClassVar[str] = "companded"
    pattern: ClassVar[str] = r"companded_(?P<outer_bits>(o\d+_)?)(?P<magnitudes>\d+(_\d+)*)"

    magnitudes: tuple[int, ...]
    outer_bits: int = OUTER_BITS

    def __post_init__(self) -> None:
        check_bool("signed", self.signed)
        check_int("outer_bits", self.outer_bits, low=2, high=16)
        if not isinstance(self.magnitudes, tuple) or not all(type(each) is int for each in self.magnitudes):
            raise TypeError(f"magnitudes must be a tuple of integers, not {self.magnitudes!r}")
        most = 128 if self.signed else 256
        if len(self.magnitudes) not in {2**bits for bits in range(1, most.bit_length())}:
            raise ValueError(
                f"magnitudes must be 2, 4, 8, … or {most} integers, not {len(self.magnitudes)!r}"
            )
        if self.magnitudes[0] != 0 or self.magnitudes != tuple(sorted(set(self.magnitudes))):
            raise ValueError(f"magnitudes must ascend from 0 without repeats, not {self.magnitudes!r}")
        if self.magnitudes[-1] > self.largest:
            kind = "signed" if self.signed else "unsigned"
            raise ValueError(
                f"magnitudes must be at most {self.largest} to fit {self.outer_bits} {kind} outer bits, "
                f"not {self.magnitudes[-1]!r}"
            )

    @property
    def largest(self) -> int:
        return int(2 ** (self.outer_bits - self.signed) - 1)

    @property
    def name(self) -> str:
        outer = () if self.outer_bits == OUTER_BITS else (f"o{self.outer_bits}",)
        return "_".join(map(str, ("companded", *outer, *self.magnitudes))) + ("" if self.signed else "u")

    @property
    def code_width(self) -> int:
        return len(self.magnitudes).bit_length() - 1 + self.signed

    @property
    def fields(self) -> tuple[Field, ...]:
        if not self.signed:
            return (Field("rank", self.code_width),)
        return (Field("index", self.code_width - 1), Field("sign", 1))

    @cached_property
    def levels(self) -> tuple[int, ...]:
        if not self.signed:
            return self.magnitudes
        return (*self.magnitudes, *(-magnitude for magnitude in self.magnitudes))


def ranked(levels: Sequence[int]) -> Format:
    """An unsigned format whose lowest ranks are these levels, which ascend from 0.

    Plain integers if the levels are all that are up to the highest; otherwise a table, in which the ranks
    that are left over, and may not occur, stand for the integers that follow.
    """
    bits = (len(levels) - 1).bit_length()
    if list(levels) == list(range(len(levels))):
        return Uniform(bits=max(1, bits), signed=False)
    further = range(levels[-1] + 1, levels[-1] + 1 + 2**bits - len(levels))
    magnitudes = (*levels, *further)
    outer_bits = max(OUTER_BITS, magnitudes[-1].bit_length())
    return Companded(magnitudes=magnitudes, outer_bits=outer_bits, signed=False)


def level_table(number_format: Format, *, outer_bits: int = OUTER_BITS) -> tuple[int, ...]:
    """Words of the table that a level decoder loads for a format: a magnitude for each index, or rank.

    Serves every format whose codes carry their sign on top, as companded ones do, and every unsigned one.

    Parameters
    ----------
    outer_bits
        Bits of a level in the hardware, its sign included.

    Raises
    ------
    ValueError
        If the upper half of a signed format's codes does not negate the lower half, or a level does not
        fit the outer bits.
    """
    check_int("outer_bits", outer_bits, low=2, high=16)
    levels, signed = number_format.levels, number_format.signed
    words = levels[: len(levels) // 2] if signed else levels
    if signed and (levels != (*words, *(-word for word in words)) or min(words) < 0):
        raise ValueError(
            f"number_format must have codes of a sign and a magnitude, not {number_format.name!r}"
        )
    if max(words) > 2 ** (outer_bits - signed) - 1:
        raise ValueError(
            f"number_format must have levels of at most {outer_bits} outer bits, not {max(words)!r} "
            f"({number_format.name})"
        )
    return words


def product_table(
    weight_format: Format,
    activation_format: Format,
    *,
    outer_bits: int = OUTER_BITS,
    activation_outer_bits: int = OUTER_BITS,
) -> tuple[int, ...]:
    """Words of the table of products of two formats' magnitudes, the weight's index varying fastest.

    The word for a weight of index i and an activation of rank r is at ``r · 2^(weight bits - 1) + i``.

    Parameters
    ----------
    outer_bits, activation_outer_bits
        Bits of a weight's level, its sign included, and of an activation's.

    Raises
    ------
    ValueError
        As `level_table`, or if the formats are not a signed and an unsigned one.
    """
    if not weight_format.signed:
        raise ValueError(f"weight_format must be signed, not {weight_format.name!r}")
    if activation_format.signed:
        raise ValueError(f"activation_format must be unsigned, not {activation_format.name!r}")
    weights = level_table(weight_format, outer_bits=outer_bits)
    activations = level_table(activation_format, outer_bits=activation_outer_bits)
    return tuple(weight * activation for activation in activations for weight in weights)

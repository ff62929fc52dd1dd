"""The contract every number format keeps: a finite table of exact integers."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple


class Field(NamedTuple):
    """A named bit field of a code; fields are listed from the least significant bit up."""

    name: str
    width: int


@dataclass(frozen=True, kw_only=True)
class Format(ABC):
    """A number format: every code of `code_width` bits stands for one exact integer level.

    The real value of a code is ``scale × level``, with one real scale per tensor or output channel,
    so every dot product is exact in integers.  Signed formats (weights) have native codes, whose
    fields are what a datapath's multiplexers want.  Unsigned formats (activations) have rank codes:
    code order is level order, and code 0 is level 0.

    Parameters
    ----------
    signed
        True for a weight format, False for an activation format.

    Members
    -------
    name : str
        Canonical name, as used in options, file names and JSON.
    code_width : int
        Bits of a code.
    fields : tuple of Field
        The code's bit fields, least significant first; their widths add up to `code_width`.
    levels : tuple of int
        The level of every code, indexed by code.
    grid : tuple of int
        The distinct levels in ascending order.
    boundaries : tuple of int
        The decision boundaries between neighbours of `grid`, in half levels: the sum of the two
        neighbours.  A value on a boundary belongs to the lower neighbour.
    max_level : int
        The largest level; a quantizer's clipping value stands for it.
    level_width : int
        Bits of the largest magnitude.
    """

    signed: bool = True

    @property
    @abstractmethod
    def name(self) -> str: ...

    @property
    @abstractmethod
    def code_width(self) -> int: ...

    @property
    @abstractmethod
    def fields(self) -> tuple[Field, ...]: ...

    @property
    @abstractmethod
    def levels(self) -> tuple[int, ...]: ...

    @cached_property
    def grid(self) -> tuple[int, ...]:
        return tuple(sorted(set(self.levels)))

    @cached_property
    def boundaries(self) -> tuple[int, ...]:
        return tuple(low + high for low, high in zip(self.grid, self.grid[1:], strict=False))

    @property
    def max_level(self) -> int:
        return self.grid[-1]

    @property
    def level_width(self) -> int:
        return max(abs(level) for level in self.grid).bit_length()

    @cached_property
    def codes(self) -> dict[int, int]:
        """The code of every level; of several codes for one level, the lowest."""
        table: dict[int, int] = {}
        for code, level in enumerate(self.levels):
            table.setdefault(level, code)
        return table

    def sum_range(self, *, depth: int, activation_max: int) -> tuple[int, int]:
        """Least and greatest sum of `depth` products of a level with an integer 0 … `activation_max`."""
        return depth * min(0, self.grid[0]) * activation_max, depth * max(0, self.grid[-1]) * activation_max


def signed_width(low: int, high: int) -> int:
    """Bits of the narrowest two's complement integer that holds `low` … `high`."""
    return max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0) + 1

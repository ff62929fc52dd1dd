"""Any level table: what has no closed form, or is only to be tried."""

from dataclasses import dataclass
from zlib import crc32

from .base import Field, Format
from .checks import check_bool


@dataclass(frozen=True, kw_only=True)
class Table(Format):
    """Levels given one by one, in code order.

    Its name is made from its contents, so that two tables are never confused; the catalog cannot find
    a table by name.

    Parameters
    ----------
    table
        2, 4, 8, … or 256 integers of at most 32 bits each; ascending from 0 if unsigned.

    Raises
    ------
    TypeError
        If `table` is not a tuple of integers.
    ValueError
        If it has another length, a level is too large, or unsigned levels are not ranks.
    """

    table: tuple[int, ...]

    def __post_init__(self) -> None:
        check_bool("signed", self.signed)
        if not isinstance(self.table, tuple) or not all(type(level) is int for level in self.table):
            raise TypeError(f"table must be a tuple of integers, not {self.table!r}")
        if len(self.table) not in {2**bits for bits in range(1, 9)}:
            raise ValueError(f"table must hold 2, 4, 8, … or 256 levels, not {len(self.table)!r}")
        if not all(-(2**31) <= level < 2**31 for level in self.table):
            raise ValueError(f"table must hold levels of at most 32 bits, not {max(self.table, key=abs)!r}")
        if not self.signed and self.table != tuple(sorted({0, *self.table})):
            raise ValueError(f"table must ascend from 0 without repeats if unsigned, not {self.table!r}")

    @property
    def name(self) -> str:
        contents = ",".join(map(str, self.table))
        return f"table_{crc32(contents.encode()):08x}{'' if self.signed else 'u'}"

    @property
    def code_width(self) -> int:
        return len(self.table).bit_length() - 1

    @property
    def fields(self) -> tuple[Field, ...]:
        return (Field("index" if self.signed else "rank", self.code_width),)

    @property
    def levels(self) -> tuple[int, ...]:
        return self.table

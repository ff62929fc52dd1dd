"""Weight formats as parameters of a block, and what a description says about a format."""

from dataclasses import dataclass
from typing import Any

from hdl.formats import APoT, Format, PoT, Table, Uniform, named


@dataclass(frozen=True, kw_only=True)
class ApotWeights:
    """Additive powers of two.

    Parameters
    ----------
    k
        Bits of a term's field: a term is zero or one of 2^k - 1 powers of two.
    n
        Terms of a weight.
    odd
        Add a term of one bit (eq. 6 of the APoT paper); only with k = 2.
    """

    k: int
    n: int
    odd: bool = False

    @property
    def weight_format(self) -> Format:
        return APoT(k=self.k, n=self.n, odd=self.odd)


@dataclass(frozen=True, kw_only=True)
class PotWeights:
    """Powers of two.

    Parameters
    ----------
    k
        Bits of the exponent's field: a weight is zero or plus or minus one of 2^k - 1 powers of two.
    """

    k: int

    @property
    def weight_format(self) -> Format:
        return PoT(k=self.k)


@dataclass(frozen=True, kw_only=True)
class UniformWeights:
    """Plain integers.

    Parameters
    ----------
    bits
        Bits of a weight, two's complement.
    """

    bits: int

    @property
    def weight_format(self) -> Format:
        return Uniform(bits=self.bits)


@dataclass(frozen=True, kw_only=True)
class TableWeights:
    """Any levels.

    Parameters
    ----------
    levels
        The level of every code from 0 up: 2, 4, 8, … or 256 integers separated by commas.
    format
        A format's name instead, such as apot_k2n2 or uniform_b4.
    """

    levels: tuple[int, ...] | None = None
    format: str | None = None

    @property
    def weight_format(self) -> Format:
        if self.format is not None and self.levels is None:
            return named(self.format)
        if self.levels is None or self.format is not None:
            raise ValueError("levels or format must be given, and not both")
        return Table(table=self.levels)


def described(weight_format: Format) -> dict[str, Any]:
    """Code layout, level of every code, and what the integers stand for."""
    layout, lsb = [], 0
    for field in weight_format.fields:
        layout.append({"name": field.name, "lsb": lsb, "width": field.width})
        lsb += field.width
    return {
        "format": weight_format.name,
        "code_layout": layout,
        "levels": list(weight_format.levels),
        "scale": {"max_level": weight_format.max_level, "real_value": "clip / max_level * level"},
    }

"""Weight formats as parameters of a block, and what a description says about a format."""

from dataclasses import dataclass
from typing import Any

from hdl.formats import APoT, Basis, Format, PoT, SignMagnitude, Table, Uniform, basis, named, signed_width


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
    def weight_format(self) -> APoT:
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
    def weight_format(self) -> PoT:
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
    def weight_format(self) -> Uniform:
        return Uniform(bits=self.bits)


@dataclass(frozen=True, kw_only=True)
class SignMagnitudeWeights:
    """Plain integers in sign and magnitude.

    Parameters
    ----------
    bits
        Bits of a weight, its sign on top of its magnitude.
    """

    bits: int

    @property
    def weight_format(self) -> SignMagnitude:
        return SignMagnitude(bits=self.bits)


@dataclass(frozen=True, kw_only=True)
class BasisWeights:
    """Multi-bit binary bases.

    Parameters
    ----------
    coordinates
        1 to 4 integers in ascending order, separated by commas: a weight is a sum of plus or minus each.
    family
        The distribution of the weights, laplace or gauss, to choose the coordinates for.
    planes
        How many coordinates to choose, 1 to 4.
    """

    coordinates: tuple[int, ...] | None = None
    family: str | None = None
    planes: int | None = None

    @property
    def weight_format(self) -> Basis:
        if self.coordinates is not None and self.family is None and self.planes is None:
            return Basis(coordinates=self.coordinates)
        if self.coordinates is not None or self.family is None or self.planes is None:
            raise ValueError("coordinates, or family and planes, must be given, and not both")
        return basis(family=self.family, planes=self.planes)


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


def accumulated(
    weight_format: Format, *, activation_width: int, depth: int, width: int, signed: bool = True
) -> dict[str, Any]:
    """An accumulator, and for comparison the bits that plain integers as wide as the codes would need.

    Levels of equal bits differ in range, and an accumulator is as wide as its longest sum: that of powers of
    two soon is the widest part of a processing element.

    Parameters
    ----------
    activation_width, depth
        Bits of an unsigned activation, and the most products that are ever summed.
    width, signed
        Of the accumulator.
    """
    uniform = Uniform(bits=max(2, weight_format.code_width))
    extremes = uniform.sum_range(depth=depth, activation_max=2**activation_width - 1)
    return {"width": width, "signed": signed, "uniform_of_equal_bits": signed_width(*extremes)}

"""Quantization schemes by name: which number formats each has, at how many bits.  Loads no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from hdl.formats import Format, PoT, Uniform, apot, basis, check_int

FLOAT = "float"

# Bits, by convention, of what is not quantized.
REAL = 32

MAX_BITS = 16


class Formats(NamedTuple):
    """Formats of so many bits: of weights, of activations, and of activations that may be negative.

    Each is None where levels are learned.
    """

    weight: Callable[[int], Format | None]
    activation: Callable[[int], Format | None]
    signed_activation: Callable[[int], Format | None]


def _uniform(bits: int) -> Format:
    return Uniform(bits=bits)


def _with_uniform_activations(weight: Callable[[int], Format | None]) -> Formats:
    return Formats(weight, lambda bits: Uniform(bits=bits, signed=False), _uniform)


def _apot(bits: int) -> Format:
    return apot(bits=bits)


def _learned(*, low: int) -> Callable[[int], None]:
    def check(bits: int) -> None:
        check_int("bits", bits, low=low, high=8)

    return check


# Powers of two are for weights only: a product of two would need an accumulator of 33 to 45 bits.
_FORMATS = {
    "uniform": _with_uniform_activations(_uniform),
    "pot": _with_uniform_activations(lambda bits: PoT(k=bits - 1)),
    "apot": Formats(_apot, lambda bits: apot(bits=bits, signed=False), _apot),
    "lsq": _with_uniform_activations(_uniform),
    "dmbq": _with_uniform_activations(lambda bits: basis(family="laplace", planes=bits)),
    "dmbq_gauss": _with_uniform_activations(lambda bits: basis(family="gauss", planes=bits)),
    "lloyd": _with_uniform_activations(_learned(low=2)),
    "lcq": Formats(_learned(low=2), _learned(low=1), _learned(low=2)),
    "absmax": _with_uniform_activations(_uniform),
}

SCHEMES = (FLOAT, *_FORMATS)

# First and last layers, whatever the scheme of the others.
OUTER_SCHEME = "absmax"


@dataclass(frozen=True, kw_only=True)
class LayerPrecision:
    """Scheme and bit-widths of one layer's weights and of its input.

    Parameters
    ----------
    scheme
        One of `SCHEMES`.
    weight_bits, activation_bits
        What the scheme has a format for, or `REAL` for what is not quantized.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range or the scheme has no format of that width.
    """

    scheme: str
    weight_bits: int = 4
    activation_bits: int = 4

    def __post_init__(self) -> None:
        check_scheme(self.scheme)
        for name, bits in (("weight_bits", self.weight_bits), ("activation_bits", self.activation_bits)):
            if bits != REAL:
                check_int(name, bits, low=1, high=MAX_BITS)
        self.formats()

    def formats(self, *, signed: bool = False) -> tuple[Format | None, Format | None]:
        """Formats of weights and of activations; None for what is real or has levels that are learned.

        Parameters
        ----------
        signed
            Whether activations may be negative.
        """
        if self.scheme not in _FORMATS:
            return None, None
        formats = _FORMATS[self.scheme]
        activation = formats.signed_activation if signed else formats.activation
        return (
            None if self.weight_bits == REAL else formats.weight(self.weight_bits),
            None if self.activation_bits == REAL else activation(self.activation_bits),
        )


def widened(scheme: str, own: int, bits: int) -> int:
    """As many bits of a weight, or the most below that the scheme has; at least its own."""
    return next((wider for wider in range(max(own, bits), own, -1) if _has(scheme, wider)), own)


def _has(scheme: str, weight_bits: int) -> bool:
    try:
        LayerPrecision(scheme=scheme, weight_bits=weight_bits, activation_bits=REAL)
    except ValueError:
        return False
    return True


def check_scheme(scheme: str) -> None:
    """Refuse what is none of `SCHEMES` (ValueError)."""
    if scheme not in SCHEMES:
        raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}, not {scheme!r}")

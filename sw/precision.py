"""Quantization schemes by name: which number formats a network of so many bits gets.  Loads no torch."""

from collections.abc import Callable
from dataclasses import dataclass

from hdl.formats import Format, PoT, Uniform, apot, check_int

FLOAT = "float"

# Weight format and activation format of so many bits.  Powers of two are for weights only: a product
# of two would need an accumulator of 33 to 45 bits.
_FORMATS: dict[str, tuple[Callable[[int], Format], Callable[[int], Format]]] = {
    "uniform": (lambda bits: Uniform(bits=bits), lambda bits: Uniform(bits=bits, signed=False)),
    "pot": (lambda bits: PoT(k=bits - 1), lambda bits: Uniform(bits=bits, signed=False)),
    "apot": (lambda bits: apot(bits=bits), lambda bits: apot(bits=bits, signed=False)),
    "lsq": (lambda bits: Uniform(bits=bits), lambda bits: Uniform(bits=bits, signed=False)),
}
SCHEMES = (FLOAT, *_FORMATS)


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Scheme and bit-widths of a network's inner layers.

    Parameters
    ----------
    scheme
        One of `SCHEMES`.
    weight_bits, activation_bits
        2 … 8 and 1 … 8; without meaning if the scheme is float.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range or the scheme has no format of that width.
    """

    scheme: str
    weight_bits: int = 4
    activation_bits: int = 4

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}, not {self.scheme!r}")
        check_int("weight_bits", self.weight_bits, low=2, high=8)
        check_int("activation_bits", self.activation_bits, low=1, high=8)
        if self.quantized:
            self.formats()

    @property
    def quantized(self) -> bool:
        return self.scheme != FLOAT

    def formats(self) -> tuple[Format, Format]:
        """Formats of weights and of activations."""
        weight, activation = _FORMATS[self.scheme]
        return weight(self.weight_bits), activation(self.activation_bits)

    def __str__(self) -> str:
        return f"{self.scheme} {self.weight_bits}/{self.activation_bits}" if self.quantized else FLOAT

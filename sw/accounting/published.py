"""The papers' values, digit by digit as printed, each with its place.  Nothing here is computed.

The papers write MB for both 10^6 and 2^20 bytes; here a size has the unit that it turns out to be in.
"""

from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import NamedTuple

_UNITS = {"M": 10**6, "G": 10**9, "MB": 10**6, "MiB": 2**20, "B": 1, "x": 1, "": 1}


@dataclass(frozen=True)
class Printed:
    """A number as printed: digits, and after a space a unit of ``M G MB MiB B x`` if it has one.

    Members
    -------
    digits : Decimal
    unit : str
    scale : int
        The unit as a number.
    value : Fraction
        The number itself.
    """

    text: str

    @property
    def digits(self) -> Decimal:
        return Decimal(self.text.partition(" ")[0])

    @property
    def unit(self) -> str:
        return self.text.partition(" ")[2]

    @property
    def scale(self) -> int:
        return _UNITS[self.unit]

    @property
    def value(self) -> Fraction:
        return Fraction(self.digits) * self.scale

    def same_digits(self, value: Fraction) -> bool:
        """Whether `value`, rounded or cut off to as many digits, is what is printed."""
        exact = Decimal(value.numerator) / (value.denominator * self.scale)
        return self.digits in {exact.quantize(self.digits, mode) for mode in (ROUND_HALF_UP, ROUND_DOWN)}

    def like(self, value: Fraction) -> str:
        """`value` in the same unit, one digit more exact; bytes have no fractions."""
        places = max(0, -int(self.digits.as_tuple().exponent))
        return f"{float(value / self.scale):.{0 if self.unit == 'B' else places + 1}f} {self.unit}".rstrip()


class Row(NamedTuple):
    """A row of APoT's tables, with weights and activations of as many bits each."""

    network: str
    method: str
    bits: int
    size: str
    fixops: str


APOT = "Li, Dong, Wang: Additive Powers-of-Two Quantization, ICLR 2020"
DMBQ = "Zhao, Yue, Hu: Distribution-aware Adaptive Multi-bit Quantization, CVPR 2021"
LCQ = "Yamamoto: Learnable Companding Quantization, CVPR 2021"

APOT_TABLE_1 = (
    Row("resnet18", "real", 32, "46.8 MB", "1.82 G"),
    Row("resnet18", "uniform", 5, "8.72 MiB", "781 M"),
    Row("resnet18", "uniform", 4, "7.39 MiB", "542 M"),
    Row("resnet18", "uniform", 3, "6.06 MiB", "357 M"),
    Row("resnet18", "uniform", 2, "4.73 MiB", "225 M"),
    Row("resnet18", "PACT+SAWB", 2, "5.36 MiB", "243 M"),
    Row("resnet18", "APoT", 5, "7.22 MiB", "616 M"),
    Row("resnet18", "APoT", 4, "5.89 MiB", "437 M"),
    Row("resnet18", "APoT", 3, "4.56 MiB", "298 M"),
    Row("resnet18", "APoT", 2, "3.23 MiB", "198 M"),
    Row("resnet34", "real", 32, "83.2 MiB", "3.68 G"),
    Row("resnet34", "uniform", 5, "14.8 MiB", "1.50 G"),
    Row("resnet34", "uniform", 4, "12.3 MiB", "1.00 G"),
    Row("resnet34", "uniform", 3, "9.73 MiB", "618 M"),
    Row("resnet34", "uniform", 2, "7.20 MiB", "340 M"),
    Row("resnet34", "APoT", 5, "13.3 MiB", "1.15 G"),
    Row("resnet34", "APoT", 4, "10.8 MiB", "784 M"),
    Row("resnet34", "APoT", 3, "8.23 MiB", "493 M"),
    Row("resnet34", "APoT", 2, "5.70 MiB", "285 M"),
    Row("resnet50", "real", 32, "97.5 MiB", "4.14 G"),
    Row("resnet50", "uniform", 5, "22.2 MiB", "1.67 G"),
    Row("resnet50", "uniform", 4, "19.4 MiB", "1.11 G"),
    Row("resnet50", "uniform", 3, "16.6 MiB", "680 M"),
    Row("resnet50", "uniform", 2, "13.8 MiB", "370 M"),
    Row("resnet50", "PACT+SAWB", 2, "23.7 MiB", "707 M"),
    Row("resnet50", "APoT", 5, "16.3 MiB", "1.28 G"),
    Row("resnet50", "APoT", 4, "13.6 MiB", "866 M"),
    Row("resnet50", "APoT", 3, "10.8 MiB", "540 M"),
    Row("resnet50", "APoT", 2, "7.96 MiB", "308 M"),
)
"""Table 1.  "uniform" is ABC-Nets, DoReFa-Net, PACT, LQ-Net, DSQ and QIL, which print the same values."""

APOT_TABLE_3 = (
    Row("resnet18", "real", 32, "46.8 MB", "1.82 G"),
    Row("resnet18", "APoT", 5, "7.22 MiB", "616 M"),
    Row("resnet18", "PoT", 5, "7.22 MiB", "582 M"),
    Row("resnet18", "uniform", 5, "7.22 MiB", "781 M"),
    Row("resnet18", "Lloyd", 5, "7.22 MiB", "1.81 G"),
    Row("resnet18", "APoT", 3, "4.56 MiB", "298 M"),
    Row("resnet18", "uniform", 3, "4.56 MiB", "357 M"),
    Row("resnet18", "Lloyd", 3, "4.56 MiB", "1.81 G"),
    Row("resnet18", "APoT without WN", 3, "4.56 MiB", "198 M"),
)
"""Table 3, first its column of sizes, then that of FixOPs."""


class Cost(NamedTuple):
    """A row of DMBQ's table of FixOPs; bits are averages."""

    method: str
    bits: str
    fixops: str


DMBQ_TABLE_2 = (
    Cost("real", "32/32", "1.81 G"),
    Cost("DMBQ", "2/2", "224 M"),
    Cost("DMBQ", "3/3", "357 M"),
    Cost("DMBQ", "4/4", "542 M"),
    Cost("DMBQ+LBA", "2.0/2.0", "298 M"),
    Cost("DMBQ+LBA", "3.0/3.0", "413 M"),
)
"""Supplement, Table 2, ResNet-18."""

DMBQ_SPEEDUP_4_4 = "3.34 x"
DMBQ_SPEEDUP_LBA_3_3 = "4.38 x"
"""Supplement, section 4."""


class Size(NamedTuple):
    """A row of DMBQ's poster; a star on the method is the poster's own."""

    network: str
    method: str
    bits: str
    size: str


DMBQ_POSTER = (
    Size("resnet18", "real", "32/32", "46.7 MB"),
    Size("resnet18", "APoT", "3/3", "4.6 MiB"),
    Size("resnet18", "HAWQ", "-", "6.1 MB"),
    Size("resnet18", "AutoQ", "3.7/3.2", "5.7 MB"),
    Size("resnet18", "DMBQ", "3.0/3.0", "4.7 MB"),
    Size("resnet18", "TTQ*", "2/32", "4.9 MB"),
    Size("resnet18", "INQ", "3/32", "4.4 MB"),
    Size("resnet18", "LQ-Net*", "2/32", "4.9 MB"),
    Size("resnet18", "ALQ", "2.0/32", "3.4 MB"),
    Size("resnet18", "DMBQ", "2.0/32", "3.4 MB"),
    Size("resnet18", "BWN*", "1/32", "3.5 MB"),
    Size("resnet18", "HWGQ*", "1/32", "3.5 MB"),
    Size("resnet18", "DSQ*", "1/32", "3.5 MB"),
    Size("resnet18", "ALQ", "1.0/32", "1.8 MB"),
    Size("resnet18", "DMBQ", "1.0/32", "1.8 MB"),
    Size("resnet18", "PACT*", "2/2", "4.9 MB"),
    Size("resnet18", "LQ-Net*", "2/2", "4.9 MB"),
    Size("resnet18", "DSQ*", "2/2", "4.9 MB"),
    Size("resnet18", "AutoQ", "2.2/3.0", "3.6 MB"),
    Size("resnet18", "ALQ", "2.0/2", "3.4 MB"),
    Size("resnet18", "DMBQ", "2.0/2.0", "3.4 MB"),
    Size("resnet18", "PACT*", "1/2", "3.5 MB"),
    Size("resnet18", "LQ-Net*", "1/2", "3.5 MB"),
    Size("resnet18", "ALQ", "1.0/2", "1.8 MB"),
    Size("resnet18", "DMBQ", "1.0/2.0", "1.8 MB"),
    Size("resnet34", "real", "32/32", "87.1 MB"),
    Size("resnet34", "LQ-Net*", "2/2", "7.5 MB"),
    Size("resnet34", "DSQ*", "2/2", "7.4 MB"),
    Size("resnet34", "ALQ", "2.0/2", "6.3 MB"),
    Size("resnet34", "DMBQ", "2.0/2.0", "6.3 MB"),
    Size("resnet34", "HWGQ*", "1/2", "4.8 MB"),
    Size("resnet34", "LQ-Net*", "1/2", "4.8 MB"),
    Size("resnet34", "ALQ", "1.0/2", "3.4 MB"),
    Size("resnet34", "DMBQ", "1.0/2.0", "3.4 MB"),
)
"""Poster, "Evaluation on ILSVRC12"."""


class Lookup(NamedTuple):
    """A row of LCQ's table of memory, with the network's size in real numbers at its head."""

    network: str
    bits: int
    with_tables: str
    without_tables: str
    tables: str


LCQ_REAL = {
    "resnet18": "44.59 MiB",
    "resnet34": "83.15 MiB",
    "resnet50": "97.46 MiB",
    "mobilenet_v2": "13.37 MiB",
}
LCQ_TABLE_S1 = (
    Lookup("resnet18", 2, "3.19 MiB", "3.19 MiB", "114 B"),
    Lookup("resnet18", 3, "4.52 MiB", "4.52 MiB", "798 B"),
    Lookup("resnet18", 4, "5.85 MiB", "5.85 MiB", "3990 B"),
    Lookup("resnet34", 2, "5.63 MiB", "5.63 MiB", "210 B"),
    Lookup("resnet34", 3, "8.16 MiB", "8.16 MiB", "1470 B"),
    Lookup("resnet34", 4, "10.70 MiB", "10.69 MiB", "7350 B"),
    Lookup("resnet50", 2, "7.73 MiB", "7.73 MiB", "312 B"),
    Lookup("resnet50", 3, "10.52 MiB", "10.52 MiB", "2184 B"),
    Lookup("resnet50", 4, "13.33 MiB", "13.32 MiB", "10920 B"),
    Lookup("mobilenet_v2", 4, "2.41 MiB", "2.40 MiB", "10920 B"),
)
"""Supplement, Table S1."""

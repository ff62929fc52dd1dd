"""Bytes of a quantized model, and the different counts of the papers."""

from dataclasses import dataclass
from fractions import Fraction

from hdl.formats import Companded

from ..architectures import Architecture

REAL_BITS = 32


@dataclass(frozen=True, kw_only=True)
class Count:
    """What a paper counts besides the quantized weights.

    Members
    -------
    formula : str
        The same in short: bits of the first and last layer, and of the last layer's bias if it is left out;
        real values per normalized channel.
    outer_bits : int
        Bits of a weight of the first or the last layer.
    bias_bits : int
        Bits of a bias of the last layer.
    per_channel : int
        Real values of 32 bits for each normalized channel: 2 are gain and offset, 4 mean and variance too.
    """

    formula: str
    outer_bits: int
    bias_bits: int
    per_channel: int


APOT_OTHERS = Count(formula="32 outside, 4 BN", outer_bits=32, bias_bits=32, per_channel=4)
APOT_OWN = Count(formula="8 outside, 4 BN", outer_bits=8, bias_bits=8, per_channel=4)
LCQ = Count(formula="8 outside, no bias, 2 BN", outer_bits=8, bias_bits=0, per_channel=2)
DMBQ = Count(formula="8 outside, 2 BN", outer_bits=8, bias_bits=8, per_channel=2)
DMBQ_STARRED = Count(formula="32 outside, 2 BN", outer_bits=32, bias_bits=32, per_channel=2)
INQ = Count(formula="3 outside, 2 BN", outer_bits=3, bias_bits=3, per_channel=2)
"""Incremental quantization treats every layer alike."""


def model_bytes(
    architecture: Architecture, count: Count, weight_bits: Fraction | int, *, real_shortcuts: bool = False
) -> Fraction:
    """Bytes with `weight_bits` for each quantized weight, which may be an average.

    With `real_shortcuts`, weights beside the blocks have 32 bits.
    """
    outer = architecture.first.weights + architecture.last.weights
    bits = Fraction(outer * count.outer_bits + architecture.last.outputs * count.bias_bits)
    bits += architecture.normalized * count.per_channel * REAL_BITS
    for layer in architecture.inner:
        bits += layer.weights * (REAL_BITS if real_shortcuts and layer.shortcut else weight_bits)
    return bits / 8


def real_bytes(architecture: Architecture) -> int:
    """Bytes with every parameter in 32 bits."""
    return architecture.parameters * REAL_BITS // 8


def product_table_bytes(weights: Companded, activations: Companded) -> int:
    """Bytes of LCQ's table of products of two codebooks (supplement, Table S1).

    One product for each pair of magnitudes that are not zero, in as many bytes as the outer bits of both
    fill: 2 for 8 and 8.  The sign is kept outside.
    """
    pairs = (len(weights.magnitudes) - 1) * (len(activations.magnitudes) - 1)
    return pairs * -(-(weights.outer_bits + activations.outer_bits) // 8)


def lookup_bytes(architecture: Architecture, weight_bits: int, activation_bits: int) -> int:
    """Bytes of the product tables of a published network: one in every inner layer."""
    weights = Companded(magnitudes=tuple(range(2 ** (weight_bits - 1))))
    activations = Companded(magnitudes=tuple(range(2**activation_bits)), signed=False)
    return len(architecture.inner) * product_table_bytes(weights, activations)

"""The same accounting for a network of one's own, from its integers."""

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from hdl.formats import APoT, Companded, Format, named
from hdl.parameters import BIAS_WIDTH, MULTIPLIER_WIDTH, SHIFT_WIDTH

from .fixops import APOT_PRINTED, POT_PRINTED, UNIFORM, shift_add_cost
from .sizes import product_table_bytes

if TYPE_CHECKING:
    from ..network import IntegerLayer, IntegerNetwork

CHANNEL_BITS = MULTIPLIER_WIDTH + BIAS_WIDTH + SHIFT_WIDTH

# A format whose levels are looked up multiplies the levels; all the others are counted by the bits of a code.
COUNTED_BY_CODE = ("uniform", "apot", "pot", "basis")
RULES = {"apot": APOT_PRINTED, "pot": POT_PRINTED}


@dataclass(frozen=True, kw_only=True)
class LayerUsage:
    """What one layer costs.

    Members
    -------
    name, weight_format, input_format : str
    weights, macs : int
        Number of weights, and multiply-accumulates for one image.
    formula : str
        FixOPs of one multiply-accumulate by the papers' tables, by scheme of the weights.
    fixops : Fraction
        FixOPs for one image by that formula.
    text_fixops : Fraction
        The same by the text of the APoT paper: ``n·a/64`` with the n terms of an APoT weight.
    weight_bytes : int
        The codes of the weights, packed without gaps.
    channel_bytes : int
        Multiplier, bias and shift of every output channel, packed without gaps.
    lookup_bytes : int
        The table of products of weights and inputs, if both are companded; 0 otherwise.
    """

    name: str
    weight_format: str
    input_format: str
    weights: int
    macs: int
    formula: str
    fixops: Fraction
    text_fixops: Fraction
    weight_bytes: int
    channel_bytes: int
    lookup_bytes: int


def network_usage(network: "IntegerNetwork") -> list[LayerUsage]:
    """What each layer costs, in order."""
    usages = []
    _, height, width = network.input_shape
    for layer in network.layers:
        _, _, *kernel = layer.weights.shape
        height, width = (
            (size + 2 * layer.padding - length) // layer.stride + 1
            for size, length in zip((height, width), kernel, strict=True)
        )
        usages.append(_layer_usage(layer, positions=height * width))
    return usages


def _layer_usage(layer: "IntegerLayer", *, positions: int) -> LayerUsage:
    weight, activation = named(layer.weight_format), named(layer.input_format)
    bits = counted_bits(weight), counted_bits(activation)
    rule = RULES.get(_scheme(weight), UNIFORM)
    cost = text_cost = rule.cost(*bits)
    if isinstance(weight, APoT):
        text_cost = shift_add_cost(Fraction(weight.magnitude_width, weight.k), bits[1])
    weights = layer.weights.size
    return LayerUsage(
        name=layer.name,
        weight_format=weight.name,
        input_format=activation.name,
        weights=weights,
        macs=weights * positions,
        formula=rule.formula,
        fixops=weights * positions * cost,
        text_fixops=weights * positions * text_cost,
        weight_bytes=_bytes(weights * weight.code_width),
        channel_bytes=_bytes(len(layer.weights) * CHANNEL_BITS),
        lookup_bytes=(
            product_table_bytes(weight, activation)
            if isinstance(weight, Companded) and isinstance(activation, Companded)
            else 0
        ),
    )


def counted_bits(fmt: Format) -> int:
    """Bits that a multiplication is counted with: those of a code, or of a level that is looked up."""
    return fmt.code_width if _scheme(fmt) in COUNTED_BY_CODE else fmt.level_width + fmt.signed


def _scheme(fmt: Format) -> str:
    return fmt.name.partition("_")[0]


def _bytes(bits: int) -> int:
    return -(-bits // 8)

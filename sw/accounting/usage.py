"""The same accounting for a network of one's own, from its integers."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from operator import attrgetter

from hdl.formats import APoT, Companded, Format, named
from hdl.parameters import BIAS_WIDTH, MULTIPLIER_WIDTH, SHIFT_WIDTH

from ..compiler.shapes import output_shape, tensor_shapes
from ..graph import IMAGE, Convolution, IntegerGraph
from .fixops import APOT_PRINTED, POT_PRINTED, UNIFORM, shift_add_cost
from .sizes import product_table_bytes

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
        Formats by name; in words, with a blank, for real numbers and for channels of different bits.
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


def network_usage(graph: IntegerGraph) -> list[LayerUsage]:
    """What each layer with weights costs, in order."""
    formats, shapes = {IMAGE: graph.input_format}, tensor_shapes(graph)
    usages = []
    for node in graph.nodes:
        formats |= {encoding.tensor: encoding.format for encoding in node.encodings}
        if isinstance(node, Convolution):
            _, height, width = output_shape(node, shapes[node.source])
            usages.append(
                layer_usage(
                    node.name,
                    named(node.weight_format),
                    max((named(formats[source]) for source in node.sources), key=attrgetter("code_width")),
                    weights=node.weights.size,
                    macs=node.weights.size * height * width,
                    outputs=len(node.weights),
                )
            )
    return usages


def layer_usage(
    name: str, weight: Format, activation: Format, *, weights: int, macs: int, outputs: int
) -> LayerUsage:
    """What a layer of these formats costs; `outputs` counts its channels."""
    bits = counted_bits(weight), counted_bits(activation)
    rule = RULES.get(_scheme(weight), UNIFORM)
    cost = text_cost = rule.cost(*bits)
    if isinstance(weight, APoT):
        text_cost = shift_add_cost(Fraction(weight.magnitude_width, weight.k), bits[1])
    return LayerUsage(
        name=name,
        weight_format=weight.name,
        input_format=activation.name,
        weights=weights,
        macs=macs,
        formula=rule.formula,
        fixops=macs * cost,
        text_fixops=macs * text_cost,
        weight_bytes=whole_bytes(weights * weight.code_width),
        channel_bytes=whole_bytes(outputs * CHANNEL_BITS),
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


def whole_bytes(bits: int | Fraction) -> int:
    """So many bits packed without gaps."""
    return ceil(Fraction(bits) / 8)

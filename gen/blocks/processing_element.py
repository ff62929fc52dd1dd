"""Processing elements: one product a cycle and an accumulator."""

from dataclasses import dataclass

from ..block import Block, Circuit
from ..weights import (
    ApotWeights,
    PotWeights,
    SignMagnitudeWeights,
    TableWeights,
    UniformWeights,
    accumulated,
    described,
)


@dataclass(frozen=True, kw_only=True)
class Size:
    """What every processing element and dot product has besides its weight format.

    Parameters
    ----------
    activation_width
        Bits of an unsigned activation.
    depth
        The most products that are ever summed; the accumulator holds every such sum.
    accumulator_width
        Bits of the accumulator, if more than the depth needs.
    """

    activation_width: int = 8
    depth: int = 4096
    accumulator_width: int | None = None


@dataclass(frozen=True, kw_only=True)
class ApotElement(Size, ApotWeights):
    """Parameters of apot_pe."""


@dataclass(frozen=True, kw_only=True)
class PotElement(Size, PotWeights):
    """Parameters of pot_pe."""


@dataclass(frozen=True, kw_only=True)
class UniformElement(Size, UniformWeights):
    """Parameters of uniform_pe."""


@dataclass(frozen=True, kw_only=True)
class SignMagnitudeElement(Size, SignMagnitudeWeights):
    """Parameters of signmag_pe."""


@dataclass(frozen=True, kw_only=True)
class TableElement(Size, TableWeights):
    """Parameters of table_pe."""


Parameters = ApotElement | PotElement | UniformElement | SignMagnitudeElement | TableElement


def build(parameters: Parameters) -> Circuit:
    """The processing element of any weight format."""
    from hdl.pe import ProcessingElement
    from hdl.products import TableProduct, product_for

    product = TableProduct if isinstance(parameters, TableWeights) else product_for
    element = ProcessingElement(
        product=product(weight_format=parameters.weight_format, activation_width=parameters.activation_width),
        depth=parameters.depth,
        accumulator_width=parameters.accumulator_width,
    )
    accumulator = accumulated(
        parameters.weight_format,
        activation_width=parameters.activation_width,
        depth=parameters.depth,
        width=len(element.accumulator),
    )
    return Circuit(
        component=element,
        facts={
            "latency": element.latency,
            **described(parameters.weight_format),
            "accumulator": accumulator,
        },
        flat=True,
    )


BLOCKS = (
    Block(
        name="apot_pe",
        summary="processing element for additive powers of two: shifts and adds",
        parameters=ApotElement,
        build=build,
        examples=("--k 2 --n 2", "--k 2 --n 1 --odd --activation-width 4 -o build/apot.v"),
    ),
    Block(
        name="pot_pe",
        summary="processing element for powers of two: one shift, and a wide accumulator",
        parameters=PotElement,
        build=build,
        examples=("--k 3", "--k 2 --depth 1024 -o -"),
    ),
    Block(
        name="uniform_pe",
        summary="processing element for plain integers: a multiplier, the baseline",
        parameters=UniformElement,
        build=build,
        examples=("--bits 4", "--bits 8 --accumulator-width 32"),
    ),
    Block(
        name="signmag_pe",
        summary="processing element for integers in sign and magnitude: a multiplier without signs",
        parameters=SignMagnitudeElement,
        build=build,
        examples=("--bits 4", "--bits 5 --activation-width 4"),
    ),
    Block(
        name="table_pe",
        summary="processing element for any levels: a table and a multiplier",
        parameters=TableElement,
        build=build,
        examples=("--levels 0,1,2,4,0,-1,-2,-4", "--format apot_k2n2"),
    ),
)

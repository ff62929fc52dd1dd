"""Companded codes: the level decoder, and sums of products by tables that are loaded at run time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..block import Block, Circuit

if TYPE_CHECKING:
    from hdl.companding import Companding


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """Parameters of lut_decoder.

    Parameters
    ----------
    bits
        Bits of a code: an index and, unless unsigned, a sign on top.
    outer_bits
        Bits of a level, its sign included.
    lanes
        Codes a cycle.
    banks
        Tables to switch between.
    unsigned
        Codes and levels have no sign, as those of activations.
    registers
        Keep tables in registers, for devices without distributed memory, such as iCE40.
    """

    bits: int = 4
    outer_bits: int = 8
    lanes: int = 1
    banks: int = 1
    unsigned: bool = False
    registers: bool = False


@dataclass(frozen=True, kw_only=True)
class Element:
    """Parameters of lcq_pe.

    Parameters
    ----------
    weight_bits
        Bits of a weight's code: an index and a sign on top.
    activation_bits
        Bits of an activation's code, which is an index.
    outer_bits
        Bits of a weight's level, its sign included.
    activation_outer_bits
        Bits of an activation's level.
    banks
        Tables to switch between.
    depth
        The most products that are ever summed; the accumulator holds every such sum.
    accumulator_width
        Bits of the accumulator, if more than the depth needs.
    registers
        Keep tables in registers, for devices without distributed memory, such as iCE40.
    """

    weight_bits: int = 4
    activation_bits: int = 4
    outer_bits: int = 8
    activation_outer_bits: int = 8
    banks: int = 1
    depth: int = 4096
    accumulator_width: int | None = None
    registers: bool = False

    @property
    def companding(self) -> "Companding":
        from hdl.companding import Companding

        return Companding(
            weight_bits=self.weight_bits,
            activation_bits=self.activation_bits,
            outer_bits=self.outer_bits,
            activation_outer_bits=self.activation_outer_bits,
            banks=self.banks,
            registers=self.registers,
        )


@dataclass(frozen=True, kw_only=True)
class Dot(Element):
    """Parameters of lcq_dot and product_dot.

    Parameters
    ----------
    lanes
        Products a cycle.
    """

    lanes: int = 16


def build_decoder(parameters: Decoder) -> Circuit:
    """The decoder from codes to levels."""
    from hdl.companding import LutDecoder

    index = parameters.bits - (not parameters.unsigned)
    decoder = LutDecoder(
        bits=parameters.bits,
        outer_bits=parameters.outer_bits,
        lanes=parameters.lanes,
        banks=parameters.banks,
        signed=not parameters.unsigned,
        registers=parameters.registers,
    )
    word = "level" if parameters.unsigned else "magnitude"
    return Circuit(
        component=decoder,
        facts={
            "latency": decoder.latency,
            "code_layout": _layout(index, signed=not parameters.unsigned),
            **_tables({"write": _table(decoder.write, index, f"{word} of the index i")}),
        },
        lanes={"codes": parameters.lanes, "levels": parameters.lanes},
        flat=True,
    )


def build_element(parameters: Element) -> Circuit:
    """The processing element of two decoders and a multiplier."""
    from hdl.companding_dot import CompandedElement

    element = CompandedElement(
        companding=parameters.companding,
        depth=parameters.depth,
        accumulator_width=parameters.accumulator_width,
    )
    return Circuit(component=element, facts=_facts(element, _level_tables(element)), flat=True)


def build_dot(parameters: Dot) -> Circuit:
    """The dot product of decoders and multipliers."""
    from hdl.companding_dot import CompandedDot

    dot = CompandedDot(
        companding=parameters.companding,
        lanes=parameters.lanes,
        depth=parameters.depth,
        accumulator_width=parameters.accumulator_width,
    )
    return Circuit(component=dot, facts=_facts(dot, _level_tables(dot)), lanes=_lanes(parameters), flat=True)


def build_product_dot(parameters: Dot) -> Circuit:
    """The dot product of product tables."""
    from hdl.companding_dot import ProductDot

    dot = ProductDot(
        companding=parameters.companding,
        lanes=parameters.lanes,
        depth=parameters.depth,
        accumulator_width=parameters.accumulator_width,
    )
    index, rank = parameters.weight_bits - 1, parameters.activation_bits
    contents = (
        f"magnitude of the weight of index i % {2**index} times "
        f"level of the activation of rank i // {2**index}"
    )
    tables = {"write": _table(dot.write, index + rank, contents)}
    return Circuit(component=dot, facts=_facts(dot, tables), lanes=_lanes(parameters), flat=True)


def _lanes(parameters: Dot) -> dict[str, int]:
    return {"weights": parameters.lanes, "activations": parameters.lanes}


def _facts(unit: Any, tables: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "latency": unit.latency,
        "weight_layout": _layout(unit.companding.index_width, signed=True),
        "activation_layout": _layout(unit.companding.activation_bits, signed=False),
        **_tables(tables),
    }


def _layout(index: int, *, signed: bool) -> list[dict[str, Any]]:
    """Fields of a code, from the lowest bit up."""
    sign = [{"name": "sign", "lsb": index, "width": 1}] if signed else []
    return [{"name": "index" if signed else "rank", "lsb": 0, "width": index}, *sign]


def _level_tables(unit: Any) -> dict[str, Any]:
    companding = unit.companding
    return {
        "weight_write": _table(
            unit.weight_write, companding.index_width, "magnitude of the weight of index i"
        ),
        "activation_write": _table(
            unit.activation_write, companding.activation_bits, "level of the activation of rank i"
        ),
    }


def _table(write: Any, width: int, contents: str) -> dict[str, Any]:
    """What a user must know to load a table of `2^width` words a bank."""
    return {
        "words": 2**width,
        "word_width": len(write.data),
        "address": f"{2**width} * bank + i",
        "contents": contents,
    }


def _tables(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Tables by the prefix of their write ports' names, and when a written word counts."""
    from hdl.companding import WRITE_RULE

    return {"tables": dict(tables), "writing": WRITE_RULE}


BLOCKS = (
    Block(
        name="lut_decoder",
        summary="decoder from companded codes to levels by tables that are loaded at run time",
        parameters=Decoder,
        build=build_decoder,
        examples=("--bits 4 --lanes 16", "--bits 3 --outer-bits 10 --banks 4 --unsigned"),
    ),
    Block(
        name="lcq_pe",
        summary="processing element for companded codes: two level tables and a multiplier",
        parameters=Element,
        build=build_element,
        examples=("", "--weight-bits 3 --activation-bits 3 --outer-bits 6 --banks 2"),
    ),
    Block(
        name="lcq_dot",
        summary="dot product for companded codes: level tables and multipliers",
        parameters=Dot,
        build=build_dot,
        examples=("--weight-bits 4 --activation-bits 4", "--weight-bits 2 --activation-bits 2 --lanes 8"),
    ),
    Block(
        name="product_dot",
        summary="dot product for companded codes: a table of products in place of multipliers",
        parameters=Dot,
        build=build_product_dot,
        examples=("--weight-bits 2 --activation-bits 2", "--weight-bits 3 --activation-bits 3 --banks 2"),
    ),
)

"""Dot products: rows of many products a cycle, adder trees and accumulators."""

from dataclasses import dataclass
from typing import Any

from hdl.formats import Format

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
from .processing_element import Size


@dataclass(frozen=True, kw_only=True)
class Rows(Size):
    """A dot product's size.

    Parameters
    ----------
    lanes
        Products of a row each cycle.
    rows
        Sums computed side by side from the same activations.
    """

    lanes: int = 16
    rows: int = 1


@dataclass(frozen=True, kw_only=True)
class FoldableRows(Rows):
    """A dot product's size, when its products can be folded.

    Parameters
    ----------
    folded
        Leave out the correction of negative weights, which the packer subtracts from the bias: smaller.
    """

    folded: bool = False


@dataclass(frozen=True, kw_only=True)
class ApotDot(FoldableRows, ApotWeights):
    """Parameters of apot_dot."""


@dataclass(frozen=True, kw_only=True)
class PotDot(FoldableRows, PotWeights):
    """Parameters of pot_dot."""


@dataclass(frozen=True, kw_only=True)
class UniformDot(Rows, UniformWeights):
    """Parameters of uniform_dot."""


@dataclass(frozen=True, kw_only=True)
class SignMagnitudeDot(Rows, SignMagnitudeWeights):
    """Parameters of signmag_dot."""


@dataclass(frozen=True, kw_only=True)
class TableDot(Rows, TableWeights):
    """Parameters of table_dot."""


def size(parameters: Rows) -> dict[str, Any]:
    """The size of a dot product, as its circuit takes it."""
    return {
        "activation_width": parameters.activation_width,
        "lanes": parameters.lanes,
        "rows": parameters.rows,
        "depth": parameters.depth,
        "accumulator_width": parameters.accumulator_width,
    }


def circuit(parameters: Rows, dot: Any, *, weight_format: Format | None = None, **facts: Any) -> Circuit:
    """A dot product with what its description says; `weight_format` if the format is known beforehand."""
    shape = dot.accumulator_shape
    accumulator: dict[str, Any] = {"width": shape.width, "signed": shape.signed}
    if weight_format is not None:
        facts = {**described(weight_format), **facts}
        accumulator = accumulated(
            weight_format,
            activation_width=parameters.activation_width,
            depth=parameters.depth,
            **accumulator,
        )
    lanes = {"activations": parameters.lanes, "accumulators": parameters.rows}
    if hasattr(dot, "weights"):
        lanes["weights"] = parameters.rows * parameters.lanes
    return Circuit(
        component=dot,
        facts={
            "latency": dot.latency,
            **facts,
            "accumulator": accumulator,
        },
        lanes=lanes,
        flat=True,
    )


def build_shift(parameters: ApotDot | PotDot) -> Circuit:
    """The dot product of shifted activations."""
    from hdl.shift import ShiftDot

    weight_format = parameters.weight_format
    dot = ShiftDot(weight_format=weight_format, folded=parameters.folded, **size(parameters))
    facts: dict[str, Any] = {"folded": parameters.folded}
    if parameters.folded:
        largest = 2**parameters.activation_width - 1
        excess = [largest * max(0, -level) for level in weight_format.levels]
        facts["fold"] = fold([[excess, excess]])
    return circuit(parameters, dot, weight_format=weight_format, **facts)


def fold(excess: list[list[list[int]]], *, multiple: int = 1) -> dict[str, Any]:
    """What a folded accumulator holds: `excess` by plane (one, unless serial), lane modulo 2, and code."""
    return {
        "accumulator": "multiple * sum + excess[plane][lane % 2][code] of every lane of every enabled cycle",
        "multiple": multiple,
        "excess": excess,
    }


def build_products(parameters: UniformDot | SignMagnitudeDot | TableDot) -> Circuit:
    """The dot product of one multiplying circuit for each lane."""
    from hdl.dot import DotProduct
    from hdl.products import TableProduct, product_for

    weight_format = parameters.weight_format
    product = TableProduct if isinstance(parameters, TableDot) else product_for
    dot = DotProduct(weight_format=weight_format, product=product, **size(parameters))
    return circuit(parameters, dot, weight_format=weight_format, folded=False)


BLOCKS = (
    Block(
        name="apot_dot",
        summary="dot product for additive powers of two: shifts and adds",
        parameters=ApotDot,
        build=build_shift,
        examples=("--k 2 --n 2", "--k 2 --n 1 --odd --lanes 32 --rows 4 --folded"),
    ),
    Block(
        name="pot_dot",
        summary="dot product for powers of two: one shift a lane, and a wide accumulator",
        parameters=PotDot,
        build=build_shift,
        examples=("--k 2", "--k 2 --activation-width 4 --folded"),
    ),
    Block(
        name="uniform_dot",
        summary="dot product for plain integers: multipliers, the baseline",
        parameters=UniformDot,
        build=build_products,
        examples=("--bits 4", "--bits 8 --lanes 8 --rows 2"),
    ),
    Block(
        name="signmag_dot",
        summary="dot product for integers in sign and magnitude: multipliers without signs",
        parameters=SignMagnitudeDot,
        build=build_products,
        examples=("--bits 4", "--bits 5 --activation-width 4"),
    ),
    Block(
        name="table_dot",
        summary="dot product for any levels: tables and multipliers",
        parameters=TableDot,
        build=build_products,
        examples=("--levels 0,1,2,4,0,-1,-2,-4 --lanes 8", "--format apot_k2n2"),
    ),
)

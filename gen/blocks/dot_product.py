"""Dot products: many products a cycle, an adder tree and one accumulator."""

from dataclasses import dataclass
from typing import Any

from hdl.formats import Format

from ..block import Block, Circuit
from ..weights import ApotWeights, PotWeights, TableWeights, UniformWeights, described
from .processing_element import Size


@dataclass(frozen=True, kw_only=True)
class Lanes(Size):
    """A dot product's size.

    Parameters
    ----------
    lanes
        Products a cycle.
    """

    lanes: int = 16


@dataclass(frozen=True, kw_only=True)
class FoldableLanes(Lanes):
    """A dot product's size, when its products can be folded.

    Parameters
    ----------
    folded
        Leave out the correction of negative weights, which the packer subtracts from the bias: smaller.
    """

    folded: bool = False


@dataclass(frozen=True, kw_only=True)
class ApotDot(FoldableLanes, ApotWeights):
    """Parameters of apot_dot."""


@dataclass(frozen=True, kw_only=True)
class PotDot(FoldableLanes, PotWeights):
    """Parameters of pot_dot."""


@dataclass(frozen=True, kw_only=True)
class UniformDot(Lanes, UniformWeights):
    """Parameters of uniform_dot."""


@dataclass(frozen=True, kw_only=True)
class TableDot(Lanes, TableWeights):
    """Parameters of table_dot."""


Parameters = ApotDot | PotDot | UniformDot | TableDot


def build(parameters: Parameters) -> Circuit:
    """The dot product of any weight format."""
    from hdl.dot import DotProduct
    from hdl.products import TableProduct

    dot = DotProduct(
        weight_format=parameters.weight_format,
        activation_width=parameters.activation_width,
        lanes=parameters.lanes,
        depth=parameters.depth,
        accumulator_width=parameters.accumulator_width,
        folded=isinstance(parameters, FoldableLanes) and parameters.folded,
        product=TableProduct if isinstance(parameters, TableWeights) else None,
    )
    return Circuit(
        component=dot,
        facts={
            "latency": dot.latency,
            **described(parameters.weight_format),
            "folded": dot.folded,
            **(_folding(parameters.weight_format, parameters.activation_width) if dot.folded else {}),
        },
        lanes={"weights": parameters.lanes, "activations": parameters.lanes},
        flat=True,
    )


def _folding(weight_format: Format, activation_width: int) -> dict[str, Any]:
    """What a folded accumulator holds too much, per product, by weight code."""
    largest = 2**activation_width - 1
    return {
        "fold": {
            "excess": "(2^activation_width - 1) * max(0, -level), summed over every product",
            "excess_by_code": [largest * max(0, -level) for level in weight_format.levels],
        }
    }


BLOCKS = (
    Block(
        name="apot_dot",
        summary="dot product for additive powers of two: shifts and adds",
        parameters=ApotDot,
        build=build,
        examples=("--k 2 --n 2", "--k 2 --n 1 --odd --lanes 32 --folded"),
    ),
    Block(
        name="pot_dot",
        summary="dot product for powers of two: one shift a lane",
        parameters=PotDot,
        build=build,
        examples=("--k 2", "--k 2 --activation-width 4 --folded"),
    ),
    Block(
        name="uniform_dot",
        summary="dot product for plain integers: multipliers, the baseline",
        parameters=UniformDot,
        build=build,
        examples=("--bits 4", "--bits 8 --lanes 8"),
    ),
    Block(
        name="table_dot",
        summary="dot product for any levels: tables and multipliers",
        parameters=TableDot,
        build=build,
        examples=("--levels 0,1,2,4,0,-1,-2,-4 --lanes 8", "--format apot_k2n2"),
    ),
)

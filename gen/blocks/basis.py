"""Dot products on multi-bit binary bases, several rows of them behind one front end."""

from dataclasses import dataclass
from typing import Any

from ..block import Block, Circuit
from ..weights import BasisWeights, described
from .dot_product import Lanes


@dataclass(frozen=True, kw_only=True)
class Rows(Lanes, BasisWeights):
    """A dot product's size, with rows.

    Parameters
    ----------
    rows
        Sums computed side by side from the same activations.
    """

    rows: int = 1


@dataclass(frozen=True, kw_only=True)
class BasisDot(Rows):
    """Parameters of basis_dot.

    Parameters
    ----------
    serial
        Take one plane of the weights a cycle, in place of all at once.
    folded
        Leave out the correction of minuses, which the packer subtracts from the bias: smaller.
    """

    serial: bool = False
    folded: bool = False


def build_basis(parameters: BasisDot) -> Circuit:
    """The dot product of selected pair sums."""
    from hdl.basis import BasisDot as Component

    dot = Component(
        weight_format=parameters.weight_format,
        activation_width=parameters.activation_width,
        lanes=parameters.lanes,
        rows=parameters.rows,
        depth=parameters.depth,
        accumulator_width=parameters.accumulator_width,
        serial=parameters.serial,
        folded=parameters.folded,
    )
    fold = {
        "excess": "A_i * (2^activation_width - lane mod 2), summed over every bit of a weight that is 0",
        "excess_by_plane_of_even_lane": [
            a << parameters.activation_width for a in dot.weight_format.coordinates
        ],
        "excess_by_plane_of_odd_lane": [
            a * (2**parameters.activation_width - 1) for a in dot.weight_format.coordinates
        ],
    }
    return _circuit(parameters, dot, serial=parameters.serial, **({"fold": fold} if dot.folded else {}))


@dataclass(frozen=True, kw_only=True)
class PopcountDot(Rows):
    """Parameters of popcount_dot."""


def build_popcount(parameters: PopcountDot) -> Circuit:
    """The dot product of counted ones."""
    from hdl.popcount import PopcountDot as Component

    dot = Component(
        weight_format=parameters.weight_format,
        activation_width=parameters.activation_width,
        lanes=parameters.lanes,
        rows=parameters.rows,
        depth=parameters.depth,
        accumulator_width=parameters.accumulator_width,
    )
    return _circuit(parameters, dot)


def _circuit(parameters: Rows, dot: Any, **facts: Any) -> Circuit:
    shape = dot.accumulator_shape
    return Circuit(
        component=dot,
        facts={
            "latency": dot.latency,
            **described(parameters.weight_format),
            "coordinates": list(parameters.weight_format.coordinates),
            "accumulator": {"width": shape.width, "signed": shape.signed},
            **facts,
        },
        lanes={
            "weights": parameters.rows * parameters.lanes,
            "activations": parameters.lanes,
            "accumulators": parameters.rows,
        },
        flat=True,
    )


BLOCKS = (
    Block(
        name="basis_dot",
        summary="dot product for binary bases: planes of signs select sums of pairs",
        parameters=BasisDot,
        build=build_basis,
        examples=(
            "--family laplace --planes 2",
            "--coordinates 5,8 --lanes 32 --rows 4 --folded",
            "--family gauss --planes 3 --serial",
        ),
    ),
    Block(
        name="popcount_dot",
        summary="dot product for binary bases: counts of ones, plane against plane",
        parameters=PopcountDot,
        build=build_popcount,
        examples=(
            "--family laplace --planes 2 --activation-width 2",
            "--coordinates 1,2 --activation-width 4 --lanes 32 --rows 4",
        ),
    ),
)

"""Dot products on planes of bits: multi-bit binary bases, and plain integers, and their shared front end."""

from dataclasses import dataclass
from typing import Any

from hdl.formats import Basis, Uniform

from ..block import Block, Circuit
from ..weights import BasisWeights, UniformWeights
from .dot_product import FoldableRows, Rows, circuit, fold, size


@dataclass(frozen=True, kw_only=True)
class Parts(FoldableRows):
    """Which part of a dot product on planes to write.

    Parameters
    ----------
    rows_only
        Leave out the front end, for designs whose rows share one from elsewhere (see pair_tables).
    """

    rows_only: bool = False


@dataclass(frozen=True, kw_only=True)
class BasisDot(Parts, BasisWeights):
    """Parameters of basis_dot.

    Parameters
    ----------
    serial
        Take one plane of the weights a cycle, in place of all at once.
    """

    serial: bool = False


def build_basis(parameters: BasisDot) -> Circuit:
    """The dot product of selected pair sums, for bases."""
    weight_format = parameters.weight_format
    dot = _planes(parameters, weight_format, serial=parameters.serial)
    facts: dict[str, Any] = {
        "coordinates": list(weight_format.coordinates),
        "serial": parameters.serial,
        "folded": parameters.folded,
    }
    if parameters.folded:
        units = [2**parameters.activation_width - odd for odd in (0, 1)]
        planes = [[[a * unit, 0] for unit in units] for a in weight_format.coordinates]
        facts["fold"] = fold(planes if parameters.serial else [_by_code(planes)])
    return circuit(parameters, dot, weight_format=weight_format, **facts)


def _by_code(planes: list[list[list[int]]]) -> list[list[int]]:
    """What a code's bits add up to: `planes` holds it by plane, lane modulo 2, and bit."""
    return [
        [
            sum(plane[odd][code >> number & 1] for number, plane in enumerate(planes))
            for code in range(2 ** len(planes))
        ]
        for odd in (0, 1)
    ]


@dataclass(frozen=True, kw_only=True)
class UniformPlanesDot(Parts, UniformWeights):
    """Parameters of uniform_planes_dot."""


def build_uniform(parameters: UniformPlanesDot) -> Circuit:
    """The dot product of selected pair sums, for plain integers."""
    weight_format = Uniform(bits=parameters.bits)
    dot = _planes(parameters, weight_format)
    facts: dict[str, Any] = {"folded": parameters.folded}
    if parameters.folded:
        units = [2**parameters.activation_width - odd for odd in (0, 1)]
        planes = [[[unit << bit, 0] for unit in units] for bit in range(parameters.bits)]
        planes[-1] = [list(reversed(each)) for each in planes[-1]]
        whole = 2**parameters.activation_width - 1
        excess = [[each + whole for each in codes] for codes in _by_code(planes)]
        facts["fold"] = fold([excess], multiple=2)
    return circuit(parameters, dot, weight_format=weight_format, **facts)


def _planes(parameters: Parts, weight_format: Basis | Uniform, *, serial: bool = False) -> Any:
    from hdl.planes import PlaneDot, PlaneRows

    unit = PlaneRows if parameters.rows_only else PlaneDot
    return unit(weight_format=weight_format, folded=parameters.folded, serial=serial, **size(parameters))


@dataclass(frozen=True, kw_only=True)
class PairTables:
    """Parameters of pair_tables.

    Parameters
    ----------
    activation_width
        Bits of an unsigned activation.
    lanes
        Activations a cycle.
    folded
        For folded rows.
    with_total
        For rows of plain integers, which need the sum of all activations too.
    """

    activation_width: int = 8
    lanes: int = 16
    folded: bool = False
    with_total: bool = False


def build_tables(parameters: PairTables) -> Circuit:
    """The front end alone."""
    from hdl.pairs import PairTables as Component

    tables = Component(
        activation_width=parameters.activation_width,
        lanes=parameters.lanes,
        folded=parameters.folded,
        with_total=parameters.with_total,
    )
    pairs = (parameters.lanes + 1) // 2
    return Circuit(
        component=tables,
        facts={"latency": tables.latency},
        lanes={"activations": parameters.lanes, "sums": pairs, "differences": pairs},
        flat=True,
    )


@dataclass(frozen=True, kw_only=True)
class PopcountDot(Rows, BasisWeights):
    """Parameters of popcount_dot."""


def build_popcount(parameters: PopcountDot) -> Circuit:
    """The dot product of counted ones."""
    from hdl.popcount import PopcountDot as Component

    weight_format = parameters.weight_format
    dot = Component(weight_format=weight_format, **size(parameters))
    coordinates = list(weight_format.coordinates)
    return circuit(parameters, dot, weight_format=weight_format, coordinates=coordinates, folded=False)


BLOCKS = (
    Block(
        name="basis_dot",
        summary="dot product for binary bases: planes of signs select sums of pairs",
        parameters=BasisDot,
        build=build_basis,
        examples=(
            "--family laplace --planes 2",
            "--coordinates 7,12,16 --lanes 32 --rows 4 --folded",
            "--family gauss --planes 3 --serial",
        ),
    ),
    Block(
        name="uniform_planes_dot",
        summary="dot product for plain integers: planes of signs, without multipliers",
        parameters=UniformPlanesDot,
        build=build_uniform,
        examples=("--bits 4", "--bits 4 --activation-width 4 --rows 16 --folded"),
    ),
    Block(
        name="pair_tables",
        summary="front end of dot products on planes: sums and differences of pairs",
        parameters=PairTables,
        build=build_tables,
        examples=("--activation-width 4", "--activation-width 4 --folded --with-total"),
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

"""What `python -m fpga report` measures: every block with sensible parameters, as data."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

from gen.blocks import catalog
from hdl.formats import Format, signed_width

ACTIVATION_WIDTHS = (4, 8)
LANES = 16
DEPTH = 4096
"""Products in a sum: 4-bit integers times 8-bit activations then need an accumulator of 24 bits."""

NF4 = (-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127)
"""A codebook of no structure: quantiles of the normal distribution (QLoRA's NormalFloat) in 8 bits."""

UNIFORM_BITS = (2, 3, 4, 5, 8)
APOT: tuple[dict[str, Any], ...] = (
    {"k": 1, "n": 1},
    {"k": 2, "n": 1},
    {"k": 2, "n": 1, "odd": True},
    {"k": 2, "n": 2},
)
ACTIVATIONS = ("uniform_b4u", "apot_k2n2u")
PLANES = (1, 2, 3, 4)
CHEAP_COORDINATES = ((1, 2), (1, 2, 4), (7, 12, 16))
"""Two planes of one adder, three of two and of four, where the default ones take two and six."""


FRONT_ENDS = ("basis_dot", "uniform_planes_dot", "popcount_dot")
"""Dot products whose rows share more than their inputs."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A block with parameters.

    Parameters
    ----------
    group
        ``dot`` for a dot product, ``pe`` for a processing element, ``block`` for any other.
    scheme
        How its weights are placed, for people.
    block, parameters
        What `gen` writes.
    bits, range_bits
        Bits of a weight's code, and of the smallest two's complement that holds its levels, where the
        parameters have no format that tells.
    memories
        The families on which it is meant to have block memories.
    """

    group: str
    scheme: str
    block: str
    parameters: dict[str, Any] = field(default_factory=dict)
    bits: int | None = None
    range_bits: int | None = None
    memories: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The options with which ``python -m gen`` writes it."""
        return " ".join([self.block, *(_option(name, value) for name, value in self.parameters.items())])

    def __hash__(self) -> int:
        return hash(json.dumps([self.block, self.parameters], sort_keys=True))

    @cached_property
    def weight_format(self) -> Format | None:
        found = getattr(catalog()[self.block].parameters(**self.parameters), "weight_format", None)
        return found if isinstance(found, Format) else None

    @property
    def weight_bits(self) -> int | None:
        """Bits of a weight's code."""
        return self.weight_format.code_width if self.weight_format else self.bits

    @property
    def level_bits(self) -> int | None:
        """Bits of the smallest two's complement that holds every level."""
        if self.weight_format:
            return signed_width(min(self.weight_format.levels), max(self.weight_format.levels))
        return self.range_bits

    @property
    def activation_width(self) -> int | None:
        """Bits of the activation that is multiplied."""
        return self.parameters.get("activation_width", self.parameters.get("activation_outer_bits"))

    @property
    def folded(self) -> bool:
        return bool(self.parameters.get("folded"))

    @property
    def is_main(self) -> bool:
        """It is measured in every way; exact circuits that can be folded are counted on ECP5 alone."""
        return self.folded or "folded" not in _names(self.block)

    @property
    def baselines(self) -> dict[str, "Point"]:
        """The plain multiplier of equal bits, and of equal range."""
        if self.group == "block" or self.block in PLAIN.values():
            return {}
        bits = {"equal_bits": self.weight_bits, "equal_range": self.level_bits}
        return {
            name: plain(self.group, max(2, value), self.activation_width or 0)
            for name, value in bits.items()
            if value is not None
        }

    def with_rows(self, rows: int) -> "Point | None":
        """The same with several rows, if it is a dot product that can have them."""
        if self.group != "dot" or "rows" not in _names(self.block):
            return None
        return replace(self, parameters={**self.parameters, "rows": rows})


PLAIN = {"dot": "uniform_dot", "pe": "uniform_pe"}
"""The baseline of every comparison."""


def plain(group: str, bits: int, activation_width: int) -> Point:
    """The plain multiplier for two's complement weights."""
    parameters = {"bits": bits, "activation_width": activation_width, "depth": DEPTH}
    return Point(group=group, scheme="uniform, multiplier", block=PLAIN[group], parameters=parameters)


def points() -> list[Point]:
    """All points: the baselines of every one among them, none twice, those of a scheme together."""
    found: dict[str, Point] = {}
    for line in (*DOTS, *ELEMENTS, *BLOCKS):
        for point in _expanded(line):
            for each in (point, *point.baselines.values()):
                found.setdefault(str(each), each)
    schemes = list(dict.fromkeys((point.group, point.scheme) for point in found.values()))
    return sorted(
        found.values(),
        key=lambda point: (
            schemes.index((point.group, point.scheme)),
            point.block == PLAIN.get(point.group) and point.weight_bits,
        ),
    )


def selected(patterns: tuple[str, ...]) -> list[Point]:
    """The points whose name fits one of the shell patterns, and their baselines."""
    chosen = [
        point for point in points() if any(fnmatchcase(str(point), f"{pattern}*") for pattern in patterns)
    ]
    found = {str(each): each for point in chosen for each in (point, *point.baselines.values())}
    return list(found.values())


def _expanded(point: Point) -> Iterator[Point]:
    """A line of the lists below at both activation widths, exact and folded, as far as its block allows."""
    names = _names(point.block)
    if point.group == "block" or "depth" not in names:
        yield point
        return
    widths = ACTIVATION_WIDTHS if "activation_width" in names else (None,)
    for width in (None,) if point.activation_width else widths:
        for folded in (False, True) if "folded" in names else (False,):
            parameters = {
                **point.parameters,
                **({"activation_width": width} if width else {}),
                "depth": DEPTH,
                **({"folded": True} if folded else {}),
            }
            yield replace(point, parameters=parameters)


def _names(block: str) -> set[str]:
    return {each.name for each in fields(catalog()[block].parameters)}


def _option(name: str, value: Any) -> str:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return flag if value else f"--no-{flag[2:]}"
    return f"{flag} {','.join(map(str, value)) if isinstance(value, tuple) else value}"


def _dot(scheme: str, block: str, **parameters: Any) -> Point:
    return Point(group="dot", scheme=scheme, block=block, parameters=parameters)


def _pe(scheme: str, block: str, **parameters: Any) -> Point:
    return Point(group="pe", scheme=scheme, block=block, parameters=parameters)


def _companding(bits: int, width: int) -> dict[str, Any]:
    codes = {"weight_bits": bits, "activation_bits": min(bits, width)}
    return {**codes, "outer_bits": 8, "activation_outer_bits": width}


def _block(scheme: str, block: str, **parameters: Any) -> Point:
    return Point(group="block", scheme=scheme, block=block, parameters=parameters)


DOTS = (
    *(_dot("uniform, multiplier", "uniform_dot", bits=bits) for bits in UNIFORM_BITS),
    *(_dot("uniform, planes", "uniform_planes_dot", bits=bits) for bits in UNIFORM_BITS),
    *(_dot("PoT", "pot_dot", k=k) for k in (2, 3)),
    *(_dot("APoT", "apot_dot", **each) for each in APOT),
    *(_dot("binary basis", "basis_dot", family="laplace", planes=planes) for planes in PLANES),
    *(_dot("binary basis", "basis_dot", coordinates=each) for each in CHEAP_COORDINATES),
    _dot("binary basis, a plane a cycle", "basis_dot", family="laplace", planes=2, serial=True),
    *(
        _dot("binary basis, popcount", "popcount_dot", family="laplace", planes=planes, activation_width=4)
        for planes in (1, 2)
    ),
    *(_dot("uniform, sign and magnitude", "signmag_dot", bits=bits) for bits in UNIFORM_BITS[1:]),
    _dot("codebook, table and multiplier", "table_dot", levels=NF4),
    *(
        replace(
            _dot("codebook, sums in memory", "codebook_dot", level_width=width),
            bits=4,
            range_bits=width,
            memories=("ice40",),  # which has no other memories
        )
        for width in (6, 8)
    ),
    *(
        replace(_dot("companded", "lcq_dot", **_companding(bits, width)), bits=bits, range_bits=8)
        for bits in (2, 3, 4)
        for width in ACTIVATION_WIDTHS
    ),
    *(
        replace(
            _dot("companded, product table", "product_dot", **_companding(bits, 8)), bits=bits, range_bits=8
        )
        for bits in (2, 3)
    ),
)
ELEMENTS = (
    *(_pe("uniform, multiplier", "uniform_pe", bits=bits) for bits in UNIFORM_BITS),
    *(_pe("uniform, sign and magnitude", "signmag_pe", bits=bits) for bits in UNIFORM_BITS[1:]),
    *(_pe("PoT", "pot_pe", k=k) for k in (2, 3)),
    *(_pe("APoT", "apot_pe", **each) for each in APOT),
    _pe("codebook, table and multiplier", "table_pe", levels=NF4),
    *(
        replace(_pe("companded", "lcq_pe", **_companding(4, width)), bits=4, range_bits=8)
        for width in ACTIVATION_WIDTHS
    ),
)
BLOCKS = (
    *(_block("front end of planes", "pair_tables", activation_width=each) for each in ACTIVATION_WIDTHS),
    *(_block("decoder", "activation_decoder", format=each) for each in ACTIVATIONS),
    replace(
        _block("decoder, loadable", "activation_decoder", tables=2, code_width=4, activation_width=8),
        memories=("ice40",),
    ),
    *(_block("encoder", "activation_encoder", format=each) for each in ACTIVATIONS),
    _block("encoder, loadable", "activation_encoder", encodings=2, code_width=4),
    _block("decoder, companded", "lut_decoder", bits=4, outer_bits=8, lanes=LANES),
    *(
        replace(
            _block("accelerator", block, rows=4, lanes=4, requantizers=2),
            memories=("ecp5", "ice40", "xilinx", "osu018"),
        )
        for block in ("accelerator", "axi_accelerator")
    ),
)

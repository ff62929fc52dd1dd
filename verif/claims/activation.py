"""Activation decoders and encoders: the level table for all codes, and counted boundaries for all values.

Loadable units for all contents of their tables, and whatever is written whenever.
"""

from functools import reduce
from itertools import pairwise
from operator import and_

from amaranth.hdl import Array, Assert, Assume, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from ..claim import Claim, Description
from ..specification import instance
from .companding import delayed, opened


class _Unit(wiring.Component):
    """An instance with free inputs."""

    def __init__(self, description: Description) -> None:
        self._description = description
        self._parameters = description["parameters"]
        self._ports = {port["name"]: port for port in description["ports"]}
        given = {port["name"]: port["width"] for port in self._ports.values() if port["direction"] == "input"}
        super().__init__({name: In(width) for name, width in given.items() if name not in ("clk", "rst")})

    def _instance(self, m: Module) -> dict[str, Signal]:
        return instance(
            m, self._description, **{name: getattr(self, name) for name in self.signature.members}
        )

    def _elements(self, word: Value, port: str) -> list[Value]:
        lanes = self._parameters["lanes"]
        width = self._ports[port]["width"] // lanes
        return [word.word_select(lane, width) for lane in range(lanes)]

    def _entries(self, m: Module) -> list[Signal]:
        """A model of what is loaded: 0 until it is written, and new in the cycle after."""
        count, width = self._description["entries"]["count"], len(self.write_data)
        entries = [Signal(width, name=f"entry{i}", reset_less=True) for i in range(count)]
        for address, entry in enumerate(entries):
            with m.If(self.write_enable & (self.write_address == address)):
                m.d.sync += entry.eq(self.write_data)
        return entries


class FixedDecoder(_Unit):
    """Every level is, a cycle later, that of its code in the level table, or 0 outside the tensor."""

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        outputs = self._instance(m)
        table = Array(Const(level) for level in self._description["levels"])
        found = self._elements(outputs["levels"], "levels")
        for code, level in zip(self._elements(self.codes, "codes"), found, strict=True):
            expected = delayed(m, Mux(self.inside_tensor, table[code], 0), cycles=1)
            m.d.comb += Assert(level == expected)
        return m


class FixedEncoder(_Unit):
    """Every code is, a cycle later, that of the interval between boundaries in which its value lies.

    A value on a boundary is in the lower interval.
    """

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        outputs = self._instance(m)
        boundaries = self._description["boundaries"]
        started = delayed(m, Const(1), cycles=1)
        found = self._elements(outputs["codes"], "codes")
        for value, code in zip(self._elements(self.values, "values"), found, strict=True):
            held = delayed(m, value, cycles=1).as_signed()
            above = Array(Const(each) < held for each in boundaries)
            m.d.comb += [
                Assert(~started | (code == 0) | above[code - 1]),
                Assert(~started | (code == len(boundaries)) | ~above[code]),
            ]
        return m


class LoadedDecoder(_Unit):
    """Every level is, a cycle later, the entry of its table and code at that time, or 0 outside."""

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        outputs = self._instance(m)
        entries = self._entries(m)
        found = self._elements(outputs["levels"], "levels")
        select = getattr(self, "table_select", Const(0, 0))
        m.d.comb += Assume(select < self._parameters["tables"])
        for lane, code in enumerate(self._elements(self.codes, "codes")):
            m.d.comb += Assert(outputs[f"table{lane}_words"] == Cat(*entries))
            expected = Mux(self.inside_tensor, Array(entries)[Cat(code, select)], 0)
            m.d.comb += Assert(found[lane] == delayed(m, expected, cycles=1))
        return m


class LoadedEncoder(_Unit):
    """Codes are the numbers of boundaries below their values, if these are in order and do not change.

    They need to stand still for as many cycles as the binary search takes.
    """

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        outputs = self._instance(m)
        width, latency = self._parameters["code_width"], self._description["latency"]
        entries = self._entries(m)
        trees = [entries[start : start + (1 << width)] for start in range(0, len(entries), 1 << width)]
        rest = [self.write_enable]
        for cycle in range(1, latency):
            rest.append(Signal(name=f"written{cycle}"))
            m.d.sync += rest[cycle].eq(rest[cycle - 1])
        still = delayed(m, ~Cat(*rest).any(), cycles=1) & delayed(m, Const(1), cycles=latency)
        encoding = getattr(self, "encoding", Const(0, 0))
        m.d.comb += Assume(encoding < self._parameters["encodings"])
        found = self._elements(outputs["codes"], "codes")
        for lane, value in enumerate(self._elements(self.values, "values")):
            for stage in range(width):
                nodes = [node for tree in trees for node in tree[1 << stage : 2 << stage]]
                m.d.comb += Assert(outputs[f"boundaries{stage}_{lane}_words"] == Cat(*nodes))
            held = delayed(m, value, cycles=latency)
            chosen = delayed(m, encoding, cycles=latency)
            for number, tree in enumerate(trees):
                boundaries = [node.as_signed() for node in left_to_right(tree)]
                applies = still & in_order(boundaries) & (chosen == number)
                m.d.comb += Assert(~applies | (found[lane] == below(held, boundaries)))
        return m


def below(value: Value, boundaries: list[int] | list[Value]) -> Value:
    """The number of boundaries below a value in two's complement."""
    signed_value = value.as_signed()
    return sum(((boundary < signed_value) for boundary in map(Value.cast, boundaries)), Const(0))


def left_to_right(tree: list[Signal], node: int = 1) -> list[Signal]:
    """A binary search tree's nodes in order; the children of node i are 2i and 2i + 1."""
    if node >= len(tree):
        return []
    return [*left_to_right(tree, 2 * node), tree[node], *left_to_right(tree, 2 * node + 1)]


def in_order(boundaries: list[Value]) -> Value:
    return reduce(and_, (low <= high for low, high in pairwise(boundaries)), Const(1))


FORMATS = (
    *(f"uniform_b{bits}u" for bits in (1, 2, 3, 4, 8)),
    *("apot_k2n1u", "apot_k2n1ou", "apot_k2n2u", "apot_k2n2ou", "apot_k2n4u"),
    *("pot_k3u", "companded_0_3_9_127u"),
)

CLAIMS = (
    *(
        Claim(block="activation_decoder", parameters={"format": name, "lanes": 2}, specification=FixedDecoder)
        for name in FORMATS
    ),
    *(
        Claim(block="activation_encoder", parameters={"format": name, "lanes": 2}, specification=FixedEncoder)
        for name in FORMATS
    ),
    Claim(
        block="activation_encoder",
        parameters={"format": "apot_k2n2u", "lanes": 1, "fraction": 8},
        specification=FixedEncoder,
    ),
    *(
        Claim(
            block="activation_decoder",
            parameters={"tables": tables, "code_width": width, "activation_width": 4, "lanes": 2},
            specification=LoadedDecoder,
            generator=opened,
        )
        for tables, width in ((1, 3), (3, 2))
    ),
    *(
        Claim(
            block="activation_encoder",
            parameters={"encodings": encodings, "code_width": width, "value_width": 4, "lanes": lanes},
            specification=LoadedEncoder,
            generator=opened,
        )
        for encodings, width, lanes in ((1, 3, 1), (2, 2, 2))
    ),
)

"""The dot product of looked-up sums, for all contents of its tables and all writes at any time.

While every word that a vector may meet is the sum of the levels that its entry names, accumulators are sums
of products of these levels, and do not overflow.
"""

from functools import reduce
from operator import and_
from typing import Any

from amaranth.hdl import Array, Assert, Assume, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hdl.formats.subsets import GROUP

from ..claim import Claim, Description
from ..specification import HEADROOM, delayed, instance
from .companding import opened

ENTRIES = 2**GROUP


class Sums(wiring.Component):
    """A codebook_dot with free inputs, and a model of its tables that is asserted to agree."""

    def __init__(self, description: Description) -> None:
        self._description = description
        parameters = description["parameters"]
        self._lanes, self._rows = parameters["lanes"], parameters["rows"]
        self._width = parameters["activation_width"]
        self._most_level = 2 ** (parameters["level_width"] - 1) - 1
        self._vectors = parameters["depth"] // self._lanes
        self._folded = description["folded"]
        ports = [port for port in description["ports"] if port["direction"] == "input"]
        super().__init__(
            {port["name"]: In(port["width"]) for port in ports if port["name"] not in ("clk", "rst")}
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        inputs = {name: getattr(self, name) for name in self.signature.members}
        outputs = instance(m, self._description, **inputs)
        count = Signal(range(self._vectors + 2))
        flight = self._description["latency"] - 1
        enable, clear = (delayed(m, each, cycles=flight) for each in (self.enable, self.clear))
        self._summed(m, count, Const(1), enable, clear)
        m.d.comb += Assume(count <= self._vectors)
        width = self._description["accumulator"]["width"]
        for row in range(self._rows):
            tables = [self._table(m, row, group, outputs) for group in range(-(-self._lanes // GROUP))]
            found = outputs["accumulators"].word_select(row, width)
            self._row(m, tables, found if self._folded else found.as_signed(), count, enable, clear)
        return m

    def _row(
        self, m: Module, tables: list[Array[Signal]], found: Value, count: Signal, enable: Value, clear: Value
    ) -> None:
        """A row's accumulator is the sum of products as long as its words were sums of levels."""
        fits, term = self._products(m, tables)
        wide = signed(len(found) + 1 + HEADROOM)
        total, same = Signal(wide), Signal(init=1)
        flight = self._description["latency"] - 1
        fits, term = (delayed(m, each, cycles=flight) for each in (fits, term))
        self._summed(m, total, term, enable, clear)
        with m.If(enable):
            m.d.sync += same.eq((clear | same) & fits)
        with m.Elif(clear):
            m.d.sync += same.eq(1)
        most = self._lanes * self._most_level * (2**self._width - 1)
        low = Const(0) if self._folded else -most * count
        m.d.comb += [
            Assert(~same | ((low <= total) & (total <= most * count))),
            Assert(~same | (total == found)),
        ]

    @staticmethod
    def _summed(m: Module, register: Signal, step: Value, enable: Value, clear: Value) -> None:
        with m.If(enable):
            m.d.sync += register.eq(Mux(clear, 0, register) + step)
        with m.Elif(clear):
            m.d.sync += register.eq(0)

    def _table(self, m: Module, row: int, group: int, outputs: dict[str, Signal]) -> Array[Signal]:
        """Words that are 0 until they are written, and new in the cycle after; so is each bit's copy."""
        words = [Signal(len(self.write_data), reset_less=True) for _ in range(ENTRIES)]
        chosen = self.write_enable
        for name, number in (("write_row", row), ("write_group", group)):
            if name in self.signature.members:
                chosen = chosen & (getattr(self, name) == number)
        for entry, word in enumerate(words):
            with m.If(chosen & (self.write_entry == entry)):
                m.d.sync += word.eq(self.write_data)
        for bit in range(self._width):
            copy = outputs[f"row{row}_table_bit{bit}_group{group}_words"]
            m.d.comb += Assert(copy == Cat(*words))
        return Array(words)

    def _products(self, m: Module, tables: list[Array[Signal]]) -> tuple[Value, Value]:
        """Are all words sums of levels, and what do the levels and activations add up to?"""
        fits: list[Value] = []
        terms: list[Value] = []
        for group, table in enumerate(tables):
            words = [each if self._folded else each.as_signed() for each in table]
            levels = [words[1 << lane] - words[0] for lane in range(GROUP)]
            for lane, level in enumerate(levels):
                number = GROUP * group + lane
                if number < self._lanes:
                    fits.append((-self._most_level <= level) & (level <= self._most_level))
                    terms.append(level * self.activations.word_select(number, self._width))
                else:
                    fits.append(level == 0)
            for entry, word in enumerate(words):
                chosen = [level for lane, level in enumerate(levels) if entry >> lane & 1]
                fits.append(word == sum(chosen, words[0]))
            least = sum((Mux(level < 0, -level, 0) for level in levels), Const(0))
            fits.append(words[0] == (least if self._folded else 0))
            terms.append(words[0] * (2**self._width - 1))
        fitting = Signal()
        m.d.comb += fitting.eq(reduce(and_, fits))
        return fitting, sum(terms, Const(0))


def _claims() -> tuple[Claim, ...]:
    sizes: tuple[dict[str, Any], ...] = (
        {"lanes": 4, "rows": 1, "level_width": 3, "activation_width": 2, "depth": 16},
        {"lanes": 2, "rows": 2, "level_width": 4, "activation_width": 1, "depth": 8},
        {"lanes": 5, "rows": 1, "level_width": 2, "activation_width": 2, "depth": 10},
    )
    return tuple(
        Claim(
            block="codebook_dot",
            parameters={**size, **({"folded": True} if folded else {})},
            specification=Sums,
            generator=opened,
            slow=size["lanes"] == 4,
        )
        for size in sizes
        for folded in (False, True)
    )


CLAIMS = _claims()

"""Companded blocks, for all contents of their tables and all writes at any time.

Decoded levels are those of the words at that time; sums are of the levels' products, or of the loaded
products; and where these are the products of those levels, both dot products are equal.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from math import prod
from operator import and_
from typing import Any

from amaranth.hdl import Array, Assert, Assume, Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from gen.verilog import Design, generate

from ..claim import Claim, Description
from ..specification import instance

HEADROOM = 2
MEMORY = re.compile(r"^  reg \[(\d+):0\] (\w+) \[(\d+):0\];$", re.MULTILINE)
MEMORIES = {
    "write": "table_memory",
    "weight_write": "weight_decoder_table_memory",
    "activation_write": "activation_decoder_table_memory",
}
"""What the memory behind a write port is called in the Verilog."""


def opened(block: str, **parameters: Any) -> Design:
    """The block with the words of its tables as outputs more: induction needs to know what they hold."""
    design = generate(block, **parameters)
    verilog, ports = design.verilog, list(design.description["ports"])
    for high, name, last in MEMORY.findall(design.verilog):
        port, width = f"{name}_words", (int(high) + 1) * (int(last) + 1)
        words = ", ".join(f"{name}[{word}]" for word in reversed(range(int(last) + 1)))
        body = f"  output [{width - 1}:0] {port};\n  assign {port} = {{ {words} }};\nendmodule"
        verilog = verilog.replace(");\n", f", {port});\n", 1).replace("endmodule", body, 1)
        ports.append({"name": port, "direction": "output", "width": width, "signed": False})
    return replace(design, verilog=verilog, description={**design.description, "ports": ports})


def both(block: str, **parameters: Any) -> Design:
    """The opened block beside the opened lcq_dot of the same parameters."""
    parts = [opened("lcq_dot", **parameters), opened(block, **parameters)]
    description = {
        "latency": max(part.description["latency"] for part in parts),
        "parts": [part.description for part in parts],
    }
    return replace(parts[0], verilog="".join(part.verilog for part in parts), description=description)


class _Companded(wiring.Component):
    """Instances of opened blocks with free inputs, and models of their tables that are asserted to agree."""

    def __init__(self, description: Description) -> None:
        self._parts: Sequence[Description] = description.get("parts", [description])
        ports = [port for part in self._parts for port in part["ports"]]
        given = {port["name"]: port["width"] for port in ports if port["direction"] == "input"}
        super().__init__({name: In(width) for name, width in given.items() if name not in ("clk", "rst")})

    def _unit(self, m: Module, part: Description) -> tuple[dict[str, Signal], dict[str, Array[Signal]]]:
        """A block's outputs, and the model's words by write port."""
        names = {port["name"] for port in part["ports"] if port["direction"] == "input"} - {"clk", "rst"}
        inputs = {name: getattr(self, name) for name in names}
        outputs = instance(m, part, name=f"dut_{part['name']}", **inputs)
        tables = {
            name: self._table(m, name, table, banks=part["parameters"]["banks"])
            for name, table in part["tables"].items()
        }
        for name, words in tables.items():
            m.d.comb += Assert(outputs[f"{MEMORIES[name]}_words"] == Cat(*words))
        return outputs, tables

    def _table(self, m: Module, name: str, table: Mapping[str, Any], *, banks: int) -> Array[Signal]:
        """Words that are 0 until they are written, and new in the cycle after."""
        count = table["words"] << (banks - 1).bit_length()
        words = [Signal(table["word_width"], name=f"{name}{i}", reset_less=True) for i in range(count)]
        for address, word in enumerate(words):
            with m.If(getattr(self, f"{name}_enable") & (getattr(self, f"{name}_address") == address)):
                m.d.sync += word.eq(getattr(self, f"{name}_data"))
        return Array(words)

    @property
    def _bank(self) -> Value:
        return getattr(self, "bank", Const(0, 0))


class Decoder(_Companded):
    """Every level is, a cycle later, the word of its code's index and bank under the code's sign."""

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        (part,) = self._parts
        outputs, tables = self._unit(m, part)
        parameters = part["parameters"]
        bits, signs = parameters["bits"], not parameters["unsigned"]
        for lane in range(parameters["lanes"]):
            code = self.codes.word_select(lane, bits)
            word = tables["write"][Cat(code[: bits - signs], self._bank)]
            level = Signal(parameters["outer_bits"], name=f"level{lane}")
            m.d.sync += level.eq(Mux(code[-1], -word, word) if signs else word)
            m.d.comb += Assert(outputs["levels"].word_select(lane, len(level)) == level)
        return m


class Sum(_Companded):
    """The accumulator is the sum of signed products since the last clear, if there are not too many."""

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        (part,) = self._parts
        self._total(m, part)
        return m

    def _total(self, m: Module, part: Description) -> tuple[Signal, dict[str, Array[Signal]]]:
        """What a block's accumulator is asserted to be, and the model's words."""
        outputs, tables = self._unit(m, part)
        accumulator, parameters = outputs["accumulator"], part["parameters"]
        products = self._products(tables, parameters)
        wide = signed(len(accumulator) + HEADROOM)
        enable, clear, term = (
            delayed(m, value, cycles=part["latency"] - 1)
            for value in (self.enable, self.clear, sum(products, Const(0, wide)))
        )
        largest = prod(2 ** table["word_width"] - 1 for table in part["tables"].values())
        total, bound = Signal(wide, name="total"), Signal(wide, name="bound")
        for register, step in ((total, term), (bound, len(products) * largest)):
            with m.If(enable):
                m.d.sync += register.eq(Mux(clear, 0, register) + step)
            with m.Elif(clear):
                m.d.sync += register.eq(0)
        m.d.comb += [
            Assume((bound >= 0) & (bound <= parameters["depth"] * largest)),
            Assert((-bound <= total) & (total <= bound)),
            Assert(total == accumulator),
        ]
        return total, tables

    def _products(self, tables: Mapping[str, Array[Signal]], parameters: Mapping[str, Any]) -> list[Value]:
        """Each lane's signed product, in one bit more than the products' words or the levels' product."""
        lanes, weight_bits = parameters.get("lanes", 1), parameters["weight_bits"]
        plural = "s" if "lanes" in parameters else ""
        weights, activations = (getattr(self, f"{name}{plural}") for name in ("weight", "activation"))
        products = []
        for lane in range(lanes):
            code = weights.word_select(lane, weight_bits)
            index, rank = code[:-1], activations.word_select(lane, parameters["activation_bits"])
            if "write" in tables:
                magnitude = tables["write"][Cat(index, rank, self._bank)]
            else:
                levels = (
                    tables["weight_write"][Cat(index, self._bank)],
                    tables["activation_write"][Cat(rank, self._bank)],
                )
                magnitude = levels[0] * levels[1]
            products.append(Mux(code[-1], -magnitude, magnitude))
        return products


class SameSum(Sum):
    """Both accumulators are equal while their terms were decoded with products that are the levels'."""

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        levels, products = self._parts
        one, factors = self._total(m, levels)
        other, words = self._total(m, products)
        parameters = levels["parameters"]
        shape = parameters["weight_bits"] - 1, parameters["activation_bits"]
        fitting = Signal()
        m.d.comb += fitting.eq(consistent(words["write"], factors, shape))
        earlier, latency = levels["latency"] - products["latency"], levels["latency"] - 1
        enable, clear, fits = (
            delayed(m, value, cycles=latency) for value in (self.enable, self.clear, fitting)
        )
        same = Signal(init=1)
        with m.If(enable):
            m.d.sync += same.eq((clear | same) & fits)
        with m.Elif(clear):
            m.d.sync += same.eq(1)
        m.d.comb += Assert(~same | (one == delayed(m, other, cycles=earlier)))
        return m


def consistent(words: Array[Signal], levels: Mapping[str, Array[Signal]], shape: tuple[int, int]) -> Value:
    """Is every word the product of the levels that its address names, in whatever bank?"""
    weights, ranks = shape
    equal = []
    for address, word in enumerate(words):
        rank = address >> weights
        bank = rank >> ranks
        index = (bank << weights) + address % (1 << weights)
        equal.append(word == levels["weight_write"][index] * levels["activation_write"][rank])
    return reduce(and_, equal)


def delayed(m: Module, value: Value, *, cycles: int) -> Value:
    """`value` after as many registers."""
    for stage in range(cycles):
        register = Signal(value.shape(), name=f"stage{stage}")
        m.d.sync += register.eq(value)
        value = register
    return value


SMALL = {"weight_bits": 2, "activation_bits": 2, "outer_bits": 3, "activation_outer_bits": 2}
DOT = {**SMALL, "lanes": 2, "depth": 8}


def _claims() -> tuple[Claim, ...]:
    decoders = (
        {"bits": 3, "outer_bits": 4, "lanes": 2, "banks": 2},
        {"bits": 2, "outer_bits": 8, "unsigned": True},
        {"bits": 4, "outer_bits": 8},
    )
    sums: tuple[tuple[str, dict[str, Any]], ...] = (
        ("lcq_pe", {**SMALL, "depth": 8, "banks": 2}),
        ("lcq_dot", DOT),
        ("lcq_dot", {**DOT, "banks": 2}),
        ("product_dot", DOT),
        ("product_dot", {**DOT, "banks": 2}),
    )
    return (
        *(
            Claim(block="lut_decoder", parameters=each, specification=Decoder, generator=opened)
            for each in decoders
        ),
        *(Claim(block=block, parameters=each, specification=Sum, generator=opened) for block, each in sums),
        Claim(block="lcq_pe", specification=Sum, generator=opened, slow=True),
        Claim(
            block="product_dot",
            parameters=DOT,
            specification=SameSum,
            generator=both,
            says="equals lcq_dot",
        ),
    )


CLAIMS = _claims()

"""What a processing element or dot product must do, written down once more, as assertions on it."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import (
    Array,
    Assert,
    Assume,
    ClockSignal,
    Const,
    Instance,
    Module,
    Mux,
    ResetSignal,
    Signal,
    Value,
    ValueLike,
    signed,
)
from amaranth.lib import wiring
from amaranth.lib.wiring import In

HEADROOM = 2


def instance(
    m: Module, description: Mapping[str, Any], *, name: str | None = "dut", **inputs: ValueLike
) -> dict[str, Signal]:
    """An instance of the generated module inside a specification; returns its outputs.

    Parameters
    ----------
    description
        The description beside the module's Verilog.
    name
        Of the submodule, if it has one.
    inputs
        What each input port is connected to; ``clk`` and ``rst`` are the specification's unless given.

    Raises
    ------
    ValueError
        If the inputs are not the module's.
    """
    ports = {port["name"]: port for port in description["ports"]}
    wanted = {port["name"] for port in ports.values() if port["direction"] == "input"}
    given = {"clk": ClockSignal(), "rst": ResetSignal()} | inputs
    given = {port: value for port, value in given.items() if port in wanted or port in inputs}
    if set(given) != wanted:
        raise ValueError(f"inputs must be {', '.join(sorted(wanted))}, not {', '.join(sorted(given))}")
    outputs = {
        port["name"]: Signal(signed(port["width"]) if port["signed"] else port["width"], name=port["name"])
        for port in ports.values()
        if port["direction"] == "output"
    }
    unit = Instance(
        description["name"],
        **{f"i_{port}": value for port, value in given.items()},
        **{f"o_{port}": signal for port, signal in outputs.items()},
    )
    if name is None:
        m.submodules += unit
    else:
        m.submodules[name] = unit
    return outputs


class Specification(wiring.Component):
    """A generated module beside its level table, with the same free inputs.

    Asserts that in every cycle the module's accumulator equals the sum of ``level · activation`` (and of
    the excess, if it is folded) since the last clear, held in a wider register; assumes only that no more
    products are summed than the module's depth.  Equality in all cycles then says that the accumulator
    never overflows.

    Parameters
    ----------
    description : mapping
        The description beside the module's Verilog.
    levels : sequence of int
        The level of every weight code.
    """

    def __init__(self, description: Mapping[str, Any], *, levels: tuple[int, ...]) -> None:
        self._description = description
        self._latency = description["latency"]
        self._ports = {port["name"]: port for port in description["ports"]}
        parameters = description["parameters"]
        self._lanes = parameters.get("lanes", 1)
        self._activation_width = parameters["activation_width"]
        self._depth = parameters["depth"]
        largest = 2**self._activation_width - 1
        folded = description.get("folded", False)
        self._values = [(level, largest * max(0, -level) if folded else 0) for level in levels]
        extremes = [excess + level * a for level, excess in self._values for a in (0, largest)]
        self._low, self._high = min(extremes), max(extremes)
        self._plural = "s" if "weights" in self._ports else ""
        super().__init__(
            {
                "enable": In(1),
                "clear": In(1),
                "weights": In(self._ports[f"weight{self._plural}"]["width"]),
                "activations": In(self._ports[f"activation{self._plural}"]["width"]),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        operands = {f"weight{self._plural}": self.weights, f"activation{self._plural}": self.activations}
        outputs = instance(m, self._description, enable=self.enable, clear=self.clear, **operands)
        accumulator = outputs["accumulator"]
        wide = signed(len(accumulator) + 1 + HEADROOM)
        enable, clear, term = self.enable, self.clear, Signal(wide, name="term")
        m.d.comb += term.eq(sum(self._products(), Const(0)))
        cycles = self._latency - 1
        enable, clear, term = (delayed(m, value, cycles=cycles) for value in (enable, clear, term))
        total, floor, ceiling = (Signal(wide, name=name) for name in ("total", "floor", "ceiling"))
        least, most = self._lanes * self._low, self._lanes * self._high
        for register, step in ((total, term), (floor, least), (ceiling, most)):
            with m.If(enable):
                m.d.sync += register.eq(Mux(clear, 0, register) + step)
            with m.Elif(clear):
                m.d.sync += register.eq(0)
        # What the extremes would sum to says at once how many products there were and what they can make.
        m.d.comb += [
            Assume((floor >= self._depth * self._low) & (ceiling <= self._depth * self._high)),
            Assert(total >= floor),
            Assert(total <= ceiling),
            Assert(total == accumulator),
        ]
        return m

    def _products(self) -> list[Value]:
        width = len(self.weights) // self._lanes
        products: list[Value] = []
        for lane in range(self._lanes):
            code = self.weights[lane * width : (lane + 1) * width]
            activation = self.activations.word_select(lane, self._activation_width)
            chosen = [Array(column)[code] for column in zip(*self._values, strict=True)]
            products.append(chosen[0] * activation + chosen[1])
        return products


def delayed(m: Module, value: Value, *, cycles: int, reset_less: bool = False) -> Value:
    """`value` after `cycles` registers, which start at 0."""
    for _ in range(cycles):
        register = Signal(value.shape(), name="delayed", reset_less=reset_less)
        m.d.sync += register.eq(value)
        value = register
    return value

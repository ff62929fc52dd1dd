"""Processing elements: the accumulator is the sum of levels times activations."""

from collections.abc import Iterator
from typing import Any

from amaranth.hdl import Array, Assert, Assume, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from ..claim import Claim, Description
from ..specification import HEADROOM, instance

FAMILIES: dict[str, tuple[dict[str, Any], ...]] = {
    "apot": (
        {"k": 1, "n": 1},
        {"k": 2, "n": 1},
        {"k": 2, "n": 1, "odd": True},
        {"k": 2, "n": 2},
        {"k": 2, "n": 2, "odd": True},
    ),
    "pot": ({"k": 2}, {"k": 3}),
    "uniform": ({"bits": 2}, {"bits": 4}),
    "signmag": ({"bits": 2}, {"bits": 4}),
    "table": ({"format": "apot_k2n2"}, {"format": "uniform_b4"}),
}


class Sum(wiring.Component):
    """A processing element beside its level table, with the same free inputs.

    Asserts that in every cycle the accumulator equals the sum of ``level · activation`` since the last
    clear, held in a wider register; assumes only that no more products are summed than the declared depth.
    Equality in all cycles then says that the accumulator never overflows.
    """

    def __init__(self, description: Description) -> None:
        self._description = description
        self._levels = description["levels"]
        self._depth = description["parameters"]["depth"]
        widths = {port["name"]: port["width"] for port in description["ports"]}
        super().__init__({name: In(widths[name]) for name in ("enable", "clear", "weight", "activation")})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        inputs = {name: getattr(self, name) for name in ("enable", "clear", "weight", "activation")}
        accumulator = instance(m, self._description, **inputs)["accumulator"]
        wide = signed(len(accumulator) + 1 + HEADROOM)
        largest = 2 ** len(self.activation) - 1
        low, high = largest * min(self._levels), largest * max(self._levels)

        def running(step: Value | int, name: str) -> Signal:
            register = Signal(wide, name=name)
            with m.If(self.enable | self.clear):
                m.d.sync += register.eq(Mux(self.clear, 0, register) + Mux(self.enable, step, 0))
            return register

        total = running(Array(self._levels)[self.weight] * self.activation, "total")
        # What the extremes would sum to says at once how many products there were and what they can make.
        floor, ceiling = running(low, "floor"), running(high, "ceiling")
        m.d.comb += [
            Assume((floor >= self._depth * low) & (ceiling <= self._depth * high)),
            Assert((total >= floor) & (total <= ceiling)),
            Assert(total == accumulator),
        ]
        return m


def _claims() -> Iterator[Claim]:
    for family, choices in FAMILIES.items():
        for choice in choices:
            parameters = {**choice, "activation_width": 8}
            yield Claim(block=f"{family}_pe", parameters=parameters, specification=Sum)


CLAIMS = tuple(_claims())

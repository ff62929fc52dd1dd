"""What benches of sums share: the expected sums, packed ports, and one loop that drives and compares."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

PERIOD_NS = 10


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """Inputs of one clock cycle; `terms` are the exact sums of products that the codes stand for.

    `plane` says which plane of a serial unit the weights are.
    """

    rst: bool = False
    enable: bool = False
    clear: bool = False
    weights: Sequence[int]
    activations: Sequence[int]
    terms: Sequence[int]
    plane: int = 0


@dataclass(kw_only=True)
class Sums:
    """Accumulators that take a cycle's terms `latency` cycles later, all under the same controls."""

    count: int
    latency: int
    values: list[int] = field(init=False)
    waiting: deque[Cycle] = field(init=False)

    def __post_init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        idle = Cycle(weights=(), activations=(), terms=())
        self.values = [0] * self.count
        self.waiting = deque([idle] * (self.latency - 1))

    def step(self, cycle: Cycle) -> list[int]:
        """The sums after a clock edge."""
        self.waiting.append(cycle)
        due = self.waiting.popleft()
        if cycle.rst:
            self._reset()
        elif due.enable:
            before = [0] * self.count if due.clear else self.values
            self.values = [value + term for value, term in zip(before, due.terms, strict=True)]
        elif due.clear:
            self.values = [0] * self.count
        return self.values


def pack(values: Iterable[int], width: int) -> int:
    """Equal fields side by side, the first one lowest."""
    word = 0
    for value in reversed(list(values)):
        word = word << width | value & ((1 << width) - 1)
    return word


def unpack(word: int, width: int, count: int, *, signed: bool) -> list[int]:
    """The inverse of `pack`."""
    fields = [word >> (i * width) & ((1 << width) - 1) for i in range(count)]
    half = 1 << (width - 1)
    return [(each ^ half) - half for each in fields] if signed else fields


@dataclass(frozen=True, kw_only=True)
class Ports:
    """The signals of a unit under test, and the widths of their fields."""

    dut: Any
    weights: Any
    activations: Any
    accumulators: Any
    weight_width: int
    activation_width: int
    accumulator_width: int
    signed: bool
    plane: Any = None

    async def check(self, cycles: Iterable[Cycle], *, sums: Sums) -> int:
        """Drive every cycle and compare every sum after it; the number of enabled cycles.

        Inputs change and outputs are read at falling edges: one call-back a cycle.
        """
        cocotb.start_soon(Clock(self.dut.clk, PERIOD_NS, "ns").start())
        await self._drive(Cycle(rst=True, weights=(), activations=(), terms=()))
        enabled = 0
        for number, cycle in enumerate(cycles):
            await self._drive(cycle)
            enabled += cycle.enable
            expected = sums.step(cycle)
            word = int(self.accumulators.value)
            found = unpack(word, self.accumulator_width, sums.count, signed=self.signed)
            assert found == expected, _difference(number, cycle, found, expected)
        return enabled

    async def _drive(self, cycle: Cycle) -> None:
        self.dut.rst.value = int(cycle.rst)
        self.dut.enable.value = int(cycle.enable)
        self.dut.clear.value = int(cycle.clear)
        self.weights.value = pack(cycle.weights, self.weight_width)
        self.activations.value = pack(cycle.activations, self.activation_width)
        if self.plane is not None:
            self.plane.value = cycle.plane
        await FallingEdge(self.dut.clk)


def _difference(number: int, cycle: Cycle, found: list[int], expected: list[int]) -> str:
    """The first sum that is wrong, and the cycle that made it so."""
    which = next(i for i, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1])
    controls = f"rst {cycle.rst:d} clear {cycle.clear:d} enable {cycle.enable:d}"
    codes = f"weights {list(cycle.weights)} activations {list(cycle.activations)}"
    return f"sum {which} is {found[which]}, not {expected[which]}, after cycle {number}: {controls} {codes}"

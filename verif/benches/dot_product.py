"""Bench of one dot product, exact or folded: random and extreme vectors, and every control."""

import random
from collections.abc import Iterator
from typing import Any

import cocotb

from verif.benches.model import Cycle, Ports, Sums
from verif.simulators import configuration


class Dot:
    """The dot product under test; `levels` as for processing elements, `folded` adds the rule of folding."""

    def __init__(self, dut: Any) -> None:
        settings = configuration()
        self.levels: list[int] = settings["levels"]
        self.largest = 2 ** settings["activation_width"] - 1
        self.lanes: int = settings["lanes"]
        self.vectors: int = settings["depth"] // self.lanes
        self.latency: int = settings["latency"]
        self.folded: bool = settings["folded"]
        self.ports = Ports(
            dut=dut,
            weights=dut.weights,
            activations=dut.activations,
            accumulators=dut.accumulator,
            weight_width=(len(self.levels) - 1).bit_length(),
            activation_width=settings["activation_width"],
            accumulator_width=settings["accumulator_width"],
            signed=not self.folded,
        )

    async def check(self, cycles: Iterator[Cycle]) -> None:
        """Drive the cycles, then idle ones until the last vector has come out."""

        def flushed() -> Iterator[Cycle]:
            yield from cycles
            for _ in range(self.latency):
                yield self.cycle([0] * self.lanes, [0] * self.lanes)

        await self.ports.check(flushed(), sums=Sums(count=1, latency=self.latency))

    def cycle(self, weights: list[int], activations: list[int], **controls: bool) -> Cycle:
        total = sum(self.levels[w] * a for w, a in zip(weights, activations, strict=True))
        if self.folded:
            total += sum(self.largest * max(0, -self.levels[w]) for w in weights)
        return Cycle(weights=weights, activations=activations, terms=[total], **controls)

    def random_vector(self) -> tuple[list[int], list[int]]:
        return (
            [random.randrange(len(self.levels)) for _ in range(self.lanes)],
            [random.choice((0, self.largest, random.randint(0, self.largest))) for _ in range(self.lanes)],
        )


@cocotb.test()
async def one_lane_at_a_time(dut: Any) -> None:
    """Every code in every lane, alone: lanes do not mix and none is lost."""
    dot = Dot(dut)
    zero = dot.levels.index(0) if 0 in dot.levels else 0

    def cycles() -> Iterator[Cycle]:
        for lane in range(dot.lanes):
            for code in range(len(dot.levels)):
                weights, activations = [zero] * dot.lanes, [0] * dot.lanes
                weights[lane], activations[lane] = code, random.randint(1, dot.largest)
                yield dot.cycle(weights, activations, enable=True, clear=True)

    await dot.check(cycles())


@cocotb.test()
async def extreme_sums(dut: Any) -> None:
    """The longest sums of the largest products, of either sign; folded ones at activation 0 too."""
    dot = Dot(dut)
    low = dot.levels.index(min(dot.levels))
    high = dot.levels.index(max(dot.levels))

    def cycles() -> Iterator[Cycle]:
        for codes in ((high, high), (low, low), (low, high)):
            for activation in (dot.largest, 0):
                for i in range(dot.vectors):
                    weights = [codes[lane % 2] for lane in range(dot.lanes)]
                    yield dot.cycle(weights, [activation] * dot.lanes, enable=True, clear=i == 0)

    await dot.check(cycles())


@cocotb.test()
async def random_controls(dut: Any) -> None:
    """Enable, clear and reset at random: a reset drops what is still in the pipeline."""
    dot = Dot(dut)

    def cycles() -> Iterator[Cycle]:
        summed = 0
        for _ in range(400):
            rst, clear, enable = random.random() < 0.04, random.random() < 0.1, random.random() < 0.7
            clear = clear or summed == dot.vectors
            summed = 0 if rst else (0 if clear else summed) + enable
            weights, activations = dot.random_vector()
            yield dot.cycle(weights, activations, rst=rst, clear=clear, enable=enable)

    await dot.check(cycles())

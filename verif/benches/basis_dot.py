"""Bench of a dot product on binary bases, of one or more rows: pairs, extremes, and every control."""

import random
from collections.abc import Iterator
from itertools import product
from typing import Any

import cocotb

from verif.benches.model import Cycle, Ports, Sums
from verif.simulators import configuration

MOST_PAIRS = 20_000


class Dot:
    """The unit under test.

    `levels` are those of all weight codes by an independent oracle: one table, or in a serial unit one for
    each plane; `activation_levels` likewise.  A folded sum is too large by the coordinates of all minuses,
    times ``2^activation_width``, less one in odd lanes.
    """

    def __init__(self, dut: Any) -> None:
        settings = configuration()
        self.levels: list[list[int]] = settings["levels"]
        self.activation_levels: list[int] = settings["activation_levels"]
        self.lanes: int = settings["lanes"]
        self.rows: int = settings["rows"]
        self.vectors: int = settings["depth"] // self.lanes
        self.latency: int = settings["latency"]
        self.folded: bool = settings["folded"]
        self.codes = len(self.levels[0])
        self.ports = Ports(
            dut=dut,
            weights=dut.weights,
            activations=dut.activations,
            accumulators=dut.accumulators,
            weight_width=(self.codes - 1).bit_length(),
            activation_width=(len(self.activation_levels) - 1).bit_length(),
            accumulator_width=settings["accumulator_width"],
            signed=not self.folded,
            plane=dut.plane if len(self.levels) > 1 else None,
        )

    async def check(self, cycles: Iterator[Cycle]) -> int:
        """Drive the cycles, then idle ones until the last vector has come out."""

        def flushed() -> Iterator[Cycle]:
            yield from cycles
            for _ in range(self.latency):
                yield self.cycle([[0] * self.lanes] * self.rows, [0] * self.lanes)

        return await self.ports.check(flushed(), sums=Sums(count=self.rows, latency=self.latency))

    def cycle(
        self, weights: list[list[int]], activations: list[int], *, plane: int = 0, **controls: bool
    ) -> Cycle:
        """One cycle with the weight codes of every row."""
        return Cycle(
            weights=[code for row in weights for code in row],
            activations=activations,
            terms=[self._term(row, activations, plane) for row in weights],
            plane=plane,
            **controls,
        )

    def _term(self, codes: list[int], activations: list[int], plane: int) -> int:
        levels = [self.levels[plane][code] for code in codes]
        pairs = zip(levels, activations, strict=True)
        total = sum(level * self.activation_levels[activation] for level, activation in pairs)
        if self.folded:
            top, unit = max(self.levels[plane]), len(self.activation_levels)
            total += sum((top - level) // 2 * (unit - lane % 2) for lane, level in enumerate(levels))
        return total

    def random_weights(self) -> list[list[int]]:
        return [[random.randrange(self.codes) for _ in range(self.lanes)] for _ in range(self.rows)]

    def random_activations(self) -> list[int]:
        last = len(self.activation_levels) - 1
        return [random.choice((0, last, random.randint(0, last))) for _ in range(self.lanes)]

    def extremes(self, plane: int) -> tuple[int, int]:
        """Codes of the lowest and the highest level."""
        table = self.levels[plane]
        return table.index(min(table)), table.index(max(table))


@cocotb.test()
async def one_lane_at_a_time(dut: Any) -> None:
    """Every code of every plane in every lane and row, alone: none is mixed up and none is lost."""
    dot = Dot(dut)

    def cycles() -> Iterator[Cycle]:
        for lane, plane in product(range(dot.lanes), range(len(dot.levels))):
            for first in range(dot.codes):
                weights = dot.random_weights()
                for row in range(dot.rows):
                    weights[row][lane] = (first + row) % dot.codes
                activations = [0] * dot.lanes
                activations[lane] = random.randrange(1, len(dot.activation_levels))
                yield dot.cycle(weights, activations, plane=plane, enable=True, clear=True)

    await dot.check(cycles())


@cocotb.test()
async def every_pair(dut: Any) -> None:
    """Two lanes see every pair of codes with every pair of activations: what shares a table is exact."""
    dot = Dot(dut)
    codes = list(product(range(dot.codes), repeat=2))
    last = min(dot.lanes, 2) - 1
    steps = range(0, len(codes), dot.rows)
    count = len(dot.levels) * len(dot.activation_levels) ** 2 * len(steps)
    assert count <= MOST_PAIRS, f"{count} cycles are too many"

    def cycles() -> Iterator[Cycle]:
        lane = 0
        for plane, start in product(range(len(dot.levels)), steps):
            for pair in product(range(len(dot.activation_levels)), repeat=2):
                weights, activations = dot.random_weights(), [0] * dot.lanes
                for row in range(dot.rows):
                    left, right = codes[(start + row) % len(codes)]
                    weights[row][lane], weights[row][lane + last] = left, right
                activations[lane], activations[lane + last] = pair
                yield dot.cycle(weights, activations, plane=plane, enable=True, clear=True)
                lane = lane + 2 if lane + 3 < dot.lanes else 0

    assert await dot.check(cycles()) == count


@cocotb.test()
async def extreme_sums(dut: Any) -> None:
    """The longest sums of the largest products, of either sign; with activations of 0 too."""
    dot = Dot(dut)

    def cycles() -> Iterator[Cycle]:
        for which, activation in product(((0, 0), (1, 1), (0, 1)), (-1, 0)):
            code = len(dot.activation_levels) - 1 if activation else 0
            for vector, plane in product(range(dot.vectors), range(len(dot.levels))):
                ends = dot.extremes(plane)
                row = [ends[which[lane % 2]] for lane in range(dot.lanes)]
                first = vector == plane == 0
                yield dot.cycle([row] * dot.rows, [code] * dot.lanes, plane=plane, enable=True, clear=first)

    await dot.check(cycles())


@cocotb.test()
async def random_controls(dut: Any) -> None:
    """Enable, clear, reset and plane at random: a reset drops what is still in the pipeline."""
    dot = Dot(dut)

    def cycles() -> Iterator[Cycle]:
        summed = 0
        for _ in range(400):
            rst, clear, enable = random.random() < 0.04, random.random() < 0.1, random.random() < 0.7
            clear = clear or summed == dot.vectors
            summed = 0 if rst else (0 if clear else summed) + enable
            plane = random.randrange(len(dot.levels))
            controls = {"rst": rst, "clear": clear, "enable": enable}
            yield dot.cycle(dot.random_weights(), dot.random_activations(), plane=plane, **controls)

    await dot.check(cycles())

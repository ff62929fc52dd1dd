"""Bench of a dot product of one or more rows: every code in every lane, pairs, extremes, all controls."""

import random
from collections.abc import Iterator
from itertools import product
from typing import Any

import cocotb

from verif.benches.model import Cycle, Ports, Sums
from verif.simulators import configuration

MOST_PAIRS = 4_000
SAMPLED_PAIRS = 1_000


class Dot:
    """The unit under test.

    `levels` are those of all weight codes by an independent oracle: one table, or in a serial unit one for
    each plane.  A folded accumulator holds `multiple` times the sum, and ``excess[plane][lane % 2][code]``
    of every product.
    """

    def __init__(self, dut: Any) -> None:
        settings = configuration()
        self.levels: list[list[int]] = settings["levels"]
        self.largest = 2 ** settings["activation_width"] - 1
        self.lanes: int = settings["lanes"]
        self.rows: int = settings["rows"]
        self.vectors: int = settings["depth"] // self.lanes
        self.latency: int = settings["latency"]
        self.multiple: int = settings["multiple"]
        self.excess: list[list[list[int]]] = settings["excess"]
        self.codes = len(self.levels[0])
        self.most_pairs: int = settings.get("most_pairs", MOST_PAIRS)
        self.ports = Ports(
            dut=dut,
            weights=dut.weights,
            activations=dut.activations,
            accumulators=dut.accumulators,
            weight_width=(self.codes - 1).bit_length(),
            activation_width=settings["activation_width"],
            accumulator_width=settings["accumulator_width"],
            signed=not settings["folded"],
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
        pairs = zip(codes, activations, strict=True)
        total = self.multiple * sum(self.levels[plane][code] * activation for code, activation in pairs)
        return total + sum(self.excess[plane][lane % 2][code] for lane, code in enumerate(codes))

    def random_weights(self) -> list[list[int]]:
        return [[random.randrange(self.codes) for _ in range(self.lanes)] for _ in range(self.rows)]

    def random_activations(self) -> list[int]:
        return [random.choice((0, self.largest, random.randint(0, self.largest))) for _ in range(self.lanes)]

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
                activations[lane] = random.randint(1, dot.largest)
                yield dot.cycle(weights, activations, plane=plane, enable=True, clear=True)

    await dot.check(cycles())


@cocotb.test()
async def pairs_of_lanes(dut: Any) -> None:
    """Neighbours see every pair of codes with every pair of activations, or many if all are too many."""
    dot = Dot(dut)
    steps = range(0, dot.codes**2, dot.rows)
    every = product(range(len(dot.levels)), steps, range(dot.largest + 1), range(dot.largest + 1))
    chosen = list(every) if len(dot.levels) * len(steps) * (dot.largest + 1) ** 2 <= dot.most_pairs else None
    last = min(dot.lanes, 2) - 1

    def drawn() -> Iterator[tuple[int, int, int, int]]:
        for _ in range(SAMPLED_PAIRS):
            first, second = random.choices(range(dot.largest + 1), k=2)
            yield random.randrange(len(dot.levels)), random.choice(steps), first, second

    def cycles() -> Iterator[Cycle]:
        lane = 0
        for plane, start, first, second in chosen or drawn():
            weights, activations = dot.random_weights(), [0] * dot.lanes
            for row in range(dot.rows):
                left, right = divmod((start + row) % dot.codes**2, dot.codes)
                weights[row][lane], weights[row][lane + last] = left, right
            activations[lane], activations[lane + last] = first, second
            yield dot.cycle(weights, activations, plane=plane, enable=True, clear=True)
            lane = lane + 2 if lane + 3 < dot.lanes else 0

    assert await dot.check(cycles()) == (len(chosen) if chosen else SAMPLED_PAIRS)


@cocotb.test()
async def extreme_sums(dut: Any) -> None:
    """The longest sums of the largest products, of either sign; with activations of 0 too."""
    dot = Dot(dut)

    def cycles() -> Iterator[Cycle]:
        for which, activation in product(((0, 0), (1, 1), (0, 1)), (dot.largest, 0)):
            for vector, plane in product(range(dot.vectors), range(len(dot.levels))):
                ends = dot.extremes(plane)
                row = [ends[which[lane % 2]] for lane in range(dot.lanes)]
                first = vector == plane == 0
                vectors = [row] * dot.rows, [activation] * dot.lanes
                yield dot.cycle(*vectors, plane=plane, enable=True, clear=first)

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

"""Bench of a dot product whose weights are written: random and extreme levels, rewritten in traffic."""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from verif.benches.model import PERIOD_NS, Cycle, Sums, pack, unpack
from verif.simulators import configuration

GROUP = 4
ENTRIES = 2**GROUP

Write = tuple[int, int, int, int]
"""Row, group, entry and word."""


class Dot:
    """The unit under test, and what its tables hold."""

    def __init__(self, dut: Any) -> None:
        settings = configuration()
        self.dut = dut
        self.activation_width: int = settings["activation_width"]
        self.lanes: int = settings["lanes"]
        self.rows: int = settings["rows"]
        self.most_level: int = 2 ** (settings["level_width"] - 1) - 1
        self.word_width: int = settings["word_width"]
        self.accumulator_width: int = settings["accumulator_width"]
        self.folded: bool = settings["folded"]
        self.vectors: int = settings["depth"] // self.lanes
        self.groups = -(-self.lanes // GROUP)
        self.tables = [[[0] * ENTRIES for _ in range(self.groups)] for _ in range(self.rows)]
        self.sums = Sums(count=self.rows, latency=settings["latency"])

    async def start(self) -> None:
        cocotb.start_soon(Clock(self.dut.clk, PERIOD_NS, "ns").start())
        self.dut.rst.value = 1
        await self.step([0] * self.lanes)
        self.dut.rst.value = 0
        for row in range(self.rows):  # a simulation keeps the tables of the test before
            await self.write_row(row, [0] * self.lanes)

    async def step(
        self,
        activations: Sequence[int],
        *,
        enable: bool = False,
        clear: bool = False,
        write: Write | None = None,
    ) -> None:
        """One cycle: what is looked up is what the tables hold before the write."""
        dut = self.dut
        dut.enable.value, dut.clear.value = int(enable), int(clear)
        dut.activations.value = pack(activations, self.activation_width)
        dut.write_enable.value = int(write is not None)
        row, group, entry, word = write or (0, 0, 0, 0)
        if self.rows > 1:
            dut.write_row.value = row
        if self.groups > 1:
            dut.write_group.value = group
        dut.write_entry.value = entry
        dut.write_data.value = word & ((1 << self.word_width) - 1)
        await FallingEdge(dut.clk)
        terms = [self._term(each, activations) for each in range(self.rows)]
        cycle = Cycle(enable=enable, clear=clear, weights=(), activations=activations, terms=terms)
        expected = self.sums.step(cycle)
        found = unpack(int(dut.accumulators.value), self.accumulator_width, self.rows, signed=not self.folded)
        assert found == expected, f"sums are {found}, not {expected}, activations {list(activations)}"
        if write is not None:
            self.tables[row][group][entry] = word

    def _term(self, row: int, activations: Sequence[int]) -> int:
        total = 0
        for bit in range(self.activation_width):
            for group, table in enumerate(self.tables[row]):
                four = activations[GROUP * group : GROUP * (group + 1)]
                entry = sum((activation >> bit & 1) << lane for lane, activation in enumerate(four))
                total += table[entry] << bit
        return total

    def words(self, row: int, levels: Sequence[int]) -> Iterator[Write]:
        """All words of a row, by the definition: sums over subsets of four levels."""
        for group in range(self.groups):
            four = levels[GROUP * group : GROUP * (group + 1)]
            excess = sum(-level for level in four if level < 0) if self.folded else 0
            for entry in range(ENTRIES):
                chosen = [level for lane, level in enumerate(four) if entry >> lane & 1]
                yield row, group, entry, sum(chosen) + excess

    async def write_row(self, row: int, levels: Sequence[int]) -> None:
        for write in self.words(row, levels):
            await self.step([0] * self.lanes, write=write)

    def random_levels(self) -> list[int]:
        ends = (-self.most_level, 0, self.most_level)
        within = (-self.most_level, self.most_level)
        return [random.choice((*ends, random.randint(*within))) for _ in range(self.lanes)]

    def random_activations(self) -> list[int]:
        largest = 2**self.activation_width - 1
        return [random.choice((0, largest, random.randint(0, largest))) for _ in range(self.lanes)]


@cocotb.test()
async def products_of_levels(dut: Any) -> None:
    """Sums are those of levels times activations; the excess of folded ones depends on the levels alone."""
    dot = Dot(dut)
    await dot.start()
    largest = 2**dot.activation_width - 1
    for _ in range(4):
        levels = [dot.random_levels() for _ in range(dot.rows)]
        for row in range(dot.rows):
            await dot.write_row(row, levels[row])
        vectors = [dot.random_activations() for _ in range(dot.vectors)]
        for number, vector in enumerate(vectors):
            await dot.step(vector, enable=True, clear=number == 0)
        for _ in range(dot.sums.latency):
            await dot.step([0] * dot.lanes)
        for row, own in enumerate(levels):
            exact = sum(
                level * activation
                for vector in vectors
                for level, activation in zip(own, vector, strict=True)
            )
            excess = len(vectors) * largest * sum(max(0, -level) for level in own) if dot.folded else 0
            assert dot.sums.values[row] == exact + excess


@cocotb.test()
async def the_longest_sums(dut: Any) -> None:
    """All levels and activations at their ends, for as many vectors as the depth allows."""
    dot = Dot(dut)
    await dot.start()
    for level in (dot.most_level, -dot.most_level):
        for row in range(dot.rows):
            await dot.write_row(row, [level] * dot.lanes)
        for activation in (2**dot.activation_width - 1, 0):
            for number in range(dot.vectors + dot.sums.latency):
                vector = [activation] * dot.lanes
                await dot.step(vector, enable=number < dot.vectors, clear=number == 0)


@cocotb.test()
async def words_written_in_traffic(dut: Any) -> None:
    """Any word is written in any cycle while vectors, clears and pauses go on."""
    dot = Dot(dut)
    await dot.start()
    pending: list[Write] = []
    summed = 0
    for _ in range(600):
        if not pending:
            row = random.randrange(dot.rows)
            pending = list(dot.words(row, dot.random_levels()))
            random.shuffle(pending)
        enable, clear = random.random() < 0.8, random.random() < 0.1 or summed == dot.vectors
        summed = (0 if clear else summed) + enable
        write = pending.pop() if random.random() < 0.8 else None
        await dot.step(dot.random_activations(), enable=enable, clear=clear, write=write)

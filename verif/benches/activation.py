"""Bench of activation decoders and encoders: every code, every value, and what is loaded at run time."""

import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from verif.benches.model import PERIOD_NS, pack, unpack
from verif.simulators import configuration


@dataclass(frozen=True, kw_only=True)
class Word:
    """One cycle's elements, the table or encoding that is chosen, and what must come of them."""

    elements: Sequence[int]
    choice: int
    inside: bool
    expected: Sequence[int]


class Unit:
    """A decoder or encoder under test.

    `maps` says for every table, in order, what must come of which element: pairs by an independent oracle.
    `entries` are the words that make it so in a loadable unit, by address; empty in a fixed one.
    """

    def __init__(self, dut: Any) -> None:
        settings = configuration()
        self.dut = dut
        self.lanes: int = settings["lanes"]
        self.latency: int = settings["latency"]
        self.maps: list[dict[int, int]] = [dict(pairs) for pairs in settings["maps"]]
        self.entries: list[int] = settings["entries"]
        self.encodes: bool = settings["encodes"]
        self.element_width: int = settings["element_width"]
        self.result_width: int = settings["result_width"]
        self.source = dut.values if self.encodes else dut.codes
        self.result = dut.codes if self.encodes else dut.levels
        self.choice = None
        if len(self.maps) > 1:
            self.choice = dut.encoding if self.encodes else dut.table_select

    def word(self, elements: Sequence[int], *, choice: int = 0, inside: bool = True) -> Word:
        table = self.maps[choice]
        expected = [table[element] if inside else 0 for element in elements]
        return Word(elements=elements, choice=choice, inside=inside, expected=expected)

    def random_word(self, *, choice: int | None = None) -> Word:
        chosen = random.randrange(len(self.maps)) if choice is None else choice
        elements = random.choices(list(self.maps[chosen]), k=self.lanes)
        return self.word(elements, choice=chosen, inside=self.encodes or random.random() < 0.8)

    def every_word(self) -> Iterator[Word]:
        """Every element of every table in every lane: lanes are one element apart."""
        for choice, table in enumerate(self.maps):
            elements = list(table)
            for start in range(len(elements)):
                lanes = [elements[(start + lane) % len(elements)] for lane in range(self.lanes)]
                yield self.word(lanes, choice=choice)

    async def start(self) -> None:
        cocotb.start_soon(Clock(self.dut.clk, PERIOD_NS, "ns").start())
        self.dut.rst.value = 1
        self._drive(self.word([next(iter(self.maps[0]))] * self.lanes))
        if self.entries:
            self.dut.write_enable.value = 0
        await FallingEdge(self.dut.clk)
        self.dut.rst.value = 0

    async def load(self, addresses: Iterable[int] | None = None) -> None:
        for address in range(len(self.entries)) if addresses is None else addresses:
            self.offer(address)
            await FallingEdge(self.dut.clk)
            self.dut.write_enable.value = 0

    def offer(self, address: int) -> None:
        self.dut.write_enable.value = 1
        self.dut.write_address.value = address
        width = len(self.dut.write_data)
        self.dut.write_data.value = self.entries[address] & ((1 << width) - 1)

    async def check(self, words: Iterable[Word]) -> int:
        """Drive a word every cycle and compare every word that comes out; the number compared."""
        flight: deque[Word] = deque()
        compared = 0
        for word in self._flushed(words):
            self._drive(word)
            flight.append(word)
            await FallingEdge(self.dut.clk)
            if len(flight) == self.latency:
                due = flight.popleft()
                found = unpack(int(self.result.value), self.result_width, self.lanes, signed=False)
                assert found == list(due.expected), _difference(due, found)
                compared += 1
        return compared

    def _flushed(self, words: Iterable[Word]) -> Iterator[Word]:
        yield from words
        for _ in range(self.latency - 1):
            yield self.random_word()

    def _drive(self, word: Word) -> None:
        self.source.value = pack(word.elements, self.element_width)
        if not self.encodes:
            self.dut.inside_tensor.value = int(word.inside)
        if self.choice is not None:
            self.choice.value = word.choice


def _difference(word: Word, found: list[int]) -> str:
    lane = next(i for i, pair in enumerate(zip(found, word.expected, strict=True)) if pair[0] != pair[1])
    return (
        f"lane {lane} is {found[lane]}, not {word.expected[lane]}, "
        f"for {word.elements[lane]} by table {word.choice}"
    )


@cocotb.test()
async def everything(dut: Any) -> None:
    """Every code or value, in every lane, by every table."""
    unit = Unit(dut)
    await unit.start()
    await unit.load()
    words = list(unit.every_word())
    assert await unit.check(words) == len(words) == sum(map(len, unit.maps))


@cocotb.test()
async def tables_change(dut: Any) -> None:
    """The table and the padding change from word to word."""
    unit = Unit(dut)
    await unit.start()
    await unit.load()
    assert await unit.check([unit.random_word() for _ in range(300)]) == 300


@cocotb.test()
async def other_tables_load_meanwhile(dut: Any) -> None:
    """Words by table 0 are right while all others are written, and those are right afterwards."""
    unit = Unit(dut)
    await unit.start()
    size = len(unit.entries) // len(unit.maps)
    await unit.load(range(size))
    others = cocotb.start_soon(unit.load(range(size, len(unit.entries))))
    await unit.check([unit.random_word(choice=0) for _ in range(len(unit.entries) + 10)])
    await others
    await unit.check([unit.random_word() for _ in range(100)])


@cocotb.test()
async def entries_change_under_way(dut: Any) -> None:
    """A decoder's word that is written while it is read is decoded with its old contents."""
    unit = Unit(dut)
    await unit.start()
    await unit.load()
    size = len(unit.entries) // len(unit.maps)

    def words() -> Iterator[Word]:
        for _ in range(500):
            address = random.randrange(len(unit.entries))
            unit.entries[address] = random.randrange(1 << unit.result_width)
            unit.offer(address)
            code, choice = address % size, address // size
            yield unit.word([code] * unit.lanes, choice=choice)
            unit.maps[choice][code] = unit.entries[address]

    await unit.check(words())

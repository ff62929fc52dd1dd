"""Bench of the level decoder: every code by every table, and tables rewritten and switched during traffic."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from verif.benches.model import PERIOD_NS, pack, unpack
from verif.simulators import configuration


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """Inputs of one clock cycle and the levels that follow, if known; `write` is an address and a word."""

    codes: list[int]
    levels: list[int] | None
    bank: int = 0
    write: tuple[int, int] | None = None
    rst: bool = False


class Decoder:
    """The decoder under test, and a model of its words.

    `tables` are words to load, and `levels` what every code then stands for by an independent oracle.
    """

    def __init__(self, dut: Any) -> None:
        settings = configuration()
        self.dut = dut
        self.lanes: int = settings["lanes"]
        self.banks: int = settings["banks"]
        self.signed: bool = settings["signed"]
        self.code_width: int = settings["code_width"]
        self.outer_bits: int = settings["outer_bits"]
        self.tables: list[list[int]] = settings["tables"]
        self.levels: list[list[int]] = settings["levels"]
        self.size = 1 << (self.code_width - self.signed)
        self.words = [0] * (self.size * self.banks)

    async def check(self, cycles: Iterable[Cycle]) -> None:
        """Drive every cycle and compare the levels after it."""
        cocotb.start_soon(Clock(self.dut.clk, PERIOD_NS, "ns").start())
        await FallingEdge(self.dut.clk)
        for number, cycle in enumerate(cycles):
            address, word = cycle.write or (0, 0)
            self.dut.rst.value = int(cycle.rst)
            self.dut.codes.value = pack(cycle.codes, self.code_width)
            self.dut.write_enable.value = int(cycle.write is not None)
            self.dut.write_address.value = address
            self.dut.write_data.value = word
            if self.banks > 1:
                self.dut.bank.value = cycle.bank
            await FallingEdge(self.dut.clk)
            found = unpack(int(self.dut.levels.value), self.outer_bits, self.lanes, signed=self.signed)
            assert cycle.levels in (None, found), (
                f"levels are {found}, not {cycle.levels}, after {number}: {cycle}"
            )

    def level(self, bank: int, code: int) -> int:
        """What a code stands for by the model's words."""
        word = self.words[bank * self.size + code % self.size]
        return -word if code >= self.size else word

    def random_cycle(self, *, write: tuple[int, int] | None = None, rst: bool = False) -> Cycle:
        """Random codes of a random bank; a write takes effect after it, in a reset too."""
        codes = [random.randrange(1 << self.code_width) for _ in range(self.lanes)]
        bank = random.randrange(self.banks)
        levels = [0 if rst else self.level(bank, code) for code in codes]
        if write:
            self.words[write[0]] = write[1]
        return Cycle(codes=codes, bank=bank, levels=levels, write=write, rst=rst)

    def emptied(self) -> Iterator[Cycle]:
        """Write 0 to every word, whatever the last test left."""
        for address in range(len(self.words)):
            yield Cycle(codes=[0] * self.lanes, levels=None, write=(address, 0))

    def load(self, bank: int, table: list[int]) -> Iterator[Cycle]:
        """Write a table word by word, with traffic."""
        for index, word in enumerate(table):
            yield self.random_cycle(write=(bank * self.size + index, word))


@cocotb.test()
async def words_are_zero_until_written(dut: Any) -> None:
    """The first test of a simulation finds every table empty."""
    decoder = Decoder(dut)
    await decoder.check(decoder.random_cycle() for _ in range(4 * decoder.size * decoder.banks))


@cocotb.test()
async def every_code(dut: Any) -> None:
    """Every code in every lane and bank, by every table; banks, switched each cycle, differ."""
    decoder = Decoder(dut)
    count = len(decoder.tables)

    def cycles() -> Iterator[Cycle]:
        yield from decoder.emptied()
        for first in range(count):
            which = [(first + bank) % count for bank in range(decoder.banks)]
            for bank, table in enumerate(which):
                yield from decoder.load(bank, decoder.tables[table])
            for start, bank in product(range(1 << decoder.code_width), range(decoder.banks)):
                codes = [(start + lane) % (1 << decoder.code_width) for lane in range(decoder.lanes)]
                levels = [decoder.levels[which[bank]][code] for code in codes]
                yield Cycle(codes=codes, bank=bank, levels=levels)

    await decoder.check(cycles())


@cocotb.test()
async def rewritten_during_traffic(dut: Any) -> None:
    """Any words, written at any time: a code of the same cycle sees the old word, of the next the new."""
    decoder = Decoder(dut)
    largest = 2 ** (decoder.outer_bits - decoder.signed) - 1

    def cycles() -> Iterator[Cycle]:
        yield from decoder.emptied()
        for _ in range(400):
            word = random.choice((0, largest, random.randint(0, largest)))
            address = random.randrange(len(decoder.words))
            write = (address, word) if random.random() < 0.7 else None
            yield decoder.random_cycle(write=write, rst=random.random() < 0.05)

    await decoder.check(cycles())

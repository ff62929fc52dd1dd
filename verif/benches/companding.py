"""Bench of sums of companded products: every pair of codes by every table, extremes, controls, reloading."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import cocotb

from verif.benches.model import Cycle, Ports, Sums
from verif.simulators import configuration


@dataclass(frozen=True, kw_only=True)
class Traffic(Cycle):
    """A cycle with its bank, and what is written meanwhile: an address and a word by write port."""

    bank: int = 0
    writes: Mapping[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TablePorts(Ports):
    """The ports of a sum, and those of its tables."""

    tables: tuple[str, ...]
    bank: Any

    async def _drive(self, cycle: Cycle) -> None:
        writes = cycle.writes if isinstance(cycle, Traffic) else {}
        if self.bank is not None:
            self.bank.value = cycle.bank if isinstance(cycle, Traffic) else 0
        for table in self.tables:
            address, word = writes.get(table, (0, 0))
            getattr(self.dut, f"{table}_enable").value = int(table in writes)
            getattr(self.dut, f"{table}_address").value = address
            getattr(self.dut, f"{table}_data").value = word
        await super()._drive(cycle)


class Unit:
    """The unit under test, and a model of its tables' words.

    `tables` are their write ports with the number and width of words in a bank.  A scenario is words for
    each of them, and by an independent oracle the levels that weight and activation codes then stand for.
    """

    def __init__(self, dut: Any) -> None:
        settings = configuration()
        self.weight_bits: int = settings["weight_bits"]
        self.activation_bits: int = settings["activation_bits"]
        self.lanes: int = settings["lanes"]
        self.banks: int = settings["banks"]
        self.vectors: int = settings["depth"] // self.lanes
        self.latency: int = settings["latency"]
        self.tables: dict[str, dict[str, int]] = settings["tables"]
        self.scenarios: list[dict[str, list[int]]] = settings["scenarios"]
        self.words = {name: [0] * (table["words"] * self.banks) for name, table in self.tables.items()}
        plural = "" if settings["element"] else "s"
        self.ports = TablePorts(
            dut=dut,
            weights=getattr(dut, f"weight{plural}"),
            activations=getattr(dut, f"activation{plural}"),
            accumulators=dut.accumulator,
            weight_width=self.weight_bits,
            activation_width=self.activation_bits,
            accumulator_width=settings["accumulator_width"],
            signed=True,
            tables=tuple(self.tables),
            bank=dut.bank if self.banks > 1 else None,
        )

    async def check(self, cycles: Iterator[Traffic]) -> int:
        """Empty the tables, drive the cycles, then idle ones until the last sum has come out."""

        def whole() -> Iterator[Traffic]:
            for name, words in self.words.items():
                for address in range(len(words)):
                    yield self.idle(writes={name: (address, 0)})
            yield from cycles
            for _ in range(self.latency):
                yield self.idle()

        return await self.ports.check(whole(), sums=Sums(count=1, latency=self.latency))

    def idle(self, **values: Any) -> Traffic:
        """A cycle without a sum."""
        return self.cycle([0] * self.lanes, [0] * self.lanes, **values)

    def cycle(
        self,
        weights: list[int],
        activations: list[int],
        *,
        writes: Mapping[str, tuple[int, int]] | None = None,
        bank: int = 0,
        **controls: bool,
    ) -> Traffic:
        """A cycle whose sum is of the words before its writes."""
        codes = zip(weights, activations, strict=True)
        term = sum(self.product(bank, weight, activation) for weight, activation in codes)
        for name, (address, word) in (writes or {}).items():
            self.words[name][address] = word
        return Traffic(
            weights=weights,
            activations=activations,
            terms=[term],
            bank=bank,
            writes=writes or {},
            **controls,
        )

    def product(self, bank: int, weight: int, activation: int) -> int:
        """By the model's words: of two tables of levels, or of one of products."""
        half = 1 << (self.weight_bits - 1)
        sign, index, rank = weight // half, weight % half, (bank << self.activation_bits) + activation
        if "write" in self.words:
            magnitude = self.words["write"][rank * half + index]
        else:
            magnitude = self.words["weight_write"][bank * half + index] * self.words["activation_write"][rank]
        return -magnitude if sign else magnitude

    def load(self, bank: int, scenario: dict[str, list[int]]) -> Iterator[Traffic]:
        """Write a bank's tables."""
        for name, table in self.tables.items():
            for index, word in enumerate(scenario[name]):
                yield self.idle(writes={name: (bank * table["words"] + index, word)})

    def random_codes(self) -> tuple[list[int], list[int]]:
        return (
            [random.randrange(1 << self.weight_bits) for _ in range(self.lanes)],
            [random.randrange(1 << self.activation_bits) for _ in range(self.lanes)],
        )

    def random_writes(self) -> dict[str, tuple[int, int]]:
        """Any word to any address of some of the tables."""
        writes = {}
        for name, table in self.tables.items():
            largest = 2 ** table["word_width"] - 1
            if random.random() < 0.6:
                word = random.choice((0, largest, random.randint(0, largest)))
                writes[name] = (random.randrange(len(self.words[name])), word)
        return writes


@cocotb.test()
async def every_pair(dut: Any) -> None:
    """Every pair of codes by every scenario, in changing lanes; other banks hold other scenarios."""
    unit = Unit(dut)
    pairs = list(product(range(1 << unit.weight_bits), range(1 << unit.activation_bits)))
    count = len(unit.scenarios)

    def cycles() -> Iterator[Traffic]:
        for first in range(count):
            chosen = [unit.scenarios[(first + bank) % count] for bank in range(unit.banks)]
            for bank, scenario in enumerate(chosen):
                yield from unit.load(bank, scenario)
            for number, (start, bank) in enumerate(product(range(len(pairs)), range(unit.banks))):
                lanes = [pairs[(start + 7 * lane) % len(pairs)] for lane in range(unit.lanes)]
                lanes = lanes[number % unit.lanes :] + lanes[: number % unit.lanes]
                weights, activations = map(list, zip(*lanes, strict=True))
                levels = chosen[bank]["weight_levels"], chosen[bank]["activation_levels"]
                expected = sum(levels[0][weight] * levels[1][rank] for weight, rank in lanes)
                yield Traffic(
                    weights=weights,
                    activations=activations,
                    terms=[expected],
                    bank=bank,
                    enable=True,
                    clear=True,
                )

    assert await unit.check(cycles()) == count * unit.banks * len(pairs)


@cocotb.test()
async def extreme_sums(dut: Any) -> None:
    """The longest sums of the largest words, of either sign."""
    unit = Unit(dut)
    half, last = 1 << (unit.weight_bits - 1), (1 << unit.activation_bits) - 1

    def cycles() -> Iterator[Traffic]:
        largest = {
            name: [2 ** table["word_width"] - 1] * table["words"] for name, table in unit.tables.items()
        }
        yield from unit.load(unit.banks - 1, largest)
        for codes in ((half - 1, half - 1), (2 * half - 1, 2 * half - 1), (half - 1, 2 * half - 1)):
            weights = [codes[lane % 2] for lane in range(unit.lanes)]
            for vector in range(unit.vectors):
                yield unit.cycle(
                    weights, [last] * unit.lanes, bank=unit.banks - 1, enable=True, clear=vector == 0
                )

    await unit.check(cycles())


@cocotb.test()
async def reloaded_during_traffic(dut: Any) -> None:
    """Any word written at any time, banks switched each cycle, and every control at random."""
    unit = Unit(dut)

    def cycles() -> Iterator[Traffic]:
        summed = 0
        for _ in range(600):
            rst, clear, enable = random.random() < 0.04, random.random() < 0.1, random.random() < 0.7
            clear = clear or summed == unit.vectors
            summed = 0 if rst else (0 if clear else summed) + enable
            weights, activations = unit.random_codes()
            yield unit.cycle(
                weights,
                activations,
                bank=random.randrange(unit.banks),
                writes=unit.random_writes(),
                rst=rst,
                clear=clear,
                enable=enable,
            )

    await unit.check(cycles())

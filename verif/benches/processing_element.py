"""Bench of a bank of processing elements: every product, sums up to their bounds, and every control."""

import random
from collections.abc import Iterator
from typing import Any

import cocotb

from verif.benches.model import Cycle, Ports, Sums
from verif.simulators import configuration


class Bank:
    """The bank under test; `levels` are the expected levels of all weight codes, by an independent oracle."""

    def __init__(self, dut: Any) -> None:
        settings = configuration()
        self.levels: list[int] = settings["levels"]
        self.activations = 2 ** settings["activation_width"]
        self.copies: int = settings["copies"]
        self.depth: int = settings["depth"]
        self.ports = Ports(
            dut=dut,
            weights=dut.weights,
            activations=dut.activations,
            accumulators=dut.accumulators,
            weight_width=(len(self.levels) - 1).bit_length(),
            activation_width=settings["activation_width"],
            accumulator_width=settings["accumulator_width"],
            signed=True,
        )

    async def check(self, cycles: Iterator[Cycle]) -> int:
        return await self.ports.check(cycles, sums=Sums(count=self.copies, latency=1))

    def cycle(self, pairs: list[tuple[int, int]], **controls: bool) -> Cycle:
        """One cycle with a (weight code, activation) pair for every copy."""
        return Cycle(
            weights=[weight for weight, _ in pairs],
            activations=[activation for _, activation in pairs],
            terms=[self.levels[weight] * activation for weight, activation in pairs],
            **controls,
        )

    def random_pairs(self) -> list[tuple[int, int]]:
        return [
            (random.randrange(len(self.levels)), random.randrange(self.activations))
            for _ in range(self.copies)
        ]


@cocotb.test()
async def every_product(dut: Any) -> None:
    """Every weight code with every activation."""
    bank = Bank(dut)
    pairs = [(w, a) for w in range(len(bank.levels)) for a in range(bank.activations)]
    pairs += pairs[: -len(pairs) % bank.copies]
    blocks = [pairs[i : i + bank.copies] for i in range(0, len(pairs), bank.copies)]
    enabled = await bank.check(bank.cycle(block, enable=True, clear=True) for block in blocks)
    assert enabled * bank.copies >= len(bank.levels) * bank.activations


@cocotb.test()
async def extreme_sums(dut: Any) -> None:
    """The longest sums of the largest products, of either sign and alternating, reach the bounds."""
    bank = Bank(dut)
    low = bank.levels.index(min(bank.levels))
    high = bank.levels.index(max(bank.levels))

    def cycles() -> Iterator[Cycle]:
        for codes in ((high, high), (low, low), (low, high)):
            for i in range(bank.depth):
                pairs = [(codes[(i + copy) % 2], bank.activations - 1) for copy in range(bank.copies)]
                yield bank.cycle(pairs, enable=True, clear=i == 0)

    await bank.check(cycles())


@cocotb.test()
async def random_controls(dut: Any) -> None:
    """Enable, clear and reset at random, in the middle of sums too."""
    bank = Bank(dut)

    def cycles() -> Iterator[Cycle]:
        summed = 0
        for _ in range(300):
            rst, clear, enable = random.random() < 0.05, random.random() < 0.1, random.random() < 0.7
            clear = clear or summed == bank.depth
            summed = 0 if rst else (0 if clear else summed) + enable
            yield bank.cycle(bank.random_pairs(), rst=rst, clear=clear, enable=enable)

    await bank.check(cycles())

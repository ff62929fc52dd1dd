"""A small engine in simulation, a good program for it, and what that must compute."""

from typing import Any

from amaranth.sim import Simulator

from hdl.engine import Engine
from hdl.layouts import LAYER, PASS, LayerOpcode, Section, Status, slice_width, slices
from hdl.parameters import AcceleratorParameters
from tests.nested_loops import Fate, Fields, fate, packed

PARAMETERS = AcceleratorParameters(
    weight_format="uniform_b4",
    rows=2,
    lanes=2,
    requantizers=1,
    depth=64,
    tables=3,
    encodings=3,
    codebooks=3,
    index_width=4,
    passes=3,
    activation_words=24,
    weight_words=20,
    channel_words=12,
    program_words=60,
    result_words=6,
    value_words=14,
)
"""Memories whose sizes are no powers of two, tables, encodings and codebooks likewise."""
CODEBOOKS = [[(factor * index + factor) % 16 for index in range(16)] for factor in (3, 5, 7)]
"""The 4-bit integers in three orders."""


def layer(**changed: int) -> Fields:
    """A convolution of 2 × 2 over 3 × 3 pixels of one word; every memory's first words, one result word."""
    fields = {
        "opcode": LayerOpcode.CONVOLUTION,
        "to_results": 1,
        "passes": 2,
        "kernel_height": 2,
        "kernel_width": 2,
        "stride": 1,
        "tiles": 1,
        "output_height": 2,
        "output_width": 1,
        "input_height": 3,
        "input_width": 3,
        "row_step": 3,
        "pixel_step": 1,
        "row_pitch": 3,
        "pixel_pitch": 1,
        "output_pitch": 2,
        "codebook": 1,
    }
    return fields | changed


PASSES = ({"count": 1, "shift": 0}, {"count": 1, "shift": 4})


def program(layers: list[Fields], passes: tuple[Fields, ...] = PASSES) -> list[int]:
    """All layers with the same passes, then the end."""
    words = [word for each in layers for word in (*packed(LAYER, each), *packed_passes(passes))]
    return words + packed(LAYER, {"opcode": LayerOpcode.HALT})


def packed_passes(passes: tuple[Fields, ...]) -> list[int]:
    return [word for each in passes for word in packed(PASS, each)]


GOOD = program([layer()])


def filled(words: list[int]) -> list[int]:
    """The whole program memory; words that are not given are zero, which is a HALT."""
    return words + [0] * (PARAMETERS.program_words - len(words))


class Bench:
    """An engine in simulation: loads sections, runs programs."""

    def __init__(self, ctx: Any, engine: Engine) -> None:
        self.ctx, self.engine = ctx, engine

    async def load(self, section: Section, words: list[int]) -> None:
        """Whole words from the first on, slice by slice."""
        ctx, engine = self.ctx, self.engine
        width = slice_width(PARAMETERS, section)
        ctx.set(engine.host.write_enable, 1)
        ctx.set(engine.host.section, section)
        for address, word in enumerate(words):
            for index in range(slices(PARAMETERS, section)):
                ctx.set(engine.host.address, address)
                ctx.set(engine.host.slice, index)
                ctx.set(engine.host.write_data, word >> index * width & (1 << width) - 1)
                await ctx.tick()
        ctx.set(engine.host.write_enable, 0)
        await ctx.tick()

    async def run(self, *, start: int = 0, limit: int) -> tuple[Status, int]:
        """Status and cycles of a run; `done` must come in the last busy cycle, within the limit."""
        ctx, engine = self.ctx, self.engine
        assert not ctx.get(engine.busy)
        ctx.set(engine.program_start, start)
        ctx.set(engine.start, 1)
        await ctx.tick()
        ctx.set(engine.start, 0)
        for _ in range(limit):
            assert ctx.get(engine.busy)
            done = ctx.get(engine.done)
            await ctx.tick()
            if done:
                assert not ctx.get(engine.busy)
                return Status(ctx.get(engine.status)), ctx.get(engine.cycles)
        raise AssertionError(f"engine must end within {limit} cycles")

    async def expect(self, wanted: Fate, *, start: int = 0) -> Status:
        status, cycles = await self.run(start=start, limit=wanted.cycles + 1)
        assert status in wanted.statuses
        assert cycles == wanted.cycles
        return status

    async def load_data(self) -> None:
        """Activations, weights, channels and tables that make every result of `GOOD` different from 0."""
        await self.load(Section.TABLES, list(range(16)))
        await self.load(Section.CODEBOOKS, [code for each in CODEBOOKS for code in each])
        await self.load(Section.WEIGHTS, [0x1_2_3_7, 0x7_1_F_2, 0x3_3_1_9, 0x1_6_2_2] * 2)
        await self.load(Section.CHANNELS, [3, 5, -2 & 0x3FFFF, 7])
        await self.load(Section.ACTIVATIONS, [0x10 * i + 15 - i for i in range(9)])

    async def check_good(self) -> None:
        """Load and run the good program; its results by hand, from the words above."""
        await self.load_data()
        await self.load(Section.PROGRAM, filled(GOOD))
        await self.expect(fate(filled(GOOD), PARAMETERS))
        assert await self.results() == expected_results()

    async def results(self) -> list[int]:
        """The result words that the good program writes."""
        found = []
        for address in range(4):
            self.ctx.set(self.engine.result_address, address)
            await self.ctx.tick()
            found.append(self.ctx.get(self.engine.result)[0])
        return found


def expected_results() -> list[int]:
    """Two rows at two pixels: per pass the sum over taps and lanes, times the multiplier and the place."""
    nibbles = [0x1237, 0x71F2, 0x3319, 0x1622] * 2
    codes = [[CODEBOOKS[1][word >> 4 * i & 15] for i in range(4)] for word in nibbles]
    weights = [[value - 16 if value > 7 else value for value in word] for word in codes]
    pixels = [(15 - i, i) for i in range(9)]
    results = []
    for y in (0, 1):
        for row in (0, 1):
            total = 0
            for turn, (first, second) in enumerate(((3, 5), (-2, 7))):
                taps = [(ky, kx) for ky in (0, 1) for kx in (0, 1)]
                accumulator = sum(
                    weights[4 * turn + number][2 * row + lane] * pixels[3 * (y + ky) + kx][lane]
                    for number, (ky, kx) in enumerate(taps)
                    for lane in (0, 1)
                )
                total += accumulator * (first, second)[row] << 4 * turn
            results.append(total)
    return results


def simulate(test: Any) -> None:
    engine = Engine(parameters=PARAMETERS)
    simulator = Simulator(engine)
    simulator.add_clock(1e-6)

    async def bench(ctx: Any) -> None:
        await test(Bench(ctx, engine))

    simulator.add_testbench(bench)
    simulator.run()

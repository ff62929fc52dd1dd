"""Random commands of every opcode and flag: all that they leave in memory, and their cycles, exactly."""

import random
from dataclasses import replace
from typing import Any

import pytest
from amaranth.hdl import Const
from amaranth.sim import Simulator

from hdl.engine import Engine
from hdl.layouts import (
    LAYER,
    PASS,
    STREAM_WIDTH,
    LayerOpcode,
    Section,
    Status,
    channel_word,
    search_order,
    section_depth,
    slice_width,
    slices,
    values_word,
    weight_word,
)
from hdl.parameters import VALUE_WIDTH, AcceleratorParameters
from sw.compiler.schedule import COMMAND_CYCLES, layer_cycles
from tests.command_model import Machine, Words
from tests.nested_loops import Fields, packed

TOP_VALUE = 2 ** (VALUE_WIDTH - 1) - 1
COMMANDS = 8
HALF = 64
"""Words of activation memory that a command reads, and that it writes."""
THIRD = 130
"""Words of values memory that a command pools, adds as residuals, and writes."""

SHAPES: dict[str, dict[str, Any]] = {
    "two_groups": {"weight_format": "uniform_b4", "requantizers": 2},
    "one_group": {"weight_format": "apot_k2n1o", "requantizers": 4, "code_width": 2},
    "three_groups": {
        "weight_format": "uniform_b4",
        "rows": 3,
        "lanes": 2,
        "requantizers": 1,
        "code_width": 3,
    },
    "wide": {"weight_format": "uniform_b8", "rows": 4, "lanes": 8, "requantizers": 4, "activation_width": 16},
    "four_cores": {"weight_format": "apot_k2n1", "cores": 4, "requantizers": 2, "code_width": 2},
    "planes": {"weight_format": "basis_5_8", "rows": 8, "requantizers": 4, "code_width": 2},
    "companded": {"weight_format": "companded_0_1_3_4", "requantizers": 4, "code_width": 3},
    "codebooks": {"weight_format": "apot_k2n1", "requantizers": 2, "codebooks": 3, "index_width": 2},
    "no_values": {"weight_format": "apot_k1n1", "requantizers": 2, "value_words": 0, "code_width": 1},
}


def parameters(shape: str) -> AcceleratorParameters:
    common: dict[str, Any] = {
        "rows": 4,
        "lanes": 4,
        "depth": 256,
        "tables": 3,
        "encodings": 3,
        "passes": 4,
        "activation_words": 2 * HALF,
        "weight_words": 128,
        "channel_words": 64,
        "result_words": 2 * HALF * 4,
        "value_words": 3 * THIRD,
    }
    return AcceleratorParameters(**(common | SHAPES[shape]))


def random_machine(draw: random.Random, p: AcceleratorParameters) -> Machine:
    """Memories full of numbers, extremes among them."""
    values = (TOP_VALUE, -TOP_VALUE - 1, 0)
    boundaries = [sorted(draw.sample(range(-300, 600), 2**p.code_width - 1)) for _ in range(p.encodings)]

    def words(depth: int, width: int, one: Any) -> Words:
        return [[one() for _ in range(width)] for _ in range(depth)]

    weight = range(1 << p.index_width) if p.codebooks else p.format.levels
    return Machine(
        parameters=p,
        weights=[words(p.rows, p.lanes, lambda: draw.choice(weight)) for _ in range(p.weight_words)],
        codebooks=words(p.codebooks, 1 << p.index_width, lambda: draw.choice(p.format.levels)),
        channels=[[random_channel(draw) for _ in range(p.requantizers)] for _ in range(p.channel_words)],
        tables=words(p.tables, 2**p.code_width, lambda: draw.randrange(2**p.activation_width)),
        boundaries=boundaries,
        activations=words(p.activation_words, p.lanes, lambda: draw.randrange(2**p.code_width)),
        values=words(
            p.value_words, p.requantizers, lambda: draw.choice((*values, *(draw.randint(-999, 999),) * 6))
        ),
        results=words(p.result_words, p.requantizers, lambda: 0),
    )


def random_machines(draw: random.Random, p: AcceleratorParameters) -> list[Machine]:
    """One for each core: alike in all that cores share."""
    first = random_machine(draw, p)
    shared = ("weights", "codebooks", "channels", "tables", "boundaries")
    others = [random_machine(draw, p) for _ in range(p.cores - 1)]
    return [first, *(replace(each, **{name: getattr(first, name) for name in shared}) for each in others)]


def random_channel(draw: random.Random) -> Fields:
    """Mostly such that y lies among the boundaries."""
    if draw.random() < 0.1:
        return {"multiplier": draw.choice((2**17 - 1, -(2**17))), "bias": 0, "shift": draw.choice((0, 47))}
    shift = draw.randint(0, 12)
    multiplier = draw.randint(1, 2 << shift) * draw.choice((1, 1, 1, -1))
    return {"multiplier": multiplier, "bias": draw.randint(-200 << shift, 200 << shift), "shift": shift}


def random_command(draw: random.Random, p: AcceleratorParameters) -> tuple[Fields, list[Fields]]:
    """A command whose tensors fit their parts of the memories; values may lie where the residual does."""
    opcodes = [LayerOpcode.CONVOLUTION, LayerOpcode.MAXIMUM, LayerOpcode.SUM]
    opcode = draw.choice(opcodes if p.value_words else opcodes[:1])
    layer = dict.fromkeys((name for name, _ in LAYER), 0) | random_window(draw) | {"opcode": int(opcode)}
    flags = ["to_codes", "to_results"]
    if p.value_words:
        flags += ["to_values", "rectify", "linear"] + ["add_residual"] * (opcode == LayerOpcode.CONVOLUTION)
    layer |= {name: draw.randint(0, 1) for name in flags}
    layer |= {
        "linear_bits": draw.choice((0, 3, 8, 17, 200)),
        "linear_place": draw.choice((0, 0, 1, 4, 17, 99)),
    }
    layer["encoding"] = draw.randrange(p.encodings)
    layer["codebook"] = draw.randrange(p.codebooks) if p.codebooks else 0
    if opcode == LayerOpcode.CONVOLUTION:
        passes, first = random_convolution(draw, p, layer)
    else:
        passes, first = [{"offset": 0, "count": p.groups, "table": 0, "shift": draw.randrange(16)}], 0
        place_input(layer, base=0, words=layer["tiles"] * p.groups + draw.randint(0, 1))
        layer["tile_step"] = p.groups
    place_outputs(draw, p, layer, codes=HALF - first)
    steps = layer["kernel_height"] * layer["kernel_width"] * sum(each["count"] for each in passes)
    layer["weights"] = draw.randint(0, max(0, p.weight_words - layer["tiles"] * steps))
    room = p.channel_words - layer["tiles"] * p.groups * len(passes)
    layer["channels"] = draw.randint(0, room)
    layer["passes"] = len(passes)
    return layer, passes


def random_window(draw: random.Random) -> Fields:
    """A kernel over a map, larger than the map now and then, and what comes out."""
    stride, padding = draw.randint(1, 2), draw.randint(0, 2)
    found: Fields = {"stride": stride, "padding": padding, "tiles": draw.randint(1, 2)}
    for side in ("height", "width"):
        size = draw.randint(1, 4)
        kernel = draw.randint(1, min(3, size + 2 * padding))
        found[f"input_{side}"], found[f"kernel_{side}"] = size, kernel
        found[f"output_{side}"] = min(4, (size + 2 * padding - kernel) // stride + 1)
    return found


def random_convolution(
    draw: random.Random, p: AcceleratorParameters, layer: Fields
) -> tuple[list[Fields], int]:
    """Its passes, and the first word of the half of activation memory that it reads."""
    words = draw.randint(1, 3)
    layer["tile_step"] = draw.randint(
        0, (words - 1) // max(1, layer["tiles"] - 1) if layer["tiles"] > 1 else 2
    )
    reach = words - (layer["tiles"] - 1) * layer["tile_step"]
    passes = []
    for _ in range(draw.randint(1, 2)):
        offset = draw.randrange(reach)
        count = draw.randint(1, reach - offset)
        passes.append(
            {
                "offset": offset,
                "count": count,
                "table": draw.randrange(p.tables),
                "shift": draw.choice((0, 0, 4)),
            }
        )
    first = draw.choice((0, HALF))
    place_input(layer, base=first, words=words)
    return passes, first


def place_input(layer: Fields, *, base: int, words: int) -> None:
    """Addresses of a map of so many words a pixel."""
    row = layer["input_width"] * words
    layer |= {
        "pixel_pitch": words,
        "row_pitch": row,
        "pixel_step": layer["stride"] * words,
        "row_step": layer["stride"] * row,
        "origin": (base - layer["padding"] * (row + words)) % 2**24,
    }


def place_outputs(draw: random.Random, p: AcceleratorParameters, layer: Fields, *, codes: int) -> None:
    least = layer["tiles"] * p.groups
    pixels = layer["output_height"] * layer["output_width"]
    layer["output_pitch"] = draw.randint(
        least, max(least, min(least + 2, HALF * p.groups_per_word // pixels))
    )
    layer["output"] = codes * p.groups_per_word
    if p.value_words:
        pitch = draw.randint(least, least + 1)
        layer |= {"residual": THIRD, "residual_pitch": pitch, "values": THIRD, "values_pitch": pitch}
        if draw.random() < 0.5:
            layer |= {"values": 2 * THIRD, "values_pitch": least}


class Bench:
    """An engine in simulation, filled from a machine and compared with it."""

    def __init__(self, ctx: Any, engine: Engine, machines: list[Machine]) -> None:
        self.ctx, self.engine, self.machines = ctx, engine, machines
        self.p = machines[0].parameters

    async def load(self) -> None:
        machine, p = self.machines[0], self.p
        codes = {level: code for code, level in enumerate(p.format.levels)}
        if p.codebooks:
            entries = [codes[level] for each in machine.codebooks for level in each]
            await self._write(Section.CODEBOOKS, entries)
        indices = {index: index for index in range(1 << p.index_width)}
        held = indices if p.codebooks else codes
        weights = [[[held[weight] for weight in row] for row in word] for word in machine.weights]
        await self._write(Section.WEIGHTS, [number(weight_word(p), word) for word in weights])
        await self._write(Section.CHANNELS, [number(channel_word(p), word) for word in machine.channels])
        await self._write(Section.TABLES, [level for table in machine.tables for level in table])
        trees = [search_order(each, code_width=p.code_width) for each in machine.boundaries]
        await self._write(Section.BOUNDARIES, [entry % 2**VALUE_WIDTH for tree in trees for entry in tree])
        for core, each in enumerate(self.machines):
            store = self.engine.cores[core].activations
            for address, word in enumerate(each.activations):
                self.ctx.set(store.data[address], joined(word, p.code_width))
            for address, word in enumerate(each.values):
                self.ctx.set(self.engine.values[core].data[address], number(values_word(p), word))

    async def _write(self, section: Section, words: list[int]) -> None:
        ctx, engine, width = self.ctx, self.engine, slice_width(self.p, section)
        assert len(words) <= section_depth(self.p, section)
        ctx.set(engine.host.section, section)
        ctx.set(engine.host.write_enable, 1)
        for address, word in enumerate(words):
            for index in range(slices(self.p, section)):
                ctx.set(engine.host.address, address)
                ctx.set(engine.host.slice, index)
                ctx.set(engine.host.write_data, word >> index * width & (1 << width) - 1)
                await ctx.tick()
        ctx.set(engine.host.write_enable, 0)
        await ctx.tick()

    async def run(self, program: list[int]) -> int:
        """Run a program, which must end well; its cycles."""
        ctx, engine = self.ctx, self.engine
        await self._write(Section.PROGRAM, program)
        ctx.set(engine.start, 1)
        await ctx.tick()
        ctx.set(engine.start, 0)
        await ctx.tick().until(engine.done)
        await ctx.tick()
        assert Status(ctx.get(engine.status)) == Status.DONE
        return ctx.get(engine.cycles)

    async def compare(self, about: object) -> None:
        """All memories that commands write, of every core."""
        ctx, engine, p = self.ctx, self.engine, self.p
        for core, machine in enumerate(self.machines):
            store = engine.cores[core].activations
            found = [ctx.get(store.data[address]) for address in range(p.activation_words)]
            assert found == [joined(word, p.code_width) for word in machine.activations], (about, core)
            for address, word in enumerate(machine.values):
                found = ctx.get(engine.values[core].data[address])
                assert found == number(values_word(p), word), (about, core, address)
            for address, word in enumerate(machine.results):
                if any(word):
                    ctx.set(engine.result_address, address * p.cores + core)
                    await ctx.tick()
                    assert list(ctx.get(engine.result)) == word, (about, core, address)


def number(layout: Any, word: Any) -> int:
    return Const.cast(layout.const(word).as_value()).value % 2**layout.size


def joined(codes: list[int], width: int) -> int:
    return sum(code << lane * width for lane, code in enumerate(codes))


def check(shape: str, seed: int) -> None:
    """A program of random commands against the machine."""
    p, draw = parameters(shape), random.Random(f"{shape} {seed}")
    machines = random_machines(draw, p)
    commands = [random_command(draw, p) for _ in range(COMMANDS)]
    engine = Engine(parameters=p)

    async def bench(ctx: Any) -> None:
        unit = Bench(ctx, engine, machines)
        await unit.load()
        for layer, passes in commands:
            words = [*packed(LAYER, layer), *(word for each in passes for word in packed(PASS, each))]
            cycles = await unit.run([*words, *[0] * (LAYER.size // STREAM_WIDTH)])
            walked = max(machine.run(layer, passes) for machine in machines)
            kernel = layer["kernel_height"] * layer["kernel_width"]
            planned = layer_cycles(
                parameters=p,
                pixels=layer["output_height"] * layer["output_width"],
                tiles=layer["tiles"],
                steps=[kernel * each["count"] for each in passes],
                switches=layer["opcode"] == LayerOpcode.CONVOLUTION,
            )
            assert cycles == planned + COMMAND_CYCLES, (seed, layer, passes)
            copied = 2**p.index_width if p.codebooks and layer["opcode"] == LayerOpcode.CONVOLUTION else 0
            assert planned == COMMAND_CYCLES + 2 + len(passes) + copied + walked + p.drain
            await unit.compare((seed, layer, passes))

    simulator = Simulator(engine)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("seed", range(1))
@pytest.mark.parametrize("shape", SHAPES)
def test_commands_equal_the_model(shape: str, seed: int) -> None:
    check(shape, seed)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1, 40))
@pytest.mark.parametrize("shape", SHAPES)
def test_many_commands_equal_the_model(shape: str, seed: int) -> None:
    check(shape, seed)

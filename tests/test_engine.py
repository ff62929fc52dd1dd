"""Encoder, requantizer, walker and drain against counting, Python's integers and plain loops."""

import random
from typing import Any

import pytest
from amaranth.hdl import signed
from amaranth.sim import Simulator

from hdl.encoder import Encoder
from hdl.engine import Engine
from hdl.formats import named
from hdl.layouts import LAYER, PASS, search_order
from hdl.parameters import AcceleratorParameters
from hdl.requantizer import Requantizer
from hdl.walker import Walker


def small(**changed: Any) -> AcceleratorParameters:
    sizes = {"rows": 4, "lanes": 4, "requantizers": 2, "code_width": 4, "depth": 64}
    memories = {"activation_words": 64, "weight_words": 64, "channel_words": 64, "result_words": 8}
    return AcceleratorParameters(**{**sizes, **memories, **changed})


def simulate(unit: Any, bench: Any) -> None:
    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("rows", [1, 2, 4, 12])
@pytest.mark.parametrize("lanes", [4, 16])
@pytest.mark.parametrize("code_width", [1, 3])
@pytest.mark.parametrize("weight_format", ["apot_k1n1", "uniform_b4"])
def test_drain(rows: int, lanes: int, code_width: int, weight_format: str) -> None:
    """The parameters know the drain without building the engine."""
    requantizers = min(4, rows)
    p = small(
        rows=rows,
        lanes=lanes,
        requantizers=requantizers,
        code_width=code_width,
        weight_format=weight_format,
    )
    assert Engine(parameters=p).drain == p.drain


@pytest.mark.parametrize("name", ["apot_k2n2u", "uniform_b4u", "pot_k3u", "apot_k1n1u"])
def test_encoder_counts(name: str) -> None:
    """All values around every boundary and at the ends, one a cycle, in both encodings at once."""
    p = small(encodings=2)
    unit = Encoder(parameters=p)
    first = [boundary << 5 for boundary in named(name).boundaries]
    second = [3, 4, 1000]
    edges = [edge + step for edge in (0, *first, *second) for step in (-1, 0, 1)]
    values = [*edges, -(2**17), 2**17 - 1, -1000]
    draw = random.Random(name)
    inputs = [(draw.choice(values), value, draw.randrange(2)) for value in values * 2]
    found = []

    async def bench(ctx: Any) -> None:
        ctx.set(unit.write_enable, 1)
        words = [word for each in (first, second) for word in search_order(each, code_width=4)]
        for address, word in enumerate(words):
            ctx.set(unit.write_address, address)
            ctx.set(unit.write_data, word)
            await ctx.tick()
        ctx.set(unit.write_enable, 0)
        for left, right, encoding in [*inputs, *[(0, 0, 0)] * unit.latency]:
            found.append((ctx.get(unit.codes[0]), ctx.get(unit.codes[1])))
            ctx.set(unit.values[0], left)
            ctx.set(unit.values[1], right)
            ctx.set(unit.encoding, encoding)
            await ctx.tick()

    simulate(unit, bench)
    expected = [
        tuple(sum(edge < value for edge in (first, second)[encoding]) for value in (left, right))
        for left, right, encoding in inputs
    ]
    assert found[unit.latency :] == expected


def saturated(value: int, bits: int) -> int:
    return max(-(2 ** (bits - 1)), min(2 ** (bits - 1) - 1, value))


MULTIPLIERS = (0, 1, -1, 2**17 - 1, -(2**17))
BIASES = (0, 2**47 - 1, -(2**47))


@pytest.mark.parametrize("seed", range(4))
def test_requantizer(seed: int) -> None:
    """Pixels of one to three passes back to back: results, or codes, as Python's integers say."""
    p = small(rows=4, requantizers=2, encodings=2, depth=2**20)
    width = 20
    unit = Requantizer(parameters=p, accumulator_shape=signed(width))
    draw = random.Random(seed)
    boundaries = [7, 100, 101, 5000, 2**17 - 2]
    channels = [
        [
            {
                "multiplier": draw.choice((*MULTIPLIERS, draw.randrange(-(2**17), 2**17))),
                "bias": draw.choice((*BIASES, draw.randrange(-(2**40), 2**40), draw.randrange(-9, 9))),
                "shift": draw.choice((0, 47, draw.randrange(48), draw.randrange(48))),
            }
            for _ in range(p.requantizers)
        ]
        for _ in range(p.channel_words)
    ]
    steps: list[dict[str, Any]] = []
    expected: dict[tuple[bool, int], list[int]] = {}
    extremes = (-(2 ** (width - 1)), 2 ** (width - 1) - 1, 0, -1)
    for pixel in range(40):
        passes, to_results = draw.randrange(1, 4), draw.random() < 0.5
        sums = [0] * p.rows
        for index in range(passes):
            address, place = draw.randrange(p.channel_words - p.groups), draw.choice((0, 4, 15))
            values = [
                draw.choice((*extremes, draw.randrange(-5000, 5000), draw.randrange(*extremes[:2])))
                for _ in range(p.rows)
            ]
            used = [channels[address + row // 2][row % 2] for row in range(p.rows)]
            sums = [
                total + channel["multiplier"] * (value << place) + channel["bias"]
                for total, channel, value in zip(sums, used, values, strict=True)
            ]
            tag = {
                "opening": index == 0,
                "closing": index == passes - 1,
                "to_results": to_results,
                "shift": place,
                "encoding": 1,
                "channels": address,
                "output": pixel * p.groups,
            }
            steps.append({"tag": tag, "values": values, "wait": p.groups + draw.choice((0, 0, 0, 1, 3))})
        shifted = [total >> channel["shift"] for total, channel in zip(sums, used, strict=True)]
        codes = [sum(edge < saturated(value, 18) for edge in boundaries) for value in shifted]
        outputs = [saturated(value, 32) for value in shifted] if to_results else codes
        for group in range(p.groups):
            expected[to_results, pixel * p.groups + group] = outputs[2 * group : 2 * group + 2]
    found: dict[tuple[bool, int], list[int]] = {}

    async def bench(ctx: Any) -> None:
        ctx.set(unit.boundary_enable, 1)
        for entry, word in enumerate(search_order(boundaries, code_width=4)):
            ctx.set(unit.boundary_address, 16 + entry)
            ctx.set(unit.boundary_data, word)
            await ctx.tick()
        ctx.set(unit.boundary_enable, 0)
        for step in steps:
            for cycle in range(step["wait"]):
                ctx.set(unit.start, cycle == 0)
                if cycle == 0:
                    ctx.set(unit.tag, {**step["tag"], "active": 0})
                    ctx.set(unit.accumulators, step["values"])
                await tick(ctx)
        for _ in range(unit.latency + 1):
            ctx.set(unit.start, 0)
            await tick(ctx)

    async def tick(ctx: Any) -> None:
        """One cycle: the channel memory answers, and writes are collected."""
        address = ctx.get(unit.channel_address)
        if ctx.get(unit.code_enable):
            found[False, ctx.get(unit.code_address)] = [ctx.get(unit.codes[i]) for i in range(2)]
        if ctx.get(unit.result_enable):
            found[True, ctx.get(unit.result_address)] = [ctx.get(unit.results[i]) for i in range(2)]
        await ctx.tick()
        ctx.set(unit.channel, channels[address % len(channels)])

    simulate(unit, bench)
    assert found == expected
    assert {to_results for to_results, _ in expected} == {True, False}


def walk(
    p: AcceleratorParameters, layer: dict[str, int], passes: list[dict[str, int]]
) -> list[dict[str, int]]:
    """The nested loops of a layer; addresses are multiplied out."""
    steps, weight, mask = [], layer["weights"], 2**24 - 1
    for tile in range(layer["tiles"]):
        tile_weight = weight
        for y in range(layer["output_height"]):
            for x in range(layer["output_width"]):
                weight = tile_weight
                for index, turn in enumerate(passes):
                    taps = [
                        (row, column, word)
                        for row in range(layer["kernel_height"])
                        for column in range(layer["kernel_width"])
                        for word in range(turn["count"])
                    ]
                    for place, (row, column, word) in enumerate(taps):
                        in_y = y * layer["stride"] + row - layer["padding"]
                        in_x = x * layer["stride"] + column - layer["padding"]
                        tap = (
                            layer["origin"]
                            + y * layer["row_step"]
                            + x * layer["pixel_step"]
                            + row * layer["row_pitch"]
                            + column * layer["pixel_pitch"]
                        )
                        pixel = y * layer["output_width"] + x
                        steps.append(
                            {
                                "inside": 0 <= in_y < layer["input_height"]
                                and 0 <= in_x < layer["input_width"],
                                "first": place == 0,
                                "last": place == len(taps) - 1,
                                "table": turn["table"],
                                "activation_address": tap + turn["offset"] + word & mask,
                                "weight_address": weight,
                                "opening": index == 0,
                                "closing": (index, place) == (len(passes) - 1, len(taps) - 1),
                                "to_results": layer["to_results"],
                                "shift": turn["shift"],
                                "encoding": layer["encoding"],
                                "channels": layer["channels"] + (tile * len(passes) + index) * p.groups,
                                "output": layer["output"] + tile * p.groups + pixel * layer["output_pitch"],
                            }
                        )
                        weight += 1
    return steps


@pytest.mark.parametrize("seed", range(12))
def test_walker(seed: int) -> None:
    """Two random layers: every step's addresses and marks in order, and the cycles of the contract."""
    draw = random.Random(seed)
    p = small(rows=(2, 4, 6)[seed % 3], requantizers=(1, 2)[seed % 2])
    unit = Walker(parameters=p)

    async def bench(ctx: Any) -> None:
        for _ in range(2):
            layer, passes = random_walk(draw)
            found, cycles = await walked(ctx, unit, layer, passes)
            assert found == walk(p, layer, passes)
            steps = [layer["kernel_height"] * layer["kernel_width"] * turn["count"] for turn in passes]
            pixels = layer["output_height"] * layer["output_width"]
            assert cycles == layer["tiles"] * pixels * sum(max(each, p.groups) for each in steps)

    simulate(unit, bench)


def random_walk(draw: random.Random) -> tuple[dict[str, int], list[dict[str, int]]]:
    dimensions = ("kernel_height", "kernel_width", "stride", "tiles", "output_height", "output_width")
    layer = {name: draw.randrange(1, 4) for name in dimensions}
    layer |= {name: draw.randrange(1, 6) for name in ("input_height", "input_width")}
    layer |= {"padding": draw.randrange(3), "to_results": draw.randrange(2), "encoding": draw.randrange(2)}
    steps = ("row_step", "pixel_step", "row_pitch", "pixel_pitch", "output_pitch")
    layer |= {name: draw.randrange(100) for name in (*steps, "weights", "channels", "output")}
    layer |= {"origin": draw.choice((0, 50, 2**24 - 40))}
    passes = [
        {
            "offset": draw.randrange(20),
            "count": draw.randrange(1, 4),
            "table": draw.randrange(2),
            "shift": draw.randrange(16),
        }
        for _ in range(draw.randrange(1, 4))
    ]
    return layer | {"passes": len(passes)}, passes


async def walked(
    ctx: Any, unit: Walker, layer: dict[str, int], passes: list[dict[str, int]]
) -> tuple[list[dict[str, int]], int]:
    """Steps that come out, and cycles until the last one goes in."""
    found: list[dict[str, int]] = []
    ctx.set(unit.layer, LAYER.const(layer))
    ctx.set(unit.load, 1)
    await ctx.tick()
    ctx.set(unit.load, 0)
    ctx.set(unit.run, 1)
    finished, cycles = 0, 0
    while not finished and cycles < 100_000:
        ctx.set(unit.current, PASS.const(passes[ctx.get(unit.pass_index)]))
        finished = ctx.get(unit.finished)
        await ctx.tick()
        if ctx.get(unit.step.valid):
            found.append(step_values(ctx, unit))
        cycles += 1
    ctx.set(unit.run, 0)
    return found, cycles


def step_values(ctx: Any, unit: Walker) -> dict[str, int]:
    names = ("inside", "first", "last", "table", "activation_address", "weight_address")
    tags = ("opening", "closing", "to_results", "shift", "encoding", "channels", "output")
    return {
        **{name: ctx.get(getattr(unit.step, name)) for name in names},
        **{name: ctx.get(getattr(unit.step.tag, name)) for name in tags},
    }

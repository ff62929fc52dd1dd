"""Requantizer and encoder against Python's integers: every boundary, and every part of the sum."""

import random
from dataclasses import dataclass
from typing import Any

import pytest
from amaranth.hdl import Shape
from amaranth.sim import Simulator

from hdl.encoder import LoadableEncoder
from hdl.formats import named
from hdl.layouts import LayerOpcode, search_order
from hdl.parameters import BIAS_WIDTH, MULTIPLIER_WIDTH, RESULT_WIDTH, VALUE_WIDTH, AcceleratorParameters
from hdl.requantizer import Requantizer

TOP_VALUE = 2 ** (VALUE_WIDTH - 1) - 1


def parameters(**changed: Any) -> AcceleratorParameters:
    small = {"rows": 4, "lanes": 4, "requantizers": 2, "depth": 64, "channel_words": 512, "code_width": 3}
    return AcceleratorParameters(**(small | changed))


def clipped(value: int, *, width: int) -> int:
    return max(-(2 ** (width - 1)), min(2 ** (width - 1) - 1, value))


def below(boundaries: list[int], value: int) -> int:
    return sum(boundary < value for boundary in boundaries)


ENCODINGS = (
    [boundary << 3 for boundary in named("apot_k2n1ou").boundaries],
    [1, 2, 3, 500],
    [TOP_VALUE - 1],
    list(named("uniform_b3u").boundaries),
)
"""Many places, neighbours and gaps, a single one at the top, and one for every code."""


def boundaries(encoding: int, code_width: int) -> list[int]:
    return ENCODINGS[encoding][: 2**code_width - 1]


@pytest.mark.parametrize("encodings", [1, 3, 4])
def test_encoder_counts_boundaries(encodings: int) -> None:
    """All values of a narrow range, and the ends of the wide one, for encodings that change every cycle."""
    chosen = parameters(encodings=encodings)
    encoder = LoadableEncoder(
        lanes=chosen.requantizers,
        code_width=chosen.code_width,
        value_width=VALUE_WIDTH,
        encodings=encodings,
    )
    values = [*range(-3, 200), 499, 500, 501, TOP_VALUE - 2, TOP_VALUE - 1, TOP_VALUE, -TOP_VALUE - 1]
    draw = random.Random(encodings)
    inputs = [
        (draw.randrange(encodings), [value, draw.choice(values)])
        for value in values
        for _ in range(encodings)
    ]
    inputs += [(encoding, [value, value]) for encoding in range(encodings) for value in values]
    simulator = Simulator(encoder)
    simulator.add_clock(1e-6)

    async def bench(ctx: Any) -> None:
        ctx.set(encoder.write_enable, 1)
        for encoding in range(encodings):
            for entry, word in enumerate(search_order(ENCODINGS[encoding], code_width=chosen.code_width)):
                ctx.set(encoder.write_address, encoding << chosen.code_width | entry)
                ctx.set(encoder.write_data, word)
                await ctx.tick()
        ctx.set(encoder.write_enable, 0)
        found = []
        for encoding, pair in [*inputs, *[(0, [0, 0])] * (encoder.latency - 1)]:
            ctx.set(encoder.encoding, encoding)
            ctx.set(encoder.values, pair)
            await ctx.tick()
            found.append(list(ctx.get(encoder.codes)))
        expected = [[below(ENCODINGS[encoding], value) for value in pair] for encoding, pair in inputs]
        assert found[encoder.latency - 1 :] == expected

    simulator.add_testbench(bench)
    simulator.run()


@dataclass(frozen=True, kw_only=True)
class Pass:
    """A pass of a pixel: its accumulators, one a row, and its channels, in order of rows."""

    place: int
    accumulators: list[int]
    channels: list[dict[str, int]]


@dataclass(frozen=True, kw_only=True)
class Pixel:
    """The passes of one pixel, and where its outputs go and its residual lies."""

    passes: list[Pass]
    output: int
    values: int = 0
    residual: int = 0


@dataclass(frozen=True, kw_only=True)
class Command:
    """Pixels that are treated alike."""

    layer: dict[str, int]
    pixels: list[Pixel]


Write = tuple[str, int, list[int]]
Words = list[list[int]]


def scaled(pixel: Pixel, row: int) -> int:
    """One row's sum over the passes, shifted down."""
    total = sum(
        (each.accumulators[row] << each.place) * each.channels[row]["multiplier"] + each.channels[row]["bias"]
        for each in pixel.passes
    )
    return total // 2 ** pixel.passes[-1].channels[row]["shift"]


def code_of(y: int, layer: dict[str, int], *, code_width: int) -> int:
    if not layer.get("linear"):
        return below(boundaries(layer["encoding"], code_width), clipped(y, width=VALUE_WIDTH))
    top = min(2 ** layer["linear_bits"] - 1, TOP_VALUE)
    return (max(0, min(top, y)) >> layer["linear_place"]) % 2**code_width


def expected_writes(command: Command, chosen: AcceleratorParameters, memory: Words) -> list[Write]:
    """Group after group: the memory, the address, and what must be written; values go to `memory`."""
    size, layer, writes = chosen.requantizers, command.layer, []
    for pixel in command.pixels:
        for group in range(chosen.groups):
            ys = [scaled(pixel, row) for row in range(group * size, (group + 1) * size)]
            if layer.get("add_residual"):
                ys = [y + value for y, value in zip(ys, memory[pixel.residual + group], strict=True)]
            if layer.get("to_codes"):
                codes = [code_of(y, layer, code_width=chosen.code_width) for y in ys]
                writes.append(("code", pixel.output + group, codes))
            if layer.get("to_results"):
                results = [clipped(y, width=RESULT_WIDTH) for y in ys]
                writes.append(("result", pixel.output + group, results))
            if layer.get("to_values"):
                low = 0 if layer.get("rectify") else -TOP_VALUE - 1
                memory[pixel.values + group] = [max(low, clipped(y, width=VALUE_WIDTH)) for y in ys]
                writes.append(("value", pixel.values + group, memory[pixel.values + group]))
    return writes


class Bench:
    """A requantizer in simulation, with the memories that it reads."""

    def __init__(self, chosen: AcceleratorParameters, shape: Shape, *, memory: Words) -> None:
        self.chosen = chosen
        self.unit = Requantizer(parameters=chosen, accumulator_shape=shape)
        self.memory = [list(word) for word in memory]
        self.reads: list[list[int]] = [memory[0]] * 2
        self.channel_words: list[list[dict[str, int]]] = []
        self.found: list[Write] = []

    def run(self, commands: list[Command], *, pauses: random.Random) -> list[Write]:
        """What is written; passes follow one another as fast as they may, or after pauses."""
        simulator = Simulator(self.unit)
        simulator.add_clock(1e-6)

        async def bench(ctx: Any) -> None:
            await self._load_boundaries(ctx)
            for command in commands:
                await self._run(ctx, command, pauses)

        simulator.add_testbench(bench)
        simulator.run()
        return self.found

    async def _load_boundaries(self, ctx: Any) -> None:
        unit, width = self.unit, self.chosen.code_width
        ctx.set(unit.boundary_enable, 1)
        for encoding in range(self.chosen.encodings):
            for entry, word in enumerate(search_order(boundaries(encoding, width), code_width=width)):
                ctx.set(unit.boundary_address, encoding << width | entry)
                ctx.set(unit.boundary_data, word)
                await ctx.tick()
        ctx.set(unit.boundary_enable, 0)

    async def _run(self, ctx: Any, command: Command, pauses: random.Random) -> None:
        size, groups = self.chosen.requantizers, self.chosen.groups
        pooling = command.layer["opcode"] != LayerOpcode.CONVOLUTION
        starts: dict[int, tuple[Pixel, int]] = {}
        pooled: dict[int, list[int]] = {}
        cycle, self.channel_words = 0, []
        for pixel in command.pixels:
            for index, each in enumerate(pixel.passes):
                starts[cycle] = (pixel, index)
                for group in range(groups):
                    self.channel_words.append(each.channels[group * size : (group + 1) * size])
                    pooled[cycle + 1 + group] = each.accumulators[group * size : (group + 1) * size]
                cycle += groups + pauses.choice((0, 0, 1, 5))
        ctx.set(self.unit.layer, command.layer)
        turn = 0
        for now in range(cycle + self.unit.latency):
            ctx.set(self.unit.start, now in starts)
            if now in starts:
                self._start(ctx, *starts[now], channels=turn * groups, pooling=pooling)
                turn += 1
            if self.chosen.value_words:
                ctx.set(self.unit.pooled, pooled.get(now, [0] * size))
            await self._cycle(ctx)

    def _start(self, ctx: Any, pixel: Pixel, index: int, *, channels: int, pooling: bool) -> None:
        tag = {
            "opening": index == 0,
            "closing": index == len(pixel.passes) - 1,
            "shift": pixel.passes[index].place,
            "channels": channels,
            "output": pixel.output,
            "values": pixel.values,
            "residual": pixel.residual,
        }
        ctx.set(self.unit.tag, tag)
        accumulators = [0] * self.chosen.rows if pooling else pixel.passes[index].accumulators
        ctx.set(self.unit.accumulators, accumulators)

    async def _cycle(self, ctx: Any) -> None:
        """One cycle of the memories around the requantizer."""
        unit, address = self.unit, ctx.get(self.unit.channel_address)
        kinds = ("code", "result", "value") if self.chosen.value_words else ("code", "result")
        if self.chosen.value_words:
            ctx.set(unit.residual, self.reads.pop(0))
            self.reads.append(self.memory[ctx.get(unit.residual_address) % len(self.memory)])
        for kind in kinds:
            if ctx.get(getattr(unit, f"{kind}_enable")):
                place = ctx.get(getattr(unit, f"{kind}_address"))
                self.found.append((kind, place, list(ctx.get(getattr(unit, f"{kind}s")))))
                if kind == "value":
                    self.memory[place] = self.found[-1][2]
        await ctx.tick()
        if address < len(self.channel_words):
            ctx.set(unit.channel, self.channel_words[address])


def random_channel(draw: random.Random, *, wide: bool) -> dict[str, int]:
    """Multipliers of either sign and shifts 0 … 47; biases up to the width's ends if `wide`."""
    limit, reach = 2 ** (MULTIPLIER_WIDTH - 1), 2 ** (BIAS_WIDTH - 1) if wide else 2**20
    return {
        "multiplier": draw.choice((-limit, limit - 1, 0, -1, 1, draw.randrange(-limit, limit))),
        "bias": draw.choice((-reach, reach - 1, 0, draw.randrange(-reach, reach))),
        "shift": draw.choice((0, 1, 7, 8, 47, draw.randrange(48), draw.randrange(20, 40))),
    }


def random_passes(
    draw: random.Random, chosen: AcceleratorParameters, shape: Shape, *, pools: bool
) -> list[Pass]:
    """One to four passes.

    Sums of passes in places stay within the widths, as the packer sees to: several passes share the range.
    """
    count = 1 if pools else draw.randint(1, chosen.passes)
    shape = Shape(chosen.pooled_width, signed=True) if pools else shape
    lowest = -(1 << (shape.width - 1)) if shape.signed else 0
    highest = (1 << (shape.width - shape.signed)) - 1
    passes = []
    for _ in range(count):
        place = 0 if pools else draw.choice((0, 0, 3, 15))
        low, high = -(-lowest >> place), highest >> place
        passes.append(
            Pass(
                place=place,
                accumulators=[draw.choice((low, high, draw.randint(low, high))) for _ in range(chosen.rows)],
                channels=[random_channel(draw, wide=count == 1) for _ in range(chosen.rows)],
            )
        )
    return passes


def random_command(draw: random.Random, chosen: AcceleratorParameters, shape: Shape) -> Command:
    """A few pixels in a row; with values memory, every flag, and values over the residual now and then."""
    layer = {"opcode": int(LayerOpcode.CONVOLUTION), "encoding": draw.randrange(chosen.encodings)}
    flags = ["to_codes", "to_results"]
    if chosen.value_words:
        layer["opcode"] = draw.choice((LayerOpcode.CONVOLUTION, LayerOpcode.SUM, LayerOpcode.MAXIMUM))
        flags += ["to_values", "rectify", "linear"]
        flags += ["add_residual"] * (layer["opcode"] == LayerOpcode.CONVOLUTION)
        layer |= {
            "linear_bits": draw.choice((0, 1, 8, 16, 17, 18, 255)),
            "linear_place": draw.choice((0, 1, 4, 16, 17, 255)),
        }
    layer |= {name: draw.randint(0, 1) for name in flags}
    count, pools = draw.randint(1, 6), layer["opcode"] != LayerOpcode.CONVOLUTION
    room = count * chosen.groups
    residual = draw.randrange(max(1, chosen.value_words - 2 * room))
    values = draw.choice((residual, residual + room))
    return Command(
        layer=layer,
        pixels=[
            Pixel(
                passes=random_passes(draw, chosen, shape, pools=pools),
                output=draw.randrange(2**4),
                values=values + pixel * chosen.groups,
                residual=residual + pixel * chosen.groups,
            )
            for pixel in range(count)
        ],
    )


def random_memory(draw: random.Random, chosen: AcceleratorParameters) -> Words:
    """Values up to the ends."""
    ends = (-TOP_VALUE - 1, TOP_VALUE, 0)
    return [
        [draw.choice((*ends, draw.randint(-TOP_VALUE, TOP_VALUE))) for _ in range(chosen.requantizers)]
        for _ in range(max(1, chosen.value_words))
    ]


SHAPES: list[tuple[dict[str, Any], Shape]] = [
    ({}, Shape(14, signed=True)),
    ({"rows": 2}, Shape(13, signed=False)),
    ({"rows": 7, "requantizers": 1, "encodings": 4, "passes": 4}, Shape(14, signed=True)),
    ({"rows": 8, "requantizers": 4, "encodings": 1, "passes": 1}, Shape(14, signed=True)),
    ({"value_words": 100, "activation_width": 16, "depth": 2**20}, Shape(42, signed=True)),
    ({"value_words": 60, "rows": 2, "code_width": 1}, Shape(13, signed=False)),
    (
        {"value_words": 100, "rows": 7, "requantizers": 1, "code_width": 5, "passes": 3},
        Shape(14, signed=True),
    ),
]
"""Groups of 2, 1, 7 and 2 cycles; exact and folded accumulators; multipliers of 2 and more blocks; values."""


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("changed", "shape"), SHAPES)
def test_requantizer_equals_integers(changed: dict[str, Any], shape: Shape, seed: int) -> None:
    chosen, draw = parameters(**changed), random.Random(seed)
    memory = random_memory(draw, chosen)
    commands = [random_command(draw, chosen, shape) for _ in range(12)]
    bench = Bench(chosen, shape, memory=memory)
    expected = [write for command in commands for write in expected_writes(command, chosen, memory)]
    found = bench.run(commands, pauses=draw)
    # Memories are written at different times, so they are compared apart.
    for kind in ("code", "result", "value"):
        assert [each for each in found if each[0] == kind] == [each for each in expected if each[0] == kind]
    assert len({str(each[2]) for each in expected}) > 15
    assert bench.memory == memory


@pytest.mark.parametrize(
    ("accumulator", "multiplier", "bias", "shift", "result"),
    [
        (1, -1, 0, 1, -1),
        (1, -1, 0, 47, -1),
        (-1, 1, 2**47 - 1, 47, 0),
        (0, 0, -(2**47), 47, -1),
        (3, 3, -9, 0, 0),
        (8191, 2**17 - 1, 0, 0, 8191 * (2**17 - 1)),
        (-8192, 2**17 - 1, 2**47 - 1, 0, 2**31 - 1),
        (8191, -(2**17), -(2**47), 0, -(2**31)),
        (0, 0, 2**31 - 1, 0, 2**31 - 1),
        (0, 0, 2**31, 0, 2**31 - 1),
        (0, 0, -(2**31), 0, -(2**31)),
        (0, 0, -(2**31) - 1, 0, -(2**31)),
    ],
)
def test_results_by_hand(accumulator: int, multiplier: int, bias: int, shift: int, result: int) -> None:
    """Shifts round down; values beyond 32 bits stop at the ends."""
    chosen = parameters(rows=1, requantizers=1)
    channel = {"multiplier": multiplier, "bias": bias, "shift": shift}
    turn = Pass(place=0, accumulators=[accumulator], channels=[channel])
    layer = {"opcode": int(LayerOpcode.CONVOLUTION), "to_results": 1}
    command = Command(layer=layer, pixels=[Pixel(passes=[turn], output=5)])
    assert expected_writes(command, chosen, [[]]) == [("result", 5, [result])]
    bench = Bench(chosen, Shape(14, signed=True), memory=[[]])
    assert bench.run([command], pauses=random.Random(0)) == [("result", 5, [result])]


def test_sums_that_leave_their_range_come_back() -> None:
    """Seven biases of 2^47 and seven of -2^47 pass 2^49 on their way, in 49 bits."""
    chosen = parameters(rows=1, requantizers=1)
    assert chosen.sum_width == 49
    biases = [2**47 - 1] * 7 + [-(2**47)] * 7
    turns = [
        Pass(place=15, accumulators=[8191], channels=[{"multiplier": 1, "bias": bias, "shift": 4}])
        for bias in biases
    ]
    layer = {"opcode": int(LayerOpcode.CONVOLUTION), "to_results": 1}
    command = Command(layer=layer, pixels=[Pixel(passes=turns, output=5)])
    assert sum(biases[:7]) > 2**49
    wanted = (14 * (8191 << 15) - 7) >> 4
    assert expected_writes(command, chosen, [[]]) == [("result", 5, [wanted])]
    bench = Bench(chosen, Shape(14, signed=True), memory=[[]])
    assert bench.run([command], pauses=random.Random(0)) == [("result", 5, [wanted])]

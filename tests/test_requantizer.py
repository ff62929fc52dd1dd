"""Requantizer and encoder against Python's integers: every boundary, and every part of the sum."""

import random
from dataclasses import dataclass
from typing import Any

import pytest
from amaranth.hdl import Shape
from amaranth.sim import Simulator

from hdl.encoder import LoadableEncoder
from hdl.formats import named
from hdl.layouts import search_order
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
    """The passes of one pixel, and where its output goes."""

    passes: list[Pass]
    encoding: int
    to_results: int
    output: int


def expected_writes(pixel: Pixel, chosen: AcceleratorParameters) -> list[tuple[str, int, list[int]]]:
    """Group after group: the memory, the address, and the values that must be written."""
    outputs = []
    for row in range(chosen.rows):
        total = sum(
            (each.accumulators[row] << each.place) * each.channels[row]["multiplier"]
            + each.channels[row]["bias"]
            for each in pixel.passes
        )
        value = total // 2 ** pixel.passes[-1].channels[row]["shift"]
        code = below(ENCODINGS[pixel.encoding], clipped(value, width=VALUE_WIDTH))
        outputs.append(clipped(value, width=RESULT_WIDTH) if pixel.to_results else code)
    size = chosen.requantizers
    groups = [outputs[start : start + size] for start in range(0, len(outputs), size)]
    memory = "results" if pixel.to_results else "codes"
    return [(memory, pixel.output + index, group) for index, group in enumerate(groups)]


def written(
    pixels: list[Pixel], chosen: AcceleratorParameters, shape: Shape, *, pauses: random.Random
) -> list[tuple[str, int, list[int]]]:
    """What the requantizer writes, its passes following one another as fast as they may, or after pauses."""
    unit = Requantizer(parameters=chosen, accumulator_shape=shape)
    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    words: list[list[dict[str, int]]] = []
    starts: dict[int, tuple[Pixel, int, int]] = {}
    cycle = 0
    for pixel in pixels:
        for index, each in enumerate(pixel.passes):
            starts[cycle] = (pixel, index, len(words))
            size = chosen.requantizers
            words += [each.channels[start : start + size] for start in range(0, chosen.rows, size)]
            cycle += chosen.groups + pauses.choice((0, 0, 1, 5))
    found: list[tuple[str, int, list[int]]] = []

    async def load_boundaries(ctx: Any) -> None:
        ctx.set(unit.boundary_enable, 1)
        for encoding in range(chosen.encodings):
            for entry, word in enumerate(search_order(ENCODINGS[encoding], code_width=chosen.code_width)):
                ctx.set(unit.boundary_address, encoding << chosen.code_width | entry)
                ctx.set(unit.boundary_data, word)
                await ctx.tick()
        ctx.set(unit.boundary_enable, 0)

    async def bench(ctx: Any) -> None:
        await load_boundaries(ctx)
        address = None
        for now in range(cycle + unit.latency):
            ctx.set(unit.start, now in starts)
            if now in starts:
                pixel, index, first = starts[now]
                tag = {
                    "opening": index == 0,
                    "closing": index == len(pixel.passes) - 1,
                    "to_codes": 1 - pixel.to_results,
                    "to_results": pixel.to_results,
                    "shift": pixel.passes[index].place,
                    "encoding": pixel.encoding,
                    "channels": first,
                    "output": pixel.output,
                }
                ctx.set(unit.tag, tag)
                ctx.set(unit.accumulators, pixel.passes[index].accumulators)
            if address is not None and address < len(words):
                ctx.set(unit.channel, words[address])
            address = ctx.get(unit.channel_address)
            for memory in ("code", "result"):
                if ctx.get(getattr(unit, f"{memory}_enable")):
                    place = ctx.get(getattr(unit, f"{memory}_address"))
                    found.append((f"{memory}s", place, list(ctx.get(getattr(unit, f"{memory}s")))))
            await ctx.tick()

    simulator.add_testbench(bench)
    simulator.run()
    return found


def random_channel(draw: random.Random, *, wide: bool) -> dict[str, int]:
    """Multipliers of either sign and shifts 0 … 47; biases up to the width's ends if `wide`."""
    limit, reach = 2 ** (MULTIPLIER_WIDTH - 1), 2 ** (BIAS_WIDTH - 1) if wide else 2**20
    return {
        "multiplier": draw.choice((-limit, limit - 1, 0, -1, 1, draw.randrange(-limit, limit))),
        "bias": draw.choice((-reach, reach - 1, 0, draw.randrange(-reach, reach))),
        "shift": draw.choice((0, 1, 7, 8, 47, draw.randrange(48))),
    }


def random_pixel(draw: random.Random, chosen: AcceleratorParameters, shape: Shape) -> Pixel:
    """One to four passes.

    Sums of passes in places stay within the widths, as the packer sees to: several passes share the range.
    """
    count = draw.randint(1, chosen.passes)
    low = -(1 << (shape.width - 1)) if shape.signed else 0
    high = (1 << (shape.width - shape.signed)) - 1
    passes = []
    for _ in range(count):
        place = draw.choice((0, 0, 3, 15))
        span = range(-(-low >> place) if low else 0, (high >> place) + 1)
        passes.append(
            Pass(
                place=place,
                accumulators=[
                    draw.choice((span[0], span[-1], draw.choice(span))) for _ in range(chosen.rows)
                ],
                channels=[random_channel(draw, wide=count == 1) for _ in range(chosen.rows)],
            )
        )
    return Pixel(
        passes=passes,
        encoding=draw.randrange(chosen.encodings),
        to_results=draw.randrange(2),
        output=draw.randrange(2**16),
    )


SHAPES: list[tuple[dict[str, Any], Shape]] = [
    ({}, Shape(14, signed=True)),
    ({"rows": 2}, Shape(13, signed=False)),
    ({"rows": 7, "requantizers": 1, "encodings": 4, "passes": 4}, Shape(14, signed=True)),
    ({"rows": 8, "requantizers": 4, "encodings": 1, "passes": 1}, Shape(14, signed=True)),
]
"""Groups of 2, 1, 7 and 2 cycles; exact and folded accumulators."""


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("changed", "shape"), SHAPES)
def test_requantizer_equals_integers(changed: dict[str, Any], shape: Shape, seed: int) -> None:
    chosen, draw = parameters(**changed), random.Random(seed)
    pixels = [random_pixel(draw, chosen, shape) for _ in range(40)]
    expected = [write for pixel in pixels for write in expected_writes(pixel, chosen)]
    found = written(pixels, chosen, shape, pauses=draw)
    # Results are ready some cycles before codes, so the two memories are compared apart.
    for memory in ("codes", "results"):
        assert [each for each in found if each[0] == memory] == [
            each for each in expected if each[0] == memory
        ]
    assert len({str(each[2]) for each in expected}) > 20


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
    pixel = Pixel(passes=[turn], encoding=0, to_results=1, output=5)
    assert expected_writes(pixel, chosen) == [("results", 5, [result])]
    found = written([pixel], chosen, Shape(14, signed=True), pauses=random.Random(0))
    assert found == [("results", 5, [result])]

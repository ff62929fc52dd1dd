"""The walker against plain nested loops: every step of random layers, in its cycle."""

import random
from dataclasses import replace
from typing import Any

import pytest
from amaranth.sim import Simulator

from hdl.layouts import LAYER
from hdl.parameters import AcceleratorParameters
from hdl.walker import Walker
from sw.compiler.schedule import COMMAND_CYCLES, layer_cycles
from tests.nested_loops import Fields, Step, walk

OUTPUTS = ("output", "values", "residual")
WIDTHS = {name: field.width for name, field in LAYER}


def parameters(**changed: Any) -> AcceleratorParameters:
    return AcceleratorParameters(**({"rows": 4, "lanes": 4, "requantizers": 2, "depth": 64} | changed))


def steps(layer: Fields, passes: list[Fields], chosen: AcceleratorParameters) -> list[Step]:
    """What the loops say; without values memory there are no places in it."""
    found = walk(layer, passes, groups=chosen.groups)
    return [each if chosen.value_words else replace(each, values=0, residual=0) for each in found]


def random_layer(draw: random.Random) -> tuple[Fields, list[Fields]]:
    """Small dimensions, and steps and addresses of any size: the walker must not care."""
    small = {
        "kernel_height": draw.randint(1, 3),
        "kernel_width": draw.randint(1, 3),
        "stride": draw.randint(1, 4),
        "padding": draw.randint(0, 3),
        "tiles": draw.randint(1, 3),
        "output_height": draw.randint(1, 3),
        "output_width": draw.randint(1, 3),
        "input_height": draw.randint(1, 6),
        "input_width": draw.randint(1, 6),
        "passes": draw.randint(1, 4),
    }
    addresses = ("origin", "row_step", "pixel_step", "row_pitch", "pixel_pitch")
    places = ("tile_step", "weights", "channels", *OUTPUTS, *(f"{name}_pitch" for name in OUTPUTS))
    layer = small | {name: draw.getrandbits(WIDTHS[name]) for name in (*addresses, *places)}
    passes = [
        {
            "offset": draw.getrandbits(12),
            "count": draw.choice((1, 1, 2, 5)),
            "table": draw.randint(0, 1),
            "shift": draw.randint(0, 15),
        }
        for _ in range(layer["passes"])
    ]
    return layer, passes


def walked(
    walker: Walker, layers: list[tuple[Fields, list[Fields]]], *, pauses: random.Random | None = None
) -> list[list[Step]]:
    """The valid steps of each layer, with the walking cycles counted; `pauses` takes `run` away at times."""
    simulator = Simulator(walker)
    simulator.add_clock(1e-6)
    found: list[list[Step]] = []

    async def bench(ctx: Any) -> None:
        for layer, passes in layers:
            ctx.set(walker.layer, layer)
            ctx.set(walker.load, 1)
            ctx.set(walker.upcoming, passes[0])
            await ctx.tick()
            ctx.set(walker.load, 0)
            found.append([])
            cycle, finished = 0, False
            while not finished:
                run = pauses is None or pauses.random() < 0.7
                ctx.set(walker.run, run)
                ctx.set(walker.upcoming, passes[ctx.get(walker.pass_index)])
                finished = bool(ctx.get(walker.finished))
                await ctx.tick()
                step = ctx.get(walker.step)
                assert not (step.valid and not run)
                if step.valid:
                    found[-1].append(
                        Step(
                            cycle=cycle,
                            input=step.input,
                            inside=bool(step.inside),
                            weight=step.weights,
                            first=bool(step.first),
                            last=bool(step.last),
                            table=step.table,
                            opening=bool(step.opening),
                            closing=bool(step.closing),
                            shift=step.shift,
                            channels=step.channels,
                            output=step.output,
                            values=step.values,
                            residual=step.residual,
                        )
                    )
                cycle += run
            ctx.set(walker.run, 0)

    simulator.add_testbench(bench)
    simulator.run()
    return found


SHAPES: list[dict[str, Any]] = [
    {"value_words": 100},
    {"rows": 2},
    {"rows": 14, "passes": 4},
    {"requantizers": 1, "rows": 7, "tables": 16, "value_words": 1},
]
"""Passes of 2, 1, 7 and 7 cycles at least."""


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"groups{parameters(**shape).groups}")
def test_steps_equal_nested_loops(shape: dict[str, Any], seed: int) -> None:
    """One layer after another; wrapping addresses, padding, stretched passes, tags and cycles."""
    chosen, draw = parameters(**shape), random.Random(seed)
    layers = [random_layer(draw) for _ in range(8)]
    expected = [steps(*layer, chosen) for layer in layers]
    assert walked(Walker(parameters=chosen), layers) == expected


def test_steps_wait_without_run() -> None:
    chosen, draw = parameters(rows=2), random.Random(5)
    layers = [random_layer(draw) for _ in range(6)]
    expected = [steps(*layer, chosen) for layer in layers]
    assert walked(Walker(parameters=chosen), layers, pauses=random.Random(1)) == expected


def test_the_loops_agree_with_the_schedule() -> None:
    """The packer's closed form counts the same cycles as the loops do."""
    for shape in SHAPES:
        chosen, draw = parameters(**shape), random.Random(2)
        for _ in range(20):
            layer, passes = random_layer(draw)
            found = steps(layer, passes, chosen)
            kernel = layer["kernel_height"] * layer["kernel_width"]
            cycles = layer_cycles(
                parameters=chosen,
                pixels=layer["output_height"] * layer["output_width"],
                tiles=layer["tiles"],
                steps=[kernel * turn["count"] for turn in passes],
            )
            empty = layer_cycles(parameters=chosen, pixels=0, tiles=0, steps=[0] * len(passes))
            assert cycles - empty == found[-1].cycle + 1
            assert empty > COMMAND_CYCLES + len(passes) + chosen.drain

"""The pooling unit against Python's max and sum, its windows end to end."""

import random
from typing import Any

import pytest
from amaranth.sim import Simulator

from hdl.parameters import MAX_WINDOW, VALUE_WIDTH, AcceleratorParameters
from hdl.pooling import Pooling

TOP = 2 ** (VALUE_WIDTH - 1) - 1
Group = list[int]
Window = list[list[tuple[bool, Group]]]
"""Pixels of groups; whether each is inside, and its values."""


def parameters(groups: int) -> AcceleratorParameters:
    return AcceleratorParameters(rows=2 * groups, lanes=2, requantizers=2, value_words=1)


def pooled(chosen: AcceleratorParameters, windows: list[tuple[bool, Window]]) -> list[list[Group]]:
    """What the unit gives after each window, which starts where the last one ended, or later."""
    unit, draw = Pooling(parameters=chosen), random.Random(3)
    words: list[dict[str, Any]] = []
    ends = []
    for maximum, window in windows:
        for number, pixel in enumerate(window):
            for group, (inside, values) in enumerate(pixel):
                first = number == group == 0
                words.append({"first": first, "inside": inside, "word": values, "maximum": maximum})
        ends.append(len(words))
        idle = {"first": 0, "inside": 1, "word": [TOP, -TOP], "maximum": maximum}
        words += [idle] * draw.choice((0, 0, chosen.groups))
    found = []

    async def bench(ctx: Any) -> None:
        for word in [*words, *[{"first": 0}] * chosen.groups]:
            found.append(list(ctx.get(unit.pooled)))
            for name, value in word.items():
                ctx.set(getattr(unit, name), value)
            await ctx.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return [found[end : end + chosen.groups] for end in ends]


def expected(maximum: bool, window: Window) -> list[Group]:
    groups = []
    for column in zip(*window, strict=True):
        inside = [values for each, values in column if each]
        groups.append(
            [(max if maximum else sum)(lane) for lane in zip(*inside, strict=True)] if inside else [0, 0]
        )
    return groups


def random_window(draw: random.Random, groups: int) -> Window:
    """Negative values, ends, and pixels outside, all of them now and then."""
    ends = (TOP, -TOP - 1, -1)
    chance = draw.choice((0.0, 0.3, 1.0))
    window: Window = []
    for _ in range(draw.choice((1, 1, 2, 9))):
        outside = draw.random() < chance
        values = [[draw.choice((*ends, draw.randint(-TOP, 0))) for _ in range(2)] for _ in range(groups)]
        window.append([(not outside, each) for each in values])
    return window


@pytest.mark.parametrize("groups", [1, 2, 5])
def test_windows_equal_python(groups: int) -> None:
    draw, chosen = random.Random(groups), parameters(groups)
    windows = [(draw.random() < 0.5, random_window(draw, groups)) for _ in range(60)]
    assert pooled(chosen, windows) == [expected(*each) for each in windows]


def test_the_largest_sums_fit() -> None:
    windows = [(False, [[(True, [TOP, -TOP - 1])]] * MAX_WINDOW)]
    assert pooled(parameters(1), windows) == [[[MAX_WINDOW * TOP, -MAX_WINDOW * (TOP + 1)]]]

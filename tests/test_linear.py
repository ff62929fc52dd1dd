"""Linear codes against shifts and masks, for every width of the range and every place."""

from typing import Any

import pytest
from amaranth.sim import Simulator

from hdl.linear import LinearEncoder
from hdl.parameters import VALUE_WIDTH

TOP = 2 ** (VALUE_WIDTH - 1) - 1
VALUES = [
    0,
    1,
    -1,
    5,
    100,
    255,
    256,
    -256,
    0xABCD,
    TOP - 1,
    TOP,
    TOP + 1,
    -TOP - 1,
    2**33,
    -(2**33),
    2**33 + 5,
]
"""Some are larger than a saturated value."""


@pytest.mark.parametrize("code_width", [1, 2, 5])
def test_codes_equal_shifts_and_masks(code_width: int) -> None:
    unit = LinearEncoder(lanes=2, code_width=code_width, value_width=35)
    settings = [(bits, place) for bits in (*range(20), 255) for place in (0, 1, 4, 7, 16, 17, 31, 32, 255)]

    async def bench(ctx: Any) -> None:
        for bits, place in settings:
            ctx.set(unit.bits, bits)
            ctx.set(unit.place, place)
            found = []
            for value in [*VALUES, *[0] * unit.latency]:
                ctx.set(unit.values, [value, -value])
                found.append(list(ctx.get(unit.codes)))
                await ctx.tick()
            top = min(2**bits - 1, TOP)
            expected = [
                [(max(0, min(top, each)) >> place) % 2**code_width for each in (value, -value)]
                for value in VALUES
            ]
            assert found[unit.latency :] == expected, (bits, place)

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()

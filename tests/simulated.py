"""Units in Amaranth's own simulator, which needs no build."""

from typing import Any

from amaranth.sim import Simulator


def outputs(unit: Any, cycles: list[dict[str, Any]], *ports: str) -> list[list[Any]]:
    """The values of `ports` after every cycle; a port keeps what it was given until it is given more."""
    found: list[list[Any]] = []

    async def bench(ctx: Any) -> None:
        for cycle in cycles:
            for port, value in cycle.items():
                ctx.set(getattr(unit, port), value)
            await ctx.tick()
            found.append([ctx.get(getattr(unit, port)) for port in ports])

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return found


def sums(dot: Any, cycles: list[dict[str, Any]]) -> list[list[int]]:
    """All accumulators of a dot product `latency` cycles after each cycle."""
    idle = {"enable": 0, "clear": 0}
    found = outputs(dot, [*cycles, *[idle] * (dot.latency - 1)], "accumulators")
    return [[each[0][row] for row in range(len(dot.accumulators))] for each in found[dot.latency - 1 :]]

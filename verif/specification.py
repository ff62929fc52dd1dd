"""What specifications are made of: instances of generated modules, and registers beside them."""

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import (
    ClockSignal,
    Instance,
    Module,
    ResetSignal,
    Signal,
    Value,
    ValueLike,
    signed,
)

HEADROOM = 2


def instance(
    m: Module, description: Mapping[str, Any], *, name: str | None = "dut", **inputs: ValueLike
) -> dict[str, Signal]:
    """An instance of the generated module inside a specification; returns its outputs.

    Parameters
    ----------
    description
        The description beside the module's Verilog.
    name
        Of the submodule, if it has one.
    inputs
        What each input port is connected to; ``clk`` and ``rst`` are the specification's unless given.

    Raises
    ------
    ValueError
        If the inputs are not the module's.
    """
    ports = {port["name"]: port for port in description["ports"]}
    wanted = {port["name"] for port in ports.values() if port["direction"] == "input"}
    given = {"clk": ClockSignal(), "rst": ResetSignal()} | inputs
    given = {port: value for port, value in given.items() if port in wanted or port in inputs}
    if set(given) != wanted:
        raise ValueError(f"inputs must be {', '.join(sorted(wanted))}, not {', '.join(sorted(given))}")
    outputs = {
        port["name"]: Signal(signed(port["width"]) if port["signed"] else port["width"], name=port["name"])
        for port in ports.values()
        if port["direction"] == "output"
    }
    unit = Instance(
        description["name"],
        **{f"i_{port}": value for port, value in given.items()},
        **{f"o_{port}": signal for port, signal in outputs.items()},
    )
    if name is None:
        m.submodules += unit
    else:
        m.submodules[name] = unit
    return outputs


def delayed(m: Module, value: Value, *, cycles: int, reset_less: bool = False) -> Value:
    """`value` after `cycles` registers, which start at 0."""
    for _ in range(cycles):
        register = Signal(value.shape(), name="delayed", reset_less=reset_less)
        m.d.sync += register.eq(value)
        value = register
    return value

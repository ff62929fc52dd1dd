"""Parts of the accelerator as modules of their own, for whoever examines one alone."""

from dataclasses import asdict

from hdl.parameters import AcceleratorParameters

from .block import Circuit
from .verilog import Design, design

STREAMS = ("packet_reader", "responder")


def stream(name: str, parameters: AcceleratorParameters) -> Design:
    """A stream part of an accelerator in one flat module: the reader of its packets, or its responder.

    Raises
    ------
    ValueError
        If there is no such part.
    """
    from hdl.packets import PacketReader, Responder

    if name not in STREAMS:
        raise ValueError(f"name must be one of {', '.join(STREAMS)}, not {name!r}")
    component = (PacketReader if name == "packet_reader" else Responder)(parameters=parameters)
    head = {"block": name, "parameters": asdict(parameters)}
    return design(Circuit(component=component, flat=True), name=name, head=head)

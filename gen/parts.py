"""Parts of the accelerator as modules of their own, for whoever examines one alone."""

from dataclasses import asdict

from hdl.parameters import AcceleratorParameters

from .block import Circuit
from .verilog import Design, design

STREAMS = ("packet_reader", "payload_mover", "responder")


def stream(name: str, parameters: AcceleratorParameters) -> Design:
    """A stream part of an accelerator in one flat module: what reads packets, moves payloads, or responds.

    Raises
    ------
    ValueError
        If there is no such part.
    """
    from hdl.packets import PacketReader
    from hdl.payloads import PayloadMover
    from hdl.responder import Responder

    if name not in STREAMS:
        raise ValueError(f"name must be one of {', '.join(STREAMS)}, not {name!r}")
    component = dict(zip(STREAMS, (PacketReader, PayloadMover, Responder), strict=True))[name](
        parameters=parameters
    )
    head = {"block": name, "parameters": asdict(parameters)}
    return design(Circuit(component=component, flat=True), name=name, head=head)


def sequencer(parameters: AcceleratorParameters) -> Design:
    """The sequencer of an accelerator, its walker within, in one flat module."""
    from hdl.sequencer import Sequencer

    component = Sequencer(parameters=parameters, drain=parameters.drain)
    head = {"block": "sequencer", "parameters": asdict(parameters)}
    return design(Circuit(component=component, flat=True), name="sequencer", head=head)

"""Parts of the accelerator as modules of their own, for whoever examines one alone."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from hdl.parameters import AcceleratorParameters

from .block import Circuit
from .verilog import Design, design

if TYPE_CHECKING:
    from amaranth.lib.wiring import Component

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
    return _part(name, component, parameters)


def sequencer(parameters: AcceleratorParameters) -> Design:
    """The sequencer of an accelerator, its walker within, in one flat module."""
    from hdl.sequencer import Sequencer

    return _part("sequencer", Sequencer(parameters=parameters, drain=parameters.drain), parameters)


def weight_decoder(parameters: AcceleratorParameters) -> Design:
    """The decoder of an accelerator's weights, in one flat module."""
    from hdl.weight_decoder import WeightDecoder

    component = WeightDecoder(parameters=parameters)
    return _part("weight_decoder", component, parameters, latency=component.latency)


def _part(name: str, component: "Component", parameters: AcceleratorParameters, **facts: int) -> Design:
    head = {"block": name, "parameters": asdict(parameters)}
    return design(Circuit(component=component, facts=facts, flat=True), name=name, head=head)

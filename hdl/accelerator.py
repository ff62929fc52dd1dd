"""Accelerator top: packets in, responses out, an engine between them."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .engine import Engine
from .layouts import STREAM_WIDTH, Status
from .packets import PacketReader, Responder
from .parameters import AcceleratorParameters


class Accelerator(wiring.Component):
    """Loads memories and runs programs as packets on a 32-bit stream ask for it.

    A packet is a `layouts.PACKET_HEADER`, then for LOAD the words of the section in slices; its last
    word has `input_last`.  RUN is answered with a response: the status, the cycles of the run, and the
    results asked for if the status is DONE.  A packet that cannot be obeyed is answered with its error
    status and 0 cycles; a good LOAD is not answered.

    A transfer happens in a cycle with both `valid` and `ready`; `output_data` and `output_last` hold
    while `output_valid` waits for `output_ready`.  Input is not taken during a run or a response.

    Parameters
    ----------
    parameters : AcceleratorParameters

    Members
    -------
    engine : Engine
    input_data : In(32)
    input_last, input_valid : In(1)
    input_ready : Out(1)
    output_data : Out(32)
    output_last, output_valid : Out(1)
    output_ready : In(1)
    busy : Out(1)
        The engine runs.

    Raises
    ------
    TypeError
        If `parameters` is something else.
    """

    def __init__(self, *, parameters: AcceleratorParameters) -> None:
        if not isinstance(parameters, AcceleratorParameters):
            raise TypeError(f"parameters must be AcceleratorParameters, not {parameters!r}")
        self._parameters = parameters
        self.engine = Engine(parameters=parameters)
        super().__init__(
            {
                "input_data": In(STREAM_WIDTH),
                "input_last": In(1),
                "input_valid": In(1),
                "input_ready": Out(1),
                "output_data": Out(STREAM_WIDTH),
                "output_last": Out(1),
                "output_valid": Out(1),
                "output_ready": In(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.engine = engine = self.engine
        m.submodules.reader = reader = PacketReader(parameters=self._parameters)
        m.submodules.responder = responder = Responder(parameters=self._parameters)
        count = Signal.like(reader.count)
        self._connect(m, reader, responder)

        with m.FSM():
            with m.State("READ"):
                m.d.comb += [reader.enable.eq(1), engine.start.eq(reader.run)]
                m.d.sync += count.eq(reader.count)
                with m.If(reader.run):
                    m.next = "RUN"
                with m.Elif(reader.refused):
                    m.d.comb += [responder.start.eq(1), responder.status.eq(reader.status)]
                    m.next = "RESPOND"
            with m.State("RUN"), m.If(~engine.busy):
                m.d.comb += [
                    responder.start.eq(1),
                    responder.status.eq(engine.status),
                    responder.cycles.eq(engine.cycles),
                    responder.count.eq(Mux(engine.status == Status.DONE, count, 0)),
                ]
                m.next = "RESPOND"
            with m.State("RESPOND"), m.If(~responder.busy):
                m.next = "READ"
        return m

    def _connect(self, m: Module, reader: PacketReader, responder: Responder) -> None:
        engine = self.engine
        m.d.comb += [
            reader.data.eq(self.input_data),
            reader.last.eq(self.input_last),
            reader.valid.eq(self.input_valid),
            self.input_ready.eq(reader.ready),
            engine.write_enable.eq(reader.write_enable),
            engine.write_section.eq(reader.write_section),
            engine.write_address.eq(reader.write_address),
            engine.write_slice.eq(reader.write_slice),
            engine.write_data.eq(reader.write_data),
            engine.program_start.eq(reader.address),
            engine.result_address.eq(responder.result_address),
            responder.result.eq(engine.result),
            self.output_data.eq(responder.data),
            self.output_last.eq(responder.last),
            self.output_valid.eq(responder.valid),
            responder.ready.eq(self.output_ready),
            self.busy.eq(engine.busy),
        ]

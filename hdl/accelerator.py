"""Accelerator top: packets in, responses out, an engine between them."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .engine import Engine
from .layouts import STREAM_WIDTH, Status
from .packets import HEADER_PORTS, PacketReader
from .parameters import AcceleratorParameters
from .payloads import STAGE_WORDS, PayloadMover
from .responder import Responder


class Accelerator(wiring.Component):
    """Loads memories, reads them back and runs programs as packets on a 32-bit stream ask for it.

    A packet is a `layouts.PACKET_HEADER`, then for LOAD up to `layouts.PAYLOAD_WORDS` slices of a section,
    then the CRC-32 of all these words, which has `input_last`.  A packet has no effect before its last
    word, and none but its answer if it is wrong.  RUN is answered with a response: the status, the cycles
    of the run, and the results asked for if the status is DONE.  READ is answered with DONE, 0 cycles and the
    slices asked for.  A packet that cannot be obeyed is answered with its error status and 0 cycles; a good
    LOAD is not answered.

    A transfer happens in a cycle with both `valid` and `ready`; `output_data` and `output_last` hold
    while `output_valid` waits for `output_ready`.  During a run or a response one more packet is taken, and
    obeyed afterwards; a good LOAD is written while the next packet is taken.

    Parameters
    ----------
    parameters : AcceleratorParameters

    Members
    -------
    engine : Engine
    input_whole : Signal
        All bytes of the input word are there; the packet is refused if not.  It is no port: 1 unless driven.
    input_data : In(32)
    input_last, input_valid : In(1)
    input_ready : Out(1)
    output_data : Out(32)
    output_last, output_valid : Out(1)
    output_ready : In(1)
    busy : Out(1)
        The engine runs.
    cycles : Out(32)
        Of the run, or of the last one.
    answered : Out(1)
        High for one cycle: a response with `status` begins.
    status : Out(Status)
    ran : Out(1)
        It is the response of a run, not of a READ or of a packet that was refused.

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
        self.input_whole = Signal(init=1)
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
                "cycles": Out(STREAM_WIDTH),
                "answered": Out(1),
                "status": Out(Status),
                "ran": Out(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.engine = engine = self.engine
        m.submodules.reader = reader = PacketReader(parameters=self._parameters)
        m.submodules.mover = mover = PayloadMover(parameters=self._parameters)
        m.submodules.responder = responder = Responder(parameters=self._parameters)
        wiring.connect(m, mover.host, engine.host)
        self._connect_payloads(m, reader, mover)
        self._connect_answers(m, responder, mover)
        count = Signal.like(reader.count)
        m.d.comb += [
            engine.program_start.eq(reader.address),
            engine.start.eq(reader.run),
            engine.bank.eq(reader.bank),
            mover.start.eq(reader.load | reader.read),
            mover.reads.eq(reader.read),
            responder.single.eq(reader.read),
            responder.start.eq(self.answered),
            responder.status.eq(self.status),
        ]
        with m.FSM():
            with m.State("OBEY"):
                m.d.comb += [reader.enable.eq(~mover.busy), self.status.eq(reader.status)]
                m.d.sync += count.eq(reader.count)
                with m.If(reader.run):
                    m.next = "RUN"
                with m.Elif(reader.refuse | reader.read):
                    m.d.comb += [self.answered.eq(1), responder.count.eq(Mux(reader.read, reader.count, 0))]
                    m.next = "ANSWER"
            with m.State("RUN"):
                m.d.comb += [
                    self.ran.eq(1),
                    self.status.eq(engine.status),
                    responder.cycles.eq(engine.cycles),
                    responder.count.eq(Mux(engine.status == Status.DONE, count, 0)),
                ]
                with m.If(~engine.busy):
                    m.d.comb += self.answered.eq(1)
                    m.next = "ANSWER"
            with m.State("ANSWER"), m.If(~responder.busy):
                m.next = "OBEY"
        return m

    def _connect_payloads(self, m: Module, reader: PacketReader, mover: PayloadMover) -> None:
        stage = memory.Memory(shape=unsigned(STREAM_WIDTH), depth=STAGE_WORDS, init=[])
        m.submodules.stage = stage
        write, read = stage.write_port(), stage.read_port()
        m.d.comb += [
            reader.data.eq(self.input_data),
            reader.last.eq(self.input_last),
            reader.valid.eq(self.input_valid),
            reader.whole.eq(self.input_whole),
            self.input_ready.eq(reader.ready),
            write.addr.eq(reader.stage_address),
            write.data.eq(reader.stage_data),
            write.en.eq(reader.stage_enable),
            read.addr.eq(mover.stage_address),
            read.en.eq(mover.busy),
            mover.stage_data.eq(read.data),
            *(getattr(mover, name).eq(getattr(reader, name)) for name in HEADER_PORTS),
        ]

    def _connect_answers(self, m: Module, responder: Responder, mover: PayloadMover) -> None:
        engine, reads = self.engine, mover.host.read_enable
        m.d.comb += [
            engine.result_address.eq(responder.result_address),
            responder.result.eq(engine.result),
            responder.result[0].eq(Mux(reads, mover.host.read_data, engine.result[0])),
            responder.result_valid.eq(mover.word_valid | ~reads),
            mover.advance.eq(responder.taken),
            self.output_data.eq(responder.data),
            self.output_last.eq(responder.last),
            self.output_valid.eq(responder.valid),
            responder.ready.eq(self.output_ready),
            self.busy.eq(engine.busy),
            self.cycles.eq(engine.cycles),
        ]

"""Packets: the reader that obeys or refuses them, and the responder that answers."""

from collections.abc import Callable

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .layouts import (
    PACKET_HEADER,
    RESULT,
    STREAM_WIDTH,
    PacketOpcode,
    Section,
    Status,
    result_word,
    section_depth,
    slices,
)
from .parameters import ADDRESS_WIDTH, AcceleratorParameters

HEADER_WORDS = PACKET_HEADER.size // STREAM_WIDTH

Refuse = Callable[..., None]


class PacketReader(wiring.Component):
    """Takes packets: writes what a LOAD carries, and asks for an answer to a RUN or to a mistake.

    A LOAD with a wrong header writes nothing.  A packet of the wrong length is reported, but what it
    wrote stays.  Every packet is read to its end, so the next one is understood again.

    Parameters
    ----------
    parameters : AcceleratorParameters

    Members
    -------
    enable : In(1)
        Words are taken only while it is high.
    data, last, valid : In, ready : Out
        The stream of packet words.
    write_enable, write_section, write_address, write_slice, write_data : Out
        See `Engine`.
    run : Out(1)
        High for one cycle: run the program at `address`, then answer with `count` result words.
    refused : Out(1)
        High for one cycle: answer with `status`.
    status : Out(Status)
    address, count : Out
    """

    def __init__(self, *, parameters: AcceleratorParameters) -> None:
        self._parameters = parameters
        super().__init__(
            {
                "enable": In(1),
                "data": In(STREAM_WIDTH),
                "last": In(1),
                "valid": In(1),
                "ready": Out(1),
                "write_enable": Out(1),
                "write_section": Out(8),
                "write_address": Out(ADDRESS_WIDTH),
                "write_slice": Out(8),
                "write_data": Out(STREAM_WIDTH),
                "run": Out(1),
                "refused": Out(1),
                "status": Out(Status),
                "address": Out(ADDRESS_WIDTH),
                "count": Out(ADDRESS_WIDTH),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        header = Signal(PACKET_HEADER)
        ended = Signal()
        taken = Signal()
        m.d.comb += [
            taken.eq(self.valid & self.ready),
            self.address.eq(header.address),
            self.count.eq(header.count),
        ]

        def refuse(status: Status, *, ended: Value) -> None:
            m.d.sync += self.status.eq(status)
            with m.If(ended):
                m.next = "REFUSE"
            with m.Else():
                m.next = "DISCARD"

        with m.FSM():
            with m.State("HEADER"):
                m.d.comb += self.ready.eq(self.enable)
                with m.If(taken):
                    m.d.sync += ended.eq(self.last)
                    self._take_header(m, header, refuse)
            with m.State("CHECK"):
                self._check_header(m, header, ended, refuse)
            with m.State("LOAD"):
                m.d.comb += self.ready.eq(1)
                with m.If(taken):
                    self._load(m, header, refuse)
            with m.State("DISCARD"):
                m.d.comb += self.ready.eq(1)
                with m.If(taken & self.last):
                    m.next = "REFUSE"
            with m.State("REFUSE"):
                m.d.comb += self.refused.eq(1)
                m.next = "HEADER"
        return m

    def _take_header(self, m: Module, header: data.View, refuse: Refuse) -> None:
        count = Signal(range(HEADER_WORDS), name="header_words")
        m.d.sync += header.eq(Cat(header.as_value()[STREAM_WIDTH:], self.data))
        m.d.sync += count.eq(count + 1)
        with m.If(count == HEADER_WORDS - 1):
            m.d.sync += count.eq(0)
            m.next = "CHECK"
        with m.Elif(self.last):
            m.d.sync += count.eq(0)
            refuse(Status.LENGTH, ended=Const(1))

    def _check_header(self, m: Module, header: data.View, ended: Value, refuse: Refuse) -> None:
        p = self._parameters
        depth = Signal(STREAM_WIDTH)
        known = Signal()
        with m.Switch(header.section):
            for section in Section:
                with m.Case(section):
                    m.d.comb += [known.eq(1), depth.eq(section_depth(p, section))]
        with m.If(header.build_id != p.build_id):
            refuse(Status.BUILD_ID, ended=ended)
        with m.Elif(header.opcode == PacketOpcode.RUN):
            with m.If(~ended):
                refuse(Status.LENGTH, ended=ended)
            with m.Elif((header.count > p.result_words) | (header.address >= p.program_words)):
                refuse(Status.LOAD_RANGE, ended=ended)
            with m.Else():
                m.d.comb += self.run.eq(1)
                m.next = "HEADER"
        with m.Elif(header.opcode != PacketOpcode.LOAD):
            refuse(Status.PACKET_OPCODE, ended=ended)
        with m.Elif(~known):
            refuse(Status.SECTION, ended=ended)
        with m.Elif(header.address + header.count > depth):
            refuse(Status.LOAD_RANGE, ended=ended)
        with m.Elif(ended | (header.count == 0)):
            refuse(Status.LENGTH, ended=ended)
        with m.Else():
            m.next = "LOAD"

    def _load(self, m: Module, header: data.View, refuse: Refuse) -> None:
        """Write slice after slice; the header's address and count keep the place."""
        position, last_slice = Signal(8, name="position"), Signal(8)
        with m.Switch(header.section):
            for section in Section:
                with m.Case(section):
                    m.d.comb += last_slice.eq(slices(self._parameters, section) - 1)
        word_ends = position == last_slice
        packet_ends = word_ends & (header.count == 1)
        m.d.comb += [
            self.write_enable.eq(1),
            self.write_section.eq(header.section),
            self.write_address.eq(header.address),
            self.write_slice.eq(position),
            self.write_data.eq(self.data),
        ]
        m.d.sync += position.eq(position + 1)
        with m.If(word_ends):
            m.d.sync += [
                position.eq(0),
                header.address.eq(header.address + 1),
                header.count.eq(header.count - 1),
            ]
        with m.If(packet_ends & self.last):
            m.next = "HEADER"
        with m.Elif(packet_ends | self.last):
            m.d.sync += position.eq(0)
            refuse(Status.LENGTH, ended=self.last)


class Responder(wiring.Component):
    """Sends a response: the status, the cycles, then the results, lane after lane.

    Parameters
    ----------
    parameters : AcceleratorParameters

    Members
    -------
    start : In(1)
        Takes `status`, `cycles` and `count`, when not `busy`.
    status : In(Status)
    cycles : In(32)
    count : In(24)
        Result words to send.
    busy : Out(1)
    result_address : Out(24)
    result : In(result_word)
        The result word at `result_address`, one cycle later.
    data, last, valid : Out, ready : In
        The stream of response words; it holds while it waits for `ready`.
    """

    def __init__(self, *, parameters: AcceleratorParameters) -> None:
        self._lanes = parameters.requantizers
        super().__init__(
            {
                "start": In(1),
                "status": In(Status),
                "cycles": In(STREAM_WIDTH),
                "count": In(ADDRESS_WIDTH),
                "busy": Out(1),
                "result_address": Out(ADDRESS_WIDTH),
                "result": In(result_word(parameters)),
                "data": Out(STREAM_WIDTH),
                "last": Out(1),
                "valid": Out(1),
                "ready": In(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        status, cycles, count = (
            Signal.like(port, name=f"held_{port.name}") for port in (self.status, self.cycles, self.count)
        )
        word = Signal.like(self.result_address)
        lane = Signal(range(self._lanes))
        waiting = Signal.like(self.result.as_value())
        m.d.comb += [self.busy.eq(1), self.result_address.eq(word)]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.busy.eq(0)
                m.d.sync += [
                    status.eq(self.status),
                    cycles.eq(self.cycles),
                    count.eq(self.count),
                    word.eq(0),
                    lane.eq(0),
                ]
                with m.If(self.start):
                    m.next = "STATUS"
            with m.State("STATUS"):
                m.d.comb += [self.valid.eq(1), self.data.eq(status)]
                with m.If(self.ready):
                    m.next = "CYCLES"
            with m.State("CYCLES"):
                m.d.comb += [self.valid.eq(1), self.data.eq(cycles), self.last.eq(count == 0)]
                with m.If(self.ready):
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.d.sync += [waiting.eq(self.result), word.eq(word + 1)]
                m.next = "RESULTS"
                with m.If(count == word):
                    m.next = "IDLE"
            with m.State("RESULTS"):
                ends = lane == self._lanes - 1
                m.d.comb += [
                    self.valid.eq(1),
                    self.data.eq(waiting[: RESULT.width]),
                    self.last.eq(ends & (word == count)),
                ]
                with m.If(self.ready):
                    m.d.sync += waiting.eq(waiting >> RESULT.width)
                    m.d.sync += lane.eq(Mux(ends, 0, lane + 1))
                    with m.If(ends):
                        m.next = "FETCH"
        return m

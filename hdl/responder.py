"""Responder: sends what a host is told, the status first."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .layouts import RESULT, STREAM_WIDTH, Status, result_word
from .parameters import ADDRESS_WIDTH, AcceleratorParameters


class Responder(wiring.Component):
    """Sends a response: the status, the cycles, then the results, lane after lane, or words one by one.

    Parameters
    ----------
    parameters : AcceleratorParameters

    Members
    -------
    start : In(1)
        Takes `status`, `cycles`, `count` and `single`, when not `busy`.
    status : In(Status)
    cycles : In(32)
    count : In(24)
        Result words to send.
    single : In(1)
        Of each, the first lane alone.
    busy : Out(1)
    result_address : Out(24)
    result : In(result_word)
        The result word at `result_address`, one cycle later.
    result_valid : In(1)
        It is there; the responder waits until then.
    taken : Out(1)
        High for one cycle: it is taken, and the next one's turn.
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
                "single": In(1),
                "busy": Out(1),
                "result_address": Out(ADDRESS_WIDTH),
                "result": In(result_word(parameters)),
                "result_valid": In(1),
                "taken": Out(1),
                "data": Out(STREAM_WIDTH),
                "last": Out(1),
                "valid": Out(1),
                "ready": In(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        ports = (self.status, self.cycles, self.count, self.single)
        held = [Signal.like(port, name=f"held_{port.name}") for port in ports]
        status, cycles, count, single = held
        word = Signal.like(self.result_address)
        lane = Signal(range(self._lanes))
        waiting = Signal.like(self.result.as_value())
        m.d.comb += [self.busy.eq(1), self.result_address.eq(word)]

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.busy.eq(0)
                m.d.sync += [signal.eq(port) for signal, port in zip(held, ports, strict=True)]
                m.d.sync += [word.eq(0), lane.eq(0)]
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
                with m.If(count == word):
                    m.next = "IDLE"
                with m.Elif(self.result_valid):
                    m.d.comb += self.taken.eq(1)
                    m.d.sync += [waiting.eq(self.result), word.eq(word + 1)]
                    m.next = "RESULTS"
            with m.State("RESULTS"):
                ends = (lane == self._lanes - 1) | single
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

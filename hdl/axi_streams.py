"""Gates at a core's packet streams, which keep AXI4-Stream's rules when the core alone is reset."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .axi import AXI_STREAM


class InputGate(wiring.Component):
    """Passes packets on to a core; what is left of a packet that a reset of the core cut is dropped.

    Nothing is delayed.

    Members
    -------
    stream : In(AXI_STREAM)
    core : Out(AXI_STREAM)
    reset : In(1)
        The core is reset.
    inside : Out(1)
        A packet has begun and not ended.
    """

    def __init__(self) -> None:
        super().__init__(
            {"stream": In(AXI_STREAM), "core": Out(AXI_STREAM), "reset": In(1), "inside": Out(1)}
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        stream, core = self.stream, self.core
        dropping = Signal()
        taken = Signal()
        m.d.comb += [
            core.tdata.eq(stream.tdata),
            core.tkeep.eq(stream.tkeep),
            core.tlast.eq(stream.tlast),
            core.tvalid.eq(stream.tvalid & ~dropping),
            stream.tready.eq(core.tready | dropping),
            taken.eq(stream.tvalid & stream.tready),
        ]
        with m.If(taken):
            m.d.sync += self.inside.eq(~stream.tlast)
        with m.If(self.reset):
            m.d.sync += dropping.eq((taken & ~stream.tlast) | (~taken & self.inside))
        with m.Elif(taken & stream.tlast):
            m.d.sync += dropping.eq(0)
        return m


class OutputGate(wiring.Component):
    """A register behind a core's responses; a response that a reset of the core cut gets an end.

    That end is one more word, of any value.

    Members
    -------
    core : In(AXI_STREAM)
    stream : Out(AXI_STREAM)
        A word that waits stays, and `tvalid` does not depend on `tready`.
    reset : In(1)
        The core is reset.
    inside : Out(1)
        A response has begun and not ended, or its last word waits.
    """

    def __init__(self) -> None:
        super().__init__(
            {"core": In(AXI_STREAM), "stream": Out(AXI_STREAM), "reset": In(1), "inside": Out(1)}
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        core, stream = self.core, self.stream
        begun = Signal()
        closing = Signal()
        free = Signal()
        m.d.comb += [
            free.eq(~stream.tvalid | stream.tready),
            core.tready.eq(free & ~closing & ~self.reset),
            stream.tkeep.eq(~0),
            self.inside.eq(begun | stream.tvalid),
        ]
        with m.If(free):
            m.d.sync += stream.tvalid.eq(closing | (core.tvalid & core.tready))
            with m.If(closing | core.tvalid):
                m.d.sync += [stream.tdata.eq(core.tdata), stream.tlast.eq(closing | core.tlast)]
        with m.If(core.tvalid & core.tready):
            m.d.sync += begun.eq(~core.tlast)
        with m.Elif(closing & free):
            m.d.sync += [begun.eq(0), closing.eq(0)]
        with m.Elif(self.reset):
            m.d.sync += closing.eq(begun)
        return m

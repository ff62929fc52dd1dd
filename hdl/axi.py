"""AXI4-Lite and AXI4-Stream: their signals, and registers that a table describes on AXI4-Lite."""

import enum
from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .registers import ADDRESS_BITS, REGISTER_BYTES, REGISTER_WIDTH, Access, Field, Register


class Response(enum.IntEnum):
    """How an access on AXI ended."""

    OKAY = 0
    SLVERR = 2
    DECERR = 3


AXI_LITE = wiring.Signature(
    {
        "awaddr": Out(ADDRESS_BITS),
        "awprot": Out(3),
        "awvalid": Out(1),
        "awready": In(1),
        "wdata": Out(REGISTER_WIDTH),
        "wstrb": Out(REGISTER_BYTES),
        "wvalid": Out(1),
        "wready": In(1),
        "bresp": In(2),
        "bvalid": In(1),
        "bready": Out(1),
        "araddr": Out(ADDRESS_BITS),
        "arprot": Out(3),
        "arvalid": Out(1),
        "arready": In(1),
        "rdata": In(REGISTER_WIDTH),
        "rresp": In(2),
        "rvalid": In(1),
        "rready": Out(1),
    }
)
"""AXI4-Lite with 32 data bits, seen from the manager."""

AXI_STREAM = wiring.Signature(
    {"tdata": Out(32), "tkeep": Out(4), "tlast": Out(1), "tvalid": Out(1), "tready": In(1)}
)
"""AXI4-Stream with 32 data bits, seen from the transmitter."""


class AxiRegisters(wiring.Component):
    """Registers as a table describes them, for one AXI4-Lite manager.

    An address that is no multiple of 4, and a write of not all four bytes, are answered with SLVERR; else an
    address without a register with DECERR, and a write to a register that can only be read with SLVERR.
    None of them has an effect, and such a read returns 0.  An access takes three cycles or more; a write
    begins when address and data are both there.  No output depends on an input of the same cycle.

    Parameters
    ----------
    registers : sequence of Register

    Members
    -------
    bus : In(AXI_LITE)
    one per field, with the field's name
        READ: In(width), its value.  READ_WRITE: Out(width).  COMMAND: Out(width), bits high for one cycle
        after they were written.  CLEAR: Out(width), which holds what it is set to until it is cleared;
        there is also `set_` and the name, In(width), which wins over a write of the same cycle.
    """

    def __init__(self, *, registers: Sequence[Register]) -> None:
        self._registers = tuple(registers)
        members = {"bus": In(AXI_LITE)}
        for field in (field for register in self._registers for field in register.fields):
            if field.access is Access.READ:
                members[field.name] = In(field.width)
            elif field.access is Access.CLEAR:
                members |= {field.name: Out(field.width), f"set_{field.name}": In(field.width)}
            else:
                members[field.name] = Out(field.width, init=field.reset or 0)
        super().__init__(members)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        self._serve_reads(m)
        self._serve_writes(m)
        return m

    def _serve_reads(self, m: Module) -> None:
        bus = self.bus
        with m.FSM(name="read"):
            with m.State("WAIT"), m.If(bus.arvalid):
                m.next = "READ"
            with m.State("READ"):
                m.d.comb += bus.arready.eq(1)
                m.d.sync += [bus.rdata.eq(0), bus.rresp.eq(Response.DECERR)]
                with m.Switch(bus.araddr[2:]):
                    for register in self._registers:
                        with m.Case(register.address // REGISTER_BYTES):
                            m.d.sync += [bus.rdata.eq(self._contents(register)), bus.rresp.eq(Response.OKAY)]
                with m.If(bus.araddr[:2] != 0):
                    m.d.sync += [bus.rdata.eq(0), bus.rresp.eq(Response.SLVERR)]
                m.next = "RESPOND"
            with m.State("RESPOND"):
                m.d.comb += bus.rvalid.eq(1)
                with m.If(bus.rready):
                    m.next = "WAIT"

    def _contents(self, register: Register) -> Value:
        place, parts = 0, []
        for field in register.fields:
            value = Const(0, field.width) if field.access is Access.COMMAND else getattr(self, field.name)
            parts += [Const(0, field.low - place), value]
            place = field.low + field.width
        return Cat(parts)

    def _serve_writes(self, m: Module) -> None:
        bus = self.bus
        written = {register.name: Signal(name=f"write_{register.name}") for register in self._registers}
        with m.FSM(name="write"):
            with m.State("WAIT"), m.If(bus.awvalid & bus.wvalid):
                m.next = "WRITE"
            with m.State("WRITE"):
                m.d.comb += [bus.awready.eq(1), bus.wready.eq(1)]
                m.d.sync += bus.bresp.eq(Response.DECERR)
                with m.If((bus.awaddr[:2] != 0) | ~bus.wstrb.all()):
                    m.d.sync += bus.bresp.eq(Response.SLVERR)
                with m.Else(), m.Switch(bus.awaddr[2:]):
                    for register in self._registers:
                        with m.Case(register.address // REGISTER_BYTES):
                            m.d.comb += written[register.name].eq(register.writable)
                            m.d.sync += bus.bresp.eq(Response.OKAY if register.writable else Response.SLVERR)
                m.next = "RESPOND"
            with m.State("RESPOND"):
                m.d.comb += bus.bvalid.eq(1)
                with m.If(bus.bready):
                    m.next = "WAIT"
        for register in self._registers:
            for field in register.fields:
                self._write_field(m, field, written[register.name])

    def _write_field(self, m: Module, field: Field, written: Value) -> None:
        value = getattr(self, field.name)
        data = self.bus.wdata[field.low :][: field.width]
        if field.access is Access.READ_WRITE:
            with m.If(written):
                m.d.sync += value.eq(data)
        elif field.access is Access.COMMAND:
            m.d.sync += value.eq(Mux(written, data, 0))
        elif field.access is Access.CLEAR:
            cleared = Mux(written, data, 0)
            m.d.sync += value.eq((value & ~cleared) | getattr(self, f"set_{field.name}"))

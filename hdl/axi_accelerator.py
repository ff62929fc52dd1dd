"""The accelerator with AXI: registers on AXI4-Lite, packets and responses on AXI4-Stream, an interrupt."""

from amaranth.hdl import ClockDomain, ClockSignal, Module, ResetInserter, ResetSignal, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .accelerator import Accelerator
from .axi import AXI_LITE, AXI_STREAM, AxiRegisters
from .axi_streams import InputGate, OutputGate
from .layouts import Status
from .parameters import HARDWARE_VERSION, AcceleratorParameters
from .registers import INTERFACE, REGISTERS


class AxiAccelerator(wiring.Component):
    """An `Accelerator` whose streams are AXI4-Stream, with the registers of `registers.REGISTERS`.

    A packet that has a word with `tkeep` not all ones is refused.  The registers' soft reset resets the
    accelerator and nothing else: what is left of a packet is dropped, and a response that has begun is
    ended by one more word, so that both streams go on with whole packets.  Memories keep their contents
    through any reset.

    Parameters
    ----------
    parameters : AcceleratorParameters

    Members
    -------
    aclk : In(1)
    aresetn : In(1)
        Low to reset; synchronous.
    s_axil : In(AXI_LITE)
    s_axis_in : In(AXI_STREAM)
    m_axis_out : Out(AXI_STREAM)
    irq : Out(1)
        High while an answer is pending, if enabled.

    Raises
    ------
    TypeError
        If `parameters` is something else.
    """

    def __init__(self, *, parameters: AcceleratorParameters) -> None:
        self._parameters = parameters
        self._core = Accelerator(parameters=parameters)
        super().__init__(
            {
                "aclk": In(1),
                "aresetn": In(1),
                "s_axil": In(AXI_LITE),
                "s_axis_in": In(AXI_STREAM),
                "m_axis_out": Out(AXI_STREAM),
                "irq": Out(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.domains.sync = ClockDomain("sync")
        core = self._core
        m.submodules.registers = registers = AxiRegisters(registers=REGISTERS)
        m.submodules.accelerator = ResetInserter(registers.soft_reset)(core)
        self._connect_streams(m, reset=registers.soft_reset, registers=registers)
        wiring.connect(m, wiring.flipped(self.s_axil), registers.bus)
        m.d.comb += [
            ClockSignal().eq(self.aclk),
            ResetSignal().eq(~self.aresetn),
            registers.version.eq(HARDWARE_VERSION),
            registers.interface.eq(INTERFACE),
            registers.build_id.eq(self._parameters.build_id),
            registers.busy.eq(core.busy),
            registers.set_pending.eq(core.answered & ~registers.soft_reset),
            registers.cycles.eq(core.cycles),
            self.irq.eq(registers.pending & registers.irq_enable),
        ]
        with m.If(core.answered):
            m.d.sync += registers.error.eq(core.status)
        self._count(m, registers)
        return m

    def _connect_streams(self, m: Module, *, reset: Value, registers: AxiRegisters) -> None:
        core = self._core
        m.submodules.input_gate = entry = InputGate()
        m.submodules.output_gate = leaving = OutputGate()
        wiring.connect(m, wiring.flipped(self.s_axis_in), entry.stream)
        wiring.connect(m, leaving.stream, wiring.flipped(self.m_axis_out))
        m.d.comb += [
            core.input_data.eq(entry.core.tdata),
            core.input_whole.eq(entry.core.tkeep.all()),
            core.input_last.eq(entry.core.tlast),
            core.input_valid.eq(entry.core.tvalid),
            entry.core.tready.eq(core.input_ready),
            leaving.core.tdata.eq(core.output_data),
            leaving.core.tlast.eq(core.output_last),
            leaving.core.tvalid.eq(core.output_valid),
            core.output_ready.eq(leaving.core.tready),
            entry.reset.eq(reset),
            leaving.reset.eq(reset),
            registers.receiving.eq(entry.inside),
            registers.responding.eq(leaving.inside),
        ]

    def _count(self, m: Module, registers: AxiRegisters) -> None:
        """Counters since the last reset of any kind."""
        core, entry, leaving = self._core, self.s_axis_in, self.m_axis_out
        for register, event in (
            (registers.runs, core.answered & core.ran),
            (registers.refused, core.answered & ~core.ran & (core.status != Status.DONE)),
            (registers.input_waits, entry.tvalid & ~entry.tready),
            (registers.output_waits, leaving.tvalid & ~leaving.tready),
        ):
            count = Signal.like(register)
            m.d.comb += register.eq(count)
            with m.If(registers.soft_reset):
                m.d.sync += count.eq(0)
            with m.Elif(event):
                m.d.sync += count.eq(count + 1)

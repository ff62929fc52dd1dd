"""Sequencer: reads the program, layer by layer, and has each layer walked."""

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .layouts import LAYER, PASS, STREAM_WIDTH, LayerOpcode, Status
from .parameters import ADDRESS_WIDTH, FETCH_LATENCY, AcceleratorParameters
from .walker import Walker, step_layout

LAYER_WORDS = LAYER.size // STREAM_WIDTH

_DIMENSIONS = (
    "passes",
    "kernel_height",
    "kernel_width",
    "stride",
    "tiles",
    "output_height",
    "output_width",
    "input_height",
    "input_width",
)


class Sequencer(wiring.Component):
    """Runs a program: fetches each layer and its passes, checks them, and walks the layer.

    After a layer it waits `drain` cycles, until the layer's last output is written.  Fetching and checking
    a command takes ``LAYER_WORDS + FETCH_LATENCY + 1`` cycles, the P passes of a layer ``P + FETCH_LATENCY``.

    A command that cannot be run, or an address outside its memory, ends the program with an error code;
    nothing is written outside a memory.

    Parameters
    ----------
    parameters : AcceleratorParameters
    drain : int
        Cycles from a layer's last step until its last output can be read.

    Members
    -------
    start : In(1)
        Runs the program at `program_start`, when not `busy`.
    program_start : In(24)
    busy : Out(1)
    done : Out(1)
        High for the last cycle of `busy`.
    status : Out(Status)
        How the last run ended; valid after `done`.
    program_address : Out(24)
    program_data : In(32)
        The program word at `program_address`, one cycle later.
    step : Out(step_layout)
    """

    def __init__(self, *, parameters: AcceleratorParameters, drain: int) -> None:
        self._parameters = parameters
        self._drain = drain
        super().__init__(
            {
                "start": In(1),
                "program_start": In(ADDRESS_WIDTH),
                "busy": Out(1),
                "done": Out(1),
                "status": Out(Status),
                "program_address": Out(ADDRESS_WIDTH),
                "program_data": In(STREAM_WIDTH),
                "step": Out(step_layout(parameters)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        p = self._parameters
        layer = Signal(LAYER)
        word, loading = Signal(STREAM_WIDTH), Signal(PASS)
        pointer = Signal(ADDRESS_WIDTH + 1)  # one more, so that no start wraps to a good address
        count = Signal(range(max(LAYER_WORDS, p.passes, self._drain) + FETCH_LATENCY + 1))

        m.submodules.walker = walker = Walker(parameters=p)
        m.submodules.passes = passes = memory.Memory(shape=PASS, depth=p.passes, init=[])
        write, read = passes.write_port(), passes.read_port(domain="comb")
        fault = self._fault(m, walker)
        m.d.sync += word.eq(self.program_data)
        m.d.comb += [
            loading.eq(word),
            write.addr.eq(count - FETCH_LATENCY),
            write.data.eq(loading),
            read.addr.eq(walker.pass_index),
            walker.layer.eq(layer),
            walker.current.eq(read.data),
            self.program_address.eq(pointer),
            self.step.eq(walker.step),
            self.step.valid.eq(walker.step.valid & (fault == Status.DONE)),
            self.busy.eq(1),
        ]

        def stop(status: Status | Value) -> None:
            m.d.sync += [self.status.eq(status), count.eq(0)]
            m.next = "STOP"

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.busy.eq(0)
                m.d.sync += [pointer.eq(self.program_start), count.eq(0)]
                with m.If(self.start):
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.d.sync += [layer.eq(Cat(layer.as_value()[STREAM_WIDTH:], word)), count.eq(count + 1)]
                with m.If(count < LAYER_WORDS):
                    m.d.sync += pointer.eq(pointer + 1)
                with m.If(count == LAYER_WORDS + FETCH_LATENCY - 1):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.comb += walker.load.eq(1)
                m.d.sync += count.eq(0)
                with m.If(pointer + layer.passes > p.program_words):
                    stop(Status.PROGRAM_RANGE)
                with m.Elif(layer.opcode == LayerOpcode.HALT):
                    m.d.sync += self.status.eq(Status.DONE)
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
                with m.Elif(layer.opcode != LayerOpcode.CONVOLUTION):
                    stop(Status.LAYER_OPCODE)
                with m.Elif(Cat(layer[name] == 0 for name in _DIMENSIONS).any()):
                    stop(Status.ZERO_DIMENSION)
                with m.Elif((layer.passes > p.passes) | (layer.encoding >= p.encodings)):
                    stop(Status.LAYER_LIMIT)
                with m.Else():
                    m.next = "PASSES"
            with m.State("PASSES"):
                m.d.sync += count.eq(count + 1)
                with m.If(count < layer.passes):
                    m.d.sync += pointer.eq(pointer + 1)
                with m.If(count >= FETCH_LATENCY):
                    m.d.comb += write.en.eq(1)
                    with m.If(loading.count == 0):
                        stop(Status.ZERO_DIMENSION)
                    with m.Elif(loading.table >= p.tables):
                        stop(Status.LAYER_LIMIT)
                    with m.Elif(count == layer.passes + (FETCH_LATENCY - 1)):
                        m.next = "WALK"
            with m.State("WALK"):
                m.d.comb += walker.run.eq(1)
                m.d.sync += count.eq(0)
                with m.If(fault != Status.DONE):
                    stop(fault)
                with m.Elif(walker.finished):
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.sync += count.eq(count + 1)
                with m.If(fault != Status.DONE):
                    stop(fault)
                with m.Elif(count == self._drain - 1):
                    m.d.sync += count.eq(0)
                    m.next = "FETCH"
            with m.State("STOP"):
                m.d.sync += count.eq(count + 1)
                with m.If(count == self._drain - 1):
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
        return m

    def _fault(self, m: Module, walker: Walker) -> Signal:
        """What is wrong with the walker's step, or DONE."""
        p, step = self._parameters, walker.step
        code_groups = p.activation_words * p.groups_per_word
        fault = Signal(Status)
        with m.If(step.valid):
            with m.If(step.inside & (step.activation_address >= p.activation_words)):
                m.d.comb += fault.eq(Status.ACTIVATION_RANGE)
            with m.If(step.weight_address >= p.weight_words):
                m.d.comb += fault.eq(Status.WEIGHT_RANGE)
            with m.If(step.last & (step.tag.channels + p.groups > p.channel_words)):
                m.d.comb += fault.eq(Status.CHANNEL_RANGE)
            with m.If(step.last & step.tag.to_results & (step.tag.output + p.groups > p.result_words)):
                m.d.comb += fault.eq(Status.OUTPUT_RANGE)
            with m.If(step.last & step.tag.to_codes & (step.tag.output + p.groups > code_groups)):
                m.d.comb += fault.eq(Status.OUTPUT_RANGE)
        return fault

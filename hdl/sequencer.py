"""Sequencer: reads the program, layer by layer, and has each layer walked."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .layouts import LAYER, LAYER_DIMENSIONS, LAYER_WORDS, PASS, STREAM_WIDTH, LayerOpcode, Status
from .parameters import ADDRESS_WIDTH, FETCH_LATENCY, AcceleratorParameters
from .walker import Walker, step_layout


class Sequencer(wiring.Component):
    """Runs a program: fetches each layer and its passes, checks them, and walks the layer.

    After a layer it waits `drain` cycles, until the layer's last output is written.  Fetching and checking
    a command takes ``LAYER_WORDS + FETCH_LATENCY + 1`` cycles, the P passes of a layer ``P + FETCH_LATENCY``.
    Before a convolution whose codebook is not that of the run's last convolution, the codebook is copied, an
    entry a cycle.

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
    layer : Out(LAYER)
        The layer that runs; it holds until its last output is written.
    step : Out(step_layout)
    copy : Out(1)
        Entry number `entry` of the layer's codebook is to be copied to the decoders, within two cycles.
    entry : Out(index_width)
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
                "layer": Out(LAYER),
                "step": Out(step_layout(parameters)),
                "copy": Out(1),
                "entry": Out(parameters.index_width),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        p = self._parameters
        layer = self.layer
        word, loading = Signal(STREAM_WIDTH), Signal(PASS)
        pointer = Signal(ADDRESS_WIDTH + 1)  # one more, so that no start wraps to a good address
        longest = max(LAYER_WORDS, p.passes, self._drain, p.codebook_cycles)
        count = Signal(range(longest + FETCH_LATENCY + 1))

        held, holding = Signal.like(layer.codebook, name="held"), Signal()

        m.submodules.walker = walker = Walker(parameters=p)
        m.submodules.passes = passes = memory.Memory(shape=PASS, depth=p.passes, init=[])
        write, read = passes.write_port(), passes.read_port(domain="comb")
        fault = self._fault(m, layer, walker.step)
        known, lacking, pooling = self._abilities(layer)
        m.d.sync += word.eq(self.program_data)
        m.d.comb += [
            loading.eq(word),
            write.addr.eq(count - FETCH_LATENCY),
            write.data.eq(loading),
            read.addr.eq(walker.pass_index),
            walker.layer.eq(layer),
            walker.upcoming.eq(Mux(walker.load, loading, read.data)),
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
                # A host may have written codebooks meanwhile, and cycles must not hang on the run before.
                m.d.sync += [pointer.eq(self.program_start), count.eq(0), holding.eq(0)]
                with m.If(self.start):
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.d.sync += [layer.eq(Cat(layer.as_value()[STREAM_WIDTH:], word)), count.eq(count + 1)]
                with m.If(count < LAYER_WORDS):
                    m.d.sync += pointer.eq(pointer + 1)
                with m.If(count == LAYER_WORDS + FETCH_LATENCY - 1):
                    m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += count.eq(0)
                with m.If(pointer + layer.passes > p.program_words):
                    stop(Status.PROGRAM_RANGE)
                with m.Elif(layer.opcode == LayerOpcode.HALT):
                    m.d.sync += self.status.eq(Status.DONE)
                    m.d.comb += self.done.eq(1)
                    m.next = "IDLE"
                with m.Elif(~known):
                    stop(Status.LAYER_OPCODE)
                with m.Elif(Cat(layer[name] == 0 for name in LAYER_DIMENSIONS).any()):
                    stop(Status.ZERO_DIMENSION)
                with m.Elif(self._beyond(layer) | lacking):
                    stop(Status.LAYER_LIMIT)
                with m.Else():
                    m.next = "PASSES"
            with m.State("PASSES"):
                m.d.sync += count.eq(count + 1)
                with m.If(count < layer.passes):
                    m.d.sync += pointer.eq(pointer + 1)
                with m.If(count >= FETCH_LATENCY):
                    m.d.comb += [write.en.eq(1), walker.load.eq(count == FETCH_LATENCY)]
                    with m.If(loading.count == 0):
                        stop(Status.ZERO_DIMENSION)
                    with m.Elif((loading.table >= p.tables) | (pooling & (loading.count != p.groups))):
                        stop(Status.LAYER_LIMIT)
                    with m.Elif(count == layer.passes + (FETCH_LATENCY - 1)):
                        m.next = "WALK"
                        if p.codebooks:
                            with m.If(~pooling & ~(holding & (held == layer.codebook))):
                                m.d.sync += [held.eq(layer.codebook), holding.eq(1), count.eq(0)]
                                m.next = "CODEBOOK"
            if p.codebooks:
                with m.State("CODEBOOK"):
                    m.d.comb += [self.copy.eq(1), self.entry.eq(count)]
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == p.codebook_cycles - 1):
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

    def _beyond(self, layer: data.View) -> Value:
        """Whether the layer asks for more passes than there may be, or for a table that there is not."""
        p = self._parameters
        return (
            (layer.passes > p.passes)
            | (layer.encoding >= p.encodings)
            | (layer.codebook >= max(p.codebooks, 1))
        )

    def _abilities(self, layer: data.View) -> tuple[Value, Value, Value]:
        """Whether the opcode is known, the layer asks for what there is not, and it pools."""
        pooling = (layer.opcode == LayerOpcode.MAXIMUM) | (layer.opcode == LayerOpcode.SUM)
        convolution = layer.opcode == LayerOpcode.CONVOLUTION
        if self._parameters.value_words:
            # The one read port of the values memory serves pooling or residuals.
            return convolution | pooling, pooling & layer.add_residual, pooling
        return convolution, layer.to_values | layer.add_residual | layer.linear, Const(0)

    def _fault(self, m: Module, layer: data.View, step: data.View) -> Signal:
        """What is wrong with the walker's step, or DONE."""
        p = self._parameters
        code_groups = p.activation_words * p.groups_per_word
        fault = Signal(Status)

        def check(wrong: Value, status: Status) -> None:
            with m.If(step.valid & wrong):
                m.d.comb += fault.eq(status)

        def check_groups(used: Value, first: Value, *, words: int, status: Status) -> None:
            check(step.last & used & (first > words - p.groups), status)

        convolution = layer.opcode == LayerOpcode.CONVOLUTION
        check(convolution & step.inside & (step.input >= p.activation_words), Status.ACTIVATION_RANGE)
        check(convolution & (step.weights >= p.weight_words), Status.WEIGHT_RANGE)
        check_groups(Const(1), step.channels, words=p.channel_words, status=Status.CHANNEL_RANGE)
        check_groups(layer.to_results, step.output, words=p.result_words, status=Status.OUTPUT_RANGE)
        check_groups(layer.to_codes, step.output, words=code_groups, status=Status.OUTPUT_RANGE)
        if p.value_words:
            check(~convolution & step.inside & (step.input >= p.value_words), Status.VALUES_RANGE)
            check_groups(layer.to_values, step.values, words=p.value_words, status=Status.VALUES_RANGE)
            check_groups(layer.add_residual, step.residual, words=p.value_words, status=Status.RESIDUAL_RANGE)
        return fault

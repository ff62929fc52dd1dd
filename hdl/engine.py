"""Engine: memories, sequencer, array and requantizer, working through a program."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .array import Array
from .dot import delayed
from .layouts import (
    BANK_WIDTH,
    SLICE_WIDTH,
    STREAM_WIDTH,
    LayerOpcode,
    Section,
    Status,
    result_word,
    section_depth,
    section_width,
    slice_width,
    slices,
    values_word,
)
from .parameters import ADDRESS_WIDTH, AcceleratorParameters, address_width
from .pooling import Pooling
from .requantizer import Requantizer
from .sequencer import Sequencer

READ_LATENCY = 2
"""A memory and a register behind it, since block memories are slow to answer."""


class Engine(wiring.Component):
    """Runs the program in its memory on the activations in its memory.

    The schedule is static: nothing stalls, so a run's cycles are known beforehand.  Memories are
    written a slice at a time, one cycle after it is offered; a write that falls into a run is lost.

    Parameters
    ----------
    parameters : AcceleratorParameters

    Members
    -------
    drain : int
        Cycles from a layer's last step until its last output can be read.
    activations, values : Memory
        For simulations to look into; `values` only if there are any.
    start, program_start : In
        See `Sequencer`.
    bank : In(8)
        Valid with `start`: the bank of all memories but the activations' that the run uses.
    busy, done, status : Out
    cycles : Out(32)
        Cycles of the last run.
    write_enable : In(1)
    write_section, write_bank : In(8)
    write_address : In(24)
        Word of the section.
    write_slice : In(16)
        Slice of the word (`layouts.slice_width`).
    write_data : In(32)
    result_address : In(24)
    result : Out(result_word)
        The result word at `result_address`, one cycle later.
    """

    def __init__(self, *, parameters: AcceleratorParameters) -> None:
        self._parameters = p = parameters
        self._array = Array(parameters=p)
        self._requantizer = Requantizer(parameters=p, accumulator_shape=self._array.accumulator_shape)
        # These two here, so that a simulation can look into them.
        self.activations = memory.Memory(
            shape=unsigned(p.groups_per_word * slice_width(p, Section.ACTIVATIONS)),
            depth=p.activation_words,
            init=[],
        )
        if p.value_words:
            self.values = memory.Memory(shape=unsigned(values_word(p).size), depth=p.value_words, init=[])
        self.drain = 1 + READ_LATENCY + self._array.latency + self._requantizer.latency
        super().__init__(
            {
                "start": In(1),
                "program_start": In(ADDRESS_WIDTH),
                "bank": In(BANK_WIDTH),
                "busy": Out(1),
                "done": Out(1),
                "status": Out(Status),
                "cycles": Out(STREAM_WIDTH),
                "write_enable": In(1),
                "write_section": In(8),
                "write_bank": In(BANK_WIDTH),
                "write_address": In(ADDRESS_WIDTH),
                "write_slice": In(SLICE_WIDTH),
                "write_data": In(STREAM_WIDTH),
                "result_address": In(ADDRESS_WIDTH),
                "result": Out(result_word(p)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        p = self._parameters
        m.submodules.sequencer = sequencer = Sequencer(parameters=p, drain=self.drain)
        m.submodules.array = array = self._array
        m.submodules.requantizer = requantizer = self._requantizer
        self._register_writes(m)
        self._bank = Signal(address_width(p.banks))
        with m.If(self.start & ~self.busy):
            m.d.sync += self._bank.eq(self.bank)
        self._count_cycles(m, sequencer)
        self._connect_array(m, sequencer, array, requantizer)
        if p.value_words:
            self._connect_values(m, sequencer, requantizer)
        self._connect_small_tables(m, array, requantizer)
        self._connect_results(m, requantizer)
        m.d.comb += [
            sequencer.start.eq(self.start),
            sequencer.program_start.eq(self.program_start),
            sequencer.program_data.eq(self._read(m, Section.PROGRAM, sequencer.program_address)),
            requantizer.channel.eq(self._read(m, Section.CHANNELS, requantizer.channel_address)),
        ]
        return m

    def _count_cycles(self, m: Module, sequencer: Sequencer) -> None:
        m.d.comb += [
            self.busy.eq(sequencer.busy),
            self.done.eq(sequencer.done),
            self.status.eq(sequencer.status),
        ]
        with m.If(self.start & ~self.busy):
            m.d.sync += self.cycles.eq(0)
        with m.Elif(self.busy):
            m.d.sync += self.cycles.eq(self.cycles + 1)

    def _connect_array(self, m: Module, sequencer: Sequencer, array: Array, requantizer: Requantizer) -> None:
        step = sequencer.step
        codes = self._activations(m, step.input, requantizer)
        # The array registers weights first of all, so their address waits, which is narrower.
        weight_address = delayed(m, step.weights[: address_width(self._parameters.weight_words)], cycles=1)
        multiplying = step.valid & (sequencer.layer.opcode == LayerOpcode.CONVOLUTION)
        m.d.comb += [
            array.weights.eq(self._read(m, Section.WEIGHTS, weight_address)),
            array.codes.eq(delayed(m, codes, cycles=READ_LATENCY - 1)),
            array.enable.eq(delayed(m, multiplying, cycles=READ_LATENCY)),
            array.clear.eq(delayed(m, multiplying & step.first, cycles=READ_LATENCY)),
            array.table.eq(Cat(delayed(m, step.table, cycles=READ_LATENCY), self._bank)),
            array.inside.eq(delayed(m, step.inside, cycles=READ_LATENCY)),
        ]
        tag = Signal.like(requantizer.tag, name="step_tag")
        for name in ("opening", "closing", "shift", "channels", "output", "values", "residual"):
            m.d.comb += tag[name].eq(step[name])
        flight = READ_LATENCY + array.latency
        m.d.comb += [
            requantizer.start.eq(delayed(m, step.valid & step.last, cycles=flight)),
            requantizer.tag.eq(delayed(m, tag.as_value(), cycles=flight)),
            requantizer.accumulators.eq(array.accumulators),
            requantizer.layer.eq(sequencer.layer),
            requantizer.layer.encoding.eq(
                self._banked(sequencer.layer.encoding, self._parameters.encodings, self._bank)
            ),
        ]

    def _connect_values(self, m: Module, sequencer: Sequencer, requantizer: Requantizer) -> None:
        """The values memory, which the requantizer writes, and it or the pooling unit reads."""
        p, step, layer = self._parameters, sequencer.step, sequencer.layer
        m.submodules.pooling = pooling = Pooling(parameters=p)
        m.submodules.values = store = self.values
        write, read = store.write_port(), store.read_port()
        # As late as the array is, whose accumulators the pooled values stand in for.
        wait = self._array.latency
        address = delayed(m, step.input[: address_width(p.value_words)], cycles=wait)
        convolution = layer.opcode == LayerOpcode.CONVOLUTION
        word = delayed(m, read.data, cycles=READ_LATENCY - 1)
        m.d.comb += [
            write.addr.eq(requantizer.value_address),
            write.data.eq(requantizer.values),
            write.en.eq(requantizer.value_enable & self.busy),
            read.addr.eq(Mux(convolution, requantizer.residual_address, address)),
            requantizer.residual.eq(word),
            requantizer.pooled.eq(pooling.pooled),
            pooling.maximum.eq(layer.opcode == LayerOpcode.MAXIMUM),
            pooling.word.eq(word),
        ]
        for port, value in ((pooling.first, step.valid & step.first), (pooling.inside, step.inside)):
            m.d.comb += port.eq(delayed(m, value, cycles=READ_LATENCY + wait))

    def _register_writes(self, m: Module) -> None:
        """One register between the host and all memories, whose write ports are many and far apart."""
        self._selected = {section: Signal(name=f"write_{section.name.lower()}") for section in Section}
        self._address = Signal.like(self.write_address, name="registered_address")
        self._write_bank = Signal(address_width(self._parameters.banks), name="registered_bank")
        self._slice = Signal.like(self.write_slice, name="registered_slice")
        self._data = Signal.like(self.write_data, name="registered_data")
        m.d.sync += [
            self._address.eq(self.write_address),
            self._write_bank.eq(self.write_bank),
            self._slice.eq(self.write_slice),
            self._data.eq(self.write_data),
        ]
        for section, selected in self._selected.items():
            m.d.sync += selected.eq(self.write_enable & (self.write_section == section))

    def _banked(self, address: Value, words: int, bank: Value) -> Value:
        """The address in a memory that has so many words in every bank."""
        return Cat((address | Const(0, address_width(words)))[: address_width(words)], bank)

    def _read(self, m: Module, section: Section, address: Value) -> Value:
        """A memory that only the host writes; returns the word at `address`, one cycle later."""
        p, depth = self._parameters, section_depth(self._parameters, section)
        count, width = slices(p, section), slice_width(p, section)
        store = memory.Memory(shape=unsigned(count * width), depth=p.banked(depth), init=[])
        m.submodules[section.name.lower()] = store
        write, read = store.write_port(granularity=width), store.read_port()
        selected = self._selected[section] & ~self.busy
        m.d.comb += [
            write.addr.eq(self._banked(self._address, depth, self._write_bank)),
            write.data.eq(self._data[:width].replicate(count)),
            write.en.eq(Cat(selected & (self._slice == i) for i in range(count))),
            # Never while the host writes: yosys then need not preserve the old word of a collision.
            read.en.eq(self.busy),
            read.addr.eq(self._banked(address, depth, self._bank)),
        ]
        return read.data[: section_width(p, section)]

    def _activations(self, m: Module, address: Value, requantizer: Requantizer) -> Value:
        """The activation memory, which the host fills and the requantizer writes back to."""
        p = self._parameters
        group, per_word = slice_width(p, Section.ACTIVATIONS), p.groups_per_word
        m.submodules.activations = store = self.activations
        write, read = store.write_port(granularity=group), store.read_port()
        part = Signal(range(per_word))
        enable = Signal()
        bits = (per_word - 1).bit_length()
        with m.If(self.busy):
            m.d.comb += [
                write.addr.eq(requantizer.code_address[bits:]),
                part.eq(requantizer.code_address[:bits]),
                write.data.eq(requantizer.codes.as_value().replicate(per_word)),
                enable.eq(requantizer.code_enable),
            ]
        with m.Else():
            m.d.comb += [
                write.addr.eq(self._address),
                part.eq(self._slice),
                write.data.eq(self._data[:group].replicate(per_word)),
                enable.eq(self._selected[Section.ACTIVATIONS]),
            ]
        m.d.comb += write.en.eq(Cat(enable & (part == i) for i in range(per_word)))
        m.d.comb += read.addr.eq(address)
        return read.data

    def _connect_small_tables(self, m: Module, array: Array, requantizer: Requantizer) -> None:
        places = {
            section: self._banked(self._address, section_depth(self._parameters, section), self._write_bank)
            for section in (Section.TABLES, Section.BOUNDARIES)
        }
        m.d.comb += [
            array.write_enable.eq(self._selected[Section.TABLES] & ~self.busy),
            array.write_address.eq(places[Section.TABLES]),
            array.write_data.eq(self._data),
            requantizer.boundary_enable.eq(self._selected[Section.BOUNDARIES] & ~self.busy),
            requantizer.boundary_address.eq(places[Section.BOUNDARIES]),
            requantizer.boundary_data.eq(self._data),
        ]

    def _connect_results(self, m: Module, requantizer: Requantizer) -> None:
        p = self._parameters
        store = memory.Memory(shape=unsigned(result_word(p).size), depth=p.result_words, init=[])
        m.submodules.results = store
        write, read = store.write_port(), store.read_port()
        m.d.comb += [
            write.addr.eq(requantizer.result_address),
            write.data.eq(requantizer.results),
            write.en.eq(requantizer.result_enable & self.busy),
            read.en.eq(~self.busy),
            read.addr.eq(self.result_address),
            self.result.eq(read.data),
        ]

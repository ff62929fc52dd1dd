"""Engine: memories, sequencer, array and requantizer, working through a program."""

from dataclasses import dataclass

from amaranth.hdl import Array as Choice
from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .array import Array
from .dot import delayed
from .host_port import HOST, HostPort
from .layouts import (
    BANK_WIDTH,
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
from .weight_decoder import WeightDecoder

READ_LATENCY = 2
"""A memory and a register behind it, since block memories are slow to answer."""


@dataclass(frozen=True, kw_only=True)
class Core:
    """What there is one of for each image that is worked on.

    Members
    -------
    suffix : str
        Of its submodules' names; none for the first core.
    array : Array
    requantizer : Requantizer
    activations : Memory
    """

    suffix: str
    array: Array
    requantizer: Requantizer
    activations: memory.Memory


class Engine(wiring.Component):
    """Runs the program in its memory on the activations in its memory.

    The schedule is static: nothing stalls, so a run's cycles are known beforehand.  The host writes and
    reads memories between runs, a slice at a time.  Tables and boundaries are there for each lane; what is
    read back of them is a further copy.

    Cores work in lockstep, each on its own image; sequencer, weights, channels and the contents of
    tables are the same for all.

    Parameters
    ----------
    parameters : AcceleratorParameters

    Members
    -------
    drain : int
        Cycles from a layer's last step until its last output can be read.
    cores : tuple of Core
    values : tuple of Memory
        One of each core, if there are any.
    start, program_start : In
        See `Sequencer`.
    bank : In(8)
        Valid with `start`: the bank of all memories but the activations' that the run uses.
    busy, done, status : Out
    cycles : Out(32)
        Cycles of the last run.
    host : In(HOST)
        Activations have no banks; theirs is the core.
    result_address : In(24)
        All cores' first words, then all cores' second words, and so on.
    result : Out(result_word)
        The result word at `result_address`, one cycle later.
    """

    def __init__(self, *, parameters: AcceleratorParameters) -> None:
        self._parameters = p = parameters
        self.cores = tuple(_core(p, suffix=str(number or "")) for number in range(p.cores))
        self.values = tuple(
            memory.Memory(shape=unsigned(values_word(p).size), depth=p.value_words, init=[])
            for _ in range(p.cores if p.value_words else 0)
        )
        self._flight = READ_LATENCY + self.cores[0].array.latency
        self.drain = 1 + self._flight + self.cores[0].requantizer.latency
        super().__init__(
            {
                "start": In(1),
                "program_start": In(ADDRESS_WIDTH),
                "bank": In(BANK_WIDTH),
                "busy": Out(1),
                "done": Out(1),
                "status": Out(Status),
                "cycles": Out(STREAM_WIDTH),
                "host": In(HOST),
                "result_address": In(ADDRESS_WIDTH),
                "result": Out(result_word(p)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        p = self._parameters
        m.submodules.sequencer = sequencer = Sequencer(parameters=p, drain=self.drain)
        self._port = port = HostPort(m, self.host, busy=self.busy, parameters=p)
        self._bank = Signal(address_width(p.banks))
        with m.If(self.start & ~self.busy):
            m.d.sync += self._bank.eq(self.bank)
        self._count_cycles(m, sequencer)
        self._connect_shared(m, sequencer)
        for number, core in enumerate(self.cores):
            m.submodules[f"array{core.suffix}"] = core.array
            m.submodules[f"requantizer{core.suffix}"] = core.requantizer
            m.d.comb += core.array.codes.eq(self._activations(m, sequencer.step.input, core, number))
            self._connect_small_tables(m, core)
        self._control_arrays(m, sequencer)
        self._control_requantizers(m, sequencer)
        if p.value_words:
            self._connect_values(m, sequencer)
        self._connect_results(m)
        port.connect()
        return m

    def _connect_shared(self, m: Module, sequencer: Sequencer) -> None:
        """The memories that there is one of for all cores."""
        p, port, first = self._parameters, self._port, self.cores[0]
        weights = self._weights(m, sequencer)
        channel = self._read(m, Section.CHANNELS, self._addressed(first.requantizer.channel_address))
        program = self._read(m, Section.PROGRAM, self._addressed(sequencer.program_address))
        m.d.comb += [
            sequencer.start.eq(self.start),
            sequencer.program_start.eq(self.program_start),
            sequencer.program_data.eq(program),
        ]
        channel = port.alone(Section.CHANNELS, channel, meant=port.meant(Section.CHANNELS))
        for core in self.cores:
            m.d.comb += [core.array.weights.eq(weights), core.requantizer.channel.eq(channel)]
        port.show(Section.CHANNELS, first.requantizer.held_channel.as_value())
        if p.read_back:
            self._show_alone(m, Section.PROGRAM, program)
            for section in (Section.TABLES, Section.BOUNDARIES):
                self._show_alone(m, section, self._read(m, section, port.address))

    def _weights(self, m: Module, sequencer: Sequencer) -> Value:
        """Codes for all arrays, a cycle before these register them."""
        p, port = self._parameters, self._port
        address = self._addressed(sequencer.step.weights[: address_width(p.weight_words)])
        # The array registers weights first of all, so their address waits, which is narrower.  The decoder
        # has registers of its own.
        word = self._read(m, Section.WEIGHTS, delayed(m, address, cycles=0 if p.codebooks else 1))
        word = port.alone(Section.WEIGHTS, word, meant=port.meant(Section.WEIGHTS))
        if not p.codebooks:
            port.show(Section.WEIGHTS, self.cores[0].array.held_weights.as_value())
            return word
        m.submodules.weight_decoder = decoder = WeightDecoder(parameters=p)
        entry = self._addressed(Cat(sequencer.entry, sequencer.layer.codebook))
        code = self._show_alone(m, Section.CODEBOOKS, self._read(m, Section.CODEBOOKS, entry))
        m.d.comb += [
            decoder.weights.eq(word),
            decoder.write.enable.eq(delayed(m, sequencer.copy, cycles=2)),
            decoder.write.address.eq(delayed(m, sequencer.entry, cycles=2)),
            decoder.write.data.eq(code),
        ]
        port.show(Section.WEIGHTS, decoder.held_weights.as_value())
        return decoder.codes.as_value()

    def _show_alone(self, m: Module, section: Section, word: Value) -> Value:
        """Let the host read a memory that has no register behind it; the register that it gets."""
        alone = self._port.alone(section, word, meant=self._port.meant(section))
        register = delayed(m, alone, cycles=1)
        self._port.show(section, register)
        return register

    def _addressed(self, address: Value) -> Value:
        """An address of the engine's, or the host's while it reads."""
        return Mux(self._port.reading, self._port.address[: len(address)], address)

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

    def _control_arrays(self, m: Module, sequencer: Sequencer) -> None:
        step = sequencer.step
        multiplying = step.valid & (sequencer.layer.opcode == LayerOpcode.CONVOLUTION)
        enable, clear, inside, table = (
            delayed(m, value, cycles=READ_LATENCY)
            for value in (multiplying, multiplying & step.first, step.inside, step.table)
        )
        for core in self.cores:
            m.d.comb += [
                core.array.enable.eq(enable),
                core.array.clear.eq(clear),
                core.array.inside.eq(inside),
                core.array.table.eq(Cat(table, self._bank)),
            ]

    def _control_requantizers(self, m: Module, sequencer: Sequencer) -> None:
        step, layer = sequencer.step, sequencer.layer
        tag = Signal.like(self.cores[0].requantizer.tag, name="step_tag")
        for name in ("opening", "closing", "shift", "channels", "output", "values", "residual"):
            m.d.comb += tag[name].eq(step[name])
        start = delayed(m, step.valid & step.last, cycles=self._flight)
        arrived = delayed(m, tag.as_value(), cycles=self._flight)
        for core in self.cores:
            m.d.comb += [
                core.requantizer.start.eq(start),
                core.requantizer.tag.eq(arrived),
                core.requantizer.accumulators.eq(core.array.accumulators),
                core.requantizer.layer.eq(layer),
                core.requantizer.layer.encoding.eq(
                    self._banked(layer.encoding, self._parameters.encodings, self._bank)
                ),
            ]

    def _connect_values(self, m: Module, sequencer: Sequencer) -> None:
        """The values memories, which requantizers write, and they or the pooling units read."""
        step, layer = sequencer.step, sequencer.layer
        # As late as the array is, whose accumulators the pooled values stand in for.
        address = delayed(
            m, step.input[: address_width(self._parameters.value_words)], cycles=self._flight - READ_LATENCY
        )
        first = delayed(m, step.valid & step.first, cycles=self._flight)
        inside = delayed(m, step.inside, cycles=self._flight)
        for core, store in zip(self.cores, self.values, strict=True):
            requantizer = core.requantizer
            m.submodules[f"pooling{core.suffix}"] = pooling = Pooling(parameters=self._parameters)
            m.submodules[f"values{core.suffix}"] = store
            write, read = store.write_port(), store.read_port()
            word = delayed(m, read.data, cycles=READ_LATENCY - 1)
            convolution = layer.opcode == LayerOpcode.CONVOLUTION
            m.d.comb += [
                write.addr.eq(requantizer.value_address),
                write.data.eq(requantizer.values),
                write.en.eq(requantizer.value_enable & self.busy),
                read.addr.eq(Mux(convolution, requantizer.residual_address, address)),
                requantizer.residual.eq(word),
                requantizer.pooled.eq(pooling.pooled),
                pooling.maximum.eq(layer.opcode == LayerOpcode.MAXIMUM),
                pooling.word.eq(word),
                pooling.first.eq(first),
                pooling.inside.eq(inside),
            ]

    def _banked(self, address: Value, words: int, bank: Value) -> Value:
        """The address in a memory that has so many words in every bank."""
        return Cat((address | Const(0, address_width(words)))[: address_width(words)], bank)

    def _read(self, m: Module, section: Section, address: Value) -> Value:
        """A memory that only the host writes; returns the word at `address`, one cycle later."""
        p, port, depth = self._parameters, self._port, section_depth(self._parameters, section)
        count, width = slices(p, section), slice_width(p, section)
        store = memory.Memory(
            shape=unsigned(count * width), depth=p.banked(depth), init=[], attrs={"ram_style": "block"}
        )
        m.submodules[section.name.lower()] = store
        write, read = store.write_port(granularity=width), store.read_port()
        m.d.comb += [
            write.addr.eq(self._banked(port.address, depth, port.bank)),
            write.data.eq(port.data[:width].replicate(count)),
            write.en.eq(port.meant(section) & port.writing.replicate(count)),
            read.en.eq(port.memories_read),
            read.addr.eq(self._banked(address, depth, Mux(port.reading, port.bank, self._bank))),
        ]
        return read.data[: section_width(p, section)]

    def _activations(self, m: Module, address: Value, core: Core, number: int) -> Value:
        """An activation memory, which the host fills and the requantizer writes back to; what it reads."""
        p, port, requantizer = self._parameters, self._port, core.requantizer
        group, per_word = slice_width(p, Section.ACTIVATIONS), p.groups_per_word
        m.submodules[f"activations{core.suffix}"] = store = core.activations
        write, read = store.write_port(granularity=group), store.read_port()
        meant = port.meant(Section.ACTIVATIONS) & (port.bank == number).replicate(per_word)
        bits = (per_word - 1).bit_length()
        with m.If(self.busy):
            part = requantizer.code_address[:bits]
            m.d.comb += [
                write.addr.eq(requantizer.code_address[bits:]),
                write.data.eq(requantizer.codes.as_value().replicate(per_word)),
                write.en.eq(Cat(requantizer.code_enable & (part == i) for i in range(per_word))),
            ]
        with m.Else():
            m.d.comb += [
                write.addr.eq(port.address),
                write.data.eq(port.data[:group].replicate(per_word)),
                write.en.eq(meant & port.writing.replicate(per_word)),
            ]
        m.d.comb += read.addr.eq(self._addressed(address))
        alone = port.alone(Section.ACTIVATIONS, read.data, meant=meant)
        codes = delayed(m, alone, cycles=READ_LATENCY - 1)
        port.show(Section.ACTIVATIONS, codes)
        return codes

    def _connect_small_tables(self, m: Module, core: Core) -> None:
        p, port, array, requantizer = self._parameters, self._port, core.array, core.requantizer
        address = {
            section: self._banked(port.address, section_depth(p, section), port.bank)
            for section in (Section.TABLES, Section.BOUNDARIES)
        }
        m.d.comb += [
            array.write_enable.eq(port.meant(Section.TABLES) & port.writing),
            array.write_address.eq(address[Section.TABLES]),
            array.write_data.eq(port.data),
            requantizer.boundary_enable.eq(port.meant(Section.BOUNDARIES) & port.writing),
            requantizer.boundary_address.eq(address[Section.BOUNDARIES]),
            requantizer.boundary_data.eq(port.data),
        ]

    def _connect_results(self, m: Module) -> None:
        p, select = self._parameters, address_width(self._parameters.cores)
        words = []
        for core in self.cores:
            store = memory.Memory(shape=unsigned(result_word(p).size), depth=p.result_words, init=[])
            m.submodules[f"results{core.suffix}"] = store
            write, read = store.write_port(), store.read_port()
            m.d.comb += [
                write.addr.eq(core.requantizer.result_address),
                write.data.eq(core.requantizer.results),
                write.en.eq(core.requantizer.result_enable & self.busy),
                read.en.eq(~self.busy),
                read.addr.eq(self.result_address[select:]),
            ]
            words.append(read.data)
        m.d.comb += self.result.eq(Choice(words)[delayed(m, self.result_address[:select], cycles=1)])


def _core(parameters: AcceleratorParameters, *, suffix: str) -> Core:
    p, array = parameters, Array(parameters=parameters)
    codes = unsigned(p.groups_per_word * slice_width(p, Section.ACTIVATIONS))
    return Core(
        suffix=suffix,
        array=array,
        requantizer=Requantizer(parameters=p, accumulator_shape=array.accumulator_shape),
        activations=memory.Memory(shape=codes, depth=p.activation_words, init=[]),
    )

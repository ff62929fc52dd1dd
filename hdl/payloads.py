"""Payloads: their way between the host and the memories, slice after slice."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .host_port import HOST
from .layouts import BANK_WIDTH, PAYLOAD_WORDS, SLICE_WIDTH, STREAM_WIDTH, sections, slices
from .parameters import ADDRESS_WIDTH, READ_BACK_LATENCY, AcceleratorParameters

INDEX_WIDTH = (PAYLOAD_WORDS - 1).bit_length()
STAGE_WORDS = 2 * PAYLOAD_WORDS
"""Two payloads: one is written while the next is read."""


class PayloadMover(wiring.Component):
    """Writes a staged payload into a section, one slice each cycle, or reads one, a slice whenever asked.

    Parameters
    ----------
    parameters : AcceleratorParameters

    Members
    -------
    start, reads : In(1)
        Takes `section`, `bank`, `address`, `slice` and `count`, when not `busy`: to write, or to read.
    section, bank, address, slice, count : In
        Where the first word is, and how many there are.
    busy : Out(1)
    stage_address : Out(9)
    stage_data : In(32)
        The staged word at `stage_address`, one cycle later.
    host : Out(HOST)
        Its `read_enable` is high until the last word is taken.
    word_valid : Out(1)
        `host.read_data` is the word.
    advance : In(1)
        It is taken, if a payload is read.
    """

    def __init__(self, *, parameters: AcceleratorParameters) -> None:
        self._parameters = parameters
        super().__init__(
            {
                "start": In(1),
                "reads": In(1),
                "section": In(8),
                "bank": In(BANK_WIDTH),
                "address": In(ADDRESS_WIDTH),
                "slice": In(SLICE_WIDTH),
                "count": In(ADDRESS_WIDTH),
                "busy": Out(1),
                "stage_address": Out(INDEX_WIDTH + 1),
                "stage_data": In(STREAM_WIDTH),
                "host": Out(HOST),
                "word_valid": Out(1),
                "advance": In(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        left = Signal(range(PAYLOAD_WORDS + 1))  # words to be read, from the stage or the section
        reading = Signal()
        place = Place(
            m,
            self.address,
            self.slice,
            last_slice=last_slice(m, self._parameters, self.host.section),
        )
        m.d.comb += [
            self.busy.eq((left != 0) | self.host.write_enable),
            self.host.address.eq(place.address),
            self.host.slice.eq(place.slice),
        ]
        self._write(m, place, left, enable=(left != 0) & ~reading)
        self._read(m, place, left, enable=(left != 0) & reading)
        with m.If(self.start & ~self.busy):
            m.d.sync += [
                left.eq(self.count),
                reading.eq(self.reads),
                self.host.section.eq(self.section),
                self.host.bank.eq(self.bank),
            ]
            place.start()
        return m

    def _write(self, m: Module, place: "Place", left: Signal, *, enable: Value) -> None:
        index = Signal(INDEX_WIDTH)
        half = Signal()
        m.d.comb += [self.stage_address.eq(Cat(index, half)), self.host.write_data.eq(self.stage_data)]
        m.d.sync += [self.host.write_enable.eq(enable), index.eq(0)]
        with m.If(enable):
            m.d.sync += [left.eq(left - 1), index.eq(index + 1)]
            with m.If(left == 1):
                m.d.sync += half.eq(~half)
        with m.If(self.host.write_enable):
            place.advance()

    def _read(self, m: Module, place: "Place", left: Signal, *, enable: Value) -> None:
        age = Signal(range(READ_BACK_LATENCY + 1))  # of the place
        m.d.comb += [
            self.host.read_enable.eq(enable),
            self.word_valid.eq(enable & (age == READ_BACK_LATENCY)),
        ]
        m.d.sync += age.eq(0)
        with m.If(enable & self.advance):
            m.d.sync += left.eq(left - 1)
            place.advance()
        with m.Elif(enable):
            m.d.sync += age.eq(Mux(self.word_valid, age, age + 1))


class Place:
    """Registers that walk through a section slice by slice."""

    def __init__(self, m: Module, address: Value, part: Value, *, last_slice: Value) -> None:
        self._m, self._from = m, (address, part)
        self.address, self.slice = (
            Signal(ADDRESS_WIDTH, name="place"),
            Signal(SLICE_WIDTH, name="place_slice"),
        )
        self.last_slice = last_slice

    def start(self) -> None:
        """Go to the first slice."""
        address, part = self._from
        self._m.d.sync += [self.address.eq(address), self.slice.eq(part)]

    def advance(self) -> None:
        """Go to the next slice."""
        last = self.slice == self.last_slice
        self._m.d.sync += [
            self.slice.eq(Mux(last, 0, self.slice + 1)),
            self.address.eq(self.address + last),
        ]


def last_slice(m: Module, parameters: AcceleratorParameters, section: Value) -> Value:
    """The number of the last slice of a section's words."""
    last = Signal(SLICE_WIDTH, name="last_slice")
    with m.Switch(section):
        for each in sections(parameters):
            with m.Case(each):
                m.d.comb += last.eq(slices(parameters, each) - 1)
    return last

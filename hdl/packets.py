"""Packets: the reader that judges them, and the writer of what a good LOAD carries."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from .layouts import (
    BANK_WIDTH,
    PACKET_HEADER,
    PAYLOAD_WORDS,
    SLICE_WIDTH,
    STREAM_WIDTH,
    PacketOpcode,
    Section,
    Status,
    section_banks,
    section_depth,
    slices,
)
from .parameters import ADDRESS_WIDTH, AcceleratorParameters

HEADER_WORDS = PACKET_HEADER.size // STREAM_WIDTH
HEADER_PORTS = ("section", "bank", "address", "slice", "count")
INDEX_WIDTH = (PAYLOAD_WORDS - 1).bit_length()
STAGE_WORDS = 2 * PAYLOAD_WORDS
"""Two payloads: one is written while the next is read."""


class PacketReader(wiring.Component):
    """Takes whole packets and judges each at its end: to load, to run, or to refuse.

    A LOAD's payload goes to the staging memory, from where it is written only if the packet is good.  One
    word a cycle; two cycles more for the verdict, and until `enable` is high.

    Parameters
    ----------
    parameters : AcceleratorParameters

    Members
    -------
    data, last, valid : In, ready : Out
        The stream of packet words.  `ready` does not depend on the other inputs.
    whole : In(1)
        All bytes of the word are there; the packet is refused if not.
    stage_enable : Out(1)
    stage_address : Out(9), stage_data : Out(32)
        Write port of the staging memory; the address' top bit changes with every good LOAD.
    enable : In(1)
        One of the next three may be high.
    load : Out(1)
        High for one cycle: write `count` words of the payload from `section`, `address` and `slice` on.
    run : Out(1)
        High for one cycle: run the program at `address`, then answer with `count` result words.
    refuse : Out(1)
        High for one cycle: answer with `status`.
    status : Out(Status)
    section, bank, address, slice, count : Out
        Of the packet's header.
    """

    def __init__(self, *, parameters: AcceleratorParameters) -> None:
        self._parameters = parameters
        super().__init__(
            {
                "data": In(STREAM_WIDTH),
                "last": In(1),
                "valid": In(1),
                "ready": Out(1),
                "whole": In(1),
                "stage_enable": Out(1),
                "stage_address": Out(INDEX_WIDTH + 1),
                "stage_data": Out(STREAM_WIDTH),
                "enable": In(1),
                "load": Out(1),
                "run": Out(1),
                "refuse": Out(1),
                "status": Out(Status),
                "section": Out(8),
                "bank": Out(BANK_WIDTH),
                "address": Out(ADDRESS_WIDTH),
                "slice": Out(SLICE_WIDTH),
                "count": Out(ADDRESS_WIDTH),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = CRC32_ISO_HDLC(data_width=STREAM_WIDTH).create()
        header = Signal(PACKET_HEADER)
        half = Signal()
        words = Signal(range(HEADER_WORDS + 1), name="header_words")
        payload = Signal(range(PAYLOAD_WORDS + 2), name="payload_words")  # one more than there may be
        damaged = Signal()
        taken = Signal()
        m.d.comb += [
            taken.eq(self.valid & self.ready),
            crc.start.eq(words == 0),
            crc.valid.eq(taken),
            crc.data.eq(self.data),
            self.stage_address.eq(Cat(payload[:INDEX_WIDTH], half)),
            self.stage_data.eq(self.data),
        ]
        m.d.comb += [getattr(self, name).eq(header[name]) for name in HEADER_PORTS]
        last_slice = _last_slice(m, self._parameters, header.section)
        end = _Place(m, header.address, header.slice, last_slice=last_slice)

        with m.FSM():
            with m.State("TAKE"):
                m.d.comb += self.ready.eq(1)
                with m.If(taken):
                    m.d.sync += damaged.eq((damaged & (words != 0)) | ~self.whole)
                    with m.If(words != HEADER_WORDS):
                        m.d.sync += header.as_value().word_select(words, STREAM_WIDTH).eq(self.data)
                        m.d.sync += [words.eq(words + 1), payload.eq(0)]
                        end.start()
                    with m.Elif(~self.last & (payload <= PAYLOAD_WORDS)):
                        m.d.comb += self.stage_enable.eq(payload != PAYLOAD_WORDS)
                        m.d.sync += payload.eq(payload + 1)
                        end.advance()
                    with m.If(self.last):
                        m.d.sync += words.eq(0)
                        with m.If(words != HEADER_WORDS):
                            m.d.sync += damaged.eq(1)
                        m.next = "JUDGE"
            with m.State("JUDGE"):
                self._judge(m, header, payload, end)
                with m.If(~crc.match_detected):
                    m.d.sync += self.status.eq(Status.CHECKSUM)
                with m.If(damaged):
                    m.d.sync += self.status.eq(Status.LENGTH)
                m.next = "OBEY"
            with m.State("OBEY"), m.If(self.enable):
                with m.If(self.status != Status.DONE):
                    m.d.comb += self.refuse.eq(1)
                with m.Elif(header.opcode == PacketOpcode.RUN):
                    m.d.comb += self.run.eq(1)
                with m.Else():
                    m.d.comb += self.load.eq(1)
                    m.d.sync += half.eq(~half)
                m.next = "TAKE"
        return m

    def _judge(self, m: Module, header: data.View, payload: Value, end: "_Place") -> None:
        """Set `status` for a packet whose words are all as they were sent."""
        p = self._parameters
        depth = Signal(range(max(section_depth(p, each) for each in Section) + 1))
        banks = Signal(range(max(p.banks, p.cores) + 1))
        with m.Switch(header.section):
            for section in Section:
                with m.Case(section):
                    m.d.comb += [depth.eq(section_depth(p, section)), banks.eq(section_banks(p, section))]
        within = (end.address < depth) | ((end.address == depth) & (end.slice == 0))
        from_within = (header.address < depth) & (header.slice <= end.last_slice) & (header.bank < banks)
        results = header.count <= p.cores * p.result_words
        runs = (header.address < p.program_words) & results & (header.bank < p.banks)
        fits = (payload == header.count) & (payload <= PAYLOAD_WORDS)
        with m.If(header.build_id != p.build_id):
            m.d.sync += self.status.eq(Status.BUILD_ID)
        with m.Elif(header.opcode == PacketOpcode.RUN):
            m.d.sync += self.status.eq(
                Mux(payload != 0, Status.LENGTH, Mux(runs, Status.DONE, Status.LOAD_RANGE))
            )
        with m.Elif(header.opcode != PacketOpcode.LOAD):
            m.d.sync += self.status.eq(Status.PACKET_OPCODE)
        with m.Elif(banks == 0):
            m.d.sync += self.status.eq(Status.SECTION)
        with m.Elif(~fits | (payload == 0)):
            m.d.sync += self.status.eq(Status.LENGTH)
        with m.Else():
            m.d.sync += self.status.eq(Mux(from_within & within, Status.DONE, Status.LOAD_RANGE))


class PayloadWriter(wiring.Component):
    """Writes a staged payload into a section, slice after slice, one each cycle.

    Parameters
    ----------
    parameters : AcceleratorParameters

    Members
    -------
    start : In(1)
        Takes `section`, `bank`, `address`, `slice` and `count`, when not `busy`.
    section, bank, address, slice, count : In
        Where the first word goes, and how many there are.
    busy : Out(1)
    stage_address : Out(9)
    stage_data : In(32)
        The staged word at `stage_address`, one cycle later.
    write_enable, write_section, write_bank, write_address, write_slice, write_data : Out
        See `Engine`.
    """

    def __init__(self, *, parameters: AcceleratorParameters) -> None:
        self._parameters = parameters
        super().__init__(
            {
                "start": In(1),
                "section": In(8),
                "bank": In(BANK_WIDTH),
                "address": In(ADDRESS_WIDTH),
                "slice": In(SLICE_WIDTH),
                "count": In(ADDRESS_WIDTH),
                "busy": Out(1),
                "stage_address": Out(INDEX_WIDTH + 1),
                "stage_data": In(STREAM_WIDTH),
                "write_enable": Out(1),
                "write_section": Out(8),
                "write_bank": Out(BANK_WIDTH),
                "write_address": Out(ADDRESS_WIDTH),
                "write_slice": Out(SLICE_WIDTH),
                "write_data": Out(STREAM_WIDTH),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        index = Signal(INDEX_WIDTH)
        half = Signal()
        left = Signal(range(PAYLOAD_WORDS + 1))  # words to be read
        last_slice = _last_slice(m, self._parameters, self.write_section)
        place = _Place(m, self.address, self.slice, last_slice=last_slice)
        m.d.comb += [
            self.busy.eq((left != 0) | self.write_enable),
            self.stage_address.eq(Cat(index, half)),
            self.write_address.eq(place.address),
            self.write_slice.eq(place.slice),
            self.write_data.eq(self.stage_data),
        ]
        m.d.sync += self.write_enable.eq(left != 0)
        with m.If(left != 0):
            m.d.sync += [left.eq(left - 1), index.eq(index + 1)]
            with m.If(left == 1):
                m.d.sync += half.eq(~half)
        with m.If(self.write_enable):
            place.advance()
        with m.If(self.start & ~self.busy):
            m.d.sync += [
                left.eq(self.count),
                index.eq(0),
                self.write_section.eq(self.section),
                self.write_bank.eq(self.bank),
            ]
            place.start()
        return m


class _Place:
    """Registers that walk through a section slice by slice."""

    def __init__(self, m: Module, address: Value, part: Value, *, last_slice: Value) -> None:
        self._m, self._from = m, (address, part)
        self.address, self.slice = (
            Signal(ADDRESS_WIDTH, name="place"),
            Signal(SLICE_WIDTH, name="place_slice"),
        )
        self.last_slice = last_slice

    def start(self) -> None:
        address, part = self._from
        self._m.d.sync += [self.address.eq(address), self.slice.eq(part)]

    def advance(self) -> None:
        last = self.slice == self.last_slice
        self._m.d.sync += [
            self.slice.eq(Mux(last, 0, self.slice + 1)),
            self.address.eq(self.address + last),
        ]


def _last_slice(m: Module, parameters: AcceleratorParameters, section: Value) -> Value:
    last_slice = Signal(SLICE_WIDTH)
    with m.Switch(section):
        for each in Section:
            with m.Case(each):
                m.d.comb += last_slice.eq(slices(parameters, each) - 1)
    return last_slice

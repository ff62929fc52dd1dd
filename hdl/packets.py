"""Packets: the reader that takes and judges them."""

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
    Status,
    section_banks,
    section_depth,
    sections,
)
from .parameters import ADDRESS_WIDTH, AcceleratorParameters
from .payloads import INDEX_WIDTH, Place, last_slice

HEADER_WORDS = PACKET_HEADER.size // STREAM_WIDTH
HEADER_PORTS = ("section", "bank", "address", "slice", "count")


class PacketReader(wiring.Component):
    """Takes whole packets and judges each at its end: to load, to read, to run, or to refuse.

    A LOAD's payload goes to the staging memory, from where it is written only if the packet is good.  One
    word a cycle; two cycles more for the verdict, and until `enable` is high.  A READ is judged as a LOAD of
    as many words, which takes a cycle for each.

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
        One of the next four may be high.
    load : Out(1)
        High for one cycle: write `count` words of the payload from `section`, `address` and `slice` on.
    read : Out(1)
        High for one cycle: answer with as many words from there on.
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
                "read": Out(1),
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
        reads = (header.opcode == PacketOpcode.READ) & self._parameters.read_back
        m.d.comb += [
            taken.eq(self.valid & self.ready),
            crc.start.eq(taken & (words == 0)),
            crc.valid.eq(taken),
            crc.data.eq(self.data),
            self.stage_address.eq(Cat(payload[:INDEX_WIDTH], half)),
            self.stage_data.eq(self.data),
        ]
        m.d.comb += [getattr(self, name).eq(header[name]) for name in HEADER_PORTS]
        last = last_slice(m, self._parameters, header.section)
        end = Place(m, header.address, header.slice, last_slice=last)

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
                        # No READ has a payload: one word of it is as wrong as too many.
                        m.d.sync += payload.eq(Mux(reads, PAYLOAD_WORDS + 1, payload + 1))
                        end.advance()
                    with m.If(self.last):
                        m.d.sync += words.eq(0)
                        m.next = "JUDGE"
                        with m.If(words != HEADER_WORDS):
                            m.d.sync += damaged.eq(1)
                        with m.Elif(reads):
                            m.next = "COUNT"
            with m.State("COUNT"):
                m.next = "JUDGE"
                with m.If((payload != header.count) & (payload <= PAYLOAD_WORDS)):
                    m.d.sync += payload.eq(payload + 1)
                    end.advance()
                    m.next = "COUNT"
            with m.State("JUDGE"):
                self._judge(m, header, payload, end, reads=reads)
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
                with m.Elif(reads):
                    m.d.comb += self.read.eq(1)
                with m.Else():
                    m.d.comb += self.load.eq(1)
                    m.d.sync += half.eq(~half)
                m.next = "TAKE"
        return m

    def _judge(self, m: Module, header: data.View, payload: Value, end: Place, *, reads: Value) -> None:
        """Set `status` for a packet whose words are all as they were sent."""
        p = self._parameters
        depth = Signal(range(max(section_depth(p, each) for each in sections(p)) + 1))
        banks = Signal(range(max(p.banks, p.cores) + 1))
        with m.Switch(header.section):
            for section in sections(p):
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
        with m.Elif((header.opcode != PacketOpcode.LOAD) & ~reads):
            m.d.sync += self.status.eq(Status.PACKET_OPCODE)
        with m.Elif(banks == 0):
            m.d.sync += self.status.eq(Status.SECTION)
        with m.Elif(~fits | (payload == 0)):
            m.d.sync += self.status.eq(Status.LENGTH)
        with m.Else():
            m.d.sync += self.status.eq(Mux(from_within & within, Status.DONE, Status.LOAD_RANGE))

"""Streams: a payload holds while it waits, and no word is lost or doubled.

A word passes in a cycle with both `valid` and `ready`.
"""

from typing import Any

from amaranth.hdl import Assert, Assume, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from gen.parts import stream
from gen.verilog import Design
from hdl.layouts import (
    PACKET_HEADER,
    PAYLOAD_WORDS,
    RESULT,
    STREAM_WIDTH,
    PacketOpcode,
    Status,
    section_banks,
    section_depth,
    sections,
    slices,
)
from hdl.parameters import READ_BACK_LATENCY, AcceleratorParameters

from ..claim import Claim, Description
from ..specification import delayed, instance
from ..state import with_state

HEADER_WORDS = PACKET_HEADER.size // STREAM_WIDTH
HEADER_PORTS = ("section", "bank", "address", "slice", "count")
RESIDUE = 0xDEBB_20E3
"""What a CRC-32's register holds, lowest bit first, after any words and their CRC."""


def opened(block: str, **parameters: Any) -> Design:
    """A stream block of the accelerator with its state as outputs too."""
    return with_state(stream(block, AcceleratorParameters(**parameters)))


class _Stream(wiring.Component):
    """An opened block with free inputs."""

    def __init__(self, description: Description, **more: Any) -> None:
        self.description = description
        self.parameters = AcceleratorParameters(**description["parameters"])
        ports = {port["name"]: port for port in description["ports"] if port["direction"] == "input"}
        self.inputs = [name for name in ports if name not in ("clk", "rst")]
        super().__init__({**{name: In(ports[name]["width"]) for name in self.inputs}, **more})

    def unit(self, m: Module) -> dict[str, Signal]:
        """The block's outputs and registers."""
        return instance(m, self.description, **{name: getattr(self, name) for name in self.inputs})

    def last_cycle(self, m: Module, value: Value) -> Value:
        return delayed(m, value, cycles=1)


class Held(_Stream):
    """A word that is not taken is there in the next cycle, unchanged, unless there is a reset."""

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        unit = self.unit(m)
        waiting = self.last_cycle(m, unit["valid"] & ~self.ready)
        word = Cat(unit["data"], unit["last"])
        m.d.comb += Assert(~waiting | (unit["valid"] & (word == self.last_cycle(m, word))))
        return m


class Responses(_Stream):
    """A response is the status, the cycles, then every lane of every result word, each once and in order.

    Of a `single` response it is the first lane alone.  The watched result word stands for every one; each is
    `taken` once.  Between two words there is at most one cycle without a word in which there would be a
    result, so that no response stays away.
    """

    def __init__(self, description: Description) -> None:
        super().__init__(description, watched=In(24), contents=In(_result_width(description)))

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        lanes = self.parameters.requantizers
        unit = self.unit(m)
        watched, contents = (_unchanging(m, value) for value in (self.watched, self.contents))
        read = delayed(m, unit["result_address"], cycles=1, reset_less=True) == watched
        m.d.comb += Assume(~(read & self.result_valid) | (self.result == contents))

        ports = (self.status, self.cycles, self.count, self.single)
        held = status, cycles, count, single = [Signal.like(port) for port in ports]
        owed, results, address, lane = Signal(), Signal(), Signal(24), Signal(range(lanes))
        cycles_next = Signal()
        ends = (lane == lanes - 1) | single
        last = Mux(results, ends & (address == count - 1), cycles_next & (count == 0))
        taken = unit["valid"] & self.ready
        with m.If(~unit["busy"] & self.start):
            m.d.sync += [signal.eq(port) for signal, port in zip(held, ports, strict=True)]
            m.d.sync += [owed.eq(1), results.eq(0), cycles_next.eq(0), address.eq(0), lane.eq(0)]
        with m.Elif(taken):
            m.d.sync += [owed.eq(~last), cycles_next.eq(~results & ~cycles_next)]
            m.d.sync += results.eq(results | cycles_next)
            with m.If(results):
                m.d.sync += lane.eq(Mux(ends, 0, lane + 1))
                m.d.sync += address.eq(address + ends)

        result = contents.word_select(lane, RESULT.width)
        expected = Mux(results, result, Mux(cycles_next, cycles, status))
        pause = self.last_cycle(m, unit["busy"] & ~unit["valid"] & self.result_valid)
        m.d.comb += [
            Assert(~unit["valid"] | owed),
            Assert(~owed | unit["busy"]),
            Assert(~unit["valid"] | (unit["last"] == last)),
            Assert(~unit["valid"] | (results & (address != watched)) | (unit["data"] == expected)),
            Assert(~pause | unit["valid"] | ~unit["busy"]),
            Assert(unit["taken"] == (owed & results & ~unit["valid"] & self.result_valid)),
        ]
        self._invariant(m, unit, held, results=results, address=address, lane=lane)
        state = Mux(results, Mux(unit["valid"], 4, 3), Mux(cycles_next, 2, 1))
        m.d.comb += [
            Assert(~owed | (unit["state_fsm_state"] == state)),
            Assert(owed | (unit["state_fsm_state"] == Mux(unit["busy"], 3, 0))),
            Assert(owed | ~unit["busy"] | (unit["result_address"] == count)),
            Assert(~owed | ~results | (address < count)),
            Assert(~owed | results | ((address == 0) & (lane == 0))),
        ]
        waiting = unit["state_waiting"]
        rest = contents >> (lane * RESULT.width)
        loaded = owed & results & unit["valid"] & (address == watched)
        m.d.comb += Assert(~loaded | (waiting == rest))
        return m

    def _invariant(self, m: Module, unit: dict[str, Signal], held: list[Signal], **place: Signal) -> None:
        """What the registers hold meanwhile: for the induction only."""
        names = ("held_status", "held_cycles", "held_count", "held_single")
        for name, value in zip(names, held, strict=True):
            m.d.comb += Assert(~unit["busy"] | (unit[f"state_{name}"] == value))
        ahead = place["results"] & unit["valid"]
        same = unit["result_address"] == (place["address"] + ahead)[:24]
        m.d.comb += Assert(~unit["busy"] | ~self._more(unit, place) | same)
        if "state_lane" in unit:
            m.d.comb += Assert(~unit["busy"] | (unit["state_lane"] == place["lane"]))

    def _more(self, unit: dict[str, Signal], place: dict[str, Signal]) -> Value:
        return unit["valid"] | (place["address"] < unit["state_held_count"])


class Packets(_Stream):
    """Every packet has one effect, after its last word, and that is the right one.

    Each word of a LOAD's payload is staged, in order, up to as many as there may be.  When a packet has
    ended, no word is taken before it has its one effect: `load` to a right LOAD, `read` to a right READ and
    `run` to a right RUN, if the CRC's register then holds `RESIDUE`; else `refuse`, with the first status
    that applies.  A READ has it after a cycle more for each word that it asks for, up to one too many.  How
    the CRC's register comes by its contents is not claimed.
    """

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        unit = self.unit(m)
        head, words, seen = Signal(PACKET_HEADER), Signal(range(HEADER_WORDS + 1)), Signal(20)
        checks, whole = Signal(), Signal(init=1)
        ended, judged, half = Signal(), Signal(), Signal()
        counting, counted = Signal(), Signal(range(PAYLOAD_WORDS + 2))
        complete, taken = words == HEADER_WORDS, self.valid & unit["ready"]
        asks = head.opcode == PacketOpcode.READ
        effect = unit["load"] | unit["read"] | unit["run"] | unit["refuse"]
        with m.If(taken):
            m.d.sync += [
                whole.eq(whole & self.whole & (complete | ~self.last)),
                ended.eq(self.last),
                counting.eq(self.last & complete & asks),
            ]
            with m.If(~complete):
                m.d.sync += words.eq(words + 1)
                m.d.sync += head.as_value().word_select(words, STREAM_WIDTH).eq(self.data)
            with m.Elif(~self.last & ~seen.all()):
                m.d.sync += seen.eq(seen + 1)
        with m.If(counting):
            with m.If((seen != 0) | (counted == head.count) | (counted > PAYLOAD_WORDS)):
                m.d.sync += counting.eq(0)
            with m.Else():
                m.d.sync += counted.eq(counted + 1)
        m.d.sync += judged.eq(ended & ~counting)
        with m.If(~judged):
            m.d.sync += checks.eq(unit["state_crc_crc_reg"][::-1] == RESIDUE)
        with m.If(effect):
            m.d.sync += [words.eq(0), seen.eq(0), whole.eq(1), ended.eq(0), judged.eq(0), counted.eq(0)]
        with m.If(unit["load"]):
            m.d.sync += half.eq(~half)

        staged = taken & complete & ~self.last & (seen < PAYLOAD_WORDS) & ~asks
        status = self._status(m, head, seen, checks=checks, whole=whole)
        right = status == Status.DONE
        named = [unit[name] == getattr(head, name)[: len(unit[name])] for name in HEADER_PORTS]
        m.d.comb += [
            Assert(unit["ready"] == ~ended),
            Assert((complete & asks) | (unit["stage_enable"] == staged)),
            Assert(~staged | (unit["stage_address"] == Cat(seen[:8], half))),
            Assert(~staged | (unit["stage_data"] == self.data)),
            Assert(effect == (ended & judged & self.enable)),
            *(
                Assert(unit[opcode.name.lower()] == (effect & right & (head.opcode == opcode)))
                for opcode in PacketOpcode
            ),
            Assert(unit["refuse"] == (effect & ~right)),
            Assert(~effect | (unit["status"] == status)),
            Assert(~(effect & right) | Cat(*named).all()),
        ]
        m.d.comb += [Assert(~judged | ended), Assert(~ended | (words != 0)), Assert(words <= HEADER_WORDS)]
        state = Mux(ended, Mux(judged, 3, Mux(counting, 2, 1)), 0)
        m.d.comb += Assert(unit["state_fsm_state"] == state)
        self._invariant(m, unit, head, words=words, seen=seen, ended=ended, counted=counted)
        asked = ended & complete & asks & (seen == 0)
        through = (counted == head.count) | (counted > PAYLOAD_WORDS)
        m.d.comb += [
            Assert(unit["state_half"] == half),
            Assert((words == 0) | (unit["state_damaged"] == ~whole)),
            Assert(~ended | complete | ~whole),
            Assert(~judged | (unit["status"] == status)),
            Assert(~judged | ~counting),
            Assert(~counting | (ended & complete & asks)),
            Assert((counted == 0) | (asked & (counted <= head.count) & (counted <= PAYLOAD_WORDS + 1))),
            Assert(~(asked & whole) | counting | through),
        ]
        return m

    def _status(self, m: Module, head: Any, seen: Value, *, checks: Value, whole: Value) -> Value:
        """What must be said of a packet that has ended."""
        p, status = self.parameters, Signal(Status)
        inside = Signal()
        loads, reads, runs = (head.opcode == opcode for opcode in _OPCODES)
        meant = Mux(reads, head.count, seen)
        with m.Switch(head.section):
            for section in sections(p):
                count, room = slices(p, section), section_depth(p, section) * slices(p, section)
                with m.Case(section):
                    end = head.address * count + head.slice + meant
                    m.d.comb += inside.eq(
                        (end <= room) & (head.slice < count) & (head.bank < section_banks(p, section))
                    )
        runnable = (
            (head.address < p.program_words)
            & (head.count <= p.cores * p.result_words)
            & (head.bank < p.banks)
        )
        some = (head.count > 0) & (head.count <= PAYLOAD_WORDS)
        payload = Mux(loads, (seen == head.count) & some, (seen == 0) & (runs | some))
        rules = (
            (~whole, Status.LENGTH),
            (~checks, Status.CHECKSUM),
            (head.build_id != p.build_id, Status.BUILD_ID),
            (~(loads | reads | runs), Status.PACKET_OPCODE),
            (~runs & (head.section >= len(sections(p))), Status.SECTION),
            (~payload, Status.LENGTH),
            (~Mux(runs, runnable, inside), Status.LOAD_RANGE),
        )
        m.d.comb += status.eq(Status.DONE)
        for applies, said in reversed(rules):
            with m.If(applies):
                m.d.comb += status.eq(said)
        return status

    def _invariant(self, m: Module, unit: dict[str, Signal], head: Any, **place: Value) -> None:
        """What the registers hold meanwhile: for the induction only."""
        words, seen, complete = place["words"], place["seen"], place["words"] == HEADER_WORDS
        held = unit["state_header"]
        for index in range(HEADER_WORDS):
            same = held.word_select(index, STREAM_WIDTH) == head.as_value().word_select(index, STREAM_WIDTH)
            m.d.comb += Assert((words <= index) | same)
        asks = head.opcode == PacketOpcode.READ
        counted = Mux(asks, place["counted"], seen)
        short = Mux(asks, seen == 0, seen <= PAYLOAD_WORDS)
        with m.Switch(head.section):
            for section in sections(self.parameters):
                count = slices(self.parameters, section)
                first = head.address * count + head.slice
                walked = unit["state_place"] * count + unit["state_place_slice"]
                tracked = complete & short & (head.slice < count) & (head.address < 1 << 23)
                with m.Case(section):
                    m.d.comb += Assert(
                        ~tracked | ((walked == first + counted) & (unit["state_place_slice"] < count))
                    )
        m.d.comb += [
            Assert(unit["state_header_words"] == Mux(place["ended"], 0, words)),
            Assert(~complete | (unit["state_payload_words"] == Mux(short, counted, PAYLOAD_WORDS + 1))),
            Assert(complete | (seen == 0)),
        ]


class Payloads(_Stream):
    """A payload is moved once, word after word, from where it starts on.

    A staged one is read at the word's place one cycle before, in the half that follows the last one's.  Of a
    section each word is there for `READ_BACK_LATENCY` cycles before it is valid, and until it is taken.
    """

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        unit = self.unit(m)
        owed, index, half, reading = Signal(9), Signal(8), Signal(), Signal()
        still = Signal(range(READ_BACK_LATENCY + 1))
        names = ("section", "bank", "address", "slice")
        place = {name: Signal.like(getattr(self, name), name=f"{name}_owed") for name in names}
        last = Signal(16)
        with m.Switch(place["section"]):
            for section in sections(self.parameters):
                with m.Case(section):
                    m.d.comb += last.eq(slices(self.parameters, section) - 1)
        written, started, busy = unit["host_write_enable"], self.start & ~unit["busy"], owed != 0
        moved = Mux(reading, busy & self.advance, written)
        m.d.comb += Assume(~started | ((self.count > 0) & (self.count <= PAYLOAD_WORDS)))
        m.d.sync += still.eq(Mux(still == READ_BACK_LATENCY, still, still + 1))
        with m.If(started):
            m.d.sync += [owed.eq(self.count), index.eq(0), reading.eq(self.reads), still.eq(0)]
            m.d.sync += [signal.eq(getattr(self, name)) for name, signal in place.items()]
        with m.Elif(moved):
            ends = place["slice"] == last
            m.d.sync += [
                owed.eq(owed - 1),
                index.eq(index + 1),
                half.eq(half ^ ((owed == 1) & ~reading)),
                still.eq(0),
                place["slice"].eq(Mux(ends, 0, place["slice"] + 1)),
                place["address"].eq(place["address"] + ends),
            ]
        read = self.last_cycle(m, unit["stage_address"])
        first = self.last_cycle(m, started)
        there = written | unit["host_read_enable"]
        m.d.comb += [
            Assert(unit["busy"] == busy),
            Assert(written == (busy & ~first & ~reading)),
            Assert(~written | (read == Cat(index, half))),
            Assert(~written | (unit["host_write_data"] == self.stage_data)),
            Assert(unit["host_read_enable"] == (busy & reading)),
            Assert(unit["word_valid"] == (busy & reading & (still == READ_BACK_LATENCY))),
            *(Assert(~there | (unit[f"host_{name}"] == signal)) for name, signal in place.items()),
        ]
        left = unit["state_left"]
        m.d.comb += [
            Assert(~busy | (left == owed - written)),
            Assert(~busy | (unit["state_reading"] == reading)),
            Assert(unit["state_index"] == Mux(busy & ~reading, (index + written)[:8], 0)),
            Assert(unit["state_half"] == half ^ (busy & (left == 0))),
            Assert(unit["state_age"] == Mux(busy & reading, still, 0)),
            Assert(~first | (busy & ~written)),
            *(Assert(~busy | (unit[f"host_{name}"] == signal)) for name, signal in place.items()),
            Assert(owed <= PAYLOAD_WORDS),
        ]
        return m


_OPCODES = (PacketOpcode.LOAD, PacketOpcode.READ, PacketOpcode.RUN)


def _result_width(description: Description) -> int:
    return RESULT.width * description["parameters"]["requantizers"]


def _unchanging(m: Module, value: Value) -> Value:
    """A free value that never changes."""
    before, started = Signal.like(value, reset_less=True), Signal(reset_less=True)
    m.d.sync += [before.eq(value), started.eq(1)]
    m.d.comb += Assume(~started | (value == before))
    return value


SIZE = {"rows": 2, "lanes": 2, "requantizers": 2}

CLAIMS = (
    Claim(block="responder", parameters=SIZE, specification=Held, generator=opened, says="words are held"),
    Claim(
        block="responder",
        parameters=SIZE,
        specification=Responses,
        generator=opened,
        says="every word once, in order",
        steps=4,
    ),
    Claim(
        block="packet_reader",
        parameters=SIZE,
        specification=Packets,
        generator=opened,
        says="every packet one effect, the right one",
        steps=4,
    ),
    Claim(
        block="payload_mover",
        parameters=SIZE,
        specification=Payloads,
        generator=opened,
        says="every word once, in order",
        steps=4,
    ),
)

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
    RESULT,
    STREAM_WIDTH,
    PacketOpcode,
    Section,
    section_depth,
    slices,
)
from hdl.parameters import AcceleratorParameters

from ..claim import Claim, Description
from ..specification import delayed, instance
from ..state import with_state

HEADER_WORDS = PACKET_HEADER.size // STREAM_WIDTH


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

    The watched result word stands for every one.  Between two words there is at most one cycle without a
    word, so that no response stays away.
    """

    def __init__(self, description: Description) -> None:
        super().__init__(description, watched=In(24), contents=In(_result_width(description)))

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        lanes = self.parameters.requantizers
        unit = self.unit(m)
        watched, contents = (_unchanging(m, value) for value in (self.watched, self.contents))
        read = delayed(m, unit["result_address"], cycles=1, reset_less=True) == watched
        m.d.comb += Assume(~read | (self.result == contents))

        status, cycles, count = (Signal.like(port) for port in (self.status, self.cycles, self.count))
        owed, results, address, lane = Signal(), Signal(), Signal(24), Signal(range(lanes))
        cycles_next = Signal()
        last = Mux(results, (lane == lanes - 1) & (address == count - 1), cycles_next & (count == 0))
        taken = unit["valid"] & self.ready
        with m.If(~unit["busy"] & self.start):
            m.d.sync += [status.eq(self.status), cycles.eq(self.cycles), count.eq(self.count)]
            m.d.sync += [owed.eq(1), results.eq(0), cycles_next.eq(0), address.eq(0), lane.eq(0)]
        with m.Elif(taken):
            m.d.sync += [owed.eq(~last), cycles_next.eq(~results & ~cycles_next)]
            m.d.sync += results.eq(results | cycles_next)
            with m.If(results):
                m.d.sync += lane.eq(Mux(lane == lanes - 1, 0, lane + 1))
                m.d.sync += address.eq(address + (lane == lanes - 1))

        result = contents.word_select(lane, RESULT.width)
        expected = Mux(results, result, Mux(cycles_next, cycles, status))
        pause = self.last_cycle(m, unit["busy"] & ~unit["valid"])
        m.d.comb += [
            Assert(~unit["valid"] | owed),
            Assert(~owed | unit["busy"]),
            Assert(~unit["valid"] | (unit["last"] == last)),
            Assert(~unit["valid"] | (results & (address != watched)) | (unit["data"] == expected)),
            Assert(~pause | unit["valid"] | ~unit["busy"]),
        ]
        self._invariant(m, unit, [status, cycles, count], results=results, address=address, lane=lane)
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
        names = ("held_status", "held_cycles", "held_count")
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
    """Every word of a packet has its one effect, and every packet at most one answer.

    The payload of a LOAD whose header is right is written word for word, each where it belongs; all other
    packets write nothing.  A LOAD of the right length has no answer.  All other packets have one as soon as
    they end, before the next word is taken: `run` to a right RUN, else `refused`.
    """

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        unit = self.unit(m)
        head, words = Signal(PACKET_HEADER), Signal(range(HEADER_WORDS + 1))
        owed, checking, short = Signal(), Signal(), Signal()
        index, part = Signal(STREAM_WIDTH), Signal(8)
        is_load, may_run, last_part = self._judged(m, head)
        is_run = may_run & short
        complete, taken = words == HEADER_WORDS, self.valid & unit["ready"]
        answered = unit["run"] | unit["refused"]
        written = taken & complete & is_load & (index != head.count)
        ends = (part == last_part) & (index == head.count - 1)

        m.d.sync += checking.eq(taken & (words == HEADER_WORDS - 1))
        with m.If(taken & ~complete):
            m.d.sync += short.eq(self.last)
        with m.If(taken):
            m.d.sync += owed.eq(self.last & ~(written & ends))
            with m.If(~complete):
                m.d.sync += words.eq(words + 1)
                m.d.sync += head.as_value().word_select(words, STREAM_WIDTH).eq(self.data)
            with m.If(written):
                m.d.sync += part.eq(Mux(part == last_part, 0, part + 1))
                m.d.sync += index.eq(index + (part == last_part))
        with m.If(answered | (taken & self.last & written & ends)):
            m.d.sync += [owed.eq(0), words.eq(0), index.eq(0), part.eq(0)]

        late = self.last_cycle(m, owed & ~answered)
        place = [
            unit["write_section"] == head.section,
            unit["write_address"] == (head.address + index)[:24],
            unit["write_slice"] == part,
            unit["write_data"] == self.data,
        ]
        asked = (unit["address"] == head.address[:24]) & (unit["count"] == head.count[:24])
        m.d.comb += [
            Assert(unit["write_enable"] == written),
            Assert(~written | Cat(*place).all()),
            Assert(~answered | owed),
            Assert(~(unit["run"] & unit["refused"])),
            Assert(~answered | (unit["run"] == (complete & is_run))),
            Assert(~unit["run"] | asked),
            Assert(~(owed & late) | answered),
            Assert(unit["ready"] == Mux(complete, ~checking & ~owed, ~owed & self.enable)),
        ]
        loading = complete & ~checking & ~owed & is_load & (index != head.count)
        state = Mux(complete, Mux(checking, 1, Mux(owed, 2, Mux(loading, 4, 3))), Mux(owed, 2, 0))
        self._invariant(m, unit, head, words, state=state, index=index, part=part)
        m.d.comb += [
            Assert(words <= HEADER_WORDS),
            Assert(~checking | (complete & (index == 0) & (part == 0))),
            Assert(~(complete & ~owed & ~checking) | ~is_load | (index <= head.count)),
            Assert(~loading | (part <= last_part)),
            Assert(complete | ((index == 0) & (part == 0))),
            Assert(~checking | ((unit["state_ended"] == owed) & (short == owed))),
            Assert(~(complete & owed & ~checking) | ~is_run),
            Assert(loading | (part == 0) | owed),
        ]
        return m

    def _judged(self, m: Module, head: Any) -> tuple[Value, Value, Value]:
        """Whether a header is that of a right LOAD or RUN, and the last slice of a word of its section."""
        p = self.parameters
        depth, last_part = Signal(STREAM_WIDTH + 1), Signal(8)
        with m.Switch(head.section):
            for section in Section:
                with m.Case(section):
                    m.d.comb += [depth.eq(section_depth(p, section)), last_part.eq(slices(p, section) - 1)]
        here = head.build_id == p.build_id
        fits = (head.address + head.count <= depth) & (head.section < len(Section)) & (head.count != 0)
        in_program = (head.address < p.program_words) & (head.count <= p.cores * p.result_words)
        return (
            here & (head.opcode == PacketOpcode.LOAD) & fits,
            here & (head.opcode == PacketOpcode.RUN) & in_program,
            last_part,
        )

    def _invariant(self, m: Module, unit: dict[str, Signal], head: Any, words: Value, **place: Value) -> None:
        """What the registers hold meanwhile: for the induction only."""
        state, index = place["state"], place["index"]
        held = PACKET_HEADER(unit["state_header"])
        for count in range(1, HEADER_WORDS):
            first = unit["state_header"][(HEADER_WORDS - count) * STREAM_WIDTH :]
            same = first == head.as_value()[: count * STREAM_WIDTH]
            m.d.comb += Assert((words != count) | (state != 0) | same)
        m.d.comb += [
            Assert(unit["state_fsm_state"] == state),
            Assert(unit["state_header_words"] == Mux(state == 0, words, 0)),
            Assert((state != 1) | (unit["state_header"] == head.as_value())),
            Assert(unit["state_position"] == Mux(state == 4, place["part"], 0)),
            Assert((state != 4) | (held.section == head.section)),
            Assert((state != 4) | (held.address == (head.address + index)[:STREAM_WIDTH])),
            Assert((state != 4) | (held.count == (head.count - index)[:STREAM_WIDTH])),
        ]


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
        says="every word once, every packet one answer at most",
        steps=4,
    ),
)

"""The host's way to the engine's memories: which of them it means, and what it reads back of them."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .layouts import (
    BANK_WIDTH,
    SLICE_WIDTH,
    STREAM_WIDTH,
    Section,
    section_banks,
    sections,
    slice_width,
    slices,
)
from .parameters import ADDRESS_WIDTH, AcceleratorParameters, address_width

HOST = wiring.Signature(
    {
        "section": Out(8),
        "bank": Out(BANK_WIDTH),
        "address": Out(ADDRESS_WIDTH),
        "slice": Out(SLICE_WIDTH),
        "write_enable": Out(1),
        "write_data": Out(STREAM_WIDTH),
        "read_enable": Out(1),
        "read_data": In(STREAM_WIDTH),
    }
)
"""Access to the engine's memories, seen from the host.

``section``, ``bank``, ``address`` and ``slice`` say where.  With ``write_enable`` the slice is written, one
cycle after it is offered.  With ``read_enable`` it is read: ``read_data`` is the slice once all this has
stood still for ``READ_BACK_LATENCY`` cycles.  Never both; a write that falls into a run is lost, and what is
read then means nothing.
"""


class HostPort:
    """One register between the host and all memories, whose ports are many and far apart.

    What is read back comes from registers that stand behind memories anyway.  While the engine does not run,
    all slices in them are 0 but the one that the host means, so it is all of them together.

    Parameters
    ----------
    m : Module
    host : HOST
        As whoever has the memories sees it.
    busy : Value
        The engine runs.
    parameters : AcceleratorParameters

    Members
    -------
    bank, address, data : Signal
        Registered.
    reading : Signal
        Memories get the host's address.
    memories_read : Value
        The engine or the host reads memories.
    writing : Signal
        The host writes.  Never while memories are read: yosys then need not preserve the old word of a
        collision.
    """

    def __init__(
        self, m: Module, host: wiring.PureInterface, *, busy: Value, parameters: AcceleratorParameters
    ) -> None:
        self._m, self._host, self._parameters, self._busy = m, host, parameters, busy
        held = sections(parameters)
        banks = max(section_banks(parameters, each) for each in held)
        self.bank = Signal(address_width(banks), name="registered_bank")
        self.address = Signal(ADDRESS_WIDTH, name="registered_address")
        self.data = Signal(STREAM_WIDTH, name="registered_data")
        self.reading = Signal(name="host_reads")
        self.writing = Signal(name="host_writes")
        self.memories_read = busy | self.reading
        self._slice = Signal(SLICE_WIDTH, name="registered_slice")
        self._selected = {each: Signal(name=f"host_{each.name.lower()}") for each in held}
        self._seen: list[Value] = []
        offered = Signal(name="write_offered")
        m.d.sync += [
            self.bank.eq(host.bank),
            self.address.eq(host.address),
            self.data.eq(host.write_data),
            self.reading.eq(host.read_enable),
            self._slice.eq(host.slice),
            offered.eq(host.write_enable),
            *(selected.eq(host.section == each) for each, selected in self._selected.items()),
        ]
        m.d.comb += self.writing.eq(offered & ~self.memories_read)

    def meant(self, section: Section) -> Value:
        """For each slice of a section's words, whether the host means it."""
        selected = self._selected[section]
        return Cat(selected & (self._slice == i) for i in range(slices(self._parameters, section)))

    def alone(self, section: Section, word: Value, *, meant: Value) -> Value:
        """A section's word as its register takes it: whole in a run, else only the slices that are meant."""
        if not self._parameters.read_back:
            return word
        cleared = Signal.like(meant, name=f"cleared_{section.name.lower()}")
        self._m.d.sync += cleared.eq(~(meant | self._busy.replicate(len(meant))))
        parts = zip(cleared, self._parts(section, word), strict=True)
        return Cat(Mux(clear, 0, part) for clear, part in parts)

    def show(self, section: Section, register: Value) -> None:
        """Let the host read what a register holds that takes `alone`."""
        self._seen += self._parts(section, register)

    def connect(self) -> None:
        """Answer with all that is shown; once, when everything is."""
        if self._parameters.read_back:
            self._m.d.comb += self._host.read_data.eq(_together(self._seen))

    def _parts(self, section: Section, word: Value) -> list[Value]:
        width = slice_width(self._parameters, section)
        return [word[start : start + width] for start in range(0, len(word), width)]


def _together(words: Sequence[Value]) -> Value:
    """All words in one, by a tree."""
    if len(words) == 1:
        return words[0]
    half = len(words) // 2
    return _together(words[:half]) | _together(words[half:])

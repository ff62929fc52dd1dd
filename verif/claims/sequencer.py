"""The sequencer: every program ends, and no part of a command takes longer than it may.

While the sequencer is busy, a measure grows in every cycle: the program's pointer, then the phase of the
command, then the walk through its loops.  It has finitely many values, so every program ends, be it legal
or not, whatever the program memory answers.
"""

from typing import Any

from amaranth.hdl import Assert, Cat, Const, Module, Mux, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from gen.parts import sequencer
from gen.verilog import Design
from hdl.layouts import LAYER, LAYER_WORDS, PASS, STREAM_WIDTH
from hdl.parameters import ADDRESS_WIDTH, FETCH_LATENCY, AcceleratorParameters

from ..claim import Claim, Description
from ..specification import delayed, instance
from ..state import with_state

STATES = ("IDLE", "FETCH", "CHECK", "STOP", "PASSES", "WALK", "CODEBOOK", "DRAIN")
"""By number; one without codebooks has no state for them."""
LOOPS = {
    "column": "kernel_width",
    "row": "kernel_height",
    "pass": "passes",
    "x": "output_width",
    "y": "output_height",
    "tile": "tiles",
}
"""Loops and their limits, but the innermost, whose limit is of the pass."""


def opened(_block: str, **parameters: Any) -> Design:
    """A sequencer with its state as outputs too."""
    return with_state(sequencer(AcceleratorParameters(**parameters)))


class Ends(wiring.Component):
    """Every run ends, with `done`; the sequencer is never longer in a state than a command may be."""

    def __init__(self, description: Description) -> None:
        self._description = description
        self._parameters = p = AcceleratorParameters(**description["parameters"])
        self._states = [state for state in STATES if state != "CODEBOOK" or p.codebooks]
        super().__init__(
            {"start": In(1), "program_start": In(ADDRESS_WIDTH), "program_data": In(STREAM_WIDTH)}
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        inputs = {name: getattr(self, name) for name in ("start", "program_start", "program_data")}
        self._unit = unit = instance(m, self._description, **inputs)
        self._layer = LAYER(unit["layer"])
        self._count = unit["state_count"]
        busy, done = unit["busy"], unit["done"]
        measure = self._measure()
        was_busy, was_done = (delayed(m, each, cycles=1) for each in (busy, done))
        before = delayed(m, measure, cycles=1)
        m.d.comb += [
            Assert(~(was_busy & busy) | (measure > before)),
            Assert(~was_busy | (busy == ~was_done)),
            Assert(~done | busy),
        ]
        self._bound_states(m)
        self._follow_pointer(m)
        self._follow_walk(m)
        return m

    def _in(self, *states: str) -> Value:
        return Cat(self._unit["state_fsm_state"] == self._states.index(each) for each in states).any()

    def _measure(self) -> Value:
        """What grows; at one pointer, the phases come in this order."""
        count = self._count
        phases = [
            self._in("FETCH") & (count >= LAYER_WORDS),
            self._in("CHECK"),
            self._in("PASSES") & (count < self._layer.passes),
            self._in("PASSES") & (count >= self._layer.passes),
            *([self._in("CODEBOOK")] if self._parameters.codebooks else []),
            self._in("WALK"),
            self._in("DRAIN"),
            self._in("FETCH") & (count < LAYER_WORDS),
            self._in("STOP"),
        ]
        phase: Value = Const(0, 4)
        for number, here in enumerate(phases):
            phase = Mux(here, number, phase)
        loops = Cat(self._unit[f"state_walker_{name}_count"] for name in ("word", *LOOPS))
        walk = ~Cat(self._remaining, loops)
        place = Mux(self._in("WALK"), walk, count)
        return Cat(place, phase[:4], self._unit["state_pointer"])

    @property
    def _remaining(self) -> Value:
        """Cycles that a pass must still take before it may end."""
        return self._unit.get("state_walker_remaining", Const(0, 1))

    def _bound_states(self, m: Module) -> None:
        """How long fetching, loading passes, and waiting for the last output may take."""
        p, count = self._parameters, self._count
        m.d.comb += [
            Assert(self._unit["state_fsm_state"] < len(self._states)),
            Assert(~self._in("FETCH") | (count < LAYER_WORDS + FETCH_LATENCY)),
            Assert(~self._in("PASSES") | (count < self._layer.passes + FETCH_LATENCY)),
            Assert(~self._in("DRAIN", "STOP") | (count < p.drain)),
            *([Assert(~self._in("CODEBOOK") | (count < p.codebook_cycles))] if p.codebooks else []),
            Assert(self._remaining < p.groups),
        ]

    def _follow_pointer(self, m: Module) -> None:
        """It stays within the program once a command is good, and never wraps."""
        p, count = self._parameters, self._count
        pointer, passes = self._unit["state_pointer"], self._layer.passes
        fetched = Mux(count < LAYER_WORDS, count, LAYER_WORDS)
        loaded = Mux(count < passes, count, passes)
        m.d.comb += [
            Assert(~self._in("FETCH") | (pointer < (1 << ADDRESS_WIDTH) + fetched)),
            Assert(~self._in("CHECK") | (pointer < (1 << ADDRESS_WIDTH) + LAYER_WORDS)),
            Assert(~self._in("PASSES") | (pointer + passes <= p.program_words + loaded)),
            Assert(self._in("IDLE", "FETCH", "CHECK", "STOP", "PASSES") | (pointer <= p.program_words)),
        ]

    def _follow_walk(self, m: Module) -> None:
        """Loops run down from their limits, which are not 0, and know their last turns."""
        p, count, layer, unit = self._parameters, self._count, self._layer, self._unit
        passes, walks = self._in("PASSES"), self._in("WALK", *(["CODEBOOK"] if p.codebooks else []))
        walked = walks | passes & (count > FETCH_LATENCY)
        index, turns = unit.get("state_walker_pass_index", Const(0, 1)), unit["state_walker_pass_count"]
        m.d.comb += [
            Assert(~(passes | walks) | (layer.passes <= p.passes)),
            Assert(~walked | (PASS(unit["state_walker_current"]).count != 0)),
            Assert(~walked | (turns <= layer.passes)),
            Assert(~walked | (index == Mux(turns == 1, 0, layer.passes - turns + 1))),
            Assert(~walked | (unit.get("state_walker_enough", Const(1)) == (self._remaining == 0))),
        ]
        for name in ("word", *LOOPS):
            left, last = unit[f"state_walker_{name}_count"], unit[f"state_walker_{name}_last"]
            m.d.comb += Assert(~walked | ((left != 0) & (last == (left == 1))))
        for limit in LOOPS.values():
            m.d.comb += Assert(~(passes | walks) | (layer[limit] != 0))
        for number in range(p.passes):
            steps = PASS(unit[f"state_passes_{number}"]).count
            held = walks & (number < layer.passes) | passes & (number + FETCH_LATENCY < count)
            m.d.comb += Assert(~held | (steps != 0))


CLAIMS = tuple(
    Claim(
        block="sequencer",
        parameters={"rows": 4, "lanes": 2, "requantizers": 2, "passes": 3, **more},
        specification=Ends,
        generator=opened,
        says="every program ends",
        steps=2,
    )
    for more in ({}, {"value_words": 8}, {"weight_format": "uniform_b4", "codebooks": 3, "index_width": 2})
)

"""Walker: the nested loops of one layer, as counters and addresses that move by additions only."""

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .layouts import LAYER, PASS
from .parameters import ADDRESS_WIDTH, COORDINATE_WIDTH, PASS_SHIFT_WIDTH, AcceleratorParameters


def step_layout(parameters: AcceleratorParameters) -> data.StructLayout:
    """One step of a layer: what the memories read, and, with the last step of a pass, what becomes of it.

    Addresses are as wide as in a command, so that they can be checked.
    """
    value_width = ADDRESS_WIDTH if parameters.value_words else 0
    return data.StructLayout(
        {
            "valid": 1,
            "inside": 1,
            "first": 1,
            "last": 1,
            "opening": 1,
            "closing": 1,
            "table": (parameters.tables - 1).bit_length(),
            "shift": PASS_SHIFT_WIDTH,
            "input": ADDRESS_WIDTH,
            "weights": ADDRESS_WIDTH,
            "channels": ADDRESS_WIDTH,
            "output": ADDRESS_WIDTH,
            "values": value_width,
            "residual": value_width,
        }
    )


class Walker(wiring.Component):
    """Walks a layer: output tile, output row, output pixel, pass, kernel row, kernel column, word.

    One step a cycle while `run`, except that the last step of a pass waits until the pass has taken
    ``groups`` cycles.  A layer thus takes ``tiles · pixels · Σ_pass max(steps, groups)`` cycles, where a
    pass has ``kernel height · kernel width · count`` steps.

    Parameters
    ----------
    parameters : AcceleratorParameters

    Members
    -------
    layer : In(LAYER)
        Held from `load` on, while the layer runs; no dimension is zero.
    pass_index : Out
        The pass that comes next, the first one after the last.
    upcoming : In(PASS)
        That pass, in the same cycle; with `load` the layer's first one.
    load : In(1)
        Return to the layer's first step.
    run : In(1)
    finished : Out(1)
        High in the cycle of the layer's last step.
    step : Out(step_layout)
        Registered: one cycle behind the walk.
    """

    def __init__(self, *, parameters: AcceleratorParameters) -> None:
        self._parameters = parameters
        super().__init__(
            {
                "layer": In(LAYER),
                "pass_index": Out(range(parameters.passes)),
                "upcoming": In(PASS),
                "load": In(1),
                "run": In(1),
                "finished": Out(1),
                "step": Out(step_layout(parameters)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        layer = self.layer
        self._current = current = Signal(PASS)
        words = _Loop("word", limit=current.count)
        passes = _Loop("pass", limit=layer.passes)
        loops = [
            words,
            _Loop("column", limit=layer.kernel_width),
            _Loop("row", limit=layer.kernel_height),
            passes,
            _Loop("x", limit=layer.output_width),
            _Loop("y", limit=layer.output_height),
            _Loop("tile", limit=layer.tiles),
        ]
        advance = Signal()
        ends = _ends(m, loops)
        self._words_end, self._row_end, self._pass_end, self._pixel_end = ends[:4]
        self._line_end, self._map_end, layer_end = ends[4:]
        waiting = self._stretch_passes(m, advance)
        m.d.comb += advance.eq(self.run & ~waiting)
        m.d.comb += self.finished.eq(advance & layer_end)

        with m.If(self.load):
            m.d.sync += [loop.restarted() for loop in loops]
        with m.Elif(advance):
            _count(m, loops, ends)
        with m.If(self.load | (advance & self._pass_end)):
            m.d.sync += [current.eq(self.upcoming), words.restarted(self.upcoming.count)]
        self._look_ahead(m, advance, passes)

        tap = self._walk_input(m, advance)
        inside = self._walk_coordinates(m, advance)
        self._emit(m, advance, tap=tap, inside=inside)
        return m

    def _look_ahead(self, m: Module, advance: Value, passes: "_Loop") -> None:
        """Follow the pass that comes next, whose record then need not be waited for."""
        with m.If(self.load):
            m.d.sync += self.pass_index.eq(self.layer.passes != 1)
        with m.Elif(advance & self._pass_end & (self.layer.passes != 1)):
            m.d.sync += self.pass_index.eq(Mux(passes.next_is_last, 0, self.pass_index + 1))

    def _stretch_passes(self, m: Module, advance: Value) -> Value:
        """Hold back the last step of a pass that is shorter than the requantizers need."""
        groups = self._parameters.groups
        remaining = Signal(range(groups), init=groups - 1)
        enough = Signal(init=groups == 1)
        with m.If(self.load | (advance & self._pass_end)):
            m.d.sync += [remaining.eq(groups - 1), enough.eq(groups == 1)]
        with m.Elif(self.run & ~enough):
            m.d.sync += [remaining.eq(remaining - 1), enough.eq(remaining == 1)]
        return self._pass_end & ~enough

    def _walk_input(self, m: Module, advance: Value) -> Value:
        """Address of the current kernel tap's first word."""
        return self._nested(
            m,
            advance,
            start=self.layer.origin,
            tile_step=self.layer.tile_step,
            line_step=self.layer.row_step,
            pixel_step=self.layer.pixel_step,
            row_step=self.layer.row_pitch,
            column_step=self.layer.pixel_pitch,
            name="address",
        )

    def _walk_coordinates(self, m: Module, advance: Value) -> Value:
        """Whether the current kernel tap lies inside the input; coordinates wrap below zero."""
        start = Signal(COORDINATE_WIDTH)
        m.d.comb += start.eq(-self.layer.padding)
        stride = self.layer.stride
        vertical = self._nested(
            m, advance, start=start, line_step=stride, pixel_step=0, row_step=1, column_step=0, name="in_y"
        )
        horizontal = self._nested(
            m,
            advance,
            start=start,
            line_step=None,
            pixel_step=stride,
            row_step=None,
            column_step=1,
            name="in_x",
        )
        return (vertical < self.layer.input_height) & (horizontal < self.layer.input_width)

    def _nested(
        self,
        m: Module,
        advance: Value,
        *,
        start: Value,
        tile_step: Value | None = None,
        line_step: Value | int | None,
        pixel_step: Value | int,
        row_step: Value | int | None,
        column_step: Value | int,
        name: str,
    ) -> Signal:
        """A quantity that moves by a step per output tile, output line and pixel, kernel row and column.

        A step of None returns to the value at the beginning of the enclosing loop.
        """
        if tile_step is not None:
            tile, first = Signal.like(start, name=f"{name}_tile"), start
            start = Signal.like(start, name=f"{name}_start")
            m.d.comb += start.eq(Mux(self.load, first, tile + tile_step))
            with m.If(self.load | (advance & self._map_end)):
                m.d.sync += tile.eq(start)
        line, pixel, kernel_row, tap = (
            Signal(start.shape(), name=f"{name}_{part}") for part in ("line", "pixel", "row", "tap")
        )
        next_line = Mux(self._map_end, start, start if line_step is None else line + line_step)
        next_pixel = Mux(self._line_end, next_line, pixel + pixel_step)
        first_row = Mux(self._pixel_end, next_pixel, pixel)
        next_row = kernel_row if row_step is None else kernel_row + row_step
        with m.If(self.load):
            m.d.sync += [signal.eq(start) for signal in (line, pixel, kernel_row, tap)]
        with m.Elif(advance):
            with m.If(self._line_end):
                m.d.sync += line.eq(next_line)
            with m.If(self._pixel_end):
                m.d.sync += pixel.eq(next_pixel)
            with m.If(self._pass_end):
                m.d.sync += [kernel_row.eq(first_row), tap.eq(first_row)]
            with m.Elif(self._row_end):
                m.d.sync += [kernel_row.eq(next_row), tap.eq(next_row)]
            with m.Elif(self._words_end):
                m.d.sync += tap.eq(tap + column_step)
        return tap

    def _emit(self, m: Module, advance: Value, *, tap: Value, inside: Value) -> None:
        layer, groups = self.layer, self._parameters.groups
        current = self._current
        position = Signal(len(current.offset) + 1)  # the end of a pass may be the end of its field
        with m.If(self.load | (advance & self._pass_end)):
            m.d.sync += position.eq(self.upcoming.offset)
        with m.Elif(advance):
            m.d.sync += position.eq(Mux(self._words_end, current.offset, position + 1))
        first, opening = Signal(), Signal()
        with m.If(self.load | advance):
            m.d.sync += first.eq(self.load | self._pass_end)
        with m.If(self.load | (advance & self._pass_end)):
            m.d.sync += opening.eq(self.load | self._pixel_end)

        weight = self._per_tile(m, start=layer.weights, step=1, moves=advance, name="weight")
        passes = advance & self._pass_end
        channels = self._per_tile(m, start=layer.channels, step=groups, moves=passes, name="channel")
        places = {"output": (layer.output, layer.output_pitch)}
        if self._parameters.value_words:
            places["values"] = (layer.values, layer.values_pitch)
            places["residual"] = (layer.residual, layer.residual_pitch)
        for name, (start, pitch) in places.items():
            place = self._walk_output(m, advance, start=start, pitch=pitch, name=name)
            m.d.sync += self.step[name].eq(place)
        m.d.sync += [
            self.step.valid.eq(advance),
            self.step.inside.eq(inside),
            self.step.first.eq(first),
            self.step.last.eq(self._pass_end),
            self.step.table.eq(current.table),
            self.step.input.eq(tap + position),
            self.step.weights.eq(weight),
            self.step.opening.eq(opening),
            self.step.closing.eq(self._pixel_end),
            self.step.shift.eq(current.shift),
            self.step.channels.eq(channels),
        ]

    def _per_tile(self, m: Module, *, start: Value, step: int, moves: Value, name: str) -> Signal:
        """An address that runs through a tile's words, again for every pixel, then on to the next tile."""
        tile, current = Signal.like(start, name=f"{name}_tile"), Signal.like(start, name=f"{name}_address")
        with m.If(self.load):
            m.d.sync += [tile.eq(start), current.eq(start)]
        with m.Elif(moves):
            m.d.sync += current.eq(current + step)
            with m.If(self._map_end):
                m.d.sync += tile.eq(current + step)
            with m.Elif(self._pixel_end):
                m.d.sync += current.eq(tile)
        return current

    def _walk_output(self, m: Module, advance: Value, *, start: Value, pitch: Value, name: str) -> Signal:
        """Address of the current pixel's first group in the current tile."""
        groups = self._parameters.groups
        tile, pixel = (Signal.like(start, name=f"{name}_{part}") for part in ("tile", "pixel"))
        with m.If(self.load):
            m.d.sync += [tile.eq(start), pixel.eq(start)]
        with m.Elif(advance & self._map_end):
            m.d.sync += [tile.eq(tile + groups), pixel.eq(tile + groups)]
        with m.Elif(advance & self._pixel_end):
            m.d.sync += pixel.eq(pixel + pitch)
        return pixel


class _Loop:
    """A loop counter that runs down from its limit to 1, where `last` is known beforehand."""

    def __init__(self, name: str, *, limit: Value) -> None:
        self.count = Signal.like(limit, name=f"{name}_count")
        self.last = Signal(name=f"{name}_last")
        self.next_is_last = self.count == 2
        self._limit = limit

    def restarted(self, limit: Value | None = None) -> list[Any]:
        """Back to the first turn, of its own limit or of another."""
        limit = self._limit if limit is None else limit
        return [self.count.eq(limit), self.last.eq(limit == 1)]

    def turned(self) -> list[Any]:
        """On to the next turn, which there must be."""
        return [self.count.eq(self.count - 1), self.last.eq(self.next_is_last)]


def _ends(m: Module, loops: list[_Loop]) -> list[Signal]:
    """For each loop, innermost first, whether it and all inside it are at their last turn."""
    ends = [loops[0].last]
    for loop in loops[1:]:
        end = Signal(name=f"{loop.count.name}_end")
        m.d.comb += end.eq(loop.last & ends[-1])
        ends.append(end)
    return ends


def _count(m: Module, loops: list[_Loop], ends: list[Signal]) -> None:
    """Advance the innermost loop, and each outer one whose inner ones all end."""
    for loop, inner in zip(loops, [Const(1), *ends], strict=False):
        with m.If(inner & loop.last):
            m.d.sync += loop.restarted()
        with m.Elif(inner):
            m.d.sync += loop.turned()

"""Requantizer: combines the passes of a pixel, scales, shifts and encodes, a group of channels a cycle."""

from amaranth.hdl import Module, Mux, Shape, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .dot import delayed
from .encoder import LoadableEncoder
from .layouts import PASS_SHIFT_WIDTH, RESULT, VALUE, channel_word, result_word
from .parameters import ADDRESS_WIDTH, SHIFT_WIDTH, VALUE_WIDTH, AcceleratorParameters

FINE_BITS = 3


def pass_tag(parameters: AcceleratorParameters) -> data.StructLayout:
    """What travels with the last step of a pass: the place of its channels and of its output."""
    return data.StructLayout(
        {
            "active": 1,
            "opening": 1,
            "closing": 1,
            "to_codes": 1,
            "to_results": 1,
            "shift": PASS_SHIFT_WIDTH,
            "encoding": (parameters.encodings - 1).bit_length(),
            "channels": ADDRESS_WIDTH,
            "output": ADDRESS_WIDTH,
        }
    )


class Requantizer(wiring.Component):
    """Forms ``y = (Σ_pass (multiplier · accumulator · 2^place + bias)) >> shift`` for all rows of a pixel.

    `start` captures the accumulators at the end of a pass; in the following ``groups`` cycles they are
    scaled, a group of `requantizers` at a time, and added to the sums of the pixel's earlier passes.
    After the closing pass the sum is shifted down (floor), saturated and written out: as codes, or as
    results.  `start` may come again after ``groups`` cycles at the earliest, and the last write happens
    `latency` cycles after `start`.

    Parameters
    ----------
    parameters : AcceleratorParameters
    accumulator_shape : Shape
        Of one row's accumulator.

    Members
    -------
    latency : int
    start : In(1)
    tag : In(pass_tag)
        Valid with `start`.
    accumulators : In(ArrayLayout(accumulator_shape, rows))
        Valid with `start`.
    channel_address : Out(24)
    channel : In(channel_word)
        The word at `channel_address`, one cycle later.
    code_enable, code_address, codes : Out
        Write of a group of codes; the address counts groups.
    result_enable, result_address, results : Out
        Write of a group of results.
    boundary_enable, boundary_address, boundary_data : In
        Write port of the `LoadableEncoder`.
    """

    def __init__(self, *, parameters: AcceleratorParameters, accumulator_shape: Shape) -> None:
        self._parameters = p = parameters
        self._encoder = encoder = LoadableEncoder(
            lanes=p.requantizers, code_width=p.code_width, value_width=VALUE_WIDTH, encodings=p.encodings
        )
        self.latency = p.groups + _FINISHED + encoder.latency
        codes = data.ArrayLayout(p.code_width, p.requantizers)
        super().__init__(
            {
                "start": In(1),
                "tag": In(pass_tag(p)),
                "accumulators": In(data.ArrayLayout(accumulator_shape, p.rows)),
                "channel_address": Out(ADDRESS_WIDTH),
                "channel": In(channel_word(p)),
                "code_enable": Out(1),
                "code_address": Out(ADDRESS_WIDTH),
                "codes": Out(codes),
                "result_enable": Out(1),
                "result_address": Out(ADDRESS_WIDTH),
                "results": Out(result_word(p)),
                "boundary_enable": In(1),
                "boundary_address": In(encoder.write_address.shape()),
                "boundary_data": In(VALUE),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        p = self._parameters
        tag, accumulators = self._walk_groups(m)
        stages = _Stages(m, tag)
        # Registered before they are multiplied, so that neither a memory's output nor the shift by the
        # digit's place lengthens the multiplier's path.
        channels = data.View(channel_word(p), delayed(m, self.channel.as_value(), cycles=1))
        totals = []
        for lane, accumulator in enumerate(accumulators):
            placed = Signal(_widened(accumulator.shape()), name=f"placed{lane}")
            m.d.sync += placed.eq(accumulator << stages.at(1).shift)
            total = self._sum_passes(m, placed, channels[lane], stages, lane=lane)
            shift = delayed(m, channels[lane].shift, cycles=_SUMMED - _SCALED)
            totals.append(_shifted(m, total, shift, lane=lane))
        self._write_out(m, totals, stages)
        return m

    def _walk_groups(self, m: Module) -> tuple[data.View, list[Value]]:
        """Capture all rows, then shift them past group by group; returns each cycle's tag and group.

        The tag is valid in the cycle of the channel address, the group's accumulators one cycle later.
        """
        p = self._parameters
        captured = Signal.like(self.accumulators)
        position = Signal(range(p.groups))
        place, current = Signal(self.tag.shape()), Signal(self.tag.shape())
        active = self.start | (position != 0)
        m.d.comb += current.eq(Mux(self.start, self.tag, place))
        m.d.comb += current.active.eq(active)
        m.d.comb += self.channel_address.eq(current.channels)
        with m.If(self.start):
            m.d.sync += captured.eq(self.accumulators)
        with m.Else():
            m.d.sync += captured.eq(captured.as_value().shift_right(captured.shape().size // p.groups))
        with m.If(active):
            m.d.sync += position.eq(Mux(position == p.groups - 1, 0, position + 1))
            m.d.sync += place.eq(current)
            m.d.sync += place.channels.eq(current.channels + 1)
            m.d.sync += place.output.eq(current.output + 1)
        return current, [captured[lane] for lane in range(p.requantizers)]

    def _sum_passes(
        self, m: Module, accumulator: Value, channel: data.View, stages: "_Stages", *, lane: int
    ) -> Signal:
        """Three stages: multiply, add the bias, add the pixel's earlier passes."""
        p = self._parameters
        product, scaled, total, *ring = (
            Signal(signed(p.sum_width), name=f"{name}{lane}")
            for name in ("product", "scaled", "total", *(f"earlier{i}_" for i in range(p.groups)))
        )
        m.d.sync += product.eq(accumulator * channel.multiplier)
        m.d.sync += scaled.eq(product + delayed(m, channel.bias, cycles=1))
        tag = stages.at(_SUMMED - 1)
        added = Mux(tag.opening, 0, ring[-1]) + scaled
        with m.If(tag.active):
            m.d.sync += total.eq(added)
            m.d.sync += [new.eq(old) for new, old in zip(ring, [added, *ring], strict=False)]
        return total

    def _write_out(self, m: Module, totals: list[Signal], stages: "_Stages") -> None:
        m.submodules.encoder = encoder = self._encoder
        finished, encoded = stages.at(_FINISHED), stages.at(_FINISHED + encoder.latency)
        for lane, total in enumerate(totals):
            m.d.comb += encoder.values[lane].eq(_saturated(total, VALUE))
            m.d.comb += self.results[lane].eq(_saturated(total, RESULT))
        m.d.comb += [
            encoder.write_enable.eq(self.boundary_enable),
            encoder.write_address.eq(self.boundary_address),
            encoder.write_data.eq(self.boundary_data),
            encoder.encoding.eq(finished.encoding),
            self.result_enable.eq(finished.active & finished.closing & finished.to_results),
            self.result_address.eq(finished.output),
            self.code_enable.eq(encoded.active & encoded.closing & encoded.to_codes),
            self.code_address.eq(encoded.output),
            self.codes.eq(encoder.codes),
        ]


_SCALED = 2
"""Cycles from a group's channel address until its channels and shifted accumulators are registered."""
_SUMMED = 5
"""… until its sum over the passes is registered."""
_FINISHED = 7
"""… until that is shifted down."""


class _Stages:
    """The tag of each group, as it stands in every stage of the pipeline."""

    def __init__(self, m: Module, tag: data.View) -> None:
        self._m = m
        self._tags = [tag]

    def at(self, cycles: int) -> data.View:
        """The tag, `cycles` after the group's channel address."""
        while len(self._tags) <= cycles:
            stage = Signal(self._tags[-1].shape(), name=f"tag{len(self._tags)}")
            self._m.d.sync += stage.eq(self._tags[-1])
            self._tags.append(stage)
        return self._tags[cycles]


def _widened(shape: Shape) -> Shape:
    """Room for a shift by any place."""
    return Shape(shape.width + 2**PASS_SHIFT_WIDTH - 1, signed=shape.signed)


def _shifted(m: Module, total: Signal, shift: Value, *, lane: int) -> Signal:
    """``total >> shift`` in two stages, saturated enough to be a result."""
    fine = Signal.like(total, name=f"fine{lane}")
    coarse = Signal.like(total, name=f"coarse{lane}")
    m.d.sync += fine.eq(total >> shift[:FINE_BITS])
    rest = delayed(m, shift[FINE_BITS:], cycles=1)
    distance = Signal(SHIFT_WIDTH)
    m.d.comb += distance.eq(rest << FINE_BITS)
    m.d.sync += coarse.eq(fine >> distance)
    return coarse


def _saturated(value: Signal, shape: Shape) -> Value:
    """`value` clipped to the range of `shape`."""
    top = value[shape.width - 1 :]
    fits = (top == 0) | top.all()
    limit = Mux(value[-1], -(1 << (shape.width - 1)), (1 << (shape.width - 1)) - 1)
    return Mux(fits, value[: shape.width].as_signed(), limit)

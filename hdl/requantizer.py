"""Requantizer: combines the passes of a pixel, scales, shifts and encodes, a group of channels a cycle."""

from amaranth.hdl import Module, Mux, Shape, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .dot import delayed
from .encoder import Encoder
from .layouts import RESULT, VALUE, activation_word, channel_word, result_word
from .parameters import ADDRESS_WIDTH, SHIFT_WIDTH, AcceleratorParameters

FINE_BITS = 3


def pass_tag(parameters: AcceleratorParameters) -> data.StructLayout:
    """What travels with the last step of a pass: the place of its channels and of its output."""
    return data.StructLayout(
        {
            "opening": 1,
            "closing": 1,
            "to_results": 1,
            "encoding": (parameters.encodings - 1).bit_length(),
            "channels": ADDRESS_WIDTH,
            "output": ADDRESS_WIDTH,
        }
    )


class Requantizer(wiring.Component):
    """Forms ``y = (Σ_pass (multiplier · accumulator + bias)) >> shift`` for all rows of a pixel.

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
        Write port of the `Encoder`.
    """

    def __init__(self, *, parameters: AcceleratorParameters, accumulator_shape: Shape) -> None:
        self._parameters = p = parameters
        self._encoder = encoder = Encoder(parameters=p)
        self.latency = p.groups + _PIPELINE + encoder.latency
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
        group = _Groups(m, self)
        finished: list[Value] = []
        for lane in range(self._parameters.requantizers):
            total = self._sum_passes(m, group, lane=lane)
            finished.append(_shifted(m, total, group.shift[lane], lane=lane))
        self._write_out(m, group, finished)
        return m

    def _sum_passes(self, m: Module, group: "_Groups", *, lane: int) -> Signal:
        """Three stages: multiply, add the bias, add the earlier passes."""
        p = self._parameters
        shape = signed(p.sum_width)
        product = Signal(shape, name=f"product{lane}")
        scaled = Signal(shape, name=f"scaled{lane}")
        total = Signal(shape, name=f"total{lane}")
        m.d.sync += product.eq(group.accumulator[lane] * group.channel[lane].multiplier)
        bias = delayed(m, group.channel[lane].bias, cycles=1)
        m.d.sync += scaled.eq(product + bias)
        ring = [Signal(shape, name=f"earlier{lane}_{i}") for i in range(p.groups)]
        with m.If(group.summing):
            added = Mux(group.opening, 0, ring[-1]) + scaled
            m.d.sync += total.eq(added)
            m.d.sync += [new.eq(old) for new, old in zip(ring, [added, *ring], strict=False)]
        return total

    def _write_out(self, m: Module, group: "_Groups", finished: list[Value]) -> None:
        p = self._parameters
        m.submodules.encoder = encoder = self._encoder
        m.d.comb += [
            encoder.write_enable.eq(self.boundary_enable),
            encoder.write_address.eq(self.boundary_address),
            encoder.write_data.eq(self.boundary_data),
            encoder.encoding.eq(group.finished.encoding),
        ]
        done, tag = group.finished_closing, group.finished
        for lane in range(p.requantizers):
            m.d.comb += encoder.values[lane].eq(_saturated(finished[lane], VALUE))
            m.d.comb += self.results[lane].eq(_saturated(finished[lane], RESULT))
        m.d.comb += [
            self.result_enable.eq(done & tag.to_results),
            self.result_address.eq(tag.output),
            self.code_enable.eq(delayed(m, done & ~tag.to_results, cycles=encoder.latency)),
            self.code_address.eq(delayed(m, tag.output, cycles=encoder.latency)),
            self.codes.eq(encoder.codes),
        ]


_PIPELINE = 7
"""Cycles from a group's channel address to its finished value, plus the final write."""


class _Groups:
    """The control that walks through the groups of a pass, and its delayed copies for each stage."""

    def __init__(self, m: Module, requantizer: Requantizer) -> None:
        p = requantizer._parameters
        tag = Signal(pass_tag(p))
        m.d.comb += tag.eq(requantizer.tag)
        captured = Signal.like(requantizer.accumulators)
        position = Signal(range(p.groups))
        place = Signal.like(tag)
        current = Signal.like(tag)
        active = Signal()
        m.d.comb += active.eq(requantizer.start | (position != 0))
        m.d.comb += current.eq(Mux(requantizer.start, tag, place))
        m.d.comb += requantizer.channel_address.eq(current.channels)
        with m.If(requantizer.start):
            m.d.sync += captured.eq(requantizer.accumulators)
        with m.Else():
            span = len(captured.as_value()) // p.groups
            m.d.sync += captured.eq(captured.as_value().shift_right(span))
        with m.If(active):
            m.d.sync += position.eq(Mux(position == p.groups - 1, 0, position + 1))
            m.d.sync += place.eq(current)
            m.d.sync += place.channels.eq(current.channels + 1)
            m.d.sync += place.output.eq(current.output + 1)

        # Registered once more, so that neither the memory's output nor the shadow feeds a multiplier.
        self.accumulator = data.View(
            data.ArrayLayout(requantizer.accumulators.shape().elem_shape, p.requantizers),
            delayed(m, captured.as_value()[: len(captured.as_value()) // p.groups], cycles=1),
        )
        self.channel = data.View(channel_word(p), delayed(m, requantizer.channel.as_value(), cycles=1))
        self.summing = delayed(m, active, cycles=4)
        summed = data.View(pass_tag(p), delayed(m, current.as_value(), cycles=4))
        self.opening = summed.opening
        self.shift = [delayed(m, self.channel[lane].shift, cycles=3) for lane in range(p.requantizers)]
        self.finished = data.View(pass_tag(p), delayed(m, summed.as_value(), cycles=3))
        self.finished_closing = delayed(m, self.summing & summed.closing, cycles=3)


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


__all__ = ["Requantizer", "activation_word", "pass_tag"]

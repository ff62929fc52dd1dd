"""Requantizer: combines the passes of a pixel, scales, shifts and encodes, a group of channels a cycle."""

from amaranth.hdl import Module, Mux, Shape, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .dot import delayed
from .encoder import LoadableEncoder
from .layouts import (
    LAYER,
    RESULT,
    VALUE,
    LayerOpcode,
    channel_word,
    pooled_word,
    result_word,
    values_word,
)
from .linear import LinearEncoder
from .parameters import (
    LIMB_WIDTH,
    PASS_SHIFT_WIDTH,
    RESULT_WIDTH,
    VALUE_WIDTH,
    AcceleratorParameters,
    address_width,
)
from .scaling import limbs, saturated, shifted, weighted
from .sums import registered, weighted_sum


def pass_tag(parameters: AcceleratorParameters) -> data.StructLayout:
    """What travels with the last step of a pass: the place of its channels and of its output.

    Addresses are as wide as their memories need; whoever starts the requantizer has checked them.
    """
    p = parameters
    outputs = max(p.result_words, p.activation_words * p.groups_per_word)
    return data.StructLayout(
        {
            "active": 1,
            "opening": 1,
            "closing": 1,
            "shift": PASS_SHIFT_WIDTH,
            "channels": address_width(p.channel_words),
            "output": address_width(outputs),
            "values": address_width(p.value_words),
            "residual": address_width(p.value_words),
        }
    )


class Requantizer(wiring.Component):
    """Forms ``y = (Σ_pass (multiplier · accumulator · 2^place + bias)) >> shift`` for all rows of a pixel.

    `start` captures the accumulators at the end of a pass; in the following ``groups`` cycles they are
    scaled, a group of `requantizers` at a time, and added to the sums of the pixel's earlier passes.
    After the closing pass the sum is shifted down (floor), and the residual is added if the layer has one.
    y is saturated and written out in the forms that the layer asks for: codes, values, results.  `start`
    may come again after ``groups`` cycles at the earliest, and the last write happens `latency` cycles
    after `start`.

    Sums over passes wrap around, so that only the last one has to fit, to which the packer sees.

    A layer that pools takes its accumulators from `pooled`; places are for those of the array only.

    A layer may write its values over the residual it reads.  Groups are written in the order in which they
    are read, each a fixed number of cycles later, so nothing that is still to be read is written, and no
    word is read and written in one cycle.

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
    layer : In(LAYER)
        Held until the layer's last write.
    channel_address : Out
    channel : In(channel_word)
        The word at `channel_address`, one cycle later.
    held_channel : Out(channel_word)
        `channel`, one cycle later.
    code_enable, code_address, codes : Out
        Write of a group of codes; the address counts groups.
    result_enable, result_address, results : Out
        Write of a group of results.
    boundary_enable, boundary_address, boundary_data : In
        Write port of the `LoadableEncoder`.
    pooled : In(pooled_word)
        A group a cycle, from the cycle after `start`.  This and what follows is for values memory only.
    residual_address : Out
    residual : In(values_word)
        The word at `residual_address`, two cycles later.
    value_enable, value_address, values : Out
        Write of a group of values.
    """

    def __init__(self, *, parameters: AcceleratorParameters, accumulator_shape: Shape) -> None:
        self._parameters = p = parameters
        self._encoder = encoder = LoadableEncoder(
            lanes=p.requantizers,
            code_width=p.code_width,
            value_width=VALUE_WIDTH,
            encodings=p.banked(p.encodings),
        )
        self._summed = _SCALED + 2 + p.limbs.bit_length()
        self._finished = p.requantizer_latency
        self.latency = p.groups + self._finished + encoder.latency
        self._tag = pass_tag(p)
        super().__init__(
            {
                "start": In(1),
                "tag": In(self._tag),
                "accumulators": In(data.ArrayLayout(accumulator_shape, p.rows)),
                "layer": In(LAYER),
                "channel_address": Out(self._tag["channels"].width),
                "channel": In(channel_word(p)),
                "held_channel": Out(channel_word(p)),
                "code_enable": Out(1),
                "code_address": Out(self._tag["output"].width),
                "codes": Out(data.ArrayLayout(p.code_width, p.requantizers)),
                "result_enable": Out(1),
                "result_address": Out(self._tag["output"].width),
                "results": Out(result_word(p)),
                "boundary_enable": In(1),
                "boundary_address": In(encoder.write_address.shape()),
                "boundary_data": In(VALUE),
                **(self._value_ports() if p.value_words else {}),
            }
        )

    def _value_ports(self) -> dict[str, wiring.Member]:
        p = self._parameters
        return {
            "pooled": In(pooled_word(p)),
            "residual_address": Out(self._tag["residual"].width),
            "residual": In(values_word(p)),
            "value_enable": Out(1),
            "value_address": Out(self._tag["values"].width),
            "values": Out(values_word(p)),
        }

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        tag, accumulators = self._walk_groups(m)
        stages = _Stages(m, tag)
        # Registered before they are multiplied, so that neither a memory's output nor the shift by the
        # digit's place lengthens the multiplier's path.
        channels = Signal.like(self.channel, reset_less=True)
        m.d.sync += channels.eq(self.channel)
        m.d.comb += self.held_channel.eq(channels)
        totals = []
        for lane, accumulator in enumerate(accumulators):
            placed = self._place(m, accumulator, stages, lane=lane)
            total = self._sum_passes(m, placed, channels[lane], stages, lane=lane)
            shift = delayed(m, channels[lane].shift, cycles=self._summed - _SCALED)
            totals.append(shifted(m, total, shift, lane=lane))
        if self._parameters.value_words:
            totals = self._add_residuals(m, totals, stages)
        self._write_results(m, totals, stages)
        self._write_codes(m, totals, stages)
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
            for name in ("channels", "output", "values", "residual"):
                m.d.sync += place[name].eq(current[name] + 1)
        return current, [captured[lane] for lane in range(p.requantizers)]

    def _place(self, m: Module, accumulator: Value, stages: "_Stages", *, lane: int) -> Signal:
        """The accumulator at its pass's place, or what was pooled, ready to be multiplied."""
        shape, pooled_width = accumulator.shape(), self._parameters.pooled_width
        width = shape.width + 2**PASS_SHIFT_WIDTH - 1
        at_place = accumulator << stages.at(1).shift
        if not pooled_width:
            placed = Signal(Shape(width, signed=shape.signed), name=f"placed{lane}")
            m.d.sync += placed.eq(at_place)
            return placed
        placed = Signal(signed(max(width + (not shape.signed), pooled_width)), name=f"placed{lane}")
        convolution = self.layer.opcode == LayerOpcode.CONVOLUTION
        m.d.sync += placed.eq(Mux(convolution, at_place, self.pooled[lane]))
        return placed

    def _sum_passes(
        self, m: Module, accumulator: Signal, channel: data.View, stages: "_Stages", *, lane: int
    ) -> Signal:
        """Multiply, limb by limb, and add the bias, then the pixel's earlier passes."""
        p = self._parameters
        # A register behind every block, and then adders of two: a multiplication as wide as this would
        # otherwise be the longest path by far.
        products = [
            registered(m, limb * channel.multiplier, name=f"product{lane}_{index}")
            for index, limb in enumerate(limbs(accumulator, p.limbs))
        ]
        addends = [weighted(registered(m, channel.bias, name=f"bias{lane}"))]
        addends += [weighted(each, place=index * LIMB_WIDTH) for index, each in enumerate(products)]
        scaled, _ = weighted_sum(m, addends)
        total, *ring = (
            Signal(signed(p.sum_width), name=f"{name}{lane}")
            for name in ("total", *(f"earlier{i}_" for i in range(p.groups)))
        )
        tag = stages.at(self._summed - 1)
        added = Mux(tag.opening, 0, ring[-1]) + scaled
        with m.If(tag.active):
            m.d.sync += total.eq(added)
            m.d.sync += [new.eq(old) for new, old in zip(ring, [added, *ring], strict=False)]
        return total

    def _add_residuals(self, m: Module, totals: list[Signal], stages: "_Stages") -> list[Signal]:
        """Two stages: clip, and add.

        A total that is clipped so far out is beyond a result with any residual, and remains so.
        """
        ready = self._summed + 2
        m.d.comb += self.residual_address.eq(stages.at(ready - 1).residual)
        wide = Shape(RESULT_WIDTH + 2, signed=True)
        sums = []
        for lane, total in enumerate(totals):
            clipped = registered(m, saturated(total, wide), name=f"clipped{lane}")
            residual = Mux(self.layer.add_residual, self.residual[lane], 0)
            sums.append(registered(m, clipped + residual, name=f"sum{lane}"))
        return sums

    def _write_results(self, m: Module, totals: list[Signal], stages: "_Stages") -> None:
        finished = stages.at(self._finished)
        closing = finished.active & finished.closing
        m.d.comb += [
            self.result_enable.eq(closing & self.layer.to_results),
            self.result_address.eq(finished.output),
            *(each.eq(saturated(total, RESULT)) for each, total in zip(self.results, totals, strict=True)),
        ]
        if self._parameters.value_words:
            m.d.comb += [self.value_enable.eq(closing & self.layer.to_values)]
            m.d.comb += [self.value_address.eq(finished.values)]
            for each, total in zip(self.values, totals, strict=True):
                value = saturated(total, VALUE)
                m.d.comb += each.eq(Mux(self.layer.rectify & total[-1], 0, value))

    def _write_codes(self, m: Module, totals: list[Signal], stages: "_Stages") -> None:
        """Encode by boundaries, or as digits; both take as long."""
        p, layer = self._parameters, self.layer
        m.submodules.encoder = encoder = self._encoder
        m.d.comb += [
            *(each.eq(saturated(total, VALUE)) for each, total in zip(encoder.values, totals, strict=True)),
            encoder.write_enable.eq(self.boundary_enable),
            encoder.write_address.eq(self.boundary_address),
            encoder.write_data.eq(self.boundary_data),
            encoder.encoding.eq(layer.encoding),
            self.codes.eq(encoder.codes),
        ]
        if p.value_words:
            m.submodules.linear = linear = LinearEncoder(
                lanes=p.requantizers, code_width=p.code_width, value_width=len(totals[0])
            )
            m.d.comb += [
                *(each.eq(total) for each, total in zip(linear.values, totals, strict=True)),
                linear.bits.eq(layer.linear_bits),
                linear.place.eq(layer.linear_place),
                self.codes.eq(Mux(layer.linear, linear.codes, encoder.codes)),
            ]
        encoded = stages.at(self._finished + encoder.latency)
        m.d.comb += [
            self.code_enable.eq(encoded.active & encoded.closing & layer.to_codes),
            self.code_address.eq(encoded.output),
        ]


_SCALED = 2
"""Cycles from a group's channel address until its channels and placed accumulators are registered."""


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

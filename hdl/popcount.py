"""Dot products on binary bases by counting ones: planes of weights against planes of activations."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .arithmetic import sum_shape
from .dot import DotRows, check_size, weight_layout
from .formats import Basis
from .formats.digits import signed_digits
from .sums import Weighted, adder_levels, registered, tree, weighted_sum


def _ones(m: Module, bits: Sequence[Value]) -> Value:
    """How many bits are 1; the first stage counts pairs in one four-input table a bit."""
    bits = [*bits, *[Const(0, 1)] * (len(bits) % 2)]
    pairs = zip(bits[::2], bits[1::2], strict=True)
    counts = [
        registered(m, Cat(left ^ right, left & right), name=f"pair{number}")
        for number, (left, right) in enumerate(pairs)
    ]
    return tree(m, counts, [Const(0)] * len(counts))[0]


def _value(m: Module, planes: Sequence[Value], *, lanes: int) -> Value:
    """``Σ 2^j · (ones of plane j)``: planes of bits, one bit of each lane."""
    ones = [_ones(m, list(plane)) for plane in planes]
    return weighted_sum(m, [Weighted(count, 2**j, 0, lanes) for j, count in enumerate(ones)])[0]


class ActivationSum(wiring.Component):
    """The sum of all activations times the sum of all coordinates: the front end that rows share.

    Members
    -------
    activations : In(ArrayLayout(activation_width, lanes))
    correction : Out
        A cycle before `dot.flight`, together with the counts that it corrects.
    """

    def __init__(self, *, dot: "PopcountDot") -> None:
        self._dot = dot
        self._width = (dot.most * dot.top).bit_length()
        super().__init__({"activations": In(dot.activation_layout), "correction": Out(self._width)})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        dot = self._dot
        total = _value(m, dot.activation_planes(self.activations), lanes=dot.lanes)
        scaled, levels = weighted_sum(m, [Weighted(total, dot.top, 0, dot.most)])
        for _ in range(dot.weighting - levels):
            scaled = registered(m, scaled, name="scaled")
        m.d.comb += self.correction.eq(scaled)
        return m


class PopcountDot(DotRows):
    """Dot products of binary bases by counting ones.

    With b_i the bits of weight plane i and a_j those of activation plane j, over all lanes,

        Σ level · a = Σ_i A_i Σ_j 2^j (2 · ones(b_i & a_j) - ones(a_j))

    and what does not depend on the weights, ``(Σ A_i) · Σ a``, is formed once for all rows.  It computes
    the same as a parallel, exact `hdl.planes.PlaneDot`, at the same ports, and is the larger circuit where
    lookup tables have four inputs.

    Parameters
    ----------
    weight_format : Basis
    activation_width : int
        Bits of an unsigned activation, 1 to 16: its planes.
    lanes, rows : int
        See `DotRows`.
    depth : int
        The most products that are ever summed in a row between two clears.
    accumulator_width : int or None
        Bits of an accumulator; by default what `depth` needs.

    Members
    -------
    latency : int
        Cycles from inputs to `accumulators`.
    activations : In(ArrayLayout(activation_width, lanes))
    enable, clear, weights, accumulators
        See `DotRows`; accumulators are signed.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong, or the accumulator is too narrow for `depth`.
    """

    def __init__(
        self,
        *,
        weight_format: Basis,
        activation_width: int,
        lanes: int,
        depth: int,
        rows: int = 1,
        accumulator_width: int | None = None,
    ) -> None:
        if not isinstance(weight_format, Basis):
            raise TypeError(f"weight_format must be a Basis format, not {weight_format!r}")
        check_size(activation_width=activation_width, lanes=lanes, rows=rows, depth=depth)
        self.coordinates = weight_format.coordinates
        self.lanes = lanes
        self.top = sum(weight_format.coordinates)
        self.most = lanes * (2**activation_width - 1)
        self.activation_layout = data.ArrayLayout(activation_width, lanes)
        self._activation_width = activation_width
        self.weighting = adder_levels(sum(len(signed_digits(each)) for each in self.coordinates))
        reach = weight_format.sum_range(depth=depth, activation_max=2**activation_width - 1)
        super().__init__(
            inputs={
                "weights": weight_layout(weight_format.planes, lanes=lanes, rows=rows),
                "activations": self.activation_layout,
            },
            rows=rows,
            flight=2 + adder_levels((lanes + 1) // 2) + adder_levels(activation_width) + self.weighting,
            accumulator_shape=sum_shape(*reach, depth=depth, signed=True, width=accumulator_width),
        )

    def activation_planes(self, activations: data.View) -> list[Value]:
        """Each plane's bits, one of each lane."""
        return [
            activations.as_value()[plane :: self._activation_width] for plane in range(self._activation_width)
        ]

    def _front(self, m: Module) -> Value:
        m.submodules.activation_sum = front = ActivationSum(dot=self)
        m.d.comb += front.activations.eq(self.activations)
        return front.correction

    def _row(self, m: Module, number: int, shared: Any) -> tuple[Value, Value]:
        codes = self.weights[number].as_value()
        addends = []
        for plane, coordinate in enumerate(self.coordinates):
            plus = codes[plane :: len(self.coordinates)]
            both = [plus & ones for ones in self.activation_planes(self.activations)]
            addends.append(Weighted(_value(m, both, lanes=self.lanes), coordinate, 0, self.most))
        added, _ = weighted_sum(m, addends)
        reach = self.most * self.top
        term = Signal(range(-reach, reach + 1), reset_less=True)
        m.d.sync += term.eq((added << 1) - shared)
        return term, Const(0)

"""Dot products on binary bases by counting ones: planes of weights against planes of activations."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .arithmetic import MAX_DEPTH, Accumulator, sum_shape
from .basis import MAX_ROWS, check_basis
from .dot import MAX_LANES, delayed
from .formats import Basis, check_int
from .products import MAX_ACTIVATION_WIDTH
from .sums import Weighted, adder_levels, registered, signed_digits, tree, weighted_sum


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
        After `dot.flight` cycles, together with the counts that it corrects.
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


class PopcountRow(wiring.Component):
    """One output of `PopcountDot`.

    `enable` and `clear` belong to the sum that arrives at the accumulator, `correction` to the stage before.
    """

    def __init__(self, *, dot: "PopcountDot") -> None:
        self._dot = dot
        super().__init__(
            {
                "enable": In(1),
                "clear": In(1),
                "weights": In(data.ArrayLayout(dot.weight_format.planes, dot.lanes)),
                "activations": In(dot.activation_layout),
                "correction": In((dot.most * dot.top).bit_length()),
                "accumulator": Out(dot.accumulator_shape),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        dot = self._dot
        codes = self.weights.as_value()
        addends = []
        for plane, coordinate in enumerate(dot.weight_format.coordinates):
            plus = codes[plane :: dot.weight_format.planes]
            both = [plus & ones for ones in dot.activation_planes(self.activations)]
            addends.append(Weighted(_value(m, both, lanes=dot.lanes), coordinate, 0, dot.most))
        added, _ = weighted_sum(m, addends)
        reach = dot.most * dot.top
        term = Signal(range(-reach, reach + 1), reset_less=True)
        m.d.sync += term.eq((added << 1) - self.correction)
        m.submodules.sum = total = Accumulator(term_shape=term.shape(), shape=dot.accumulator_shape)
        m.d.comb += [
            total.enable.eq(self.enable),
            total.clear.eq(self.clear),
            total.term.eq(term),
            total.carry.eq(0),
            self.accumulator.eq(total.accumulator),
        ]
        return m


class PopcountDot(wiring.Component):
    """Adds `lanes` products of each row to the row's accumulator, exactly, by counting ones.

    With b_i the bits of weight plane i and a_j those of activation plane j, over all lanes,

        Σ level · a = Σ_i A_i Σ_j 2^j (2 · ones(b_i & a_j) - ones(a_j))

    and what does not depend on the weights, ``(Σ A_i) · Σ a``, is formed once for all rows.  It computes
    the same as a parallel, exact `BasisDot`, at the same ports, and is the larger circuit where lookup
    tables have four inputs.

    Each cycle with `enable` adds ``Σ level[weights[row][i]] · activations[i]`` to each row's accumulator;
    with `clear` too, the sum starts with that cycle.  A cycle with `clear` alone sets the sums to zero.
    There is no back-pressure; the result of a cycle stands in `accumulators` after `latency` cycles.

    Parameters
    ----------
    weight_format : Basis
    activation_width : int
        Bits of an unsigned activation, 1 to 16: its planes.
    lanes : int
        Products of a row each cycle, 1 to 256.
    rows : int
        Sums computed side by side from the same activations, 1 to 256.
    depth : int
        The most products that are ever summed in a row between two clears.
    accumulator_width : int or None
        Bits of an accumulator; by default what `depth` needs.

    Members
    -------
    latency : int
        Cycles from inputs to `accumulators`.
    enable, clear : In(1)
    weights : In(ArrayLayout(ArrayLayout(planes, lanes), rows))
    activations : In(ArrayLayout(activation_width, lanes))
    accumulators : Out(ArrayLayout(signed, rows))

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
        check_basis(weight_format)
        check_int("activation_width", activation_width, low=1, high=MAX_ACTIVATION_WIDTH)
        check_int("lanes", lanes, low=1, high=MAX_LANES)
        check_int("rows", rows, low=1, high=MAX_ROWS)
        check_int("depth", depth, low=1, high=MAX_DEPTH)
        self.weight_format = weight_format
        self.lanes = lanes
        self.top = sum(weight_format.coordinates)
        self.most = lanes * (2**activation_width - 1)
        self.activation_layout = data.ArrayLayout(activation_width, lanes)
        self._activation_width = activation_width
        reach = weight_format.sum_range(depth=depth, activation_max=2**activation_width - 1)
        self.accumulator_shape = sum_shape(*reach, depth=depth, signed=True, width=accumulator_width)
        self.weighting = adder_levels(sum(len(signed_digits(each)) for each in weight_format.coordinates))
        self.flight = 1 + adder_levels((lanes + 1) // 2) + adder_levels(activation_width) + self.weighting
        self.latency = self.flight + 2
        self._rows = [PopcountRow(dot=self) for _ in range(rows)]
        super().__init__(
            {
                "enable": In(1),
                "clear": In(1),
                "weights": In(data.ArrayLayout(data.ArrayLayout(weight_format.planes, lanes), rows)),
                "activations": In(self.activation_layout),
                "accumulators": Out(data.ArrayLayout(self.accumulator_shape, rows)),
            }
        )

    def activation_planes(self, activations: data.View) -> list[Value]:
        """Each plane's bits, one of each lane."""
        return [
            activations.as_value()[plane :: self._activation_width] for plane in range(self._activation_width)
        ]

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.activation_sum = front = ActivationSum(dot=self)
        m.d.comb += front.activations.eq(self.activations)
        enable = delayed(m, self.enable, cycles=self.latency - 1)
        clear = delayed(m, self.clear, cycles=self.latency - 1)
        for number, row in enumerate(self._rows):
            m.submodules[f"row{number}"] = row
            m.d.comb += [
                row.enable.eq(enable),
                row.clear.eq(clear),
                row.weights.eq(self.weights[number]),
                row.activations.eq(self.activations),
                row.correction.eq(front.correction),
                self.accumulators[number].eq(row.accumulator),
            ]
        return m

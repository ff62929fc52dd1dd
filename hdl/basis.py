"""Dot products on binary bases: planes of signs times unsigned activations, without multipliers."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .arithmetic import MAX_DEPTH, Accumulator, add, sum_shape
from .dot import MAX_LANES, delayed
from .formats import Basis, check_bool, check_int
from .products import MAX_ACTIVATION_WIDTH
from .sums import Digit, Weighted, adder_levels, registered, signed_digits, tree, weighted_sum

MAX_ROWS = 256


class PairTables(wiring.Component):
    """Sum and difference of each pair of neighbouring activations: the front end that rows share.

    A plane of two lanes is one of ``±(a0 + a1)`` and ``±(a0 - a1)``, so a row only selects.  Latency 1
    cycle.  A last activation without a neighbour has 0 for one.

    Parameters
    ----------
    activation_width, lanes : int
    folded : bool
        Differences are larger by ``2^activation_width - 1``, and unsigned.

    Members
    -------
    activations : In(ArrayLayout(activation_width, lanes))
    sums, differences : Out(ArrayLayout(…, pairs))
    """

    def __init__(self, *, activation_width: int, lanes: int, folded: bool) -> None:
        self._folded = folded
        self.pairs = (lanes + 1) // 2
        width = activation_width + 1
        super().__init__(
            {
                "activations": In(data.ArrayLayout(activation_width, lanes)),
                "sums": Out(data.ArrayLayout(unsigned(width), self.pairs)),
                "differences": Out(
                    data.ArrayLayout(unsigned(width) if folded else signed(width), self.pairs)
                ),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        lanes = [self.activations[lane] for lane in range(len(self.activations))]
        lanes += [Const(0, len(lanes[0]))] * (2 * self.pairs - len(lanes))
        for pair, (left, right) in enumerate(zip(lanes[::2], lanes[1::2], strict=True)):
            difference = left + ~right if self._folded else left - right
            m.d.comb += self.sums[pair].eq(registered(m, left + right, name=f"sum{pair}"))
            m.d.comb += self.differences[pair].eq(
                registered(m, difference[: len(left) + 1], name=f"difference{pair}")
            )
        return m


class BasisRow(wiring.Component):
    """One output of `BasisDot`: selects from the pair tables, adds up planes, weights them, accumulates.

    `enable` and `clear` belong to the sum that arrives at the accumulator, the last of all stages.

    Members
    -------
    flight : int
        Cycles from `sums` and `differences` to the accumulator's input; `weights` come a cycle before them.
    """

    def __init__(self, *, dot: "BasisDot", tables: PairTables) -> None:
        self._dot = dot
        self._exact_carry = not dot.folded and dot.weight_format.coordinates != (1,)
        digits = [len(signed_digits(each)) for each in dot.weight_format.coordinates]
        self._summing = 1 + adder_levels(tables.pairs) + self._exact_carry
        self.flight = self._summing + (
            1 + adder_levels(max(digits)) if dot.serial else adder_levels(sum(digits))
        )
        super().__init__(
            {
                "enable": In(1),
                "clear": In(1),
                "plane": In(range(dot.weight_format.planes if dot.serial else 1)),
                "weights": In(data.ArrayLayout(dot.code_width, dot.lanes)),
                "sums": In(tables.sums.shape()),
                "differences": In(tables.differences.shape()),
                "accumulator": Out(dot.accumulator_shape),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        coordinates = self._dot.weight_format.coordinates
        weights = registered(m, self.weights.as_value(), name="codes")
        width = self._dot.code_width
        planes = [self._plane(m, weights[plane::width]) for plane in range(width)]
        if self._dot.serial:
            term, carry = self._selected(m, *planes[0], coordinates)
        elif coordinates == (1,):
            term, carry = planes[0]
        else:
            reach = self._dot.plane_range
            addends = [
                Weighted(term, coordinate, *reach)
                for (term, _), coordinate in zip(planes, coordinates, strict=True)
            ]
            term, carry = weighted_sum(m, addends)[0], Const(0)
        m.submodules.sum = total = Accumulator(term_shape=term.shape(), shape=self._dot.accumulator_shape)
        m.d.comb += [
            total.enable.eq(self.enable),
            total.clear.eq(self.clear),
            total.term.eq(term),
            total.carry.eq(carry),
            self.accumulator.eq(total.accumulator),
        ]
        return m

    def _plane(self, m: Module, plus: Value) -> tuple[Value, Value]:
        """``Σ ±activation``, plus where a lane's bit of `plus` is 1: the term, and a carry still to add.

        Selecting takes one four-input table a bit: a minus in the first lane of a pair complements.
        """
        signs = [~bit for bit in plus] + [Const(0, 1)] * (len(plus) % 2)
        terms: list[Value] = []
        carries: list[Value] = []
        for pair, (first, second) in enumerate(zip(signs[::2], signs[1::2], strict=True)):
            chosen = Mux(first ^ second, self.differences[pair], self.sums[pair])
            terms.append(registered(m, Mux(first, ~chosen, chosen), name=f"selected{pair}"))
            carries.append(Const(0) if self._dot.folded else registered(m, first, name=f"minus{pair}"))
        term, carry, _ = tree(m, terms, carries)
        if not self._exact_carry:
            return term, carry
        low, high = self._dot.plane_range
        whole = Signal(range(low, high + 1), name="whole", reset_less=True)
        m.d.sync += whole.eq(add(term, Const(0, 1), carry))
        return whole, Const(0)

    def _selected(
        self, m: Module, term: Value, carry: Value, coordinates: tuple[int, ...]
    ) -> tuple[Value, Value]:
        """A plane's sum times the coordinate that `plane` selects: a multiplexed shift for every digit."""
        if coordinates == (1,):
            return registered(m, term, name="digit0"), registered(m, carry, name="minus_digit0")
        plane: Value = self.plane
        for _ in range(1 + self._summing):
            plane = registered(m, plane, name="plane_of_sum")
        digits = [tuple(reversed(signed_digits(each))) for each in coordinates]
        places = [
            self._place(m, term, plane, [each[place : place + 1] for each in digits], name=f"digit{place}")
            for place in range(max(map(len, digits)))
        ]
        any_minus = any(digit.sign < 0 for each in digits for digit in each)
        carries = [
            registered(m, minus, name=f"minus_digit{i}") if any_minus else Const(0)
            for i, (_, minus) in enumerate(places)
        ]
        return tree(m, [value for value, _ in places], carries)[:2]

    def _place(
        self, m: Module, term: Value, plane: Value, digits: Sequence[Sequence[Digit]], *, name: str
    ) -> tuple[Value, Value]:
        """`term` times one digit of the selected plane's coordinate, less one if the digit is a minus."""
        low, high = self._dot.plane_range
        reach = [0]
        for digit in (each for several in digits for each in several):
            ends = [digit.sign * (low << digit.shift), digit.sign * (high << digit.shift)]
            reach += ends if digit.sign > 0 else [min(ends) - 1, max(ends)]
        value = Signal(range(min(reach), max(reach) + 1), name=name, reset_less=True)
        minus = Signal(name=f"{name}_is_minus")
        wide = Cat(term, term[-1] if term.shape().signed else Const(0, 1)).as_signed()
        chosen = Signal.like(value, name=f"{name}_chosen")
        with m.Switch(plane):
            for number, several in enumerate(digits):
                for digit in several:
                    with m.Case(number):
                        shifted = wide << digit.shift
                        m.d.comb += chosen.eq(shifted if digit.sign > 0 else ~shifted)
                        m.d.comb += minus.eq(digit.sign < 0)
        m.d.sync += value.eq(chosen)
        return value, minus


class BasisDot(wiring.Component):
    """Adds `lanes` products of each row to the row's accumulator, exactly; every weight is a sum ``Σ ±A_i``.

    A front end makes a table of each pair of activations (see `PairTables`), which all rows share; a row
    adds ``±`` entries for each plane, and then multiplies each plane's sum by its coordinate, in shifts and
    adds (DMBQ, CVPR 2021).  There is no back-pressure; the result of a cycle stands in `accumulators` after
    `latency` cycles.

    *All planes at once*: each cycle with `enable` adds ``Σ level[weights[row][i]] · activations[i]`` to each
    row's accumulator; with `clear` too, the sum starts with that cycle.  A cycle with `clear` alone sets
    the sums to zero.

    *Serial*: weights are the bits of one plane, which `plane` names, and the cycle adds that plane's part.
    Planes come in any order: those of a vector one after another with its activations held, or one after
    the other for many vectors.  A plane there is not adds nothing.  `clear` comes with the first of all.

    Parameters
    ----------
    weight_format : Basis
    activation_width : int
        Bits of an unsigned activation, 1 to 16.
    lanes : int
        Products of a row each cycle, 1 to 256.
    rows : int
        Sums computed side by side from the same activations, 1 to 256.
    depth : int
        The most products that are ever summed in a row between two clears, each with all of its planes.
    accumulator_width : int or None
        Bits of an accumulator; by default what `depth` needs.
    serial : bool
        One plane a cycle.
    folded : bool
        Leave out the correction of minuses: smaller.  Accumulators are then unsigned, and too large by
        ``Σ A_i · (2^activation_width - lane mod 2)`` over all planes' bits that are 0, in every lane of
        every cycle, whatever the activation; whoever packs the weights subtracts it from the bias.

    Members
    -------
    latency : int
        Cycles from inputs to `accumulators`.
    enable, clear : In(1)
    plane : In(range(planes))
        If `serial`.
    weights : In(ArrayLayout(ArrayLayout(1 if serial else planes, lanes), rows))
    activations : In(ArrayLayout(activation_width, lanes))
    accumulators : Out(ArrayLayout(signed or, if folded, unsigned, rows))

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
        serial: bool = False,
        folded: bool = False,
    ) -> None:
        check_basis(weight_format)
        check_int("activation_width", activation_width, low=1, high=MAX_ACTIVATION_WIDTH)
        check_int("lanes", lanes, low=1, high=MAX_LANES)
        check_int("rows", rows, low=1, high=MAX_ROWS)
        check_bool("serial", serial)
        check_bool("folded", folded)
        self.weight_format = weight_format
        self.lanes = lanes
        self.serial = serial
        self.folded = folded
        self.code_width = 1 if serial else weight_format.planes
        largest = 2**activation_width - 1
        excess = sum(largest + 1 - lane % 2 for lane in range(lanes))
        self.plane_range = (0, excess) if folded else (-lanes * largest, lanes * largest)
        check_int("depth", depth, low=1, high=MAX_DEPTH)
        reach = weight_format.sum_range(depth=depth, activation_max=largest)
        if folded:
            reach = (0, -(-depth // lanes) * sum(weight_format.coordinates) * excess)
        self.accumulator_shape = sum_shape(*reach, depth=depth, signed=not folded, width=accumulator_width)
        self._tables = PairTables(activation_width=activation_width, lanes=lanes, folded=folded)
        self._rows = [BasisRow(dot=self, tables=self._tables) for _ in range(rows)]
        self.latency = 1 + self._rows[0].flight + 1
        super().__init__(
            {
                "enable": In(1),
                "clear": In(1),
                "plane": In(range(weight_format.planes if serial else 1)),
                "weights": In(data.ArrayLayout(data.ArrayLayout(self.code_width, lanes), rows)),
                "activations": In(data.ArrayLayout(activation_width, lanes)),
                "accumulators": Out(data.ArrayLayout(self.accumulator_shape, rows)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.tables = tables = self._tables
        m.d.comb += tables.activations.eq(self.activations)
        enable = delayed(m, self.enable, cycles=self.latency - 1)
        clear = delayed(m, self.clear, cycles=self.latency - 1)
        for number, row in enumerate(self._rows):
            m.submodules[f"row{number}"] = row
            m.d.comb += [
                row.enable.eq(enable),
                row.clear.eq(clear),
                row.plane.eq(self.plane),
                row.weights.eq(self.weights[number]),
                row.sums.eq(tables.sums),
                row.differences.eq(tables.differences),
                self.accumulators[number].eq(row.accumulator),
            ]
        return m


def check_basis(value: object) -> None:
    """Refuse a weight format that is not a basis (TypeError)."""
    if not isinstance(value, Basis):
        raise TypeError(f"weight_format must be a Basis format, not {value!r}")

"""Dot products of planes of signs times unsigned activations, without multipliers: bases, plain integers."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, Value
from amaranth.lib import wiring

from .arithmetic import add, sum_shape
from .dot import DotRows, check_size, weight_layout
from .formats import Basis, Format, Uniform, check_bool
from .formats.digits import Digit, signed_digits
from .pairs import PairTables, table_layouts
from .sums import Weighted, adder_levels, registered, tree, weighted_sum


class PlaneRows(DotRows):
    """The rows of `PlaneDot`: they select from its tables, add up planes, weight them and accumulate.

    Parameters
    ----------
    weight_format, activation_width, lanes, depth, rows, accumulator_width, serial, folded
        See `PlaneDot`.

    Members
    -------
    latency : int
        Cycles from inputs to `accumulators`.
    sums, differences, total : In
        What `hdl.pairs.PairTables` gives; `weights`, `plane`, `enable` and `clear` come with the sums.
    plane : In(range(planes))
        If `serial`.
    enable, clear, weights, accumulators
        See `DotRows`.
    """

    def __init__(
        self,
        *,
        weight_format: Basis | Uniform,
        activation_width: int,
        lanes: int,
        depth: int,
        rows: int = 1,
        accumulator_width: int | None = None,
        serial: bool = False,
        folded: bool = False,
    ) -> None:
        coordinates = coordinates_of(weight_format)
        check_size(activation_width=activation_width, lanes=lanes, rows=rows, depth=depth)
        check_bool("serial", serial)
        check_bool("folded", folded)
        self.integers = isinstance(weight_format, Uniform)
        if serial and self.integers:
            raise ValueError("serial must be False for plain integers, not True")
        self.serial = serial
        self.folded = folded
        self._coordinates = coordinates
        self._exact_carry = not folded and coordinates != (1,)
        largest = 2**activation_width - 1
        excess = sum(largest + 1 - lane % 2 for lane in range(lanes))
        self._plane_range = (0, excess) if folded else (-lanes * largest, lanes * largest)
        self._most = lanes * largest
        reach = weight_format.sum_range(depth=depth, activation_max=largest)
        if folded:
            unit = sum(coordinates) * excess + self.integers * self._most
            reach = (0, -(-depth // lanes) * unit)
        self._summing = 1 + adder_levels((lanes + 1) // 2) + self._exact_carry
        digits = [len(signed_digits(each)) for each in coordinates]
        weighting = 1 + adder_levels(max(digits)) if serial else adder_levels(sum(digits) + self.integers)
        tables = table_layouts(activation_width, lanes, folded, self.integers)
        super().__init__(
            inputs={
                **({"plane": range(len(coordinates))} if serial and len(coordinates) > 1 else {}),
                "weights": weight_layout(1 if serial else len(coordinates), lanes=lanes, rows=rows),
                **tables,
            },
            rows=rows,
            flight=self._summing + weighting,
            accumulator_shape=sum_shape(*reach, depth=depth, signed=not folded, width=accumulator_width),
        )

    def _row(self, m: Module, number: int, _shared: Any) -> tuple[Value, Value]:
        width = 1 if self.serial else len(self._coordinates)
        bits = self.weights[number].as_value()
        signs = [~bits[plane::width] for plane in range(width)]
        if self.integers:  # two's complement: the highest plane counts the other way
            signs[-1] = ~signs[-1]
        planes = [self._plane(m, each) for each in signs]
        if self.serial:
            return self._scaled(m, *planes[0])
        if self._coordinates == (1,):
            return planes[0]
        addends = [
            Weighted(term, coordinate, *self._plane_range)
            for (term, _), coordinate in zip(planes, self._coordinates, strict=True)
        ]
        if self.integers:
            addends.append(Weighted(self.total, 1 if self.folded else -1, 0, self._most))
        total = weighted_sum(m, addends)[0]
        return total[1:].as_signed() if self.integers and not self.folded else total, Const(0)

    def _plane(self, m: Module, minus: Value) -> tuple[Value, Value]:
        """``Σ ±activation``, minus where a lane's bit of `minus` is 1: the term, and a carry still to add.

        Selecting takes one four-input table a bit: a minus in the first lane of a pair complements.
        """
        signs = [*minus] + [Const(0, 1)] * (len(minus) % 2)
        terms: list[Value] = []
        carries: list[Value] = []
        for pair, (first, second) in enumerate(zip(signs[::2], signs[1::2], strict=True)):
            chosen = Mux(first ^ second, self.differences[pair], self.sums[pair])
            terms.append(registered(m, Mux(first, ~chosen, chosen), name=f"selected{pair}"))
            carries.append(Const(0) if self.folded else registered(m, first, name=f"minus{pair}"))
        term, carry, _ = tree(m, terms, carries)
        if not self._exact_carry:
            return term, carry
        low, high = self._plane_range
        whole = Signal(range(low, high + 1), name="whole", reset_less=True)
        m.d.sync += whole.eq(add(term, Const(0, 1), carry))
        return whole, Const(0)

    def _scaled(self, m: Module, term: Value, carry: Value) -> tuple[Value, Value]:
        """A plane's sum times the coordinate that `plane` selects: a multiplexed shift for every digit."""
        if self._coordinates == (1,):
            return registered(m, term, name="digit0"), registered(m, carry, name="minus_digit0")
        plane = self.plane if len(self._coordinates) > 1 else Const(0, 1)
        for _ in range(self._summing):
            plane = registered(m, plane, name="plane_of_sum")
        digits = [tuple(reversed(signed_digits(each))) for each in self._coordinates]
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
        low, high = self._plane_range
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


class PlaneDot(wiring.Component):
    """Dot products of weights that are planes of signs: every weight is a sum ``Σ ±A_i``.

    A front end makes a table of each pair of activations (`hdl.pairs.PairTables`), which all rows share; a
    row adds ``±`` entries for each plane, and then multiplies each plane's sum by its coordinate, in shifts
    and adds (`PlaneRows`; DMBQ, CVPR 2021).  Plain integers of two's complement are planes too: twice a
    weight and one is ``Σ ±2^i``, so the sum of all activations is taken off and the rest halved.

    The contract is that of `DotRows`.

    *Serial*, for bases only: weights are the bits of one plane, which `plane` names, and the cycle adds that
    plane's part.  Planes come in any order: those of a vector one after another with its activations held,
    or one after the other for many vectors.  A plane there is not adds nothing.  `clear` comes with the
    first of all.

    *Folded*: the correction of minuses is left to whoever packs the weights.  Accumulators are unsigned, and
    too large by what depends on the weights alone, whatever the activations:
    ``Σ A_i · (2^activation_width - lane mod 2)`` over all planes' minuses, in every lane of every cycle.
    A bit of a basis is a minus if it is 0, as is one of an integer, but its highest if it is 1.  Folded
    integers are not halved: an accumulator is twice the sum, and too large by ``2^activation_width - 1``
    more for every lane of every cycle.

    Parameters
    ----------
    weight_format : Basis or Uniform
    activation_width : int
        Bits of an unsigned activation, 1 to 16.
    lanes, rows : int
        See `DotRows`.
    depth : int
        The most products that are ever summed in a row between two clears, each with all of its planes.
    accumulator_width : int or None
        Bits of an accumulator; by default what `depth` needs.
    serial : bool
        One plane a cycle.
    folded : bool
        Leave out the correction of minuses: smaller.

    Members
    -------
    latency : int
        Cycles from inputs to `accumulators`.
    accumulator_shape : Shape
    plane : In(range(planes))
        If `serial`, with more than one plane.
    weights : In(ArrayLayout(ArrayLayout(1 if serial else code_width, lanes), rows))
    activations : In(ArrayLayout(activation_width, lanes))
    enable, clear, accumulators
        See `DotRows`; accumulators are signed or, if folded, unsigned.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong, or the accumulator is too narrow for `depth`.
    """

    def __init__(
        self, *, weight_format: Basis | Uniform, activation_width: int, lanes: int, **options: Any
    ) -> None:
        self._rows = rows = PlaneRows(
            weight_format=weight_format, activation_width=activation_width, lanes=lanes, **options
        )
        self._tables = PairTables(
            activation_width=activation_width, lanes=lanes, folded=rows.folded, with_total=rows.integers
        )
        self.folded = rows.folded
        self.latency = self._tables.latency + rows.latency
        self.accumulator_shape: Shape = rows.accumulator_shape
        members = rows.signature.members
        self._early = ("enable", "clear", "weights", *(["plane"] if "plane" in members else []))
        super().__init__(
            {
                **{name: members[name] for name in self._early},
                "activations": self._tables.signature.members["activations"],
                "accumulators": members["accumulators"],
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.tables = tables = self._tables
        m.submodules.rows = rows = self._rows
        m.d.comb += tables.activations.eq(self.activations)
        for name in self._early:
            early = Signal.like(getattr(self, name), name=f"{name}_of_tables")
            m.d.sync += early.eq(getattr(self, name))
            m.d.comb += getattr(rows, name).eq(early)
        for name in table_layouts(1, 1, False, rows.integers):
            m.d.comb += getattr(rows, name).eq(getattr(tables, name))
        m.d.comb += self.accumulators.eq(rows.accumulators)
        return m


def coordinates_of(weight_format: Format) -> tuple[int, ...]:
    """What the planes of a weight stand for, the first in bit 0.

    Raises
    ------
    TypeError, ValueError
        If the format has no planes of signs.
    """
    if isinstance(weight_format, Basis):
        return weight_format.coordinates
    if not isinstance(weight_format, Uniform):
        raise TypeError(f"weight_format must be a Basis or Uniform format, not {weight_format!r}")
    if not weight_format.signed:
        raise ValueError(f"weight_format must be signed, not {weight_format.name!r}")
    return tuple(1 << plane for plane in range(weight_format.bits))

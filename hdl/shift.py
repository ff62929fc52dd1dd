"""Dot products of additive powers of two: shifted activations, without multipliers."""

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Value
from amaranth.lib import data

from .arithmetic import accumulator_shape
from .dot import DotRows, check_size, weight_layout
from .formats import APoT, Term, check_bool
from .sums import adder_levels, registered, tree


class ShiftDot(DotRows):
    """Dot products of additive powers of two (APoT, eq. 5 and 6).

    Every term of a weight selects one shift of the activation, or nothing, and has an adder tree of its own;
    the trees' sums are added last.  The sign complements the activation before it is shifted, which leaves
    a negative product too small by the weight's magnitude.

    *Exact*: what is missing enters the adders as carries.

    *Folded*: activations are complemented without a sign bit, so that all sums are unsigned, and too large
    by ``(2^activation_width - 1) · max(0, -level)`` for every product.  That depends on the weights alone,
    and whoever packs them subtracts it from the channel's bias.

    Parameters
    ----------
    weight_format : APoT
        A signed format.
    activation_width : int
        Bits of an unsigned activation, 1 to 16.
    lanes, rows : int
        See `DotRows`.
    depth : int
        The most products that are ever summed in a row between two clears, over all lanes.
    accumulator_width : int or None
        Bits of an accumulator; by default what `depth` needs.
    folded : bool
        Leave out the correction of negative weights: smaller.

    Members
    -------
    latency : int
        Cycles from inputs to `accumulators`: one for the accumulator, one or, with more than one shift in a
        term, two for the products, and one for every adder level.
    activations : In(ArrayLayout(activation_width, lanes))
    enable, clear, weights, accumulators
        See `DotRows`; accumulators are signed or, if folded, unsigned.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong, or the accumulator is too narrow for `depth`.
    """

    def __init__(
        self,
        *,
        weight_format: APoT,
        activation_width: int,
        lanes: int,
        depth: int,
        rows: int = 1,
        accumulator_width: int | None = None,
        folded: bool = False,
    ) -> None:
        check_weights(weight_format)
        check_size(activation_width=activation_width, lanes=lanes, rows=rows, depth=depth)
        check_bool("folded", folded)
        self.folded = folded
        self._terms = weight_format.terms
        self._two_stages = any(len(term.shifts) > 1 for term in self._terms)
        self._late_selection = _late_selection_is_smaller(self._terms, activation_width)
        super().__init__(
            inputs={
                "weights": weight_layout(weight_format.code_width, lanes=lanes, rows=rows),
                "activations": data.ArrayLayout(activation_width, lanes),
            },
            rows=rows,
            flight=1 + self._two_stages + adder_levels(lanes) + adder_levels(len(self._terms)),
            accumulator_shape=accumulator_shape(
                weight_format=weight_format,
                activation_width=activation_width,
                depth=depth,
                folded=folded,
                width=accumulator_width,
            ),
        )

    def _row(self, m: Module, number: int, _shared: Any) -> tuple[Value, Value]:
        weights = self.weights[number]
        lanes = [
            self._addends(m, weights[lane], self.activations[lane], name=f"lane{lane}")
            for lane in range(len(self.activations))
        ]
        sums: list[Value] = []
        carries: list[Value] = []
        for term, addends in zip(self._terms, zip(*lanes, strict=True), strict=True):
            total, carry, _ = tree(m, [each[0] for each in addends], [each[1] for each in addends])
            # (2^shift - 1) · carry, so that the sum with one carry more is 2^shift times what it was
            sums.append(_shifted(total, min(term.shifts), carry))
            carries.append(carry)
        return tree(m, sums, carries)[:2]

    def _addends(self, m: Module, code: Value, activation: Value, *, name: str) -> list[tuple[Value, Value]]:
        """For each term what it selects, over its lowest power of two, and a carry that is missing."""
        sign = code[-1]
        value: Value = activation ^ sign.replicate(len(activation))
        if not self.folded:
            value = Cat(value, sign).as_signed()
        late = registered(m, value, name=f"{name}_value") if self._late_selection else value
        addends = []
        for number, term in enumerate(self._terms):
            field = code[term.offset : term.offset + term.width]
            shifts = [shift - min(term.shifts) for shift in term.shifts]
            each = f"{name}_term{number}"
            if len(shifts) == 1:
                addends.append(self._gated(m, field, sign, value, name=each))
            elif self._late_selection:
                addends.append(self._selected(m, field, sign, late, shifts, name=each))
            else:
                addends.append(self._selected_twice(m, field, sign, value, shifts, name=each))
        return addends

    def _gated(self, m: Module, field: Value, sign: Value, value: Value, *, name: str) -> tuple[Value, Value]:
        """`value` or nothing; later by a cycle if the other terms take two."""
        addend = self._addend(m, _only_if(field, value, len(value)), sign & field, name=name)
        if not self._two_stages:
            return addend
        return registered(m, addend[0], name=f"{name}_late"), self._carry(m, addend[1], name=f"{name}_late")

    def _selected(
        self, m: Module, field: Value, sign: Value, value: Value, shifts: Sequence[int], *, name: str
    ) -> tuple[Value, Value]:
        """`value`, which comes a cycle later, shifted by what `field` selects, or nothing."""
        field = registered(m, field, name=f"{name}_field")
        sign = self._carry(m, sign, name=f"{name}_sign")
        choices = [
            _only_if(field == number, _shifted(value, shift, sign), len(value) + max(shifts))
            for number, shift in enumerate(shifts, start=1)
        ]
        return self._addend(m, reduce(or_, choices), sign & field.any(), name=name)

    def _selected_twice(
        self, m: Module, field: Value, sign: Value, value: Value, shifts: Sequence[int], *, name: str
    ) -> tuple[Value, Value]:
        """`value` shifted by one of three, the largest first, or nothing: in two 4-input tables a bit.

        The first sees two bits of activation, one of field, and the sign; the second two bits of the first,
        and the field.  The first turns the value in place of shifting it: what leaves at the top or is empty
        at the bottom is never both.
        """
        high, middle, low = shifts
        step = high - middle
        turned = Cat(value[-step:], value[:-step])
        near = registered(m, Mux(field[1], value.as_unsigned(), turned), name=f"{name}_near")
        field = registered(m, field, name=f"{name}_field")
        sign = self._carry(m, sign, name=f"{name}_sign")
        fill = sign.replicate(step)
        near = Cat(Mux(field[1], near[:step], fill), near[step:], Mux(field[1], fill, near[:step]))
        width = len(near) + middle - low
        near = near if self.folded else near.as_signed()
        raised = _shifted(near, middle - low, sign)
        far = _only_if(field == 3, near, width) | _only_if(field[0] ^ field[1], raised, width)
        return self._addend(m, far, sign & field.any(), name=name)

    def _addend(self, m: Module, value: Value, carry: Value, *, name: str) -> tuple[Value, Value]:
        shaped = value.as_unsigned() if self.folded else value.as_signed()
        return registered(m, shaped, name=name), self._carry(m, carry, name=f"{name}_carry")

    def _carry(self, m: Module, carry: Value, *, name: str) -> Value:
        return Const(0) if self.folded else registered(m, carry, name=name)


def check_weights(weight_format: object) -> None:
    """Refuse what is not a signed format of additive powers of two (TypeError, ValueError)."""
    if not isinstance(weight_format, APoT):
        raise TypeError(f"weight_format must be an APoT or PoT format, not {weight_format!r}")
    if not weight_format.signed:
        raise ValueError(f"weight_format must be signed, not {weight_format.name!r}")


def _shifted(value: Value, shift: int, fill: Value) -> Value:
    """`value` above `shift` bits of `fill`."""
    joined = Cat(fill.replicate(shift), value)
    return joined.as_signed() if value.shape().signed else joined


def _only_if(condition: Value, value: Value, width: int) -> Value:
    """`value` in `width` bits, or 0: gates, since synthesis makes a reset for each lane of a choice of 0."""
    extended = Cat(value, (value[-1] if value.shape().signed else Const(0)).replicate(width - len(value)))
    return extended & condition.replicate(width)


def _late_selection_is_smaller(terms: Sequence[Term], width: int) -> bool:
    """Whether to complement an activation once and select in one stage, not to select twice for each term.

    Counted in 4-input tables: two bits and a field of two bits fit in one, three bits take two.
    """
    choices = [term.shifts for term in terms if len(term.shifts) > 1]
    if any(len(shifts) != 3 for shifts in choices):
        return True
    twice = sum(2 * width + max(shifts) - min(shifts) for shifts in choices)
    late = width
    for shifts in choices:
        for bit in range(min(shifts), max(shifts) + width):
            late += 1 if sum(0 <= bit - shift < width for shift in shifts) < 3 else 2
    return late < twice

"""Pipelined sums: adder trees of equal terms, and weighted sums by shifts and adds."""

from collections.abc import Sequence
from typing import NamedTuple

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed, unsigned

from .arithmetic import add
from .formats import signed_width
from .formats.digits import signed_digits


def registered(m: Module, value: Value, *, name: str) -> Signal:
    """Data after a register; without a reset, since a reset drops the `enable` that would add it."""
    register = Signal(value.shape(), name=name, reset_less=True)
    m.d.sync += register.eq(value)
    return register


def adder_levels(terms: int) -> int:
    """Levels of two-operand adders that add up so many terms."""
    return (terms - 1).bit_length()


def tree(m: Module, terms: Sequence[Value], carries: Sequence[Value]) -> tuple[Value, Value, int]:
    """Sum of as many terms as carries, a register after every level of two-operand adders.

    Returns
    -------
    term, carry : Value
        The sum is ``term + carry``, as every term was with its carry.
    levels : int
        Cycles that it takes.
    """
    terms, carries, level = list(terms), list(carries), 0
    while len(terms) > 1:
        level += 1
        terms, carries = _halve(m, terms, carries, level=level)
    return terms[0], carries[0], level


def _halve(
    m: Module, terms: list[Value], carries: list[Value], *, level: int
) -> tuple[list[Value], list[Value]]:
    """One level of the tree: neighbours added with one carry each; the other carries move on."""
    sums: list[Value] = []
    for i in range(0, len(terms) - 1, 2):
        sums.append(registered(m, add(terms[i], terms[i + 1], carries[i]), name=f"sum{level}_{i // 2}"))
    if len(terms) % 2:
        sums.append(registered(m, terms[-1], name=f"sum{level}_{len(terms) // 2}"))
    left = carries[1::2] + (carries[-1:] if len(terms) % 2 else [])
    if isinstance(left[0], Const):
        return sums, left
    return sums, [registered(m, carry, name=f"carry{level}_{i}") for i, carry in enumerate(left)]


class Weighted(NamedTuple):
    """A value from `low` to `high`, and the integer it is multiplied by in a sum."""

    value: Value
    weight: int
    low: int
    high: int


class _Partial(NamedTuple):
    """``sign · 2^shift · value``, value from `low` to `high`."""

    value: Value
    shift: int
    sign: int
    low: int
    high: int


def weighted_sum(m: Module, addends: Sequence[Weighted]) -> tuple[Value, int]:
    """``Σ weight · value`` by shifts and two-operand adders, a register after every level.

    Weights are positive.  Every partial sum is exactly as wide as its range needs.

    Returns
    -------
    sum : Value
    levels : int
        Cycles that it takes: none for a single power of two.
    """
    parts = [
        _Partial(each.value, digit.shift, digit.sign, each.low, each.high)
        for each in addends
        for digit in signed_digits(each.weight)
    ]
    parts.sort(key=lambda part: part.shift)
    levels = 0
    while len(parts) > 1:
        pairs = [parts[i : i + 2] for i in range(0, len(parts), 2)]
        parts = [_pair(m, pair, name=f"part{levels}_{i}") for i, pair in enumerate(pairs)]
        levels += 1
    return parts[0].value << parts[0].shift, levels


def _pair(m: Module, pair: Sequence[_Partial], *, name: str) -> _Partial:
    """One or two partial sums as one, after a register; a minus of both stays outside."""
    near = pair[0]
    if len(pair) == 1:
        return near._replace(value=registered(m, near.value, name=name))
    far = pair[1]
    if near.sign != far.sign and near.sign < 0:
        return _registered_partial(m, far, near, name=name)
    return _registered_partial(m, near, far, name=name)


def _registered_partial(m: Module, first: _Partial, second: _Partial, *, name: str) -> _Partial:
    """``first ± second``: minus if their signs differ, when the first's is plus."""
    shift = min(first.shift, second.shift)
    left, right = first.shift - shift, second.shift - shift
    plus = first.sign == second.sign
    low = (first.low << left) + ((second.low << right) if plus else -(second.high << right))
    high = (first.high << left) + ((second.high << right) if plus else -(second.low << right))
    # Not a range: those have less than 2^63 members.
    shape = signed(signed_width(low, high)) if low < 0 else unsigned(high.bit_length())
    register = Signal(shape, name=name, reset_less=True)
    m.d.sync += register.eq(_shifted_sum(first.value, left, second.value, right, plus=plus))
    return _Partial(register, shift, first.sign if plus else 1, low, high)


def _shifted_sum(first: Value, left: int, second: Value, right: int, *, plus: bool) -> Value:
    """``(first << left) ± (second << right)``, one of the shifts 0; low bits stay out of the adder."""
    if left and plus:
        first, second, left, right = second, first, right, left
    if left:
        return (first << left) - second
    upper = first >> right
    total = upper + second if plus else upper - second
    joined = Cat(_extended(first, right)[:right], total)
    return joined.as_signed() if total.shape().signed else joined


def _extended(value: Value, width: int) -> Value:
    """`value` of at least `width` bits."""
    more = max(0, width - len(value))
    return Cat(value, (value[-1] if value.shape().signed else Const(0, 1)).replicate(more))

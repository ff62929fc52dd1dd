"""Sums that stay carry chains: two-operand adders, a register per level, one accumulator."""

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .formats import Format, check_int, signed_width

MAX_DEPTH = 2**24


def add(left: Value, right: Value, carry: Value) -> Value:
    """``left + right + carry`` in one carry chain; a constant carry of 0 costs nothing.

    A third operand would make yosys build a carry-save tree out of LUTs; a least significant bit pair
    ``1 + carry`` in front of the chain gives the same sum.
    """
    if isinstance(carry, Const):
        return left + right + carry
    operands = [_with_low_bit(left, Const(1, 1)), _with_low_bit(right, carry)]
    return (operands[0] + operands[1]) >> 1


def _with_low_bit(value: Value, bit: Value) -> Value:
    extended = Cat(bit, value)
    return extended.as_signed() if value.shape().signed else extended


class Accumulator(wiring.Component):
    """Sums terms; ``clear`` starts from zero.

    A cycle with `enable` adds ``term + carry``; with `clear` too, the sum starts with it.  A cycle with
    `clear` alone sets the sum to zero.  Latency 1 cycle, one term a cycle.

    Parameters
    ----------
    term_shape, shape : Shape
        Of the term and of the sum; whoever chooses them proves that the sum cannot overflow.

    Members
    -------
    enable, clear : In(1)
    term : In(term_shape)
    carry : In(1)
    accumulator : Out(shape)
    """

    def __init__(self, *, term_shape: Shape, shape: Shape) -> None:
        super().__init__(
            {
                "enable": In(1),
                "clear": In(1),
                "term": In(term_shape),
                "carry": In(1),
                "accumulator": Out(shape),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        base = Mux(self.clear, Const(0, self.accumulator.shape()), self.accumulator)
        with m.If(self.enable):
            m.d.sync += self.accumulator.eq(add(base, self.term, self.carry))
        with m.If(self.clear & ~self.enable):  # last, so that it becomes the registers' synchronous reset
            m.d.sync += self.accumulator.eq(0)
        return m


def accumulator_shape(
    *, weight_format: Format, activation_width: int, depth: int, folded: bool, width: int | None = None
) -> Shape:
    """Shape of an accumulator for sums of `depth` products, proven wide enough from the extreme levels.

    Parameters
    ----------
    depth : int
        The most products that are ever summed.
    folded : bool
        Products are unsigned (see `Product`).
    width : int or None
        A wider accumulator than the derived one.

    Raises
    ------
    TypeError, ValueError
        If `depth` is out of range, or `width` is narrower than the sums need.
    """
    check_int("depth", depth, low=1, high=MAX_DEPTH)
    low, high = weight_format.sum_range(depth=depth, activation_max=2**activation_width - 1)
    if folded:
        low, high = 0, max(high, -low)
    return sum_shape(low, high, depth=depth, signed=not folded, width=width)


def sum_shape(low: int, high: int, *, depth: int, signed: bool, width: int | None = None) -> Shape:
    """Shape of an accumulator for sums from `low` to `high`, which are of `depth` products; `width` as above.

    Raises
    ------
    TypeError, ValueError
        If `width` is out of range or narrower than the sums need.
    """
    needed = signed_width(low, high) if signed else high.bit_length()
    if width is None:
        width = needed
    check_int("accumulator_width", width, low=1, high=128)
    if width < needed:
        raise ValueError(
            f"accumulator_width must be at least {needed} for sums of {depth} products, not {width!r}"
        )
    return Shape(width, signed=signed)

"""Fixed-point arithmetic of wide sums: factors in parts, shifts in stages, saturation."""

from amaranth.hdl import Module, Mux, Shape, Signal, Value

from .dot import delayed
from .parameters import LIMB_WIDTH, SHIFT_WIDTH
from .sums import Weighted

FINE_BITS = 3


def limbs(value: Signal, count: int) -> list[Value]:
    """`value` in parts that a multiplier block takes, the lowest first; the highest has its sign."""
    starts = [index * LIMB_WIDTH for index in range(count)]
    *lower, top = [value[start : start + LIMB_WIDTH] for start in starts[:-1]] + [value[starts[-1] :]]
    return [*lower, top.as_signed() if value.shape().signed else top]


def weighted(value: Signal, *, place: int = 0) -> Weighted:
    """A signed value as a term of a sum, at any of its values."""
    reach = 1 << (len(value) - 1)
    return Weighted(value, 1 << place, -reach, reach - 1)


def shifted(m: Module, total: Signal, shift: Value, *, lane: int) -> Signal:
    """``total >> shift`` in two stages, saturated enough to be a result."""
    fine = Signal.like(total, name=f"fine{lane}")
    coarse = Signal.like(total, name=f"coarse{lane}")
    m.d.sync += fine.eq(total >> shift[:FINE_BITS])
    rest = delayed(m, shift[FINE_BITS:], cycles=1)
    distance = Signal(SHIFT_WIDTH)
    m.d.comb += distance.eq(rest << FINE_BITS)
    m.d.sync += coarse.eq(fine >> distance)
    return coarse


def saturated(value: Signal, shape: Shape) -> Value:
    """`value` clipped to the range of `shape`."""
    top = value[shape.width - 1 :]
    fits = (top == 0) | top.all()
    limit = Mux(value[-1], -(1 << (shape.width - 1)), (1 << (shape.width - 1)) - 1)
    return Mux(fits, value[: shape.width].as_signed(), limit)

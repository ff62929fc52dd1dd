"""Functions that are constant between a few numbers, as circuits: values become codes, and codes levels."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

_Flips = tuple[int, ...]


def piecewise(m: Module, value: Value, *, starts: Sequence[int], results: Sequence[int], name: str) -> Value:
    """``results[i]``, where `i` is the last piece whose start is at most `value`.

    Each bit of the result is a reduced decision diagram of the bits of `value`, most significant first,
    and equal parts are built once.  A bit of the result that equals one of `value` costs nothing, which a
    table leaves to synthesis to find, and comparators hide from it.

    Parameters
    ----------
    value
        Unsigned.
    starts
        Where the pieces begin, ascending from 0.
    results
        The non-negative integer of every piece.
    name
        Prefix of the signals' names.
    """
    diagram = _Diagram(m, value.as_unsigned(), name=name)
    width = max(results).bit_length()
    return Cat(diagram.bit(_flips(starts, [result >> i & 1 for result in results])) for i in range(width))


def _flips(starts: Sequence[int], bits: Sequence[int]) -> _Flips:
    """Where a bit that was 0 before the first piece changes."""
    before = [0, *bits]
    return tuple(start for start, old, new in zip(starts, before, bits, strict=False) if old != new)


class _Diagram:
    """Functions of one value, each given by the numbers from which on it changes."""

    def __init__(self, m: Module, value: Value, *, name: str) -> None:
        self._m = m
        self._value = value
        self._name = name
        self._built: dict[tuple[int, int, _Flips], Value] = {}

    def bit(self, flips: _Flips) -> Value:
        return self._node(len(self._value), 0, flips)

    def _node(self, width: int, first: int, flips: _Flips) -> Value:
        """A function of the lowest `width` bits that is `first` until the first flip."""
        if flips and flips[0] == 0:
            first, flips = 1 - first, flips[1:]
        if not flips:
            return Const(first, 1)
        key = (width, first, flips)
        if key not in self._built:
            self._built[key] = self._decision(width, first, flips)
        return self._built[key]

    def _decision(self, width: int, first: int, flips: _Flips) -> Value:
        half, bit = 1 << (width - 1), self._value[width - 1]
        if flips == (half,):
            return ~bit if first else bit
        low = tuple(flip for flip in flips if flip < half)
        high = tuple(flip - half for flip in flips if flip >= half)
        zero = self._node(width - 1, first, low)
        one = self._node(width - 1, first ^ len(low) & 1, high)
        if zero is one:
            return zero
        decided = Signal(name=f"{self._name}_{len(self._built)}")
        self._m.d.comb += decided.eq(Mux(bit, one, zero))
        return decided

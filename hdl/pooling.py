"""Pooling: the maximum or the sum of the values in a window."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .layouts import pooled_word, values_word
from .parameters import AcceleratorParameters


class Pooling(wiring.Component):
    """Pools a window of pixels, each of ``groups`` words, which come one a cycle.

    A window starts with `first`, and its words follow without a gap: all groups of a pixel, pixel after
    pixel.  The ring below turns every cycle, so that each group's pixels meet in one place.  Sums of up to
    `MAX_WINDOW` values cannot overflow.  Groups that only have pixels which are not `inside` are 0.

    Parameters
    ----------
    parameters : AcceleratorParameters

    Members
    -------
    first : In(1)
        This word is its window's first; until then, words mean nothing.
    inside : In(1)
        This word is part of the tensor; others change nothing.
    maximum : In(1)
        Take the maximum; if not, the sum.
    word : In(values_word)
    pooled : Out(pooled_word)
        In the ``groups`` cycles after a window's last word, its groups, one a cycle.
    """

    def __init__(self, *, parameters: AcceleratorParameters) -> None:
        self._groups = parameters.groups
        super().__init__(
            {
                "first": In(1),
                "inside": In(1),
                "maximum": In(1),
                "word": In(values_word(parameters)),
                "pooled": Out(pooled_word(parameters)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        ring = Signal(data.ArrayLayout(self.pooled.shape(), self._groups))
        begun = Signal(self._groups)
        oldest = ring[self._groups - 1]
        earlier = begun[-1] & ~self.first
        newest = Signal.like(self.pooled)
        for before, value, after in zip(oldest, self.word, newest, strict=True):
            # A pooled maximum is as narrow as a value.
            larger = ~earlier | (value > before[: len(value)].as_signed())
            total = Mux(earlier, before, 0) + Mux(self.inside & ~self.maximum, value, 0)
            m.d.comb += after.eq(Mux(self.inside & self.maximum & larger, value, total))
        m.d.sync += [
            ring.eq(Cat(newest, ring)),
            begun.eq(Cat(earlier | self.inside, begun & ~self.first.replicate(self._groups))),
        ]
        m.d.comb += self.pooled.eq(oldest)
        return m

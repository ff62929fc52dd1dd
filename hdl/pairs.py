"""Sums and differences of pairs of activations: what dot products on planes share in front of their rows."""

from typing import Any

from amaranth.hdl import Const, Module, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .dot import check_size
from .formats import check_bool
from .sums import registered, tree


class PairTables(wiring.Component):
    """Sum and difference of each pair of neighbouring activations: the front end that rows share.

    A plane of two lanes is one of ``±(a0 + a1)`` and ``±(a0 - a1)``, so a row only selects.  Latency 1
    cycle, one vector a cycle, no back-pressure.  A synchronous `rst` sets sums and differences to 0.  A last
    activation without a neighbour has 0 for one.

    Parameters
    ----------
    activation_width, lanes : int
    folded : bool
        Differences are larger by ``2^activation_width - 1``, and unsigned.
    with_total : bool
        Plain integers need the sum of all activations too.

    Members
    -------
    latency : int
    activations : In(ArrayLayout(activation_width, lanes))
    sums, differences : Out(ArrayLayout(…, pairs))
    total : Out
        If `with_total`: the sum of all activations or, if folded, what it is short of its largest; later
        than the sums, by as much as rows take to add up a plane.
    """

    latency = 1

    def __init__(
        self, *, activation_width: int, lanes: int, folded: bool = False, with_total: bool = False
    ) -> None:
        check_size(activation_width=activation_width, lanes=lanes, rows=1, depth=1)
        check_bool("folded", folded)
        check_bool("with_total", with_total)
        self._folded = folded
        self._pairs = (lanes + 1) // 2
        self._most = lanes * (2**activation_width - 1)
        self._with_total = with_total
        super().__init__(
            {
                "activations": In(data.ArrayLayout(activation_width, lanes)),
                **{
                    name: Out(shape)
                    for name, shape in table_layouts(activation_width, lanes, folded, with_total).items()
                },
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        lanes = [self.activations[lane] for lane in range(len(self.activations))]
        lanes += [Const(0, len(lanes[0]))] * (2 * self._pairs - len(lanes))
        for pair, (left, right) in enumerate(zip(lanes[::2], lanes[1::2], strict=True)):
            difference = left + ~right if self._folded else left - right
            m.d.sync += [self.sums[pair].eq(left + right), self.differences[pair].eq(difference)]
        if self._with_total:
            sums = [self.sums[pair] for pair in range(self._pairs)]
            total = tree(m, sums, [Const(0)] * len(sums))[0]
            if self._folded:
                total = (Const(self._most) - total)[: len(self.total)]
            else:  # an exact row adds up a plane's carry by itself
                total = registered(m, total, name="early_total")
            m.d.comb += self.total.eq(registered(m, total, name="total_of_plane"))
        return m


def table_layouts(activation_width: int, lanes: int, folded: bool, with_total: bool) -> dict[str, Any]:
    """The ports between `PairTables` and `PlaneRows`."""
    pairs, width = (lanes + 1) // 2, activation_width + 1
    layouts: dict[str, Any] = {
        "sums": data.ArrayLayout(unsigned(width), pairs),
        "differences": data.ArrayLayout(unsigned(width) if folded else signed(width), pairs),
    }
    if with_total:
        layouts["total"] = unsigned((lanes * (2**activation_width - 1)).bit_length())
    return layouts

"""Dot products of weights from any codebook: sums of levels are looked up, not multiplied."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Shape, Value
from amaranth.lib import data, memory

from .arithmetic import sum_shape
from .dot import DotRows, check_size
from .formats import check_bool, check_int
from .formats.subsets import GROUP, word_range
from .sums import Weighted, adder_levels, registered, tree, weighted_sum

MAX_LEVEL_WIDTH = 16


class CodebookDot(DotRows):
    """Dot products of weights that stay while many vectors pass: the levels may be any integers.

    Four neighbouring lanes of a row share a table of the sums of their levels, over every subset of the four
    (distributed arithmetic).  Each bit of the activations looks up one of them: the lanes whose bit is 1.
    A table is copied for every bit, so its cost grows with the activations' width and not with the number
    of levels.  Copies are small memories with asynchronous read ports: lookup-table memory on FPGAs.

    The contract is that of `DotRows`, but for the weights: they are written beforehand, 16 words for four
    lanes of a row (`hdl.formats.subset_sums`).  A vector that meets a word in the cycle in which it is
    written finds the old one.  Before the first write the tables hold zeros, as if all levels were 0.

    Parameters
    ----------
    level_width : int
        Bits of a level in two's complement, 2 to 16.  Levels are symmetric: the lowest value is not one.
    activation_width : int
        Bits of an unsigned activation, 1 to 16.
    lanes, rows : int
        See `DotRows`.
    depth : int
        The most products that are ever summed in a row between two clears, over all lanes.
    accumulator_width : int or None
        Bits of an accumulator; by default what `depth` needs.
    folded : bool
        Words are larger by what makes them unsigned, which saves a bit: see `hdl.formats.subset_sums`.
        Accumulators are then unsigned, and for every vector too large by ``2^activation_width - 1`` times the
        sum of ``max(0, -level)`` over all lanes.

    Members
    -------
    latency : int
        Cycles from `activations` to `accumulators`.
    word_shape : Shape
        Of a word of the tables.
    activations : In(ArrayLayout(activation_width, lanes))
    write_enable : In(1)
    write_row, write_group, write_entry : In
        Which word: of which row, of which four lanes, and of which subset (lane 0 of the four in bit 0).
    write_data : In(word_shape)
    enable, clear, accumulators
        See `DotRows`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong, or the accumulator is too narrow for `depth`.
    """

    def __init__(
        self,
        *,
        level_width: int,
        activation_width: int,
        lanes: int,
        depth: int,
        rows: int = 1,
        accumulator_width: int | None = None,
        folded: bool = False,
    ) -> None:
        check_int("level_width", level_width, low=2, high=MAX_LEVEL_WIDTH)
        check_size(activation_width=activation_width, lanes=lanes, rows=rows, depth=depth)
        check_bool("folded", folded)
        self.folded = folded
        self._groups = -(-lanes // GROUP)
        self._activation_width = activation_width
        self._word_range = word_range(level_width, folded=folded)
        self.word_shape = Shape.cast(range(self._word_range[0], self._word_range[1] + 1))
        most = depth * (2 ** (level_width - 1) - 1) * (2**activation_width - 1)
        super().__init__(
            inputs={
                "activations": data.ArrayLayout(activation_width, lanes),
                "write_enable": 1,
                "write_row": range(rows),
                "write_group": range(self._groups),
                "write_entry": range(2**GROUP),
                "write_data": self.word_shape,
            },
            rows=rows,
            flight=1 + adder_levels(self._groups) + adder_levels(activation_width),
            accumulator_shape=sum_shape(
                0 if folded else -most, most, depth=depth, signed=not folded, width=accumulator_width
            ),
        )

    def _row(self, m: Module, number: int, _shared: Any) -> tuple[Value, Value]:
        low, high = (self._groups * end for end in self._word_range)
        bits = [
            Weighted(self._bit(m, number, bit), 1 << bit, low, high) for bit in range(self._activation_width)
        ]
        return weighted_sum(m, bits)[0], Const(0)

    def _bit(self, m: Module, number: int, bit: int) -> Value:
        """The levels of the lanes in which this bit of the activation is 1, added up."""
        ones = [*self.activations.as_value()[bit :: self._activation_width]]
        words: list[Value] = []
        for group in range(self._groups):
            name = f"bit{bit}_group{group}"
            m.submodules[f"table_{name}"] = table = memory.Memory(
                shape=self.word_shape, depth=2**GROUP, init=[]
            )
            write, read = table.write_port(), table.read_port(domain="comb")
            written = self.write_enable & (self.write_row == number) & (self.write_group == group)
            four = Cat(ones[GROUP * group : GROUP * (group + 1)])
            m.d.comb += [
                write.en.eq(written),
                write.addr.eq(self.write_entry),
                write.data.eq(self.write_data),
                read.addr.eq(four),
            ]
            words.append(registered(m, read.data, name=f"word_{name}"))
        return tree(m, words, [Const(0)] * len(words))[0]

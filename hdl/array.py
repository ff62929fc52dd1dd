"""The array: a front end that decodes each activation once, and rows that all use it."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .dot import DotProduct, delayed
from .layouts import activation_word, weight_word
from .parameters import AcceleratorParameters


class FrontEnd(wiring.Component):
    """Decodes activation codes to unsigned levels, one table look-up per lane, shared by all rows.

    Latency 1 cycle, one word a cycle, no back-pressure.  The tables are loaded at run time; a word that
    is written while it is read is decoded with its old contents.

    Parameters
    ----------
    parameters : AcceleratorParameters

    Members
    -------
    latency : int
    codes : In(activation_word)
    table : In(log2 tables)
        Which table decodes this word.
    inside : In(1)
        The word is inside the tensor; if not, every level is 0 (padding).
    levels : Out(ArrayLayout(activation_width, lanes))
    write_enable, write_address, write_data : In
        Write port of the tables; an address is the table, then the code.
    """

    latency = 1

    def __init__(self, *, parameters: AcceleratorParameters) -> None:
        self._parameters = p = parameters
        self._depth = p.tables << p.code_width
        super().__init__(
            {
                "codes": In(activation_word(p)),
                "table": In((p.tables - 1).bit_length()),
                "inside": In(1),
                "levels": Out(data.ArrayLayout(p.activation_width, p.lanes)),
                "write_enable": In(1),
                "write_address": In((self._depth - 1).bit_length()),
                "write_data": In(p.activation_width),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        p = self._parameters
        for lane in range(p.lanes):
            # A table of its own per lane: yosys does not split one memory with many read ports well.
            m.submodules[f"table{lane}"] = table = memory.Memory(
                shape=unsigned(p.activation_width), depth=self._depth, init=[]
            )
            write, read = table.write_port(), table.read_port(domain="comb")
            m.d.comb += [
                write.en.eq(self.write_enable),
                write.addr.eq(self.write_address),
                write.data.eq(self.write_data),
                read.addr.eq((self.table << p.code_width) | self.codes[lane]),
            ]
            m.d.sync += self.levels[lane].eq(Mux(self.inside, read.data, 0))
        return m


class Array(wiring.Component):
    """`rows` × `lanes` products a cycle into `rows` accumulators.

    A cycle with `enable` adds, in every row, the dot product of that row's weights and the decoded
    activations; with `clear` too, the sums start with it.  The result stands in `accumulators` after
    `latency` cycles.  One word pair a cycle, no back-pressure.  Sums of up to `depth` products cannot
    overflow.  Rows are folded where the format allows it (`AcceleratorParameters.fold`).

    Parameters
    ----------
    parameters : AcceleratorParameters

    Members
    -------
    latency : int
    accumulator_shape : Shape
    enable, clear : In(1)
    weights : In(weight_word)
    codes, table, inside, write_enable, write_address, write_data : In
        See `FrontEnd`.
    accumulators : Out(ArrayLayout(accumulator_shape, rows))
    """

    def __init__(self, *, parameters: AcceleratorParameters) -> None:
        p = parameters
        self._front = FrontEnd(parameters=p)
        self._rows = [
            DotProduct(
                weight_format=p.format,
                activation_width=p.activation_width,
                lanes=p.lanes,
                depth=p.depth,
                folded=p.folded,
            )
            for _ in range(p.rows)
        ]
        self.latency = self._front.latency + self._rows[0].latency
        self.accumulator_shape = self._rows[0].accumulator.shape()
        shared = ("codes", "table", "inside", "write_enable", "write_address", "write_data")
        members = self._front.signature.members
        super().__init__(
            {
                "enable": In(1),
                "clear": In(1),
                "weights": In(weight_word(p)),
                **{name: members[name] for name in shared},
                "accumulators": Out(data.ArrayLayout(self.accumulator_shape, p.rows)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.front = front = self._front
        m.d.comb += [
            front.codes.eq(self.codes),
            front.table.eq(self.table),
            front.inside.eq(self.inside),
            front.write_enable.eq(self.write_enable),
            front.write_address.eq(self.write_address),
            front.write_data.eq(self.write_data),
        ]
        weights = Signal.like(self.weights)
        m.d.sync += weights.eq(self.weights)
        enable = delayed(m, self.enable, cycles=front.latency)
        clear = delayed(m, self.clear, cycles=front.latency)
        for index, row in enumerate(self._rows):
            m.submodules[f"row{index}"] = row
            m.d.comb += [
                row.enable.eq(enable),
                row.clear.eq(clear),
                row.weights.eq(weights[index]),
                row.activations.eq(front.levels),
                self.accumulators[index].eq(row.accumulator),
            ]
        return m

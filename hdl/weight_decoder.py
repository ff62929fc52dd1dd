"""Weight decoder: indices in memory become the codes that rows take, by a codebook loaded for each layer."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .companding import LoadableTable, TableWrite
from .dot import weight_layout
from .layouts import weight_word
from .parameters import AcceleratorParameters


class WeightDecoder(wiring.Component):
    """Looks up the code of every row's and lane's weight in one codebook, once for all arrays.

    A codebook has ``2^index_width`` codes of the array's weight format, so it may hold whatever levels a
    layer was trained to have.  Every weight has a copy of its own, since all are read in each cycle: small
    memories with asynchronous read ports, lookup-table memory on FPGAs.

    Latency 1 cycle, one word a cycle, no back-pressure.  Indices are registered, then looked up: a word sees
    the entries that are written until the cycle in which it comes in.  Entries are 0 until written.

    Parameters
    ----------
    parameters : AcceleratorParameters
        With codebooks.

    Members
    -------
    latency : int
    weights : In(weight_word)
    held_weights : Out(weight_word)
        `weights`, one cycle later.
    codes : Out(weight_layout)
        Codes of the weight format.
    write : In(TableWrite)
        Writes an entry for all weights.
    """

    latency = 1

    def __init__(self, *, parameters: AcceleratorParameters) -> None:
        p = parameters
        self._tables = [
            LoadableTable(address_width=p.index_width, word_width=p.format.code_width, ports=p.lanes)
            for _ in range(p.rows)
        ]
        super().__init__(
            {
                "weights": In(weight_word(p)),
                "held_weights": Out(weight_word(p)),
                "codes": Out(weight_layout(p.format.code_width, lanes=p.lanes, rows=p.rows)),
                "write": In(TableWrite(address_width=p.index_width, data_width=p.format.code_width)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        indices = Signal.like(self.weights, reset_less=True)
        m.d.sync += indices.eq(self.weights)
        m.d.comb += self.held_weights.eq(indices)
        for number, table in enumerate(self._tables):
            m.submodules[f"row{number}"] = table
            wiring.connect(m, wiring.flipped(self.write), table.write)
            m.d.comb += [table.addresses.eq(indices[number]), self.codes[number].eq(table.words)]
        return m

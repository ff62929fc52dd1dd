"""Boundary encoder: a value becomes the rank code of the level it is nearest to."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .layouts import VALUE
from .parameters import AcceleratorParameters


class Encoder(wiring.Component):
    """Counts the boundaries that lie below each value, by binary search, one code bit a stage.

    Boundaries are loaded at run time, in the order of `layouts.search_order`.  A value equal to a
    boundary keeps the lower code, and negative values get code 0 since boundaries are positive.
    Latency `code_width` cycles, `requantizers` values a cycle, no back-pressure.

    Parameters
    ----------
    parameters : AcceleratorParameters

    Members
    -------
    latency : int
    values : In(ArrayLayout(VALUE, requantizers))
    encoding : In(log2 encodings)
        Which boundaries apply to these values.
    codes : Out(ArrayLayout(code_width, requantizers))
    write_enable, write_address, write_data : In
        Write port of the boundaries; an address is the encoding, then the entry.
    """

    def __init__(self, *, parameters: AcceleratorParameters) -> None:
        self._parameters = p = parameters
        self.latency = p.code_width
        super().__init__(
            {
                "values": In(data.ArrayLayout(VALUE, p.requantizers)),
                "encoding": In((p.encodings - 1).bit_length()),
                "codes": Out(data.ArrayLayout(p.code_width, p.requantizers)),
                "write_enable": In(1),
                "write_address": In(((p.encodings << p.code_width) - 1).bit_length()),
                "write_data": In(VALUE),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        p = self._parameters
        encoding = self.encoding
        values = [self.values[i] for i in range(p.requantizers)]
        codes = [Signal(0) for _ in range(p.requantizers)]
        for stage in range(p.code_width):
            m.submodules[f"boundaries{stage}"] = nodes = memory.Memory(
                shape=VALUE, depth=p.encodings << stage, init=[]
            )
            self._connect_write(m, nodes, stage=stage)
            next_encoding = Signal.like(encoding, name=f"encoding{stage}")
            m.d.sync += next_encoding.eq(encoding)
            for i in range(p.requantizers):
                read = nodes.read_port(domain="comb")
                value = Signal(VALUE, name=f"value{stage}_{i}")
                code = Signal(stage + 1, name=f"code{stage}_{i}")
                m.d.comb += read.addr.eq(Cat(codes[i], encoding))
                m.d.sync += code.eq(Cat(read.data < values[i], codes[i]))
                m.d.sync += value.eq(values[i])
                values[i], codes[i] = value, code
            encoding = next_encoding
        m.d.comb += [self.codes[i].eq(code) for i, code in enumerate(codes)]
        return m

    def _connect_write(self, m: Module, nodes: memory.Memory, *, stage: int) -> None:
        """Entries ``2^stage … 2^(stage+1) - 1`` of every encoding are the nodes of this stage."""
        write = nodes.write_port()
        entry = self.write_address[: self._parameters.code_width]
        m.d.comb += [
            write.en.eq(self.write_enable & (entry[stage:] == 1)),
            write.addr.eq(Cat(entry[:stage], self.write_address[self._parameters.code_width :])),
            write.data.eq(self.write_data),
        ]

"""Boundary encoder: a value becomes the rank code of the level it is nearest to."""

from amaranth.hdl import Cat, Module, Signal, Value
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
        encodings = [self.encoding]
        for stage in range(1, self._parameters.code_width):
            encodings.append(Signal.like(self.encoding, name=f"encoding{stage}"))
            m.d.sync += encodings[stage].eq(encodings[stage - 1])
        for i in range(self._parameters.requantizers):
            value, code = self.values[i], Signal(0)
            for stage, encoding in enumerate(encodings):
                boundary = self._boundary(m, Cat(code, encoding), stage=stage, index=i)
                next_value = Signal(VALUE, name=f"value{stage}_{i}")
                next_code = Signal(stage + 1, name=f"code{stage}_{i}")
                m.d.sync += [next_value.eq(value), next_code.eq(Cat(boundary < value, code))]
                value, code = next_value, next_code
            m.d.comb += self.codes[i].eq(code)
        return m

    def _boundary(self, m: Module, node: Value, *, stage: int, index: int) -> Value:
        """The boundary at a node of this stage: entries ``2^stage … 2^(stage+1) - 1`` of every encoding.

        Every requantizer has memories of its own: yosys does not split one with many read ports well.
        """
        p = self._parameters
        m.submodules[f"boundaries{stage}_{index}"] = nodes = memory.Memory(
            shape=VALUE, depth=p.encodings << stage, init=[]
        )
        write, read = nodes.write_port(), nodes.read_port(domain="comb")
        entry = self.write_address[: p.code_width]
        m.d.comb += [
            write.en.eq(self.write_enable & (entry[stage:] == 1)),
            write.addr.eq(Cat(entry[:stage], self.write_address[p.code_width :])),
            write.data.eq(self.write_data),
            read.addr.eq(node),
        ]
        return read.data

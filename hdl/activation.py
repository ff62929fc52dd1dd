"""Activation decoders: rank codes become the unsigned levels that they stand for, once for all rows."""

from amaranth.hdl import Cat, Module, Mux, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .formats import Format, check_int
from .piecewise import piecewise

MAX_LANES = 256
MAX_CODE_WIDTH = 8
MAX_LEVEL_WIDTH = 16
MAX_TABLES = 16


class FixedDecoder(wiring.Component):
    """Decodes the activation codes of one format, in logic.

    Latency 1 cycle, one word a cycle, no back-pressure.

    Parameters
    ----------
    activation_format : Format
        An unsigned format with codes of at most 8 bits.
    lanes : int
        Codes of a word, 1 to 256.

    Members
    -------
    latency : int
    codes : In(ArrayLayout(code_width, lanes))
    inside : In(1)
        The word is inside the tensor; if not, every level is 0 (padding).
    levels : Out(ArrayLayout(level_width, lanes))

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong.
    """

    latency = 1

    def __init__(self, *, activation_format: Format, lanes: int) -> None:
        check_activations(activation_format)
        check_int("lanes", lanes, low=1, high=MAX_LANES)
        self.activation_format = activation_format
        super().__init__(
            {
                "codes": In(data.ArrayLayout(activation_format.code_width, lanes)),
                "inside": In(1),
                "levels": Out(data.ArrayLayout(activation_format.level_width, lanes)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        table = self.activation_format.levels
        for lane, code in enumerate(self.codes):
            level = piecewise(m, code, starts=range(len(table)), results=table, name=f"level{lane}")
            # A choice of 0 becomes the registers' synchronous reset, which all lanes share.
            m.d.sync += self.levels[lane].eq(Mux(self.inside, level, 0))
        return m


class LoadableDecoder(wiring.Component):
    """Decodes activation codes by tables that are loaded at run time, one look-up per lane.

    Latency 1 cycle, one word a cycle, no back-pressure.  A word that is written while it is read is decoded
    with its old contents.

    Parameters
    ----------
    lanes : int
        Codes of a word, 1 to 256.
    code_width : int
        Bits of a code, 1 to 8.
    activation_width : int
        Bits of a level, 1 to 16.
    tables : int
        Tables held at a time, 1 to 16.

    Members
    -------
    latency : int
    codes : In(ArrayLayout(code_width, lanes))
    table : In(log2 tables)
        Which table decodes this word.
    inside : In(1)
        The word is inside the tensor; if not, every level is 0 (padding).
    levels : Out(ArrayLayout(activation_width, lanes))
    write_enable, write_address, write_data : In
        Write port of the tables; an address is the table, then the code.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range.
    """

    latency = 1

    def __init__(self, *, lanes: int, code_width: int, activation_width: int, tables: int) -> None:
        check_int("lanes", lanes, low=1, high=MAX_LANES)
        check_int("code_width", code_width, low=1, high=MAX_CODE_WIDTH)
        check_int("activation_width", activation_width, low=1, high=MAX_LEVEL_WIDTH)
        check_int("tables", tables, low=1, high=MAX_TABLES)
        self._depth = tables << code_width
        super().__init__(
            {
                "codes": In(data.ArrayLayout(code_width, lanes)),
                "table": In((tables - 1).bit_length()),
                "inside": In(1),
                "levels": Out(data.ArrayLayout(activation_width, lanes)),
                "write_enable": In(1),
                "write_address": In((self._depth - 1).bit_length()),
                "write_data": In(activation_width),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        for lane, code in enumerate(self.codes):
            # A table of its own per lane: yosys does not split one memory with many read ports well.
            m.submodules[f"table{lane}"] = table = memory.Memory(
                shape=unsigned(len(self.write_data)), depth=self._depth, init=[]
            )
            write, read = table.write_port(), table.read_port(domain="comb")
            m.d.comb += [
                write.en.eq(self.write_enable),
                write.addr.eq(self.write_address),
                write.data.eq(self.write_data),
                read.addr.eq(Cat(code, self.table)),
            ]
            m.d.sync += self.levels[lane].eq(Mux(self.inside, read.data, 0))
        return m


def check_activations(activation_format: object) -> None:
    """Refuse what is not an unsigned format with codes of at most 8 bits (TypeError, ValueError)."""
    if not isinstance(activation_format, Format):
        raise TypeError(f"activation_format must be a Format, not {activation_format!r}")
    if activation_format.signed:
        raise ValueError(f"activation_format must be unsigned, not {activation_format.name!r}")
    if activation_format.code_width > MAX_CODE_WIDTH:
        raise ValueError(
            f"activation_format must have codes of at most {MAX_CODE_WIDTH} bits, "
            f"not {activation_format.name!r}"
        )

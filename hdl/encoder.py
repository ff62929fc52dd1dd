"""Boundary encoders: a value becomes the rank code of the level it is nearest to."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from .activation import MAX_CODE_WIDTH, MAX_LANES, check_activations
from .formats import Format, check_int
from .piecewise import piecewise

MAX_VALUE_WIDTH = 64
MAX_ENCODINGS = 64


class FixedEncoder(wiring.Component):
    """Counts the boundaries of one format that lie below each value, in logic.

    A value counts levels with `fraction` binary places: level L is the value ``L · 2^fraction``, and
    boundary b, which counts half levels, is ``b · 2^(fraction - 1)``.  With `fraction` 1 a value counts half
    levels, as boundaries do.  A value on a boundary keeps the lower code, and negative values get code 0.
    Latency 1 cycle, one word a cycle, no back-pressure.

    The count is a `piecewise` function of the value.  For 4-bit codes of 18-bit values on ECP5, LUT4 and
    twice the carry cells together, a lane takes 26 for ``apot_k2n2u`` and 8 for ``uniform_b4u``.  Behind a
    register that holds the saturated value, a comparator for each boundary takes 77 and 9 with it, and a
    binary search over constants 54 and 15.  It is the smallest for codes up to 8 bits and any levels too.

    Parameters
    ----------
    activation_format : Format
        An unsigned format with codes of at most 8 bits.
    lanes : int
        Values of a word, 1 to 256.
    value_width : int
        Bits of a value, two's complement; enough for the largest level.
    fraction : int
        Binary places of a value, 0 or more.

    Members
    -------
    latency : int
    thresholds : tuple of int
        The boundaries in units of the value, rounded down: the largest value of each code but the last.
    values : In(ArrayLayout(signed(value_width), lanes))
    codes : Out(ArrayLayout(code_width, lanes))

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong, or values are too narrow for the largest level.
    """

    latency = 1

    def __init__(self, *, activation_format: Format, lanes: int, value_width: int, fraction: int) -> None:
        check_activations(activation_format)
        check_int("lanes", lanes, low=1, high=MAX_LANES)
        check_int("value_width", value_width, low=1, high=MAX_VALUE_WIDTH)
        check_int("fraction", fraction, low=0, high=MAX_VALUE_WIDTH)
        needed = (activation_format.max_level << fraction).bit_length() + 1
        if value_width < needed:
            raise ValueError(
                f"value_width must be at least {needed} for level {activation_format.max_level} "
                f"with fraction {fraction}, not {value_width!r}"
            )
        self.thresholds = tuple(boundary << fraction >> 1 for boundary in activation_format.boundaries)
        super().__init__(
            {
                "values": In(data.ArrayLayout(signed(value_width), lanes)),
                "codes": Out(data.ArrayLayout(activation_format.code_width, lanes)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        starts = [0, *(threshold + 1 for threshold in self.thresholds)]
        near = starts[-1].bit_length()
        for lane, value in enumerate(self.values):
            count = piecewise(m, value[:near], starts=starts, results=range(len(starts)), name=f"code{lane}")
            # Above the bits that boundaries have, the count is the last code: all ones.
            beyond = value[near:-1].any()
            m.d.sync += self.codes[lane].eq(Mux(value[-1], 0, count | beyond.replicate(len(count))))
        return m


class LoadableEncoder(wiring.Component):
    """Counts the boundaries that lie below each value, by binary search, one code bit a stage.

    Boundaries are loaded at run time, in the order of `layouts.search_order`.  A value equal to a
    boundary keeps the lower code, and negative values get code 0 as long as boundaries are not negative.
    Latency `code_width` cycles, one word a cycle, no back-pressure.

    Parameters
    ----------
    lanes : int
        Values of a word, 1 to 256.
    code_width : int
        Bits of a code, 1 to 8.
    value_width : int
        Bits of a value and of a boundary, two's complement, 1 to 64.
    encodings : int
        Sets of boundaries held at a time, 1 to 16.

    Members
    -------
    latency : int
    values : In(ArrayLayout(signed(value_width), lanes))
    encoding : In(log2 encodings)
        Which boundaries apply to these values.
    codes : Out(ArrayLayout(code_width, lanes))
    write_enable, write_address, write_data : In
        Write port of the boundaries; an address is the encoding, then the entry.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range.
    """

    def __init__(self, *, lanes: int, code_width: int, value_width: int, encodings: int) -> None:
        check_int("lanes", lanes, low=1, high=MAX_LANES)
        check_int("code_width", code_width, low=1, high=MAX_CODE_WIDTH)
        check_int("value_width", value_width, low=1, high=MAX_VALUE_WIDTH)
        check_int("encodings", encodings, low=1, high=MAX_ENCODINGS)
        self.latency = code_width
        self._code_width = code_width
        self._encodings = encodings
        super().__init__(
            {
                "values": In(data.ArrayLayout(signed(value_width), lanes)),
                "encoding": In((encodings - 1).bit_length()),
                "codes": Out(data.ArrayLayout(code_width, lanes)),
                "write_enable": In(1),
                "write_address": In(((encodings << code_width) - 1).bit_length()),
                "write_data": In(signed(value_width)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        encodings = [self.encoding]
        for stage in range(1, self._code_width):
            encodings.append(Signal.like(self.encoding, name=f"encoding{stage}"))
            m.d.sync += encodings[stage].eq(encodings[stage - 1])
        for i, each in enumerate(self.values):
            value, code = each, Signal(0)
            for stage, encoding in enumerate(encodings):
                boundary = self._boundary(m, Cat(code, encoding), stage=stage, index=i)
                next_value = Signal(self.write_data.shape(), name=f"value{stage}_{i}")
                next_code = Signal(stage + 1, name=f"code{stage}_{i}")
                m.d.sync += [next_value.eq(value), next_code.eq(Cat(boundary < value, code))]
                value, code = next_value, next_code
            m.d.comb += self.codes[i].eq(code)
        return m

    def _boundary(self, m: Module, node: Value, *, stage: int, index: int) -> Value:
        """The boundary at a node of this stage: entries ``2^stage … 2^(stage+1) - 1`` of every encoding.

        Every lane has memories of its own: yosys does not split one with many read ports well.
        """
        m.submodules[f"boundaries{stage}_{index}"] = nodes = memory.Memory(
            shape=self.write_data.shape(), depth=self._encodings << stage, init=[]
        )
        write, read = nodes.write_port(), nodes.read_port(domain="comb")
        entry = self.write_address[: self._code_width]
        m.d.comb += [
            write.en.eq(self.write_enable & (entry[stage:] == 1)),
            write.addr.eq(Cat(entry[:stage], self.write_address[self._code_width :])),
            write.data.eq(self.write_data),
            read.addr.eq(node),
        ]
        return read.data

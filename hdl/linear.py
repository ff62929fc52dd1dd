"""Linear codes: digits of a value that is clamped to a range from 0."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .dot import delayed
from .layouts import LAYER
from .parameters import VALUE_WIDTH


class LinearEncoder(wiring.Component):
    """Forms ``code = (clamp(value, 0, 2^bits - 1) >> place) mod 2^code_width``, where bits are 17 at most.

    One word a cycle, no back-pressure.  More bits do as 17, which is a saturated value's magnitude; places
    beyond them give 0.

    Parameters
    ----------
    lanes : int
        Values of a word.
    code_width : int
        Bits of a code.
    value_width : int
        Bits of a value, two's complement; it need not be saturated.

    Members
    -------
    latency : int
        `code_width` cycles, as a `LoadableEncoder` has.
    values : In(ArrayLayout(signed(value_width), lanes))
    bits, place : In(8)
    codes : Out(ArrayLayout(code_width, lanes))
    """

    def __init__(self, *, lanes: int, code_width: int, value_width: int) -> None:
        self.latency = code_width
        super().__init__(
            {
                "values": In(data.ArrayLayout(signed(value_width), lanes)),
                "bits": In(LAYER["linear_bits"].width),
                "place": In(LAYER["linear_place"].width),
                "codes": Out(data.ArrayLayout(code_width, lanes)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        # The bounds are those of a whole layer: what they let through is shifted once for all values.
        mask = Signal(VALUE_WIDTH - 1)
        window = Signal(self.codes.shape().elem_shape)
        with m.Switch(self.bits):
            for bits in range(len(mask)):
                with m.Case(bits):
                    m.d.comb += mask.eq((1 << bits) - 1)
            with m.Default():
                m.d.comb += mask.eq(~0)
        m.d.comb += window.eq(mask >> self.place)
        early = min(1, self.latency - 1)
        for value, code in zip(self.values, self.codes, strict=True):
            low, high = value[: len(mask)], value[len(mask) : -1]
            digit = (low >> self.place)[: len(code)]
            beyond = (low & ~mask).any() | high.any()
            digit, beyond, negative = (delayed(m, each, cycles=early) for each in (digit, beyond, value[-1]))
            clamped = Mux(negative, 0, (digit | beyond.replicate(len(code))) & window)
            m.d.comb += code.eq(delayed(m, clamped, cycles=self.latency - early))
        return m

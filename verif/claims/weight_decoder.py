"""The decoder of weights: every index becomes the entry that was written last, whatever was written when."""

from typing import Any

from amaranth.hdl import Array, Assert, Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from gen.parts import weight_decoder
from gen.verilog import Design
from hdl.parameters import AcceleratorParameters

from ..claim import Claim, Description
from ..specification import delayed, instance
from ..state import with_state


def opened(_block: str, **parameters: Any) -> Design:
    """A decoder with the words of its memories as outputs too."""
    return with_state(weight_decoder(AcceleratorParameters(**parameters)))


class Decoder(wiring.Component):
    """One model of the codebook, which is 0 until it is written and new in the cycle after."""

    def __init__(self, description: Description) -> None:
        self._description = description
        self._parameters = AcceleratorParameters(**description["parameters"])
        ports = [port for port in description["ports"] if port["direction"] == "input"]
        super().__init__(
            {port["name"]: In(port["width"]) for port in ports if port["name"] not in ("clk", "rst")}
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        p = self._parameters
        inputs = {name: getattr(self, name) for name in self.signature.members}
        unit = instance(m, self._description, **inputs)
        codebook = [Signal(p.format.code_width, reset_less=True) for _ in range(1 << p.index_width)]
        for entry, code in enumerate(codebook):
            with m.If(self.write_enable & (self.write_address == entry)):
                m.d.sync += code.eq(self.write_data)
        for row in range(p.rows):
            held = [unit[f"state_row{row}_memory_{entry}"] for entry in range(len(codebook))]
            m.d.comb += Assert(Cat(held) == Cat(codebook))
        indices = delayed(m, self.weights, cycles=1, reset_less=True)
        for number in range(p.rows * p.lanes):
            index = indices.word_select(number, p.index_width)
            found = unit["codes"].word_select(number, p.format.code_width)
            m.d.comb += Assert(found == Array(codebook)[index])
        return m


CLAIMS = tuple(
    Claim(
        block="weight_decoder",
        parameters={"rows": 2, "lanes": 2, "requantizers": 1, "codebooks": 1, **more},
        specification=Decoder,
        generator=opened,
    )
    for more in (
        {"weight_format": "uniform_b4", "index_width": 2},
        {"weight_format": "signmag_b8", "index_width": 4},
    )
)

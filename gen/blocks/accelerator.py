"""The whole accelerator, on plain streams or on AXI: packets in, a network's results out."""

from typing import Any

from hdl.parameters import AcceleratorParameters

from ..block import Block, Circuit
from ..c_header import c_header
from ..weights import described as described_format


def build(parameters: AcceleratorParameters) -> Circuit:
    """The accelerator on plain streams."""
    from hdl.accelerator import Accelerator

    return Circuit(component=Accelerator(parameters=parameters), facts=facts(parameters))


def build_axi(parameters: AcceleratorParameters) -> Circuit:
    """The accelerator on AXI, and its registers as a C header."""
    from hdl.axi_accelerator import AxiAccelerator
    from hdl.layouts import Status
    from hdl.registers import REGISTERS, described

    def header(name: str) -> str:
        return c_header(name=name, build_id=parameters.build_id, registers=REGISTERS, errors=Status)

    return Circuit(
        component=AxiAccelerator(parameters=parameters),
        facts={**facts(parameters), "registers": described(parameters)},
        companions={".h": header},
    )


def facts(parameters: AcceleratorParameters) -> dict[str, Any]:
    """What a packer and a host must know."""
    from hdl.layouts import section_banks, section_depth, section_width, sections, slices

    memories = [
        {
            "name": section.name,
            "number": section.value,
            "width": section_width(parameters, section),
            "depth": section_depth(parameters, section),
            "banks": section_banks(parameters, section),
            "stream_words": slices(parameters, section),
        }
        for section in sections(parameters)
    ]
    return {
        "build_id": f"{parameters.build_id:08x}",
        "macs_per_cycle": parameters.rows * parameters.lanes,
        "sections": memories,
        **described_format(parameters.format),
    }


BLOCKS = (
    Block(
        name="accelerator",
        summary="whole accelerator: array, engine, memories and packet streams",
        parameters=AcceleratorParameters,
        build=build,
        examples=("", "--weight-format apot_k2n2 --activation-width 7 --rows 8 -o build/accelerator.v"),
    ),
    Block(
        name="axi_accelerator",
        summary="whole accelerator with AXI4-Lite registers and AXI4-Streams",
        parameters=AcceleratorParameters,
        build=build_axi,
        examples=("", "--banks 2 -o build/axi_accelerator.v"),
    ),
)

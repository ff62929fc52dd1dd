"""The whole accelerator: packets in, a network's results out."""

from hdl.parameters import AcceleratorParameters

from ..block import Block, Circuit
from ..weights import described


def build(parameters: AcceleratorParameters) -> Circuit:
    """The accelerator, and what a packer and a host must know of it."""
    from hdl.accelerator import Accelerator
    from hdl.layouts import Section, section_depth, section_width, slices

    sections = [
        {
            "name": section.name,
            "number": section.value,
            "width": section_width(parameters, section),
            "depth": section_depth(parameters, section),
            "stream_words": slices(parameters, section),
        }
        for section in Section
    ]
    return Circuit(
        component=Accelerator(parameters=parameters),
        facts={
            "build_id": f"{parameters.build_id:08x}",
            "macs_per_cycle": parameters.rows * parameters.lanes,
            "sections": sections,
            **described(parameters.format),
        },
    )


BLOCKS = (
    Block(
        name="accelerator",
        summary="whole accelerator: array, engine, memories and packet streams",
        parameters=AcceleratorParameters,
        build=build,
        examples=("", "--weight-format apot_k2n2 --activation-width 7 --rows 8 -o build/accelerator.v"),
    ),
)

"""The registers of the accelerator on AXI: one table that hardware, documentation and headers are made of."""

import enum
from dataclasses import dataclass

from .parameters import HARDWARE_VERSION, AcceleratorParameters

REGISTER_WIDTH = 32
REGISTER_BYTES = REGISTER_WIDTH // 8
ADDRESS_BITS = 12
"""Address bits of the bus: a page of 4 KiB."""
INTERFACE = 0x4E48
"""What any version has at address 0: "NH", so that software finds the accelerator before it asks more."""


class Access(enum.Enum):
    """What a host may do with a field."""

    READ = "read"
    READ_WRITE = "read, write"
    CLEAR = "read, write 1 to clear"
    COMMAND = "write 1, reads 0"


@dataclass(frozen=True, kw_only=True)
class Field:
    """Some bits of a register.

    Parameters
    ----------
    name
        Unique in the table.
    low, width
        Its lowest bit, and how many there are.
    access
    reset
        Its value after a reset; None where it depends on the generated hardware.
    description
        One sentence for the reference.
    """

    name: str
    low: int = 0
    width: int = 1
    access: Access = Access.READ
    reset: int | None = 0
    description: str

    @property
    def mask(self) -> int:
        """The field's bits of the register."""
        return ((1 << self.width) - 1) << self.low


@dataclass(frozen=True, kw_only=True)
class Register:
    """A word of the bus; bits in no field read 0.

    Parameters
    ----------
    name
    address
        Of its first byte, a multiple of 4.
    fields
        From the lowest bit up.
    """

    name: str
    address: int
    fields: tuple[Field, ...]

    @property
    def writable(self) -> bool:
        """Whether a write has any effect; it is an error if not."""
        return any(field.access is not Access.READ for field in self.fields)


def counter(name: str, address: int, description: str) -> Register:
    """A register of one field that counts, and starts again from 0 when it is full."""
    field = Field(name=name, width=REGISTER_WIDTH, description=description)
    return Register(name=name, address=address, fields=(field,))


REGISTERS = (
    Register(
        name="id",
        address=0x00,
        fields=(
            Field(
                name="version",
                width=16,
                reset=HARDWARE_VERSION,
                description="Version of commands, packets and registers.",
            ),
            Field(name="interface", low=16, width=16, reset=INTERFACE, description='The letters "NH".'),
        ),
    ),
    Register(
        name="build_id",
        address=0x04,
        fields=(
            Field(
                name="build_id",
                width=32,
                reset=None,
                description="What packets and images must name; it differs with every parameter.",
            ),
        ),
    ),
    Register(
        name="control",
        address=0x08,
        fields=(
            Field(
                name="soft_reset",
                access=Access.COMMAND,
                description="Ends the run, the packet and the response under way; what is loaded stays.",
            ),
            Field(
                name="irq_enable",
                low=1,
                access=Access.READ_WRITE,
                description="`irq` is high while an answer is pending.",
            ),
        ),
    ),
    Register(
        name="status",
        address=0x0C,
        fields=(
            Field(name="busy", description="A program runs."),
            Field(name="receiving", low=1, description="A packet has begun and not ended."),
            Field(name="responding", low=2, description="A response has begun and not ended."),
            Field(name="error", low=8, width=8, description="Status of the last answer, 0 (`DONE`) if good."),
        ),
    ),
    Register(
        name="interrupt",
        address=0x10,
        fields=(
            Field(
                name="pending",
                access=Access.CLEAR,
                description="A response has begun since this was cleared.",
            ),
        ),
    ),
    counter("cycles", 0x14, "Cycles of the run, or of the last one."),
    counter("runs", 0x18, "Runs answered, errors among them, since the reset."),
    counter("refused", 0x1C, "Packets refused since the reset."),
    counter("input_waits", 0x20, "Cycles since the reset in which `s_axis_in` offered a word in vain."),
    counter("output_waits", 0x24, "Cycles since the reset in which `m_axis_out` offered a word in vain."),
)


def described(parameters: AcceleratorParameters) -> list[dict[str, object]]:
    """The table for JSON, with the reset values of the hardware of these parameters."""
    own = {"build_id": parameters.build_id}
    return [
        {
            "name": register.name,
            "address": register.address,
            "fields": [
                {
                    "name": field.name,
                    "low": field.low,
                    "width": field.width,
                    "access": field.access.value,
                    "reset": own[field.name] if field.reset is None else field.reset,
                    "description": field.description,
                }
                for field in register.fields
            ],
        }
        for register in REGISTERS
    ]

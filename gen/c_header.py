"""A C header of a bus's registers and of the errors that they report."""

import enum
from collections.abc import Sequence

from hdl.registers import Register


def c_header(*, name: str, build_id: int, registers: Sequence[Register], errors: type[enum.IntEnum]) -> str:
    """Macros that start with the module's name: addresses, places and masks of fields, numbers of errors."""
    prefix = name.upper()
    macros = [(f"{prefix}_BUILD_ID_VALUE", f"0x{build_id:08x}u")]
    for register in registers:
        place = f"{prefix}_{register.name.upper()}"
        macros.append((f"{place}_ADDRESS", f"0x{register.address:02x}u"))
        for field in register.fields:
            part = place if field.name == register.name else f"{place}_{field.name.upper()}"
            macros += [(f"{part}_SHIFT", f"{field.low}u"), (f"{part}_MASK", f"0x{field.mask:08x}u")]
    macros += [(f"{prefix}_ERROR_{error.name}", f"{error.value}u") for error in errors]
    lines = [f"#define {key} {value}" for key, value in macros]
    return "\n".join([f"#ifndef {prefix}_H", f"#define {prefix}_H", "", *lines, "", "#endif", ""])

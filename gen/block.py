"""What the generator can write: a name, a parameter dataclass, and how to build the circuit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from amaranth.lib.wiring import Component


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """A component, and what its description says beyond parameters and ports.

    Parameters
    ----------
    component
        The top of the hierarchy; its members become the ports.
    facts
        More entries of the description, such as the latency; values are what JSON can hold.
    lanes
        The number of equal elements of a port that is a flat vector of them, element 0 lowest.
    renamed
        Port names other than a member's path joined by underscores, by that default name.
    flat
        Write one module instead of one per component.
    companions
        By its suffix, what makes the text of one more file beside the Verilog from the module's name.
    """

    component: "Component"
    facts: Mapping[str, Any] = field(default_factory=dict)
    lanes: Mapping[str, int] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    flat: bool = False
    companions: Mapping[str, Callable[[str], str]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Block:
    """An entry of the generator's catalog.

    Parameters
    ----------
    name
        The command, and the default name of the Verilog module.
    summary
        One line that says what it is.
    parameters
        A frozen dataclass; its fields become the command's options, and the "Parameters" section of its
        docstring (or of its bases') their help.
    build
        Makes the circuit; imports Amaranth only when called.  Refuses with TypeError or ValueError.
    examples
        Options of example calls, for the command's help.
    """

    name: str
    summary: str
    parameters: type
    build: Callable[[Any], Circuit]
    examples: tuple[str, ...]

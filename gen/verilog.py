"""From a component to Verilog and its description: plain names, the same bytes on every run."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hdl.files import replacing

from .block import Circuit
from .blocks import catalog
from .identifiers import check_identifier, plain
from .version import version

# Full `proc` turns processes into assignments, which every simulator evaluates at time 0 (an `always @*`
# block waits for a first change), and lets `opt_clean` drop the many aliases.
SCRIPT = """
{flatten}
proc -norom
memory_collect
opt_clean -purge
clean_zerowidth
attrmap {attributes}
attrmap -modattr {attributes}
write_verilog -norename
"""
MEMORY = re.compile(
    r"^  reg (?:\[(?P<high>\d+):0\] )?(?P<name>\S+ ?) \[(?P<last>\d+):0\];\n"
    r"(?!  initial begin\n    (?P=name))",
    re.MULTILINE,
)
"""A memory that is not initialized."""

ATTRIBUTES = (
    "src",
    "top",
    "generator",
    "hdlname",
    "scopename",
    "unused_bits",
    "amaranth.hierarchy",
    "amaranth.decoding",
)


@dataclass(frozen=True, kw_only=True)
class Port:
    """A port of the written module; `lanes` equal elements if it is a vector of them, element 0 lowest.

    `signed` says that it, or each of its elements, is a two's complement integer.
    """

    name: str
    direction: str
    width: int
    signed: bool
    lanes: int | None = None

    def as_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Design:
    """Verilog text and its description.

    Members
    -------
    name : str
        The top module.
    verilog : str
    description : dict
        ``name``, ``block``, ``version``, ``parameters``, ``ports`` and the circuit's own facts.
    companions : dict
        The text of more files beside the Verilog, by their suffix.
    """

    name: str
    verilog: str
    description: Mapping[str, Any]
    companions: Mapping[str, str] = field(default_factory=dict)

    @property
    def sidecar(self) -> str:
        """The description as JSON, one entry a line, so that changes read well."""
        entries = [f"  {json.dumps(key)}: {_rendered(value)}" for key, value in self.description.items()]
        return "{\n" + ",\n".join(entries) + "\n}\n"

    def write(self, path: Path) -> Path:
        """Write the Verilog to `path` and all else beside it, all or nothing; the description's path."""
        sidecar = path.with_suffix(".json")
        texts = {path: self.verilog, sidecar: self.sidecar}
        texts |= {path.with_suffix(suffix): text for suffix, text in self.companions.items()}
        with ExitStack() as stack:
            for target, text in texts.items():
                stack.enter_context(replacing(target)).write_text(text, encoding="utf-8")
        return sidecar


def _rendered(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f"    {json.dumps(item)}" for item in value) + "\n  ]"
    return json.dumps(value)


def generate(block: str, *, name: str | None = None, **parameters: Any) -> Design:
    """Build a block of the catalog: ``generate("apot_pe", k=2, n=2)``.

    Parameters
    ----------
    block
        The block's name.
    name
        The Verilog module's name, by default the block's.
    parameters
        Fields of the block's parameter dataclass.

    Raises
    ------
    TypeError, ValueError
        If there is no such block, the parameters do not make a circuit, or the name is not a plain Verilog
        identifier.
    """
    if block not in catalog():
        raise ValueError(f"block must be one of {', '.join(catalog())}, not {block!r}")
    name = block if name is None else name
    check_identifier("name", name)
    entry = catalog()[block]
    values = entry.parameters(**parameters)
    head = {"block": block, "version": version(), "parameters": asdict(values)}
    return design(entry.build(values), name=name, head=head)


def design(circuit: Circuit, *, name: str, head: Mapping[str, Any]) -> Design:
    """Convert a circuit; `head` is put before the ports in the description, and in the Verilog's comment."""
    text, ports = convert(circuit, name=name)
    description = {"name": name, **head, "ports": [port.as_json() for port in ports], **circuit.facts}
    return Design(
        name=name,
        verilog=_comment(name, head, ports) + text,
        description=description,
        companions={suffix: make(name) for suffix, make in circuit.companions.items()},
    )


def _comment(name: str, head: Mapping[str, Any], ports: list[Port]) -> str:
    values = {key: value for key, value in head.get("parameters", {}).items() if value is not None}
    signed = ", ".join(port.name for port in ports if port.signed)
    vectors = [(port.name, port.width // port.lanes) for port in ports if port.lanes]
    lines = [
        f"{head.get('block', name)}, generator version {head.get('version', version())}",
        *(f"  {key} = {value}" for key, value in values.items()),
        *([f"Two's complement: {signed}"] if signed else []),
        *(f"Element i of {port}: {port}[{width}*i +: {width}]" for port, width in vectors),
    ]
    return "".join(f"// {line}\n" for line in lines) + "\n"


def convert(circuit: Circuit, *, name: str) -> tuple[str, list[Port]]:
    """The Verilog of a circuit, without a heading, and its ports: clock and reset first, then as declared."""
    from amaranth._toolchain.yosys import find_yosys  # the binary that amaranth.back.verilog itself runs
    from amaranth.back import rtlil

    ports, connections = _ports(circuit)
    with _zeros_left_out(rtlil):
        netlist = rtlil.convert(circuit.component, name=name, ports=connections, emit_src=False)
    script = SCRIPT.format(
        flatten="flatten" if circuit.flat else "", attributes=" ".join(f"-remove {key}" for key in ATTRIBUTES)
    )
    yosys = find_yosys(lambda found: found >= (0, 40))
    text = yosys.run(["-q", "-"], f"read_rtlil <<rtlil\n{netlist}\nrtlil\n{script}", ignore_warnings=True)
    text = plain(_zeroed(text.split("*/\n", maxsplit=1)[1].lstrip()))
    return _in_order(text, name, ports)


@contextmanager
def _zeros_left_out(rtlil: Any) -> Iterator[None]:
    """Meanwhile Amaranth's back end writes no initial words of memories that hold but zeros.

    It writes them bit by bit, and Yosys each as a statement: minutes for the memories of a large network.
    """
    before = rtlil.ModuleEmitter.emit_memory

    def emit(emitter: Any, index: int, cell: Any) -> None:
        if any(cell.init):
            before(emitter, index, cell)

    rtlil.ModuleEmitter.emit_memory = emit
    try:
        yield
    finally:
        rtlil.ModuleEmitter.emit_memory = before


def _zeroed(text: str) -> str:
    """Verilog with a loop of zeros behind every memory that has no initial words yet."""

    def zeroed(match: re.Match[str]) -> str:
        width, name, last = int(match["high"] or 0) + 1, match["name"], int(match["last"])
        index = rf"\{name.strip().lstrip(chr(92))}$index "  # which `plain` makes unique
        return (
            f"{match[0]}  integer {index};\n  initial\n"
            f"    for ({index} = 0; {index} <= {last}; {index} = {index} + 1)\n"
            f"      {name}[{index}] = {width}'d0;\n"
        )

    return MEMORY.sub(zeroed, text)


def _ports(circuit: Circuit) -> tuple[list[Port], dict[str, Any]]:
    from amaranth.hdl import Value
    from amaranth.hdl._ir import PortDirection
    from amaranth.lib.wiring import In

    ports, connections = [], {}
    for path, member, leaf in circuit.component.signature.flatten(circuit.component):
        value = Value.cast(leaf)
        if not len(value):
            continue
        default = "_".join(map(str, path))
        name = circuit.renamed.get(default, default)
        check_identifier("port name", name)
        incoming = member.flow == In
        ports.append(
            Port(
                name=name,
                direction="input" if incoming else "output",
                width=len(value),
                signed=_element(leaf).signed,
                lanes=circuit.lanes.get(name),
            )
        )
        connections[name] = (value, PortDirection.Input if incoming else PortDirection.Output)
    return ports, connections


def _element(leaf: Any) -> Any:
    """The shape of a port or, if it is a vector, of its elements."""
    from amaranth.hdl import Shape, Value
    from amaranth.lib import data

    if isinstance(leaf, data.View) and isinstance(leaf.shape(), data.ArrayLayout):
        return Shape.cast(leaf.shape().elem_shape)
    return Value.cast(leaf).shape()


def _in_order(text: str, name: str, ports: list[Port]) -> tuple[str, list[Port]]:
    """The top module's port list in the order of `ports`, behind the clock and reset if it needs them."""
    found = re.search(rf"^module {name}\(([^)]*)\);$", text, re.MULTILINE)
    if not found:
        raise AssertionError(f"module {name} missing from Yosys' output")
    declared = found[1].replace("\n", "").split(", ")  # Yosys begins a new line now and then
    ports = [
        *(
            Port(name=each, direction="input", width=1, signed=False)
            for each in ("clk", "rst")
            if each in declared
        ),
        *(port for port in ports if port.name in declared),
    ]
    header = f"module {name}({', '.join(port.name for port in ports)});"
    return text[: found.start()] + header + text[found.end() :], ports

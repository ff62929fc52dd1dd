"""What the pages quote from the code, made when the site is built: ``<!-- generated: NAME ARGUMENT -->``."""

import enum
import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click
from amaranth.hdl import Shape
from mkdocs.exceptions import PluginError

from hdl import layouts
from hdl.formats import SCHEMES, APoT, Format, PoT, Uniform, apot, basis, named
from hdl.registers import REGISTERS

Named = tuple[tuple[str, ...], click.Command]

ROOT = Path(__file__).resolve().parents[1]
MARKER = re.compile(r"^<!-- generated: (?P<name>\w+) ?(?P<argument>.*?) -->$", re.MULTILINE)
PARAMETER = re.compile(r"[(][?]P<(\w+)>(?:[^()]|[(][^()]*[)])*[)]")
MOST_LEVELS = 32
FAMILIES: dict[str, list[Format]] = {
    "uniform": [Uniform(bits=bits) for bits in range(2, 9)],
    "pot": [PoT(k=k) for k in range(1, 5)],
    "apot": [apot(bits=bits) for bits in range(2, 10)],
    "apot_activations": [apot(bits=bits, signed=False) for bits in range(1, 9)],
    "laplace": [basis(family="laplace", planes=planes) for planes in range(1, 5)],
    "gauss": [basis(family="gauss", planes=planes) for planes in range(1, 5)],
    "apot_other": [APoT(k=k, n=n) for k, n in ((1, 2), (1, 3), (3, 1), (3, 2))],
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace every marker of a page; MkDocs calls this for each one."""
    return MARKER.sub(_generated, markdown)


def _generated(match: re.Match[str]) -> str:
    try:
        return GENERATORS[match["name"]](*match["argument"].split())
    except KeyError as error:
        raise PluginError(f"{match[0]} names nothing that can be generated: {error}") from error


def schemes() -> str:
    """Every scheme of the catalog and the names it answers to."""
    rows = []
    for scheme in SCHEMES:
        name = PARAMETER.sub(r"<\1>", scheme.pattern)
        rows.append((f"`{scheme.scheme}`", f"`{name}`", _summary(scheme)))
    return table(("Scheme", "Name", ""), rows)


def levels(family: str) -> str:
    """Level table of each format of a family."""
    return table(
        ("Format", "Code bits", "Levels", "Largest", "Level bits", "Levels from 0 up"),
        (
            (f"`{each.name}`", each.code_width, len(each.grid), each.max_level, each.level_width, _list(each))
            for each in FAMILIES[family]
        ),
    )


def codes(name: str) -> str:
    """Every magnitude code of a format, field by field."""
    chosen = named(name)
    fields = [field for field in chosen.fields if field.name != "sign"]
    rows = []
    for code in range(2 ** sum(field.width for field in fields)):
        values, rest = [], code
        for field in fields:
            values.append(f"{rest % 2**field.width:0{field.width}b}")
            rest >>= field.width
        rows.append((*reversed(values), chosen.levels[code]))
    return table((*(f"`{field.name}`" for field in reversed(fields)), "Level"), rows)


def layout(name: str) -> str:
    """Fields of a word of ``hdl/layouts.py``, least significant first."""
    members = getattr(layouts, name).members
    rows, offset = [], 0
    for field, shape in members.items():
        width = Shape.cast(shape).width
        sign = "signed" if Shape.cast(shape).signed else ""
        rows.append((f"`{field}`", f"{offset + width - 1}:{offset}", width, sign))
        offset += width
    return table(("Field", "Bits", "Width", ""), rows)


def numbers(name: str) -> str:
    """Members of an enumeration of ``hdl/layouts.py``."""
    members: type[enum.IntEnum] = getattr(layouts, name)
    return table(("Number", "Name"), ((member.value, f"`{member.name}`") for member in members))


def registers() -> str:
    """Every field of every register."""
    rows = []
    for register in REGISTERS:
        for field in register.fields:
            bits = f"{field.low + field.width - 1}:{field.low}" if field.width > 1 else field.low
            reset = "" if field.reset is None else f"{field.reset:#x}" if field.reset > 9 else field.reset
            place = f"`{register.address:#04x}`"
            names = f"`{register.name}`", f"`{field.name}`"
            rows.append((place, *names, bits, field.access.value, reset, field.description))
    return table(("Address", "Register", "Field", "Bits", "Access", "Reset", ""), rows)


def command_line() -> str:
    """Help of every command of every package that can be run with ``python -m``."""
    parts = []
    for package in sorted(path.parent.name for path in ROOT.glob("*/__main__.py")):
        for path, command in commands(package):
            context = click.Context(command, info_name=" ".join(path), terminal_width=100)
            heading = "##" if len(path) == 3 else "###"
            parts.append(f"{heading} {' '.join(path[2:])}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def commands(package: str) -> Iterator[Named]:
    """Each command of a package with the words that call it, groups before their members."""
    module = importlib.import_module(f"{package}.__main__")
    root = next(value for value in vars(module).values() if isinstance(value, click.Group))
    yield from _members(("python", "-m", package), root)


def _members(path: tuple[str, ...], command: click.Command) -> Iterator[Named]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path[-1])
        for name in command.list_commands(context):
            member = command.get_command(context, name)
            if member and not member.hidden:
                yield from _members((*path, name), member)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _list(chosen: Format) -> str:
    positive = [level for level in chosen.grid if level >= 0]
    return " ".join(map(str, positive)) if len(positive) <= MOST_LEVELS else "…"


def _summary(documented: object) -> str:
    return (documented.__doc__ or "").partition("\n")[0].replace("``", "`")


GENERATORS: dict[str, Callable[..., str]] = {
    "codes": codes,
    "command_line": command_line,
    "layout": layout,
    "levels": levels,
    "numbers": numbers,
    "registers": registers,
    "schemes": schemes,
}

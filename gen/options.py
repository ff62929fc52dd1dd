"""Command-line options from a parameter dataclass: one field, one option."""

import re
from dataclasses import MISSING, fields
from types import NoneType
from typing import Any, get_args, get_type_hints

import click


class Integers(click.ParamType[tuple[int, ...]]):
    """Integers separated by commas."""

    name = "integers"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        try:
            return tuple(int(item) for item in value.split(","))
        except ValueError:
            self.fail(f"must be integers separated by commas, not {value!r}", param, ctx)


TYPES: dict[Any, click.ParamType[Any]] = {
    int: click.INT,
    str: click.STRING,
    tuple[int, ...]: Integers(),
}


def options(parameters: type) -> list[click.Option]:
    """One option per field of a dataclass: its type, its default, and its help from the docstring."""
    types, texts = get_type_hints(parameters), documented(parameters)
    made = []
    for field in fields(parameters):
        flag = f"--{field.name.replace('_', '-')}"
        common: dict[str, Any] = {"help": texts.get(field.name), "required": field.default is MISSING}
        if field.default is not MISSING:
            common |= {"default": field.default, "show_default": field.default is not None}
        if types[field.name] is bool:
            both = f"{flag}/--no-{flag[2:]}" if field.default is True else flag
            made.append(
                click.Option([both], is_flag=True, **common | {"show_default": field.default is True})
            )
        else:
            made.append(click.Option([flag], type=TYPES[_without_none(types[field.name])], **common))
    return made


def _without_none(hint: Any) -> Any:
    choices = [each for each in get_args(hint) if each is not NoneType]
    return choices[0] if NoneType in get_args(hint) else hint


def documented(parameters: type) -> dict[str, str]:
    """The text of every parameter in the "Parameters" sections of a class's docstring and its bases'."""
    texts: dict[str, str] = {}
    for owner in reversed(parameters.__mro__):
        _, _, section = (owner.__doc__ or "").partition("Parameters\n    ----------\n")
        section = re.split(r"\n    \w+\n    ---", section, maxsplit=1)[0]
        for names, text in re.findall(r"^ {4}(\w[^\n]*)\n((?: {8,}[^\n]*\n?|\n)+)", section, re.MULTILINE):
            for name in names.split(":")[0].split(","):
                texts[name.strip()] = " ".join(text.split())
    return texts

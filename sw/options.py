"""Options that several commands have, and their types."""

import re
from pathlib import Path
from typing import Any

import click

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("data"),
    show_default=True,
    help="Folder of the files of mnist or fashion_mnist (IDX, .gz or plain) or cifar10 (binary version).",
)


class Bits(click.ParamType):
    """``W/A``: bits of a weight and bits of an activation, or averages of them."""

    name = "W/A"

    def __init__(self, number: type[int] | type[float] = int) -> None:
        self.number = number

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[int | float, int | float]:
        try:
            weight, activation = map(self.number, str(value).split("/"))
        except ValueError:
            wanted = "two integers W/A like 4/4" if self.number is int else "two numbers W/A like 2.0/1.5"
            self.fail(f"must be {wanted}, not {value!r}", parameter, context)
        return weight, activation


class Device(click.ParamType):
    """The name of a device that torch may have."""

    name = "DEVICE"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> str:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", str(value)):
            self.fail(f"must be auto, cpu, cuda or cuda:N, not {value!r}", parameter, context)
        return str(value)

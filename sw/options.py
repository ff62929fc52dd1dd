"""Options that several commands have, and their types."""

import functools
import re
from collections.abc import Callable
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

accelerator_option = click.option(
    "--accelerator",
    type=click.Path(dir_okay=False, path_type=Path),
    help="JSON that `python -m gen accelerator` wrote; without it, an accelerator is chosen to fit.",
)


level_width_option = click.option(
    "--level-width",
    type=click.IntRange(min=1),
    help="Bits of an activation level that an array has at most: uniform codes of more are read digit by "
    "digit, and channels of different bits, where they need more together, in passes of their own.",
)


def array_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command options for the array of an accelerator that is chosen to fit: one argument, `array`."""

    @click.option(
        "--weight-format",
        help="Format of the array's weights, like uniform_b4 or basis_1, if an accelerator is chosen.",
    )
    @click.option(
        "--index-width",
        type=click.IntRange(min=0),
        help="Bits of a weight in memory, if an accelerator with codebooks is chosen; 0 for one without.",
    )
    @level_width_option
    @click.option("--rows", type=click.IntRange(min=1), help="Rows of the array that is chosen.")
    @click.option("--lanes", type=click.IntRange(min=1), help="Lanes of the array that is chosen.")
    @click.option(
        "--narrow",
        is_flag=True,
        default=None,
        help="Choose accumulators no wider than the sums of these weights.",
    )
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        accelerator: Path | None,
        weight_format: str | None,
        index_width: int | None,
        level_width: int | None,
        rows: int | None,
        lanes: int | None,
        narrow: bool | None,
        **kwargs: Any,
    ) -> None:
        options = {
            "weight_format": weight_format,
            "index_width": index_width,
            "level_width": level_width,
            "rows": rows,
            "lanes": lanes,
            "narrow": narrow,
        }
        array = {name: value for name, value in options.items() if value is not None}
        if accelerator and array:
            name = next(iter(array)).replace("_", "-")
            raise click.UsageError(f"--{name} must not be given with --accelerator, which has its own")
        command(*args, accelerator=accelerator, array=array, **kwargs)

    return wrapped


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

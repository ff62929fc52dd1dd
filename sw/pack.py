"""Packing: from a checkpoint or an interchange file to the accelerator's memory image."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hdl.console import RefusedError

from .options import accelerator_option, array_options

if TYPE_CHECKING:
    from hdl.parameters import AcceleratorParameters

    from .compiler.compile import Compiled
    from .graph import IntegerGraph


@click.command(
    epilog="""\b
    Examples:
      python -m sw pack build/net.pt -o build/net.bin
      python -m sw pack build/net.pt --weight-format basis_1 --rows 32 -o build/planes.bin
      python -m sw pack build/lba.pt --level-width 2 -o build/lba.bin
      python -m sw pack net.safetensors --accelerator build/accelerator.json --hex -o build/net.bin
    """
)
@click.argument("network", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The memory image to write.",
)
@accelerator_option
@array_options
@click.option("--hex", "as_hex", is_flag=True, help="Also write each memory as a $readmemh file.")
def pack(network: Path, output: Path, accelerator: Path | None, array: dict[str, Any], as_hex: bool) -> None:
    """Pack NETWORK, a checkpoint or an interchange file, into a memory image.

    Weights that are not on their format's grid are refused, never rounded.
    """
    from rich.console import Console

    from .compiler.fitting import generator_options, read_parameters
    from .image import write_hex, write_image
    from .plan import schedule_table

    if as_hex and output.suffix == ".hex":
        raise click.UsageError("-o must not end in .hex when --hex writes such files beside it")
    parameters = read_parameters(accelerator) if accelerator else None
    compiled = compile_file(network, parameters, **array)
    write_image(output, compiled)
    files = [output, *(write_hex(output, compiled) if as_hex else [])]
    click.echo(f"wrote {', '.join(map(str, files))}")
    Console().print(schedule_table(compiled))
    if accelerator is None:
        click.echo(f"fits: python -m gen accelerator {generator_options(compiled.parameters)}".rstrip())


def read_network(path: Path, *, level_width: int | None = None) -> "IntegerGraph":
    """The integer network in an interchange file (.safetensors) or a checkpoint (anything else).

    Parameters
    ----------
    level_width
        Bits of an activation level that suffice; an interchange file has been written for some.
    """
    if path.suffix == ".safetensors":
        from .interchange import load_network

        return load_network(path)
    from .checkpoint import load
    from .export import integer_network

    try:
        return integer_network(load(path), level_width=level_width)
    except RefusedError as error:
        text = str(error)
        raise RefusedError(text if text.startswith(str(path)) else f"{path}: {text}") from error


def compile_file(path: Path, parameters: "AcceleratorParameters | None" = None, **array: Any) -> "Compiled":
    """Read and compile a network, whose activation levels are as wide as the array's; see `compile_named`."""
    level_width = parameters.activation_width if parameters else array.get("level_width")
    return compile_named(read_network(path, level_width=level_width), parameters, name=str(path), **array)


def compile_named(
    network: "IntegerGraph", parameters: "AcceleratorParameters | None" = None, *, name: str, **array: Any
) -> "Compiled":
    """Compile a network, for what fits it by default; a refusal names where the network came from.

    What is said of the `array` is for `fitting_parameters`.
    """
    from .compiler.compile import compile_network
    from .compiler.fitting import fitting_parameters

    try:
        return compile_network(network, parameters or fitting_parameters(network, **array))
    except RefusedError as error:
        raise RefusedError(f"{name}: {error}") from error

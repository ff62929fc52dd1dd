"""The `plan` command: what a network will cost on its accelerator, known before it runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hdl.console import RefusedError

from .options import accelerator_option, array_options

if TYPE_CHECKING:
    from rich.table import Table

    from .compiler.compile import Compiled

CLOCK = 100.0
"""MHz, unless another clock is given."""


@click.command(
    epilog="""\b
    Examples:
      python -m sw plan build/net.pt
      python -m sw plan build/net.pt --weight-format basis_1 --rows 32
      python -m sw plan build/lba.pt --level-width 2
      python -m sw plan net.safetensors --accelerator build/accelerator.json --clock 250
      python -m sw plan build/net.bin --json
    """
)
@click.argument("network", type=click.Path(dir_okay=False, path_type=Path))
@accelerator_option
@array_options
@click.option(
    "--clock",
    type=click.FloatRange(min=0, min_open=True),
    default=CLOCK,
    show_default=True,
    help="Clock in MHz, for the images a second.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def plan(network: Path, accelerator: Path | None, array: dict[str, Any], clock: float, as_json: bool) -> None:
    """Print what NETWORK, a checkpoint, an interchange file or a packed image, takes of its accelerator.

    The schedule is static: a simulation takes exactly these cycles.
    """
    compiled = _compiled(network, accelerator, array)
    if as_json:
        click.echo(json.dumps(summary(compiled, clock=clock), indent=2))
        return
    from rich.console import Console

    console = Console()
    console.print(schedule_table(compiled, memories=True))
    console.print(memory_table(compiled))
    found = summary(compiled, clock=clock)
    sums = found["accumulators"]
    click.echo(
        f"sums of a pass need {sums['used']} of {sums['bits']} bits, for which a depth of "
        f"{sums['narrowest_depth']:,} is enough"
    )
    click.echo(f"{found['images_per_second']:,.1f} images a second at {clock:g} MHz")


def _compiled(network: Path, accelerator: Path | None, array: dict[str, Any]) -> "Compiled":
    from .compiler.fitting import read_parameters
    from .image import MAGIC, read_image
    from .pack import compile_file

    parameters = read_parameters(accelerator) if accelerator else None
    with network.open("rb") as file:
        packed = file.read(len(MAGIC)) == MAGIC
    if packed and array:
        raise RefusedError(f"{network}: is packed for an array already, so none can be chosen")
    if packed:
        return read_image(network, parameters=parameters)
    return compile_file(network, parameters, **array)


def summary(compiled: "Compiled", *, clock: float) -> dict[str, Any]:
    """The whole plan as JSON holds it: layers, totals, memories, and images a second at a clock in MHz."""
    from dataclasses import asdict

    from .compiler.schedule import program_cycles

    p = compiled.parameters
    cycles, macs = program_cycles(compiled.schedule), sum(layer.macs for layer in compiled.schedule)
    return {
        "layers": [
            layer.as_dict() | {"share_of_peak": layer.macs / (layer.cycles * p.rows * p.lanes)}
            for layer in compiled.schedule
        ],
        "cycles": cycles,
        "macs": macs,
        "share_of_peak": macs / (cycles * p.rows * p.lanes),
        "images_per_second": p.cores * clock * 1e6 / cycles,
        "memories": {name: {"used": used, "words": words} for name, used, words in _memories(compiled)},
        "accumulators": _accumulators(compiled),
        "parameters": asdict(p),
    }


def schedule_table(compiled: "Compiled", *, memories: bool = False) -> "Table":
    """Every layer's passes, cycles and share of the array's products; on request words of memory too.

    With these come the bits of the accumulators that a layer may fill, of which poolings have no use.
    """
    from rich.table import Table

    found = summary(compiled, clock=CLOCK)
    words = {"weight_words": "weights", "activation_words": "codes", "value_words": "values"}
    bits = {"sum_bits": f"of {compiled.parameters.accumulator_width} bits"}
    shown = bits | words if memories else {}
    table = Table("layer", "passes", "MACs", "cycles", "of peak", *shown.values(), box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for layer in found["layers"]:
        numbers = (f"{layer[name]:,}" for name in ("passes", "macs", "cycles"))
        used = (f"{layer[name]:,}" for name in shown)
        table.add_row(layer["name"], *numbers, f"{layer['share_of_peak']:.1%}", *used)
    total = (f"{found['macs']:,}", f"{found['cycles']:,}", f"{found['share_of_peak']:.1%}")
    table.add_row("total", "", *total)
    return table


def memory_table(compiled: "Compiled") -> "Table":
    """Words in use of every memory."""
    from rich.table import Table

    table = Table("memory", "words in use", "of", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, used, words in _memories(compiled):
        table.add_row(name, f"{used:,}", f"{words:,}")
    return table


def _accumulators(compiled: "Compiled") -> dict[str, int]:
    """Bits that the widest sum of a pass needs, bits there are, and the least depth that would do."""
    from .compiler.fitting import narrowest_depth

    p, layers = compiled.parameters, compiled.schedule
    used = max(layer.sum_bits for layer in layers)
    scaled = max(layer.scaled_bits for layer in layers)
    depth = narrowest_depth(p, sum_bits=used, scaled_bits=scaled)
    return {"used": used, "bits": p.accumulator_width, "depth": p.depth, "narrowest_depth": depth}


def _memories(compiled: "Compiled") -> list[tuple[str, int, int]]:
    """Name, words in use and words of each memory."""
    from hdl.layouts import section_depth

    p = compiled.parameters
    loaded = [
        (section.name.lower(), len(words), section_depth(p, section))
        for section, words in compiled.sections.items()
    ]
    return [
        *loaded,
        ("activations", compiled.usage["activation_words"], p.activation_words),
        ("values", compiled.usage["value_words"], p.value_words),
        ("results", compiled.usage["result_words"], p.result_words),
    ]

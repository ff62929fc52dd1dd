"""``python -m fpga``: what a block costs on an FPGA."""

import json
from pathlib import Path
from typing import Any

import click

from gen.block import Block
from gen.blocks import catalog
from gen.options import options
from hdl.console import Tool
from hdl.files import write_text

from .targets import TARGETS

EXAMPLES = """
\b
Examples:
  python -m fpga synth apot_pe --k 2 --n 2
  python -m fpga synth uniform_dot --bits 4 --lanes 16 --target xilinx
  python -m fpga synth apot_dot --k 2 --n 1 --folded --target ice40 --json cells.json
"""


@click.group(cls=Tool, name="fpga", epilog=EXAMPLES)
def main() -> None:
    """From generated hardware to devices."""


@main.group(epilog=EXAMPLES)
def synth() -> None:
    """Synthesize a block for area and count its cells."""


def command(block: Block) -> click.Command:
    """The command that synthesizes one block."""

    def count(target: str, report: Path | None, **values: Any) -> None:
        from rich.console import Console

        from gen.verilog import generate

        try:
            design = generate(block.name, **values)
        except (TypeError, ValueError) as error:
            raise click.UsageError(str(error)) from error
        with Console(stderr=True).status(f"synthesizing {block.name} for {target}"):
            found = TARGETS[target].synthesize(design.verilog, top=design.name)
        summary = {"area": found.area, **TARGETS[target].summary(found.cells)}
        if report:
            head = {"block": block.name, "parameters": design.description["parameters"], "target": target}
            counts = {"cells": found.cells, "summary": summary}
            write_text(report, json.dumps({**head, **counts}, indent=2) + "\n")
        _show(f"{block.name} on {target}", found.cells, summary)

    target = click.Option(
        ["--target"],
        type=click.Choice(list(TARGETS)),
        default="ecp5",
        show_default=True,
        help="; ".join(f"{each.name}: {each.about}" for each in TARGETS.values()) + ".",
    )
    report = click.Option(
        ["--json", "report"], type=click.Path(path_type=Path), help="Also write the counts to this file."
    )
    return click.Command(
        block.name,
        callback=count,
        help=f"Count the cells of a {block.summary}.",
        short_help=block.summary,
        epilog="\b\nExamples:\n"
        + "\n".join(
            f"  python -m fpga synth {block.name} {example.split(' -o ')[0]}" for example in block.examples
        ),
        params=[*options(block.parameters), target, report],
    )


def _show(title: str, found: dict[str, int], summary: dict[str, int]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("cells", title=title)
    table.add_column("count", justify="right")
    for kind, number in summary.items():
        table.add_row(kind, str(number))
    table.add_section()
    for cell, number in found.items():
        table.add_row(cell, str(number), style="dim")
    Console().print(table)


for entry in catalog().values():
    synth.add_command(command(entry))

if __name__ == "__main__":
    main(prog_name="python -m fpga")

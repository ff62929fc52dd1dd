"""``python -m fpga``: what a block costs on an FPGA."""

import json
import os
from pathlib import Path
from typing import Any

import click

from gen.block import Block
from gen.blocks import catalog
from gen.options import options
from hdl.console import Tool
from hdl.files import write_text

from .report import BUILD, MEASURED, SEEDS, chosen_points, chosen_targets, run
from .targets import TARGETS

EXAMPLES = """
\b
Examples:
  python -m fpga synth apot_pe --k 2 --n 2
  python -m fpga synth uniform_dot --bits 4 --lanes 16 --target xilinx
  python -m fpga synth apot_dot --k 2 --n 1 --folded --target ice40 --json cells.json
  python -m fpga report --blocks
"""
REPORT = """
\b
Examples:
  python -m fpga report --blocks
  python -m fpga report --blocks --points apot_dot --points 'basis_dot --family laplace' --no-route
  python -m fpga report --blocks --target ecp5 --seeds 5 --jobs 4 -o build/ecp5
  python -m fpga report --blocks --publish
"""
PATTERN = (
    "Only points whose name fits a shell pattern, and what they are compared with; may be repeated.  A name "
    "is a block and its options for `python -m gen`; the pattern may stop after any part of it."
)


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


@main.command(epilog=REPORT)
@click.option("--blocks", is_flag=True, help="Measure the blocks.  [required]")
@click.option(
    "--target",
    "names",
    multiple=True,
    type=click.Choice(MEASURED),
    help=f"A family to measure on; may be repeated.  [default: {', '.join(MEASURED)}]",
)
@click.option("--points", multiple=True, metavar="PATTERN", help=PATTERN)
@click.option(
    "--seeds",
    type=click.IntRange(1, 100),
    default=len(SEEDS),
    show_default=True,
    help="How often to place and route each dot product on ECP5, from a seed of its own.",
)
@click.option("--no-route", is_flag=True, help="Count cells only; frequencies are left out.")
@click.option("--jobs", type=click.IntRange(1, 256), help="Points at a time.  [default: one a processor]")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder to write to.  [default: build/report]",
)
@click.option("--publish", is_flag=True, help="Also renew docs/resources.* and the table in README.")
def report(
    *,
    blocks: bool,
    names: tuple[str, ...],
    points: tuple[str, ...],
    seeds: int,
    no_route: bool,
    jobs: int | None,
    output: Path | None,
    publish: bool,
) -> None:
    """Measure every block: cells on each family, and frequencies on ECP5, as JSON, Markdown and a plot.

    Results are kept in build/cache, so that only what has changed is measured again.
    """
    if not blocks:
        raise click.UsageError("nothing to measure: give --blocks")
    if publish and (names or points or no_route or seeds < len(SEEDS)):
        raise click.UsageError(
            "--publish needs the whole report: no --target, --points, --no-route or fewer seeds"
        )
    written = run(
        targets=chosen_targets(names),
        points=chosen_points(points),
        seeds=() if no_route else range(1, seeds + 1),
        jobs=jobs or os.cpu_count() or 1,
        folder=output or BUILD,
        is_published=publish,
    )
    for path in written:
        click.echo(f"wrote {path}")


for entry in catalog().values():
    synth.add_command(command(entry))

if __name__ == "__main__":
    main(prog_name="python -m fpga")

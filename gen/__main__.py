"""``python -m gen``: list the blocks, or write one as Verilog with its description."""

from pathlib import Path
from typing import Any

import click

from hdl.console import Tool

from .block import Block
from .blocks import catalog
from .options import options
from .verilog import generate
from .version import version

EXAMPLES = """
\b
Examples:
  python -m gen list
  python -m gen apot_pe --k 2 --n 2
  python -m gen apot_pe --help
"""


@click.group(cls=Tool, name="gen", epilog=EXAMPLES)
@click.version_option(version(), message="%(version)s")
def main() -> None:
    """Write a hardware block as Verilog, with its description as JSON beside it."""


@main.command("list", epilog="\b\nExample:\n  python -m gen list")
def list_blocks() -> None:
    """Show every block and what it is."""
    from rich.console import Console
    from rich.table import Table

    table = Table("block", "what it is")
    for block in catalog().values():
        table.add_row(block.name, block.summary)
    Console().print(table)


def command(block: Block) -> click.Command:
    """The command that writes one block."""
    examples = "\n".join(f"  python -m gen {block.name} {example}" for example in block.examples)

    def write(output: Path | None, name: str | None, **values: Any) -> None:
        name = block.name if name is None else name
        output = Path(f"{name}.v") if output is None else output
        if output.suffix in (".json", ".h") or output.is_dir():
            raise click.UsageError(f"-o must name a Verilog file, not {str(output)!r}")
        try:
            design = generate(block.name, name=name, **values)
        except (TypeError, ValueError) as error:
            raise click.UsageError(str(error)) from error
        if str(output) == "-":
            click.echo(design.verilog, nl=False)
        else:
            sidecar = design.write(output)
            others = [output.with_suffix(suffix) for suffix in design.companions]
            click.echo(f"wrote {', '.join(map(str, [output, *others]))} and {sidecar}")

    return click.Command(
        block.name,
        callback=write,
        help=f"Write a {block.summary}.",
        short_help=block.summary,
        epilog=f"\b\nExamples:\n{examples}",
        params=[
            *options(block.parameters),
            click.Option(
                ["-o", "--output"],
                type=click.Path(path_type=Path),
                help="The Verilog file, - for standard output; the description goes beside it.  "
                "[default: the module's name with .v]",
            ),
            click.Option(["--name"], help=f"The Verilog module's name.  [default: {block.name}]"),
        ],
    )


for entry in catalog().values():
    main.add_command(command(entry))

if __name__ == "__main__":
    main(prog_name="python -m gen")

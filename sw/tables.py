"""The papers' tables that arithmetic alone gives, and the same accounting for a network of one's own."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hdl.console import RefusedError

from .accounting.reproduction import NAMES

if TYPE_CHECKING:
    from .accounting.entry import Table
    from .accounting.rendering import Page

WIDTH = 120


@click.command(
    epilog=f"""\b
    Tables:
      {" ".join(NAMES[:4])}
      {" ".join(NAMES[4:8])}
      {" ".join(NAMES[8:])}

    \b
    Examples:
      python -m sw tables
      python -m sw tables apot1-fixops lcq-sizes
      python -m sw tables --json build/tables.json --markdown build/tables.md
      python -m sw tables --network build/demo/network.pt
    """
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--network",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Instead of the papers' tables, what this checkpoint or interchange file costs.",
)
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write them as JSON."
)
@click.option(
    "--markdown",
    "markdown_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write them as Markdown.",
)
def tables(
    names: tuple[str, ...], network: Path | None, json_path: Path | None, markdown_path: Path | None
) -> None:
    """Reproduce the papers' FixOPs and model sizes without training: ours, theirs, the difference.

    With NAME only those tables. It fails if an entry is neither within 0.7 % of the paper's, nor equal in the
    printed digits, nor known to differ for a stated reason.
    """
    from .accounting.rendering import markdown

    for name in names:
        if name not in NAMES:
            raise click.BadParameter(f"must be one of {', '.join(NAMES)}, not {name!r}", param_hint="NAME")
    if network and names:
        raise click.UsageError("NAME and --network exclude each other")
    reproduced = [] if network else _reproduced(names)
    pages, content = _network(network) if network else _papers(reproduced)
    for page in pages:
        _show(page)
    if reproduced:
        click.echo(_summary(reproduced))
    _write(json_path, markdown_path, content, "\n\n".join(map(markdown, pages)) + "\n")
    wrong = [
        f"{table.name}: {entry.name}"
        for table in reproduced
        for entry in table.entries
        if not (entry.accepted or entry.reason)
    ]
    if wrong:
        raise RefusedError(f"differs from the paper for no known reason: {'; '.join(wrong)}")


def _reproduced(names: Sequence[str]) -> list["Table"]:
    from .accounting.reproduction import reproduce

    return [reproduce(name) for name in NAMES if name in (names or NAMES)]


def _papers(reproduced: list["Table"]) -> tuple[list["Page"], dict[str, Any]]:
    from .accounting.entry import TOLERANCE
    from .accounting.rendering import table_data, table_page

    content = {"tolerance": float(TOLERANCE), "tables": [table_data(table) for table in reproduced]}
    return [table_page(table) for table in reproduced], content


def _network(path: Path) -> tuple[list["Page"], dict[str, Any]]:
    from .accounting.rendering import usage_data, usage_page
    from .accounting.usage import network_usage
    from .pack import read_network

    usages = network_usage(read_network(path))
    return [usage_page(usages, source=str(path))], usage_data(usages, source=str(path))


def _show(page: "Page") -> None:
    """Print a page; wide enough not to break lines where the output is no terminal."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    shown = RichTable(box=None, pad_edge=False)
    for index, title in enumerate(page.header):
        shown.add_column(Text(title), justify="left" if index in page.left else "right")
    for row in page.rows:
        shown.add_row(*map(Text, row))
    console.print(Text(page.title, style="bold"))
    console.print(Text(page.source, style="dim"))
    console.print(shown)
    for number, note in enumerate(page.notes, 1):
        console.print(Text(f"[{number}] {note}"))
    console.print()


def _summary(reproduced: list["Table"]) -> str:
    entries = [entry for table in reproduced for entry in table.entries]
    within = sum(entry.within for entry in entries)
    digits = sum(entry.same_digits and not entry.within for entry in entries)
    known = sum(bool(entry.reason) for entry in entries)
    return (
        f"{len(entries)} entries: {within} within 0.7 %, {digits} more equal in the printed digits, "
        f"{known} not reproduced for the reasons given"
    )


def _write(json_path: Path | None, markdown_path: Path | None, content: dict[str, Any], text: str) -> None:
    import json

    from hdl.files import write_text

    if json_path:
        write_text(json_path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        click.echo(f"wrote {json_path}")
    if markdown_path:
        write_text(markdown_path, text)
        click.echo(f"wrote {markdown_path}")

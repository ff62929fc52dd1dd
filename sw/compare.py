"""The `compare` command: every scheme trained alike, and a table of what came out."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hdl.console import RefusedError

from .options import data_dir_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from .comparison.contender import Run
    from .comparison.execution import Outcome

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SMALL = ROOT / "sw" / "protocols" / "fashion_small.toml"
WIDTH = 120


@click.command(
    epilog="""\b
    Examples:
      python -m sw compare --data-dir data/fashion_mnist
      python -m sw compare sw/protocols/digits_tiny.toml --workers 2 -o build/tiny
      python -m sw compare --data-dir data/fashion_mnist --scheduler tcp://10.0.0.5:8786
      python -m sw compare --data-dir data/fashion_mnist --publish
    """
)
@click.argument(
    "protocol_path",
    metavar="[PROTOCOL]",
    default=SMALL,
    type=click.Path(dir_okay=False, path_type=Path),
)
@data_dir_option
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/compare"),
    show_default=True,
    help="Folder for compare.json, compare.md and compare.svg.",
)
@click.option(
    "--cache",
    "cache_folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/compare/runs"),
    show_default=True,
    help="Folder where finished runs are kept; what is there is not trained again.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Processes on this machine; each trains one run at a time.",
)
@click.option("--scheduler", help="Instead, the address of a Dask scheduler whose workers train.")
@click.option("--publish", is_flag=True, help="Also renew docs/compare.* and the table in README.")
def compare(
    protocol_path: Path,
    data_dir: Path,
    output: Path,
    cache_folder: Path,
    workers: int,
    scheduler: str | None,
    publish: bool,
) -> None:
    """Train every scheme of PROTOCOL alike and tabulate accuracy, error of the weights and their size.

    PROTOCOL is a TOML file; without one it is sw/protocols/fashion_small.toml. For each seed a float network
    is trained, and each scheme goes on from it with the same epochs, at falling bits. Interrupted, the same
    command goes on with what is missing.
    """
    from .comparison.cache import Cache
    from .comparison.execution import fingerprint, select
    from .comparison.protocol import Protocol
    from .comparison.report import report
    from .comparison.spreading import cluster, outcomes
    from .data import load

    protocol = Protocol.from_toml(protocol_path)
    dataset = select(load(protocol.dataset, folder=data_dir), protocol)
    runs = protocol.runs()
    found: list[tuple[Run, dict[str, Any], str]] = []
    try:
        with _bar(len(runs)) as advance:
            for run, outcome in outcomes(
                runs,
                dataset,
                cache=Cache(cache_folder),
                connect=lambda: cluster(scheduler, workers=workers),
            ):
                found.append((run, outcome.facts, outcome.failed))
                advance(run, outcome)
    except KeyboardInterrupt:
        done = sum(not failed for *_, failed in found)
        click.echo(
            f"python -m sw compare: {done} of {len(runs)} runs are kept in {cache_folder}; "
            "the same command goes on",
            err=True,
        )
        raise
    content = report(protocol, found, data=fingerprint(dataset), program=_torch_version())
    _show(content)
    _write(content, output, publish=publish)
    if all(failed for *_, failed in found):
        raise RefusedError("every run failed")


def _torch_version() -> str:
    import torch

    return torch.__version__


@contextmanager
def _bar(total: int) -> "Iterator[Callable[[Run, Outcome], None]]":
    """A progress bar over runs, and a line for each; what is called with every outcome."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("runs", total=total)

        def advance(run: "Run", outcome: "Outcome") -> None:
            said = f"failed: {outcome.failed}" if outcome.failed else f"{outcome.facts['accuracy']:.2%}"
            progress.console.print(f"{run}: {said}", soft_wrap=True, markup=False, highlight=False)
            progress.advance(task)

        yield advance


def _show(content: dict[str, Any]) -> None:
    """Print the tables; wide enough not to break lines where the output is no terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from .comparison.report import HEADER, failures, rows

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    shown = Table(box=None, pad_edge=False)
    for index, title in enumerate(HEADER):
        shown.add_column(Text(title), justify="left" if index < 2 else "right")
    for row in rows(content):
        shown.add_row(*map(Text, row))
    console.print(shown)
    for line in failures(content):
        console.print(Text(f"failed: {line}"))


def _write(content: dict[str, Any], output: Path, *, publish: bool) -> None:
    from hdl.files import write_text

    from .comparison.plot import svg
    from .comparison.report import fill, page, text_of

    files = {
        output / "compare.json": text_of(content),
        output / "compare.md": page(content),
        output / "compare.svg": svg(content),
    }
    if publish:
        files[DOCS / "compare.json"], files[DOCS / "compare.svg"] = text_of(content), svg(content)
        for path in (DOCS / "compare.md", ROOT / "README.md"):
            files[path] = fill(path.read_text(encoding="utf-8"), content)
    for path, text in files.items():
        write_text(path, text)
        click.echo(f"wrote {path}")

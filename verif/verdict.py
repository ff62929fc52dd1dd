"""What the `check` command prints: whether hardware and executor agree, or where they first do not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from hdl.console import RefusedError
from sw.image import read_image
from sw.inputs import read_inputs

from .check import Finding, check
from .simulators import SimulationError


def run(image: Path, *, verilog: Path | None, simulator: str, waves: Path | None, **options: Any) -> None:
    """Check a packed image and print what came of it.

    Raises
    ------
    RefusedError
        If anything differs, or nothing can be compared.
    """
    compiled = read_image(image)
    inputs = read_inputs(**options, layout=compiled.input)
    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        _Share(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def finish() -> None:
            for task in progress.tasks:
                progress.update(task.id, total=1, completed=1)

        def step(text: str, share: Callable[[], float] | None = None) -> None:
            finish()
            progress.add_task(text, total=None, share=share)

        try:
            finding = check(
                compiled, inputs.images, verilog=verilog, simulator=simulator, waves=waves, step=step
            )
        except (RefusedError, SimulationError, ValueError) as error:
            raise RefusedError(f"{image}: {str(error).partition(chr(10))[0]}") from error
        finish()
    Console().print(_table(finding, memories=1 + bool(finding.image)))
    if not finding.equal:
        raise RefusedError(f"{image}: {_why(finding)}")


class _Share(ProgressColumn):
    """How much of the first image's run is done, while it is simulated."""

    def render(self, task: Task) -> Text:
        share = task.fields["share"]
        return Text("" if share is None or task.finished else f"{share():.0%} of the first image")


def _table(finding: Finding, *, memories: int) -> Table:
    table = Table("simulated accelerator", "", box=None)
    wrong, taken = len(finding.wrong_images), sorted(set(finding.cycles))
    table.add_row("images with other results than the executor's", f"{wrong} of {finding.images}")
    checked = "all of them equal" if finding.difference is None else "they differ"
    table.add_row("memories after every command", f"{checked}, of {memories} image{'s'[: memories > 1]}")
    if finding.on_time:
        table.add_row("cycles an image", f"{finding.planned:,}, as planned")
    else:
        table.add_row("cycles an image", f"{', '.join(map(str, taken))}; planned are {finding.planned}")
    table.add_row("simulated", f"{finding.exchange.cycles:,} cycles in {finding.exchange.seconds:.1f} s")
    if finding.difference is not None:
        table.add_row("first difference", f"image {finding.image}, {finding.difference}")
        table.add_row("", _pass(finding))
    if finding.waves is not None:
        table.add_row("waveform", str(finding.waves))
    return table


def _pass(finding: Finding) -> str:
    assert finding.difference is not None
    passes = finding.difference.command.passes
    where = f"command {finding.difference.command.index}"
    if finding.differing_pass is None:
        return f"{where}: its sum is right after all passes, so what follows is not"
    turn = passes[finding.differing_pass]
    return (
        f"{where}, pass {finding.differing_pass} of {len(passes)} (words {turn['offset']} … "
        f"{turn['offset'] + turn['count'] - 1} of a pixel, place {turn['shift']})"
    )


def _why(finding: Finding) -> str:
    if finding.difference is not None:
        return f"image {finding.image}, {finding.difference}"
    if finding.wrong_images:
        return f"results of image {finding.wrong_images[0]} must equal the executor's"
    return f"runs must take {finding.planned} cycles, as planned, not {max(finding.cycles)}"

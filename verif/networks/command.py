"""The `networks` command: every network of a protocol, whatever is known of it kept, and the tables."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from hdl.console import RefusedError
from hdl.files import write_text
from sw.comparison.cache import Cache
from sw.comparison.execution import fingerprint
from sw.data import Dataset, load
from sw.export import integer_network
from sw.graph import IntegerGraph

from ..simulators import ROOT, SimulationError
from .measuring import Facts, Simulations, Step, measure
from .protocol import Entry, Protocol
from .report import Report, fill, header, page, rows, text_of
from .weights import random_images, random_network, trained

DOCS = ROOT / "docs"
WIDTH = 150


def run(protocol_path: Path, *, data_dir: Path, only: Sequence[str], output: Path, publish: bool) -> None:
    """Run the networks of a protocol and write JSON and tables.

    Raises
    ------
    RefusedError
        If a network cannot be run, or hardware computes another number or takes other cycles.
    """
    protocol = Protocol.from_toml(protocol_path)
    chosen = protocol.selected(only)
    work = _Work(protocol, data_dir=data_dir, folder=output)
    torch.set_num_threads(1)
    found: list[Facts] = []
    try:
        with _bar(len(chosen)) as (step, advance):
            for entry in chosen:
                found.append(work.facts(entry, step=step))
                advance(found[-1])
    except KeyboardInterrupt:
        click.echo(
            f"python -m verif networks: {len(found)} of {len(chosen)} networks are kept in {output}; "
            "the same command goes on",
            err=True,
        )
        raise
    content = {
        "clock": protocol.clock,
        "seed": protocol.seed,
        "training": protocol.training and vars(protocol.training),
        "torch": torch.__version__,
        "networks": found,
    }
    _show(content)
    _write(content, output, publish=publish)


class _Work:
    """What all networks share: data, and what is kept."""

    def __init__(self, protocol: Protocol, *, data_dir: Path, folder: Path) -> None:
        self._protocol, self._data_dir = protocol, data_dir
        self._networks = Cache(folder / "trained")
        self._simulations = Simulations(folder / "simulations")

    @cached_property
    def _dataset(self) -> Dataset:
        assert self._protocol.training is not None
        return load(self._protocol.training.dataset, folder=self._data_dir)

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self._dataset)

    def facts(self, entry: Entry, *, step: Step) -> Facts:
        """All that is said of a network."""

        def named(what: str) -> None:
            step(f"{entry.name}: {what}")

        try:
            named("training" if entry.trained else "making weights")
            graph, pictures, known = self._trained(entry) if entry.trained else self._random(entry)
            about = {"name": entry.name, "model": entry.model, "scheme": entry.scheme} | known
            measured = measure(
                graph,
                pictures,
                weight_format=entry.weight_format,
                level_width=entry.level_width,
                cores=entry.cores,
                simulations=self._simulations,
                step=named,
            )
        except (RefusedError, SimulationError) as error:
            raise RefusedError(f"{entry.name}: {str(error).partition(chr(10))[0]}") from error
        return about | measured

    def _trained(self, entry: Entry) -> tuple[IntegerGraph, NDArray[np.uint8], Facts]:
        run, dataset = self._protocol.run(entry), self._dataset
        if entry.images > len(dataset.test_images):
            raise RefusedError(f"images must be at most {len(dataset.test_images)}, not {entry.images}")
        outcome = trained(run, dataset, self._fingerprint, self._networks)
        assert outcome.checkpoint is not None
        known = {name: outcome.facts[name] for name in ("weight_bits", "activation_bits", "accuracy")}
        known["test_images"] = len(dataset.test_images)
        graph = integer_network(outcome.checkpoint, level_width=entry.level_width)
        return graph, dataset.test_images[: entry.images].numpy(), known

    def _random(self, entry: Entry) -> tuple[IntegerGraph, NDArray[np.uint8], Facts]:
        assert entry.shape is not None
        seed = self._protocol.seed
        weight, activation = entry.average_bits if entry.lba else entry.bits
        network = random_network(entry, seed=seed)
        graph = integer_network(network, entry.shape, level_width=entry.level_width)
        pictures = random_images(entry.shape, count=entry.images, seed=seed + 1)
        return graph, pictures.numpy(), {"weight_bits": weight, "activation_bits": activation}


@contextmanager
def _bar(total: int) -> Iterator[tuple[Step, Any]]:
    """A progress bar over networks that says what is going on, and a line for each that is done."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)

        def step(what: str) -> None:
            progress.update(task, description=what)

        def advance(facts: Facts) -> None:
            images = f"{facts['images']} image{'s'[: facts['images'] > 1]}"
            said = f"{facts['name']}: {images}, all logits equal, {facts['cycles']:,} cycles each, as planned"
            progress.console.print(said, soft_wrap=True, markup=False, highlight=False)
            progress.advance(task)

        yield step, advance


def _show(content: Report) -> None:
    """Print the table; wide enough not to break lines where the output is no terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    shown = Table(box=None, pad_edge=False)
    for index, title in enumerate(header(content)):
        shown.add_column(title, justify="right" if index else "left")
    for row in rows(content):
        shown.add_row(*row)
    console.print(shown)


def _write(content: Report, output: Path, *, publish: bool) -> None:
    files = {output / "networks.json": text_of(content), output / "networks.md": page(content)}
    if publish:
        files[DOCS / "networks.json"] = text_of(content)
        for path in (DOCS / "networks.md", ROOT / "README.md"):
            files[path] = fill(path.read_text(encoding="utf-8"), content)
    for path, text in files.items():
        write_text(path, text)
        click.echo(f"wrote {path}")

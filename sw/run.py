"""The `run` command: images through a packed image, in exact integers."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hdl.console import RefusedError

from .inputs import input_options, read_inputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .executor import Machine, Observer
    from .inputs import Inputs

SHOWN = 10
"""Images that the table lists."""


@click.command(
    epilog="""\b
    Examples:
      python -m sw run build/net.bin --dataset digits
      python -m sw run build/net.bin --dataset mnist --data-dir data/mnist --images 100 -o build/logits.json
      python -m sw run build/net.bin --input images.npy -o build/logits.npy
    """
)
@click.argument("image", type=click.Path(dir_okay=False, path_type=Path))
@input_options
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where results go: .npy holds the integers, .json those, the classes and what else is printed.",
)
def run(image: Path, output: Path | None, **options: Any) -> None:
    """Run images through IMAGE, a packed network, and print what they are taken for.

    Every number is the very one that the accelerator computes: what runs is the program in the image.
    """
    from .executor import Machine
    from .image import read_image

    if output is not None and output.suffix not in (".npy", ".json"):
        raise click.UsageError("-o must end in .npy or .json", click.get_current_context())
    compiled = read_image(image)
    inputs = read_inputs(**options, layout=compiled.input)
    try:
        machine = Machine(compiled)
        start = time.perf_counter()
        results = run_all(machine, inputs)
        seconds = time.perf_counter() - start
    except (RefusedError, ValueError) as error:
        raise RefusedError(f"{image}: {error}") from error
    if output is not None:
        _write(output, results, inputs, scale=compiled.logit_scale)
    _report(results, inputs, scale=compiled.logit_scale, rate=len(inputs) / seconds)


def run_all(
    machine: "Machine", inputs: "Inputs", *, title: str = "running", observe: "Observer | None" = None
) -> "NDArray[np.int64]":
    """Results (N, classes), as many images at a time as memory allows; with a progress bar."""
    import numpy as np
    from rich.console import Console
    from rich.progress import Progress

    batch = machine.images_at_once
    found = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=len(inputs) * len(machine.instructions))
        for first in range(0, len(inputs), batch):
            images = inputs.images[first : first + batch]

            def advance(instruction: Any, memories: Any, count: int = len(images)) -> None:
                progress.advance(task, count)
                if observe is not None:
                    observe(instruction, memories)

            found.append(machine.run(images, observe=advance))
    return np.concatenate(found)


def _top1(results: "NDArray[np.int64]", inputs: "Inputs") -> float | None:
    if inputs.labels is None:
        return None
    return float((results.argmax(axis=1) == inputs.labels).mean())


def _write(output: Path, results: "NDArray[np.int64]", inputs: "Inputs", *, scale: float) -> None:
    import numpy as np

    from hdl.files import replacing, write_text

    if output.suffix == ".npy":
        with replacing(output) as temporary, temporary.open("wb") as file:
            np.save(file, results)
        return
    content = {
        "classes": results.argmax(axis=1).tolist(),
        "labels": None if inputs.labels is None else inputs.labels.tolist(),
        "top1": _top1(results, inputs),
        "logit_scale": scale,
        "logits": results.tolist(),
    }
    write_text(output, json.dumps(content) + "\n")


def _report(results: "NDArray[np.int64]", inputs: "Inputs", *, scale: float, rate: float) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("image", "class", "logit", "label" if inputs.labels is not None else "", box=None)
    for column in table.columns:
        column.justify = "right"
    for index, (row, best) in enumerate(zip(results[:SHOWN], results.argmax(axis=1), strict=False)):
        label = "" if inputs.labels is None else str(inputs.labels[index])
        table.add_row(str(index), str(best), f"{row[best] * scale:.4g}", label)
    console = Console()
    console.print(table)
    if len(inputs) > SHOWN:
        console.print(f"and {len(inputs) - SHOWN} more images")
    top1 = _top1(results, inputs)
    if top1 is not None:
        console.print(f"top-1: {top1:.2%} of {len(inputs)} images")
    console.print(f"{rate:.1f} images a second")

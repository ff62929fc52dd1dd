"""The `verify` command: float model against packed image, packed image against simulated hardware."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hdl.console import RefusedError

from .inputs import input_options, read_inputs
from .recipe import DATASETS

if TYPE_CHECKING:
    from torch import nn

    from .agreement import Agreement
    from .compiler.compile import Compiled
    from .graph import IntegerGraph
    from .inputs import Inputs

MOST_CODES = 1 << 24
"""Codes of a batch that is compared at once."""


@click.command(
    epilog="""\b
    Examples:
      python -m sw verify build/net.pt build/net.bin
      python -m sw verify build/net.pt build/net.bin --input images.npy --rtl-images 9 --waves first.fst
      python -m sw verify net.safetensors build/net.bin --dataset mnist --data-dir data/mnist --images 100
    """
)
@click.argument("model", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("image", type=click.Path(dir_okay=False, path_type=Path))
@input_options
@click.option(
    "--least",
    type=click.FloatRange(0, 1),
    default=0.95,
    show_default=True,
    help="Share of codes that every layer by itself must have equal in floats and in integers.",
)
@click.option(
    "--rtl-images",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="How many of the images, the first ones, are simulated; with 0 nothing is.",
)
@click.option(
    "--simulator", type=click.Choice(("verilator", "icarus")), default="verilator", show_default=True
)
@click.option(
    "--waves",
    type=click.Path(dir_okay=False, path_type=Path),
    help="If hardware differs, a waveform of the first difference goes here (.fst).",
)
def verify(
    model: Path,
    image: Path,
    least: float,
    rtl_images: int,
    simulator: str,
    waves: Path | None,
    **options: Any,
) -> int:
    """Verify IMAGE, packed from MODEL, a checkpoint or an interchange file.

    The image must be what the model packs to.  The model in floats, if MODEL is a checkpoint, is compared
    with the image in integers: the codes of every layer, and the classes.  Then the image's accelerator is
    generated and simulated; all results, cycles and memories must equal the integers, bit for bit.  Without
    --input or --dataset a checkpoint is shown the test images of the data set that it was trained on.
    """
    from .image import read_image
    from .pack import read_network

    compiled = read_image(image)
    graph = read_network(model, level_width=compiled.parameters.activation_width)
    if options["path"] is None and options["dataset"] is None:
        options["dataset"] = _trained_on(model)
    inputs = read_inputs(**options, layout=compiled.input)
    check_packed(graph, compiled, names=(model, image))
    agreed = True
    if model.suffix == ".safetensors":
        click.echo(f"{model} holds no float model: only integers are compared")
    else:
        agreed = _compare_floats(model, image, graph, compiled, inputs, least=least)
    if not rtl_images:
        return 0 if agreed else 1
    status = _simulate(image, inputs, images=rtl_images, simulator=simulator, waves=waves)
    return status if agreed else 1


def _trained_on(model: Path) -> str | None:
    """The data set of a checkpoint, if it has one that is known by name."""
    from .checkpoint import load

    name = None if model.suffix == ".safetensors" else load(model).recipe.dataset
    return name if name in DATASETS else None


def check_packed(graph: "IntegerGraph", compiled: "Compiled", *, names: tuple[Path, Path]) -> None:
    """Refuse an image that is not what the model packs to, naming the first word that differs."""
    import numpy as np

    from .pack import compile_named

    model, image = names
    packed = compile_named(graph, compiled.parameters, name=str(model))
    for section, words in packed.sections.items():
        found = compiled.sections.get(section, words[:0])
        if found.shape != words.shape:
            raise RefusedError(
                f"{image}: must be what {model} packs to: section {section.name} must have {len(words)} "
                f"words, not {len(found)}"
            )
        wrong = np.flatnonzero((found != words).any(axis=1))
        if len(wrong):
            raise RefusedError(
                f"{image}: must be what {model} packs to: word {wrong[0]} of section {section.name} differs"
            )


def _compare_floats(
    model: Path,
    image: Path,
    graph: "IntegerGraph",
    compiled: "Compiled",
    inputs: "Inputs",
    *,
    least: float,
) -> bool:
    """Print how far floats and integers agree; returns whether it is enough."""
    from rich.console import Console
    from rich.table import Table

    from .checkpoint import load

    try:
        found = agreement_with(load(model).network().eval(), graph, compiled, inputs)
    except RefusedError as error:
        raise RefusedError(f"{image}: {error}") from error
    table = Table("codes", "equal, layer by itself", "equal, whole network", box=None)
    for name, share in found.codes.items():
        table.add_row(name, f"{found.alone[name]:.3%}", f"{share:.3%}")
    Console().print(table)
    click.echo(f"class: the same for {found.top1:.2%} of {len(inputs)} images")
    low = [name for name, share in found.alone.items() if share < least]
    if low:
        click.echo(f"{image}: codes {low[0]!r} must agree to {least:.1%}", err=True)
    return not low


def agreement_with(
    model: "nn.Module", graph: "IntegerGraph", compiled: "Compiled", inputs: "Inputs"
) -> "Agreement":
    """How far the float model and the executor agree, over all images."""
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from .agreement import Agreement, equal_shares, float_codes
    from .compiler.compile import lower
    from .executor import Instruction, Machine, Memories, codes_of, put_codes

    machine = Machine(compiled)
    lowered = lower(graph, compiled.parameters)
    placed = lowered.placement.codes
    ends, last = {}, -1
    for node, commands in lowered.nodes:
        last += len(commands)
        ends[last] = [each.tensor for each in node.encodings]

    def run(
        images: torch.Tensor, *, given: dict[str, torch.Tensor]
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Codes and logits, where given codes are read instead of those that were found."""
        codes: dict[str, torch.Tensor] = {}

        def keep(instruction: Instruction, memories: Memories) -> None:
            progress.advance(task, len(memories.codes))
            for name in ends.get(instruction.index, ()):
                codes[name] = codes_of(memories, placed[name])
                if name in given:
                    put_codes(memories, placed[name], given[name].view(codes[name].shape))

        logits = torch.from_numpy(machine.run(images.numpy(), observe=keep))
        return codes, logits

    sizes = sum(each.pixel_words * each.shape[1] * each.shape[2] for each in placed.values())
    batch = min(machine.images_at_once, max(1, MOST_CODES // (sizes * compiled.parameters.lanes)))
    found = Agreement(codes={}, top1=0.0)
    level_width = compiled.parameters.activation_width
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("floats and integers", total=2 * len(inputs) * len(machine.instructions))
        for first in range(0, len(inputs), batch):
            images = torch.from_numpy(inputs.images[first : first + batch])
            expected, float_logits = float_codes(model, images, level_width=level_width)
            codes, logits = run(images, given={})
            alone, _ = run(images, given=expected)
            equal = (float_logits.argmax(1) == logits.argmax(1)).double().mean().item()
            share = len(images) / len(inputs)
            found = Agreement(
                codes=_added(found.codes, equal_shares(expected, codes), share),
                top1=found.top1 + equal * share,
                alone=_added(found.alone, equal_shares(expected, alone), share),
            )
    return found


def _added(sums: dict[str, float], shares: dict[str, float], part: float) -> dict[str, float]:
    return {name: sums.get(name, 0.0) + share * part for name, share in shares.items()}


def _simulate(image: Path, inputs: "Inputs", *, images: int, simulator: str, waves: Path | None) -> int:
    """Have the simulated accelerator checked, by the verification side's own command; its exit status."""
    import numpy as np

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.npy"
        np.save(path, inputs.images[:images])
        command = [sys.executable, "-m", "verif", "check", str(image), "--input", str(path)]
        command += ["--simulator", simulator, *(["--waves", str(waves)] if waves else [])]
        return subprocess.run(command, check=False).returncode

"""The `train` command: options, progress bar, and what an interruption leaves behind."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from hdl.console import RefusedError

from .options import Bits, Device, data_dir_option
from .recipe import AMP, DATASETS, GRANULARITIES, MODELS, REGULARIZERS, Recipe
from .schemes import SCHEMES

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .data import Dataset
    from .execution import Execution


@click.command(
    epilog="""\b
    Examples:
      python -m sw train --progressive --bits 4/4 -o build/net.pt
      python -m sw train --scheme float -o build/float.pt
      python -m sw train --scheme apot --bits 3/3 --init build/float.pt -o build/apot3.pt
      python -m sw train --scheme lsq --bits 3/3 --regularizer br --br-start 10 --lambda 0.5 -o build/br.pt
      python -m sw train --progressive --scheme dmbq --lba cp --average-bits 2.0/4 -o build/lba.pt
      python -m sw train --dataset mnist --data-dir data/mnist --images 6000 --epochs 5 -o build/mnist.pt
      python -m sw train --device cuda --amp bf16 --tensorboard build/runs -o build/gpu.pt
      python -m sw train --progressive --bits 4/4 -o build/net.pt --resume
      python -m sw train --recipe sw/recipes/digits_apot4.toml --seed 1 -o build/digits.pt
      torchrun --nproc-per-node 2 -m sw train --bits 4/4 -o build/net.pt
    """
)
@click.option(
    "--recipe",
    "recipe_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="TOML file of the choices below, like those in sw/recipes; options that are given go over it.",
)
@click.option(
    "--dataset",
    type=click.Choice(DATASETS),
    default=Recipe.dataset,
    show_default=True,
    help="digits is scikit-learn's and needs no files.",
)
@data_dir_option
@click.option(
    "--model", type=click.Choice(MODELS), default=Recipe.model, show_default=True, help="The network."
)
@click.option(
    "--scheme",
    type=click.Choice(SCHEMES),
    default=Recipe.scheme,
    show_default=True,
    help="Number format of the inner layers.",
)
@click.option(
    "--bits",
    type=Bits(),
    default=f"{Recipe.weight_bits}/{Recipe.activation_bits}",
    show_default=True,
    help="Bits of a weight / of an activation.",
)
@click.option("--progressive", is_flag=True, help="Float first, then 5 bits, 4 bits, … down to --bits.")
@click.option(
    "--regularizer",
    type=click.Choice(REGULARIZERS),
    help="Penalty on the weights: br pulls those of each bin to its level (lsq only), kure flattens them.",
)
@click.option(
    "--lambda", "strength", type=float, default=Recipe.strength, show_default=True, help="Of the penalty."
)
@click.option(
    "--br-start",
    type=click.IntRange(min=0),
    help="Epochs of each stage before br begins.  [default: a third of --epochs]",
)
@click.option(
    "--lba",
    type=click.Choice(GRANULARITIES),
    help="In the last stage, take bits where the loss misses them least: from the network (gp), layers (lp) "
    "or channels (cp).  dmbq only.",
)
@click.option(
    "--average-bits",
    type=Bits(float),
    default="/".join(map(str, Recipe.average_bits)),
    show_default=True,
    help="Average bits of a weight / of an activation that --lba aims at.",
)
@click.option(
    "--lba-start",
    type=click.IntRange(min=1),
    default=Recipe.lba_start,
    show_default=True,
    help="First epoch after which bits are taken.",
)
@click.option(
    "--lba-end",
    type=click.IntRange(min=1),
    help="Last epoch after which bits are taken.  [default: two thirds of --epochs]",
)
@click.option(
    "--lba-ratio",
    type=float,
    default=Recipe.lba_ratio,
    show_default=True,
    help="Share of the network's layers or channels that lose a bit after that epoch.",
)
@click.option(
    "--images",
    type=click.IntRange(min=1),
    help="Train on this many images, the first ones; all test images are used.  [default: all]",
)
@click.option(
    "--epochs",
    type=click.IntRange(min=1),
    default=Recipe.epochs,
    show_default=True,
    help="Epochs of each stage.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=2),
    default=Recipe.batch_size,
    show_default=True,
    help="Images a step.",
)
@click.option(
    "--lr", type=float, default=Recipe.lr, show_default=True, help="Learning rate; falls to 0 along a cosine."
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**31 - 1),
    default=Recipe.seed,
    show_default=True,
    help="Of weights and order.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    default=Recipe.threads,
    show_default=True,
    help="Of arithmetic; results repeat exactly with the same number.  More pay off for larger images.",
)
@click.option(
    "--amp",
    type=click.Choice(AMP),
    help="Mixed precision: what convolutions and linear layers compute in; quantizers have float32.  "
    "[default: the recipe's; without one, bf16 on a GPU that has it, else off]",
)
@click.option(
    "--device",
    type=Device(),
    default="auto",
    show_default=True,
    help="cpu, cuda, cuda:N, or auto: cuda where there is any.  With torchrun each process has its own GPU.",
)
@click.option(
    "--compile",
    "compiled",
    is_flag=True,
    help="Translate the network with torch.compile, which takes minutes; quantizers stay as they are.",
)
@click.option(
    "--tensorboard",
    "board",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write TensorBoard's log to.",
)
@click.option(
    "--init",
    "initial",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Start from this checkpoint's weights (float or other bits).",
)
@click.option(
    "--resume", is_flag=True, help="Go on with the checkpoint at -o, written with the same options."
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Checkpoint to write after every epoch; logs lie beside it, .csv and .jsonl.",
)
def train(
    output: Path,
    recipe_path: Path | None,
    initial: Path | None,
    resume: bool,
    data_dir: Path,
    device: str,
    compiled: bool,
    board: Path | None,
    **options: Any,
) -> None:
    """Train a network, in float or quantized."""
    if initial and resume:
        raise click.UsageError("--init must not be given with --resume", click.get_current_context())
    recipe = _recipe(recipe_path, options)
    from .checkpoint import load as load_checkpoint
    from .data import load as load_data
    from .execution import execution, usual_amp

    with execution(device) as place:
        place = replace(place, compiled=compiled and _compiles(place))
        if options["amp"] is None and recipe_path is None:
            recipe = replace(recipe, amp=usual_amp(place.device))
        resumed = _resumed(output, recipe) if resume else None
        start = (str(initial), load_checkpoint(initial)) if initial else None
        dataset = load_data(recipe.dataset, folder=data_dir)
        _run(recipe, dataset, output, initial=start, resumed=resumed, place=place, board=board)


def _run(
    recipe: Recipe,
    dataset: "Dataset",
    output: Path,
    *,
    initial: "tuple[str, Checkpoint] | None",
    resumed: "Checkpoint | None",
    place: "Execution",
    board: Path | None,
) -> None:
    """Train with a progress bar, and say what came of it; the first of several processes speaks for all."""
    from .logs import log_path
    from .progress import Bar
    from .training import train as run

    with Bar(recipe, resumed, board=board) if place.leads else nullcontext() as bar:
        try:
            done = run(
                recipe,
                dataset,
                output,
                initial=initial,
                resumed=resumed,
                report=bar or (lambda *_: None),
                execution=place,
            )
        except KeyboardInterrupt:
            if bar:
                kept = f"{output} keeps epoch {bar.saved}; go on with --resume"
                click.echo(f"python -m sw train: {kept if bar.saved else 'nothing was written'}", err=True)
            raise
    if not place.leads:
        return
    missed = _above_target(recipe, done.history[-1])
    if missed:
        click.echo(f"python -m sw train: {missed}", err=True)
    click.echo(f"{output}: test accuracy {done.history[-1]['test_accuracy']:.2%}; log in {log_path(output)}")


def _recipe(path: Path | None, options: dict[str, Any]) -> Recipe:
    """The file's recipe, or the default one, with the options that were given."""
    context = click.get_current_context()
    base = Recipe.from_toml(path) if path else Recipe()
    given = {
        name: value
        for name, value in options.items()
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    if "bits" in given:
        given["weight_bits"], given["activation_bits"] = given.pop("bits")
    try:
        return replace(base, **given)
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error), context) from error


def _compiles(place: "Execution") -> bool:
    """Whether there is a compiler for the device; says so if not."""
    from .execution import compiler_trouble

    trouble = compiler_trouble(place.device)
    if trouble and place.leads:
        click.echo(f"python -m sw train: not compiled: {trouble}", err=True)
    return not trouble


def _above_target(recipe: Recipe, row: dict[str, Any]) -> str:
    """What to say if bits are left that the allocation should have taken."""
    if recipe.lba is None:
        return ""
    found = row["weight_bits"], row["activation_bits"]
    if all(have <= want for have, want in zip(found, recipe.average_bits, strict=True)):
        return ""
    wanted = "/".join(f"{bits:g}" for bits in recipe.average_bits)
    return (
        f"average bits are {found[0]:.2f}/{found[1]:.2f}, not {wanted} yet: "
        "--lba-end must be later or --lba-ratio larger"
    )


def _resumed(output: Path, recipe: Recipe) -> "Checkpoint":
    """The checkpoint to go on from, if it was written with the same options."""
    from .checkpoint import load

    checkpoint = load(output)
    different = checkpoint.recipe.differences(recipe)
    if different:
        wanted = ", ".join(f"{name} {getattr(checkpoint.recipe, name)!r}" for name in different)
        raise RefusedError(f"{output}: --resume needs the options it was written with: {wanted}")
    return checkpoint

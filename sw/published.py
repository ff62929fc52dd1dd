"""The `import` command: a checkpoint that APoT's authors' code wrote becomes one of this project."""

from dataclasses import dataclass
from pathlib import Path

import click

from hdl.console import RefusedError


@dataclass(frozen=True, kw_only=True)
class Published:
    """A network of the authors' code.

    Members
    -------
    size : int
        Height and width of an image.
    mean, deviation : tuple of float
        What their code subtracts from each channel of an image of 0 … 1, and divides by.
    projection : str
        This project's name of the network if its shortcuts are convolutions, as in the authors' code.
    """

    size: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    projection: str


_CIFAR = (0.491, 0.482, 0.447), (0.247, 0.243, 0.262)

PUBLISHED = {
    "resnet10": Published(size=28, mean=(0.131,), deviation=(0.308,), projection="resnet10"),
    "resnet20": Published(size=32, mean=_CIFAR[0], deviation=_CIFAR[1], projection="resnet20_projection"),
    "resnet56": Published(size=32, mean=_CIFAR[0], deviation=_CIFAR[1], projection="resnet56_projection"),
}


@click.command(
    name="import",
    epilog="""\b
    Examples:
      python -m sw import model_best.pth.tar --model resnet20 --bits 4 -o build/net.pt
      python -m sw import checkpoint.pth --model resnet10 --bits 3 --scheme uniform -o build/net.pt
    """,
)
@click.argument("checkpoint", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--model", type=click.Choice(list(PUBLISHED)), required=True, help="The network it was trained as."
)
@click.option(
    "--bits",
    type=click.IntRange(2, 6),
    required=True,
    help="Bits of weights and activations alike; the file does not tell.",
)
@click.option(
    "--scheme",
    type=click.Choice(["apot", "uniform"]),
    default="apot",
    show_default=True,
    help="Levels it was trained with.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The checkpoint to write.",
)
def import_checkpoint(checkpoint: Path, model: str, bits: int, scheme: str, output: Path) -> None:
    """Turn a CHECKPOINT of the APoT authors' code (a torch file with a state_dict) into one of this project
    with the same levels and outputs, without training.

    First and last layers keep the authors' codes, which may pass -127 and then take nine bits or more.
    """
    from .apot_layout import convert, read
    from .checkpoint import save

    state = read(checkpoint)
    try:
        imported = convert(state, name=model, bits=bits, scheme=scheme)
    except RefusedError as error:
        raise RefusedError(f"{checkpoint}: {error}") from error
    save(imported.checkpoint, output)
    codes = ", ".join(
        f"{name} {int(each.codes.min())} … {int(each.codes.max())} ({each.bits} bits)"
        for name, each in imported.outer.items()
    )
    recipe = imported.checkpoint.recipe
    click.echo(f"{output}: {recipe.model}, {imported.layers} layers at {recipe.precision}; codes of {codes}")
    if imported.moved:
        click.echo(
            f"{imported.moved} weights lie halfway between two levels and have the other one", err=True
        )

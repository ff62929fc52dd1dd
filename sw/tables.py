"""The papers' tables that arithmetic alone gives, and the same accounting for a network of one's own."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hdl.console import RefusedError

from .accounting.reproduction import NAMES
from .options import Bits
from .recipe import MODELS, Recipe
from .schemes import SCHEMES

if TYPE_CHECKING:
    from .accounting.entry import Table
    from .accounting.rendering import Page
    from .accounting.usage import LayerUsage

WIDTH = 150


class Shape(click.ParamType):
    """``CxHxW``: channels, height and width of an image."""

    name = "CxHxW"

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[int, int, int]:
        if isinstance(value, tuple):
            return value
        try:
            channels, height, width = map(int, value.split("x"))
        except ValueError:
            self.fail(f"must be three integers CxHxW like 3x32x32, not {value!r}", parameter, context)
        if min(channels, height, width) < 1:
            self.fail(f"must be positive, not {value!r}", parameter, context)
        return channels, height, width


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
      python -m sw tables --recipe sw/recipes/fashion_resnet20_mixed.toml --input 1x28x28
      python -m sw tables --model resnet18 --scheme apot --bits 3/3 --input 3x224x224 --classes 1000
    """
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--network",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Instead of the papers' tables, what this checkpoint or interchange file costs.",
)
@click.option(
    "--recipe",
    "recipe_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Instead, what a network of this recipe costs; it is not trained.",
)
@click.option(
    "--model", type=click.Choice(MODELS), help="Instead, what this network costs, or the recipe's model."
)
@click.option(
    "--scheme", type=click.Choice(SCHEMES), help="Number format of its inner layers.  [default: apot]"
)
@click.option("--bits", type=Bits(), help="Bits of its weights / activations.  [default: 4/4]")
@click.option(
    "--input",
    "input_shape",
    type=Shape(),
    default="1x28x28",
    show_default=True,
    help="An image of --model or --recipe.",
)
@click.option(
    "--classes",
    type=click.IntRange(min=2),
    default=10,
    show_default=True,
    help="Classes of --model or --recipe.",
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
    names: tuple[str, ...],
    network: Path | None,
    recipe_path: Path | None,
    model: str | None,
    scheme: str | None,
    bits: tuple[int, int] | None,
    input_shape: tuple[int, int, int],
    classes: int,
    json_path: Path | None,
    markdown_path: Path | None,
) -> None:
    """Reproduce the papers' FixOPs and model sizes without training: ours, theirs, the difference.

    With NAME only those tables. It fails if an entry is neither within 0.7 % of the paper's, nor equal in the
    printed digits, nor known to differ for a stated reason. With --network, or --recipe, --model and the
    like, the same accounting of a network of your own, trained or not.
    """
    from .accounting.rendering import markdown

    for name in names:
        if name not in NAMES:
            raise click.BadParameter(f"must be one of {', '.join(NAMES)}, not {name!r}", param_hint="NAME")
    planned = any((recipe_path, model, scheme, bits))
    if network and (names or planned):
        raise click.UsageError("--network must not be given with NAME, --recipe, --model, --scheme or --bits")
    if planned and names:
        raise click.UsageError("NAME must not be given with --recipe, --model, --scheme or --bits")
    reproduced: list[Table] = []
    if network:
        pages, content = _network(network)
    elif planned:
        recipe = _recipe(recipe_path, model=model, scheme=scheme, bits=bits)
        pages, content = _planned(recipe, input_shape=input_shape, classes=classes)
    else:
        reproduced = _reproduced(names)
        pages, content = _papers(reproduced)
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
    """A trained network: the integers of an interchange file, or a checkpoint's model."""
    if path.suffix == ".safetensors":
        from .accounting.usage import network_usage
        from .interchange import load_network

        return _usage(network_usage(load_network(path)), source=str(path))
    from .accounting.modelled import model_usage
    from .checkpoint import load

    checkpoint = load(path)
    try:
        found = model_usage(checkpoint.network(), input_shape=checkpoint.input_shape)
    except RefusedError as error:
        raise RefusedError(f"{path}: {error}") from error
    return _usage(found, source=str(path))


def _recipe(path: Path | None, *, bits: tuple[int, int] | None, **given: str | None) -> Recipe:
    """The file's recipe, or the default one, with the options that were given."""
    base = Recipe.from_toml(path) if path else Recipe()
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if bits is not None:
        changes["weight_bits"], changes["activation_bits"] = bits
    try:
        return replace(base, **changes)
    except (TypeError, ValueError) as error:
        raise click.UsageError(str(error), click.get_current_context()) from error


def _planned(
    recipe: Recipe, *, input_shape: tuple[int, int, int], classes: int
) -> tuple[list["Page"], dict[str, Any]]:
    """A network that is not trained, at the precision that its recipe aims at."""
    from .accounting.modelled import model_usage
    from .checkpoint import fresh_model

    channels, height, width = input_shape
    source = f"{recipe.model} at {recipe.precision} for {channels} × {height} × {width}, {classes} classes"
    if recipe.lba:
        source += ", average bits " + "/".join(f"{bits:g}" for bits in recipe.average_bits)
    network = fresh_model(recipe, stage=len(recipe.stages) - 1, input_shape=input_shape, classes=classes)
    averages = recipe.average_bits if recipe.lba else None
    return _usage(model_usage(network, input_shape=input_shape, averages=averages), source=source)


def _usage(usages: list["LayerUsage"], *, source: str) -> tuple[list["Page"], dict[str, Any]]:
    from .accounting.rendering import usage_data, usage_page

    return [usage_page(usages, source=source)], usage_data(usages, source=source)


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

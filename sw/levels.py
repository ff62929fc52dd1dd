"""The `levels` command: a binary basis for a distribution, beside the best one and the paper's."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hdl.files import write_text
from hdl.formats import basis
from hdl.formats.basis import COORDINATES, MAX_PLANES
from hdl.formats.digits import adders

if TYPE_CHECKING:
    from .bases import Fit

MAX_BITS = 10


@click.command(
    epilog="""\b
    Examples:
      python -m sw levels --family laplace --planes 3
      python -m sw levels --family gauss --planes 4 --integer-bits 6
      python -m sw levels --family laplace --planes 3 --adders 4
      python -m sw levels --family laplace --planes 2 --json build/levels.json
    """
)
@click.option(
    "--family", type=click.Choice(list(COORDINATES)), required=True, help="Distribution of the weights."
)
@click.option(
    "--planes",
    type=click.IntRange(0, MAX_PLANES),
    required=True,
    help="Bits of a weight, M; with 0 its channel is pruned.",
)
@click.option(
    "--integer-bits",
    type=click.IntRange(1, MAX_BITS),
    help="Bits of a coordinate in the search for integers.  [default: as many as the hardware's have]",
)
@click.option(
    "--adders",
    "most_adders",
    type=click.IntRange(0),
    help="Also show the best integers that a circuit applies with so few adders.",
)
@click.option(
    "--json",
    "report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write everything to this file.",
)
def levels(
    family: str, planes: int, integer_bits: int | None, most_adders: int | None, report: Path | None
) -> None:
    """Show coordinates, levels, edges and expected error of multi-bit binary bases (DMBQ): the optimum, the
    paper's, the hardware's integers, and the best integers of a given width.

    The paper's third table for Laplace has a misprint, 1.514 for 1.434; both are shown.  The error is
    E[(x - level)²] for a Laplace variable with E|x| = 1 or a normal one with E[x²] = 1.
    """
    if most_adders is not None and most_adders < planes - 1:
        raise click.BadParameter(
            f"must be at least {planes - 1} for {planes} planes, not {most_adders}", param_hint="'--adders'"
        )
    rows = dict(_rows(family, planes, integer_bits, most_adders) if planes else _pruned(family))
    if report:
        content = {"family": family, "planes": planes, "rows": [_entry(name, rows) for name in rows]}
        write_text(report, json.dumps(content, indent=2) + "\n")
    _show(f"{family}, {planes} plane{'' if planes == 1 else 's'}", rows)


def _pruned(family: str) -> Iterator[tuple[str, "Fit"]]:
    """The one level of no planes."""
    from .bases import Fit

    yield "optimum", Fit(family=family, coordinates=())


def _rows(
    family: str, planes: int, integer_bits: int | None, most_adders: int | None
) -> Iterator[tuple[str, "Fit"]]:
    """Every basis to show by its label; the optimum comes first."""
    from .bases import MISPRINT, PAPER, Fit, best_integers, optima, scaled

    bits = integer_bits or max(COORDINATES[family][planes - 1]).bit_length()
    near = optima(family=family, planes=planes)
    yield "optimum", near[0]
    corrected = family == MISPRINT[0] and planes == len(MISPRINT[1])
    yield (
        ("paper, corrected" if corrected else "paper"),
        Fit(family=family, coordinates=PAPER[family][planes - 1]),
    )
    if corrected:
        yield "paper, as printed", Fit(family=family, coordinates=MISPRINT[1])
    yield (
        "hardware",
        scaled(family=family, coordinates=basis(family=family, planes=planes).coordinates, near=near),
    )
    best = best_integers(family=family, planes=planes, bits=bits, near=near)
    yield f"best of {bits} bit{'s' if bits > 1 else ''}", best
    if most_adders is not None:
        few = best_integers(family=family, planes=planes, bits=bits, most_adders=most_adders, near=near)
        yield f"best of {most_adders} adder{'' if most_adders == 1 else 's'}", few


def _adders(fit: "Fit") -> int | None:
    """What a circuit needs to apply integer coordinates."""
    integers = [each for each in fit.coordinates if isinstance(each, int)]
    return adders(tuple(integers)) if integers and len(integers) == len(fit.coordinates) else None


def _penalty(fit: "Fit", rows: dict[str, "Fit"]) -> float:
    """How much larger the error is than the optimum's, as a fraction of it."""
    return max(0.0, fit.error / rows["optimum"].error - 1)


def _entry(name: str, rows: dict[str, "Fit"]) -> dict[str, object]:
    fit = rows[name]
    return {
        "name": name,
        "coordinates": list(fit.coordinates),
        "scale": fit.scale,
        "adders": _adders(fit),
        "levels": fit.levels.tolist(),
        "edges": fit.edges.tolist(),
        "expected_error": fit.error,
        "penalty": _penalty(fit, rows),
    }


def _show(title: str, rows: dict[str, "Fit"]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("basis", "coordinates", "scale", "levels above 0", "edges above 0", title=title, box=None)
    table.add_column("adders", justify="right")
    table.add_column("error", justify="right")
    table.add_column("penalty", justify="right")
    for name, fit in rows.items():
        table.add_row(
            name,
            " ".join(f"{each:g}" if isinstance(each, int) else f"{each:.4f}" for each in fit.coordinates),
            f"{fit.scale:.5g}",
            " ".join(f"{each:.3f}" for each in fit.levels if each > 0),
            " ".join(f"{each:.3f}" for each in fit.edges[len(fit.edges) // 2 + 1 :]),
            "" if _adders(fit) is None else str(_adders(fit)),
            f"{fit.error:.6f}",
            f"{100 * _penalty(fit, rows):.3f} %",
        )
    Console().print(table)

"""Reproduced tables and usages as rows of text, Markdown and JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from fractions import Fraction
from typing import Any, NamedTuple

from hdl.formats import Companded, named

from .entry import Entry, Table
from .usage import LayerUsage

PRECISION = 9
"""Significant digits of numbers in JSON that are not integers."""


class Page(NamedTuple):
    """A table ready to be shown: the first column is text, so is the last one if there are notes.

    Members
    -------
    title : str
    source : str
        A line under the title.
    header : sequence of str
    rows : sequence of sequence of str
    left : set of int
        Numbers of the columns that hold text, not numbers.
    notes : sequence of str
        Footnotes 1, 2, …
    """

    title: str
    source: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: set[int]
    notes: Sequence[str]


def table_page(table: Table) -> Page:
    """A reproduced table: ours, the paper's, the difference, the verdict."""
    notes = list(dict.fromkeys(entry.reason for entry in table.entries if entry.reason))
    rows = []
    for entry in table.entries:
        ours = "-" if entry.ours is None else entry.printed.like(entry.ours)
        difference = "-" if entry.difference is None else f"{float(round(entry.difference, 4)):+.2%}"
        note = f" [{notes.index(entry.reason) + 1}]" if entry.reason else ""
        rows.append((entry.name, entry.formula, ours, entry.printed.text, difference, verdict(entry) + note))
    return Page(
        title=f"{table.name}: {table.title}",
        source=table.source,
        header=("entry", "formula", "ours", "paper", "difference", ""),
        rows=rows,
        left={0, 1, 5},
        notes=notes,
    )


def verdict(entry: Entry) -> str:
    """How far ours is from the paper's, in a word or two."""
    if entry.within:
        return "≤ 0.7 %, same digits" if entry.same_digits else "≤ 0.7 %"
    return "same digits" if entry.same_digits else "not reproduced"


def table_data(table: Table) -> dict[str, Any]:
    """A reproduced table for JSON; numbers are in operations, bytes, or times."""
    return {
        "name": table.name,
        "title": table.title,
        "source": table.source,
        "entries": [
            {
                "entry": entry.name,
                "formula": entry.formula,
                "ours": _number(entry.ours),
                "paper": _number(entry.printed.value),
                "printed": entry.printed.text,
                "difference": _number(entry.difference),
                "within_tolerance": entry.within,
                "same_digits": entry.same_digits,
                "reason": entry.reason,
            }
            for entry in table.entries
        ],
    }


def usage_page(layers: Sequence[LayerUsage], *, source: str) -> Page:
    """What each layer of a network costs, and the sum."""
    rows = [
        (
            layer.name,
            f"{_short(layer.weight_format)} × {_short(layer.input_format)}",
            f"{layer.macs:,}",
            layer.formula,
            f"{float(layer.fixops):,.0f}",
            f"{float(layer.text_fixops):,.0f}",
            f"{layer.weight_bytes:,}",
            f"{layer.channel_bytes:,}",
            f"{layer.lookup_bytes:,}",
        )
        for layer in layers
    ]
    total = {key: f"{value:,.0f}" for key, value in usage_total(layers).items()}
    sums = (total[key] for key in ("fixops", "text_fixops", "weight_bytes", "channel_bytes", "lookup_bytes"))
    return Page(
        title="usage: what one image and the stored network cost",
        source=source,
        header=("layer", "formats", "MACs", "[1]", "FixOPs", "[2]", "weights, B", "channels, B", "tables, B"),
        rows=[*rows, ("total", "", total["macs"], "", *sums)],
        left={0, 1, 3},
        notes=(
            "FixOPs of one multiply-accumulate with a weight of w and an activation of a bits, as the APoT "
            "paper's tables count; formats of looked-up levels are counted by the bits of a level",
            "FixOPs as the APoT paper's text counts: n·a/64, with the n terms of an APoT weight",
        ),
    )


def usage_data(layers: Sequence[LayerUsage], *, source: str) -> dict[str, Any]:
    """What each layer of a network costs, for JSON."""
    entries = [
        {
            **asdict(layer),
            "fixops": float(layer.fixops),
            "text_fixops": float(layer.text_fixops),
        }
        for layer in layers
    ]
    return {"network": source, "layers": entries, "total": usage_total(layers)}


def usage_total(layers: Sequence[LayerUsage]) -> dict[str, float]:
    """Sums over the layers."""
    return {
        "weights": sum(layer.weights for layer in layers),
        "macs": sum(layer.macs for layer in layers),
        "fixops": float(sum(layer.fixops for layer in layers)),
        "text_fixops": float(sum(layer.text_fixops for layer in layers)),
        "weight_bytes": sum(layer.weight_bytes for layer in layers),
        "channel_bytes": sum(layer.channel_bytes for layer in layers),
        "lookup_bytes": sum(layer.lookup_bytes for layer in layers),
    }


def markdown(page: Page) -> str:
    """A page as a Markdown section."""
    rule = ["---" if index in page.left else "---:" for index in range(len(page.header))]
    lines = [f"| {' | '.join(cells)} |" for cells in (page.header, rule, *page.rows)]
    notes = [f"{number}. {note}." for number, note in enumerate(page.notes, 1)]
    return "\n\n".join(
        filter(None, (f"## {page.title}", f"{page.source}.", "\n".join(lines), "\n".join(notes)))
    )


def _short(name: str) -> str:
    """A format's name, or what is said in words; of one that lists its levels, how many bits they take."""
    fmt = None if " " in name else named(name)
    return f"companded {fmt.code_width} bits" if isinstance(fmt, Companded) else name


def _number(value: Fraction | None) -> int | float | None:
    """Exact if it is an integer."""
    if value is None:
        return None
    return int(value) if value.denominator == 1 else float(f"{float(value):.{PRECISION}g}")

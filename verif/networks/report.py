"""The networks' numbers as JSON, and the tables made of nothing else."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from hdl import markdown

Report = dict[str, Any]
Facts = dict[str, Any]

NONE = "–"
MEMORIES = ("weight", "activation", "value", "channel", "program")


def text_of(content: Report) -> str:
    """The JSON file, a network on a line of its own."""
    head = [
        f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in content.items() if name != "networks"
    ]
    each = ",\n".join(f"    {json.dumps(facts)}" for facts in content["networks"])
    return "{\n" + ",\n".join(head) + ',\n  "networks": [\n' + each + "\n  ]\n}\n"


def header(content: Report) -> tuple[str, ...]:
    """Of the table in README."""
    return (
        "Network", "MACs", "Cycles", "of peak", f"Images/s at {content['clock']:g} MHz", "Weight bytes",
        "as float32", "Accuracy, %", "Images in RTL", "Mismatches", "Seconds",
    )  # fmt: skip


def rows(content: Report) -> Iterator[tuple[str, ...]]:
    """The table's rows."""
    for facts in content["networks"]:
        accuracy = facts.get("accuracy")
        yield (
            facts["name"],
            f"{facts['macs']:,}",
            f"{facts['cycles']:,}",
            f"{facts['share_of_peak']:.1%}",
            f"{_rate(facts, content['clock']):,.0f}",
            f"{facts['weight_bytes']:,}",
            f"{facts['float_bytes']:,}",
            NONE if accuracy is None else f"{100 * accuracy:.2f}",
            str(facts["images"]),
            str(facts["mismatches"]),
            f"{facts['processor_seconds']:,.0f}",
        )


def _rate(facts: Facts, clock: float) -> float:
    """Images a second on all cores, at a clock in MHz."""
    cores = facts["parameters"]["cores"]
    rate: float = cores * clock * 1e6 / facts["cycles"]
    return rate


def table(content: Report) -> str:
    """Every network: what it takes, and whether hardware computes it."""
    return markdown.table(header(content), rows(content), left=1)


def accelerators(content: Report) -> str:
    """The accelerator of every network: array, widths, and the memories' words."""
    shown = []
    for facts in content["networks"]:
        p = facts["parameters"]
        words = (f"{p[f'{name}_words']:,}" for name in MEMORIES)
        array = f"{p['rows']} × {p['lanes']} × {p['cores']}"
        weights = f"`{p['weight_format']}`"
        weights += f", {p['index_width']}-bit indices" if p.get("codebooks") else ""
        shown.append((facts["name"], weights, array, str(p["code_width"]), *words))
    titles = ("Network", "Array's weights", "Rows × lanes × cores", "Bits of a code")
    return markdown.table((*titles, *(f"{name.capitalize()} words" for name in MEMORIES)), shown, left=1)


TABLES: dict[str, Callable[[Report], str]] = {"table": table, "accelerators": accelerators}


def fill(text: str, content: Report) -> str:
    """`text` with every table made anew, see `hdl.markdown.fill`."""
    return markdown.fill(text, "networks", TABLES, content)


def page(content: Report) -> str:
    """The tables as a Markdown file of their own."""
    return "# Networks\n\n" + "\n\n".join(make(content) for make in TABLES.values()) + "\n"

"""A comparison's numbers as JSON, and the tables made of nothing else."""

import json
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, stdev
from typing import Any

from hdl import markdown

from .contender import Run, label
from .protocol import Protocol

Report = dict[str, Any]
Facts = dict[str, Any]

NONE = "–"
HEADER = (
    "Bits", "Scheme", "Accuracy, %", "Weight error, %", "Bin loss, %", "Kurtosis", "Average bits",
    "Weight bytes",
)  # fmt: skip


def report(protocol: Protocol, found: Iterable[tuple[Run, Facts, str]], *, data: str, program: str) -> Report:
    """Everything that is shown, in the protocol's order.

    Parameters
    ----------
    found
        Each run, what was measured, and why it failed if it did.
    data
        Hash of the images.
    program
        Version of torch.
    """
    known = {run: {"failed": failed} if failed else facts for run, facts, failed in found}
    runs = [
        {"contender": run.contender, "bits": label(run.bits), "seed": run.recipe.seed, **known[run]}
        for run in protocol.runs()
        if run.bits is not None and run in known
    ]
    return {"protocol": protocol.as_dict(), "data": data, "torch": program, "runs": runs}


def text_of(content: Report) -> str:
    """The JSON file, a run on a line of its own."""
    head = [
        f"  {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}"
        for name, value in content.items()
        if name != "runs"
    ]
    runs = ",\n".join(f"    {json.dumps(run, ensure_ascii=False)}" for run in content["runs"])
    return "{\n" + ",\n".join(head) + ',\n  "runs": [\n' + runs + "\n  ]\n}\n"


def groups(content: Report) -> dict[tuple[str, str], list[Facts]]:
    """The runs of each bit-width and contender, one for each seed."""
    found: dict[tuple[str, str], list[Facts]] = {}
    for run in content["runs"]:
        found.setdefault((run["bits"], run["contender"]), []).append(run)
    return found


def good(runs: Iterable[Facts], name: str) -> list[float]:
    """A measured value of the runs that did not fail and have it."""
    return [run[name] for run in runs if run.get(name) is not None]


def rows(content: Report) -> list[tuple[str, ...]]:
    """The table's rows, in the order of `HEADER`."""
    return [
        (
            bits,
            contender,
            _accuracy(runs),
            _percent(good(runs, "weight_error")),
            _percent(good(runs, "bin_loss")),
            _mean(good(runs, "kurtosis"), lambda value: f"{value:.2f}"),
            _average_bits(runs),
            _mean(good(runs, "bytes"), lambda value: f"{value:,.0f}"),
        )
        for (bits, contender), runs in groups(content).items()
    ]


def claim_rows(content: Report) -> list[tuple[str, ...]]:
    """What papers say about the order, and the differences found: one row for each claim and bit-width."""
    found = groups(content)
    shown: list[tuple[str, ...]] = []
    for claim in content["protocol"]["claims"]:
        measure, sign = claim["measure"], 1 if claim["measure"] == "accuracy" else -1
        for bits in content["protocol"]["bits"]:
            better, worse = (
                {run["seed"]: 100 * run[measure] for run in found.get((bits, name), []) if run.get(measure)}
                for name in (claim["better"], claim["worse"])
            )
            differences = [better[seed] - worse[seed] for seed in better if seed in worse]
            if differences:
                name = f"{claim['better']} {'over' if sign > 0 else 'under'} {claim['worse']}"
                said = f"{name}: {measure.replace('_', ' ')}"
                verdict = _verdict([sign * difference for difference in differences])
                shown.append((said, claim["source"], bits, _spread(differences, "{:+.2f}"), verdict))
    return shown


def failures(content: Report) -> list[str]:
    """The runs that failed, and why."""
    return [
        f"{run['contender']} {run['bits']}, seed {run['seed']}: {run['failed']}"
        for run in content["runs"]
        if "failed" in run
    ]


def table(content: Report) -> str:
    """The comparison as a Markdown table, and its failed runs below."""
    text = markdown.table(HEADER, rows(content), left=2)
    failed = "".join(f"\n- {line}" for line in failures(content))
    return text + (f"\n\nFailed:\n{failed}" if failed else "")


def claims(content: Report) -> str:
    """The claims as a Markdown table."""
    header = ("Claim", "Source", "Bits", "Difference, points", "Here")
    return markdown.table(header, claim_rows(content), left=2)


TABLES: dict[str, Callable[[Report], str]] = {"table": table, "claims": claims}


def fill(text: str, content: Report) -> str:
    """`text` with every table made anew, see `hdl.markdown.fill`."""
    return markdown.fill(text, "compare", TABLES, content)


def page(content: Report) -> str:
    """The tables as a Markdown file of their own."""
    parts = [f"# Comparison\n\n{table(content)}"]
    if content["protocol"]["claims"]:
        parts.append(f"## What papers say\n\n{claims(content)}")
    return "\n\n".join(parts) + "\n"


def _accuracy(runs: Sequence[Facts]) -> str:
    values = [100 * value for value in good(runs, "accuracy")]
    if not values:
        return "failed"
    missing = f" ({len(values)} of {len(runs)})" if len(values) < len(runs) else ""
    return _spread(values, "{:.2f}") + missing


def _spread(values: Sequence[float], form: str) -> str:
    """Mean and sample deviation."""
    mean = form.format(fmean(values))
    return f"{mean} ± {stdev(values):.2f}" if len(values) > 1 else mean


def _verdict(differences: Sequence[float]) -> str:
    better = sum(difference > 0 for difference in differences)
    if better == len(differences):
        return "holds with every seed"
    if all(difference < 0 for difference in differences):
        return "does not hold with any seed"
    return f"with {better} of {len(differences)} seeds"


def _average_bits(runs: Sequence[Facts]) -> str:
    sides = (good(runs, "weight_bits"), good(runs, "activation_bits"))
    return "/".join(f"{round(fmean(side), 2):g}" for side in sides) if all(sides) else NONE


def _percent(values: Sequence[float]) -> str:
    return _mean(values, lambda value: f"{100 * value:.2f}")


def _mean(values: Sequence[float], shown: Callable[[float], str]) -> str:
    return shown(fmean(values)) if values else NONE

"""The resource report: facts of all points, what follows from them, and where it is written."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hdl.console import RefusedError
from hdl.files import write_text

from . import nextpnr
from .cache import Cache
from .designs import ROOT, installed
from .measure import TOOLS, Measurement
from .nextpnr import FLAGS, TARGET_MHZ
from .points import DEPTH, LANES, Point, points, selected
from .tables import fill
from .targets import OBTAIN, TARGETS, Target

BUILD = ROOT / "build/report"
CACHE = ROOT / "build/cache"
DOCS = ROOT / "docs"
README = ROOT / "README.md"
NAME = "resources"
MEASURED = ("ecp5", "ice40", "xilinx", "osu018")
SEEDS = (1, 2, 3)

Facts = dict[str, Any]


def chosen_points(patterns: Sequence[str]) -> list[Point]:
    """All points, or those that a pattern fits.

    Raises
    ------
    RefusedError
        If a pattern fits none.
    """
    for pattern in patterns:
        if not selected((pattern,)):
            raise RefusedError(f"no point fits {pattern}; points begin with a block's name")
    return selected(tuple(patterns)) if patterns else points()


def chosen_targets(names: Sequence[str]) -> list[Target]:
    """The named targets, or all that can be measured here.

    Raises
    ------
    RefusedError
        If a named target's library is missing.
    """
    for name in names:
        if not TARGETS[name].available():
            raise RefusedError(f"{name} needs a library that is not there: run `{OBTAIN}`")
    return [TARGETS[name] for name in names or MEASURED if TARGETS[name].available()]


def check_tools(*, routing: bool) -> None:
    """Refuse to begin if a package is missing."""
    for package, purpose in ((TOOLS[0], "synthesis"), *([(nextpnr.PACKAGE, "routing")] if routing else [])):
        if installed(package) is None:
            hint = " (or give --no-route)" if purpose == "routing" else ""
            raise RefusedError(f"{purpose} needs the Python package {package}: run `make setup`{hint}")


def assembled(measured: list[Facts], measurement: Measurement) -> Facts:
    """Everything that the report says, as JSON holds it."""
    targets = {
        name: {
            "about": TARGETS[name].about,
            "unit": TARGETS[name].unit,
            **({} if TARGETS[name].available() else {"not_available": OBTAIN}),
            "commands": [step.replace(f"{ROOT}/", "") for step in TARGETS[name].commands("top")],
        }
        for name in MEASURED
    }
    return {
        "lanes": LANES,
        "depth": DEPTH,
        "target_mhz": TARGET_MHZ,
        "seeds": list(measurement.seeds),
        "tools": {name: installed(name) for name in TOOLS},
        "routing": list(FLAGS),
        "targets": targets,
        "points": [_derived(facts) for facts in measured],
    }


def _derived(facts: Facts) -> Facts:
    """With what follows: cost per MAC, and frequencies."""
    lanes = facts["parameters"].get("lanes", LANES)
    for found in facts["targets"].values():
        if facts["group"] == "dot":
            row = found.get("row", found["area"])
            found["per_mac"] = round((row - found["accumulator"]) / lanes, 2)
    if routing := facts.get("routing"):
        known = [mhz for mhz in routing["mhz"].values() if mhz is not None]
        routing["median"] = round(statistics.median(known), 2)
        routing["worst"] = min(known)
        routing["met"] = routing["worst"] >= TARGET_MHZ
    return facts


def text_of(report: Facts) -> str:
    """The JSON file, a point's every entry on a line of its own."""
    head = {key: value for key, value in report.items() if key != "points"}
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in head.items()]
    each = [_point_text(point) for point in report["points"]]
    lines.append('  "points": [\n' + ",\n".join(each) + "\n  ]")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _point_text(point: Facts) -> str:
    entries = [f"      {json.dumps(key)}: {json.dumps(value)}" for key, value in point.items()]
    return "    {\n" + ",\n".join(entries) + "\n    }"


def write(report: Facts, folder: Path, *, page: str) -> list[Path]:
    """Write JSON, Markdown and plot into a folder; `page` is the Markdown whose tables are filled."""
    from .plot import svg

    files = {
        folder / f"{NAME}.json": text_of(report),
        folder / f"{NAME}.md": fill(page, report),
        folder / f"{NAME}.svg": svg(report),
    }
    for path, text in files.items():
        write_text(path, text)
    return list(files)


def publish(report: Facts) -> list[Path]:
    """Write the report into the documentation, and its table into README."""
    page = (DOCS / f"{NAME}.md").read_text(encoding="utf-8")
    written = write(report, DOCS, page=page)
    write_text(README, fill(README.read_text(encoding="utf-8"), report))
    return [*written, README]


def run(
    *,
    targets: Sequence[Target],
    points: Sequence[Point],
    seeds: Sequence[int],
    jobs: int,
    folder: Path = BUILD,
    cache: Path = CACHE,
    is_published: bool = False,
) -> list[Path]:
    """Measure and write everything, under a progress bar; the files that were written.

    Raises
    ------
    RefusedError
        If a tool is missing or fails, or there is no page to fill.
    """
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    check_tools(routing=bool(seeds))
    page = (DOCS / f"{NAME}.md").read_text(encoding="utf-8")
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring")
        measurement = Measurement(
            targets=targets, seeds=list(seeds), cache=Cache(cache), step=lambda: progress.advance(task)
        )
        progress.update(task, total=sum(measurement.steps(point) for point in points))
        report = assembled(measurement.run(points, jobs=jobs), measurement)
    return [*write(report, folder, page=page), *(publish(report) if is_published else [])]

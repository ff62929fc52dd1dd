"""The comparison's plot: accuracy by bits, and what it has to do with the weights' error."""

import io
from statistics import fmean, stdev
from typing import Any

from .report import Facts, Report, good, groups

MARKERS = "osD^vP*X<>hp"
COLORS = (*(f"C{number}" for number in range(10)), "black", "gold")


def svg(content: Report) -> str:
    """The plot as SVG, the same for the same report."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings = {"svg.hashsalt": "compare", "svg.fonttype": "none", "font.size": 9}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(10.4, 4.8), layout="constrained")
        left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
        names = [contender["name"] for contender in content["protocol"]["contenders"]]
        order = list(reversed(content["protocol"]["bits"]))
        for number, name in enumerate(names):
            mine = {bits: runs for (bits, who), runs in groups(content).items() if who == name}
            place = number % len(MARKERS)
            style = {"color": COLORS[place], "marker": MARKERS[place], "markersize": 5}
            # Side by side, so that their bars do not hide one another.
            aside = (number - (len(names) - 1) / 2) * 0.06
            _accuracies(left, {order.index(bits) + aside: runs for bits, runs in mine.items()}, name, style)
            _errors(right, mine, style)
        left.set_xticks(range(len(order)), order)
        left.set_xlabel("bits of weights / activations")
        left.set_ylabel("test accuracy, %")
        right.set_xscale("log")
        right.set_xlabel("weight error, %")
        right.set_ylabel("test accuracy, %")
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False)
        stream = io.StringIO()
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _accuracies(axes: Any, places: dict[float, list[Facts]], name: str, style: dict[str, Any]) -> None:
    """Means and deviations over seeds."""
    shown = {place: [100 * each for each in good(runs, "accuracy")] for place, runs in places.items()}
    shown = {place: values for place, values in sorted(shown.items()) if values}
    deviations = [stdev(values) if len(values) > 1 else 0.0 for values in shown.values()]
    means = list(map(fmean, shown.values()))
    axes.errorbar(list(shown), means, deviations, label=name, linestyle="none", capsize=2, **style)


def _errors(axes: Any, mine: dict[str, list[Facts]], style: dict[str, Any]) -> None:
    """A point for each run."""
    points = [
        (100 * run["weight_error"], 100 * run["accuracy"])
        for runs in mine.values()
        for run in runs
        if run.get("weight_error")
    ]
    if points:
        axes.plot(*zip(*points, strict=True), linestyle="none", **style)

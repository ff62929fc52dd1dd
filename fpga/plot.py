"""LUT4 per MAC against weight bits, as SVG of the same bytes on every run."""

import io
from typing import Any

Facts = dict[str, Any]
PLAIN = "uniform, multiplier"
MARKERS = "osD^vP*X<>hp"


def svg(report: Facts) -> str:
    """The plot of every dot product, one panel for each width of activations."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings = {
        "svg.hashsalt": "resources",
        "svg.fonttype": "none",
        "font.size": 9,
        "font.family": "sans-serif",
    }
    with matplotlib.rc_context(settings):
        chosen = _points(report)
        widths = sorted({point["activation_width"] for point in chosen})
        figure = Figure(figsize=(5.2 * max(1, len(widths)), 4.6), layout="constrained")
        schemes = list(dict.fromkeys(point["scheme"] for point in chosen))
        for number, width in enumerate(widths):
            axes = figure.add_subplot(1, len(widths), number + 1)
            _panel(axes, report, [each for each in chosen if each["activation_width"] == width], schemes)
            axes.set_title(f"{width}-bit activations")
            axes.set_xlabel("bits of a weight's code")
            axes.set_ylabel("ECP5 LUT4 per MAC")
        if widths:
            handles, labels = axes.get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        stream = io.StringIO()
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def _points(report: Facts) -> list[Facts]:
    """Dot products on ECP5, folded where there are both."""
    found: dict[str, Facts] = {}
    for point in report["points"]:
        if point["group"] == "dot" and "ecp5" in point["targets"] and not point["parameters"].get("serial"):
            found[point["name"].removesuffix(" --folded")] = point
    return list(found.values())


def _panel(axes: Any, report: Facts, points: list[Facts], schemes: list[str]) -> None:
    costs = {point["name"]: point["targets"]["ecp5"]["per_mac"] for point in report["points"] if _has(point)}
    ranges = []
    for number, scheme in enumerate(schemes):
        mine = sorted(
            (point["weight_bits"], costs[point["name"]], point["baselines"].get("equal_range"))
            for point in points
            if point["scheme"] == scheme
        )
        bits, values = [each[0] for each in mine], [each[1] for each in mine]
        style = (
            {"linestyle": "-", "linewidth": 0.8} if scheme.startswith("uniform") else {"linestyle": "none"}
        )
        axes.plot(
            bits, values, MARKERS[number % len(MARKERS)], color=f"C{number % 10}", label=scheme, **style
        )
        for each, value, name in mine:
            if scheme.startswith("uniform") or name not in costs:
                continue
            ranges.append((each, costs[name]))
            axes.plot([each, each], [value, costs[name]], color=f"C{number % 10}", linewidth=0.4)
    axes.plot(
        [x for x, _ in ranges],
        [y for _, y in ranges],
        "_",
        color="black",
        linestyle="none",
        label="multiplier of equal range, joined to its scheme",
    )
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, linewidth=0.3)


def _has(point: Facts) -> bool:
    return point["group"] == "dot" and "ecp5" in point["targets"]

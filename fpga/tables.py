"""The resource report's tables, between ``<!-- resources: NAME -->`` and ``<!-- /resources -->``."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hdl import markdown

Facts = dict[str, Any]
SIZES = ("activation_width", "activation_outer_bits", "depth", "folded")
MOST_LEVELS = 4
NONE = "–"
SLOW = " ✗"
"""Behind a frequency below the target."""


def fill(text: str, report: Facts) -> str:
    """`text` with every table made anew, see `hdl.markdown.fill`."""
    return markdown.fill(text, "resources", TABLES, report)


def summary(report: Facts) -> str:
    """ECP5, one line a scheme, folded where that is possible, at both widths of activations."""
    rows = []
    for label, scheme, pair in _pairs(report, folded=True):
        if "serial" in label:
            continue
        costs = [[_per_mac(point), *_baselines(report, point)] for point in pair]
        rows.append(
            (
                scheme,
                f"`{label}`",
                _known(pair)["weight_bits"],
                *(_joined(each) for each in zip(*costs, strict=True)),
                _joined([_front_end(point) for point in pair]),
                _joined([_mhz(point, "worst") for point in pair]),
            )
        )
    header = (
        "Weights",
        "Block",
        "Bits",
        "LUT4 per MAC",
        "multiplier of equal bits",
        "of equal range",
        "front end",
        "MHz",
    )
    return markdown.table(header, rows)


def dots(report: Facts) -> str:
    """Every dot product on ECP5: rows, front end, accumulator, frequency."""
    rows = []
    for point in _of(report, "dot"):
        found = point["targets"].get("ecp5")
        if not found:
            continue
        rows.append(
            (
                point["scheme"],
                f"`{_label(point)}`",
                point["weight_bits"],
                point["activation_width"],
                "folded" if point["folded"] else "exact",
                _per_mac(point),
                *_baselines(report, point),
                found.get("row", NONE),
                _front_end(point),
                found["accumulator"],
                _mhz(point, "median"),
                _mhz(point, "worst"),
            )
        )
    header = (
        "Weights",
        "Block",
        "Bits",
        "Activation",
        "",
        "LUT4 per MAC",
        "multiplier of equal bits",
        "of equal range",
        "row",
        "front end",
        "accumulator",
        "MHz, median",
        "worst",
    )
    return markdown.table(header, rows)


def families(report: Facts) -> str:
    """Dot products on every family, per MAC, at both widths of activations."""
    names = list(report["targets"])
    rows = []
    for label, scheme, pair in _pairs(report, folded=True):
        costs = [_joined([_per_mac(point, name) for point in pair]) for name in names]
        rows.append((scheme, f"`{label}`", _known(pair)["weight_bits"], *costs))
    return markdown.table(("Weights", "Block", "Bits", *names), rows)


def elements(report: Facts) -> str:
    """Processing elements with their accumulators, on every family."""
    names = list(report["targets"])
    rows = []
    for point in _of(report, "pe"):
        others = [_area(_find(report, name)) for name in _ids(point)]
        areas = [_area(point, name) for name in names]
        rows.append(
            (
                point["scheme"],
                f"`{_label(point)}`",
                point["weight_bits"],
                point["activation_width"],
                areas[0],
                *others,
                *areas[1:],
            )
        )
    header = (
        "Weights",
        "Block",
        "Bits",
        "Activation",
        names[0],
        "multiplier of equal bits",
        "of equal range",
    )
    return markdown.table((*header, *names[1:]), rows)


def blocks(report: Facts) -> str:
    """Every other block, on every family."""
    names = list(report["targets"])
    rows = []
    for point in _of(report, "block"):
        memories = sum(
            point["targets"].get("ecp5", {}).get(kind, 0) for kind in ("LUT memories", "block memories")
        )
        rows.append((f"`{_label(point)}`", *(_area(point, name) for name in names), memories))
    return markdown.table(("Block", *names, "memories on ecp5"), rows)


def conditions(report: Facts) -> str:
    """Tools and flags."""
    rows = [("tool", name, version) for name, version in report["tools"].items()]
    for name, target in report["targets"].items():
        rows.append(("area", name, target["unit"]))
        if "not_available" in target:
            rows.append(("not available", name, f"`{target['not_available']}`"))
        rows.append(("commands", name, "`" + "; ".join(target["commands"]) + "`"))
    rows.append(("flags", "routing", "`" + " ".join(report["routing"]) + "`"))
    rows.append(("seeds", "routing", ", ".join(map(str, report["seeds"]))))
    return markdown.table(("", "", ""), rows)


TABLES: dict[str, Callable[[Facts], str]] = {
    each.__name__: each for each in (summary, dots, families, elements, blocks, conditions)
}


def _of(report: Facts, group: str) -> Iterator[Facts]:
    return (point for point in report["points"] if point["group"] == group)


def _pairs(report: Facts, *, folded: bool) -> Iterator[tuple[str, str, list[Facts | None]]]:
    """Dot products by label: the point at each width of activations; the folded one if there are both."""
    widths = sorted({point["activation_width"] for point in _of(report, "dot")})
    grouped: dict[tuple[str, str], dict[int, Facts]] = {}
    for point in _of(report, "dot"):
        found = grouped.setdefault((_label(point), point["scheme"]), {})
        if folded or not point["folded"]:
            found[point["activation_width"]] = point
    for (label, scheme), found in grouped.items():
        yield label, scheme, [found.get(width) for width in widths]


def _known(pair: list[Facts | None]) -> Facts:
    return next(point for point in pair if point)


def _label(point: Facts) -> str:
    """The block and its options; of weights, but for sizes, and a list of levels is shortened."""
    words = [point["block"]]
    for name, value in point["parameters"].items():
        if point["group"] == "block" or name not in SIZES:
            words.append(f"--{name.replace('_', '-')}")
            if isinstance(value, list | tuple):
                words.append(",".join(map(str, value)) if len(value) <= MOST_LEVELS else "…")
            elif value is not True:
                words.append(str(value))
    return " ".join(words)


def _find(report: Facts, name: str | None) -> Facts | None:
    return next((point for point in report["points"] if point["name"] == name), None)


def _ids(point: Facts | None) -> list[str | None]:
    baselines = point["baselines"] if point else {}
    return [baselines.get(name) for name in ("equal_bits", "equal_range")]


def _baselines(report: Facts, point: Facts | None) -> list[str]:
    return [_per_mac(_find(report, name)) for name in _ids(point)]


def _per_mac(point: Facts | None, target: str = "ecp5") -> str:
    found = point["targets"].get(target) if point else None
    return f"{found['per_mac']:,.1f}" if found else NONE


def _area(point: Facts | None, target: str = "ecp5") -> str:
    found = point["targets"].get(target) if point else None
    return f"{found['area']:,}" if found else NONE


def _front_end(point: Facts | None) -> str:
    found = point["targets"].get("ecp5") if point else None
    return str(found["front_end"]) if found and "front_end" in found else NONE


def _mhz(point: Facts | None, which: str) -> str:
    routing = point.get("routing") if point else None
    if not routing:
        return NONE
    return f"{routing[which]:.0f}" + ("" if routing["met"] or which != "worst" else SLOW)


def _joined(values: Iterable[str]) -> str:
    """Values at every width of activations; one dash if there is none."""
    found = list(values)
    return NONE if set(found) == {NONE} else " / ".join(found)

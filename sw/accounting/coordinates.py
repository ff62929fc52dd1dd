"""DMBQ's coordinates beside the optimum, found anew: coordinates and expected errors."""

from collections.abc import Iterator
from fractions import Fraction
from functools import cache

from ..bases import MISPRINT, PAPER, Fit, optima
from .entry import Entry
from .published import Printed

ERROR_DIGITS = 6


def coordinate_entries() -> Iterator[Entry]:
    """Every coordinate as printed, beside that of the least expected error."""
    for family, planes, printed, label in _cases():
        best = _optimum(family, planes)
        reason = _reason(family, planes, printed)
        for index, value in enumerate(printed):
            entry = Entry(
                name=f"{label}, coordinate {index + 1}",
                formula="least expected error",
                ours=Fraction(best.coordinates[index]),
                printed=Printed(repr(value)),
            )
            yield entry if entry.accepted else entry.because(reason)


def error_entries() -> Iterator[Entry]:
    """The least expected error, beside that of the printed coordinates."""
    for family, planes, printed, label in _cases():
        entry = Entry(
            name=label,
            formula="E[(x - level)²]",
            ours=Fraction(_optimum(family, planes).error),
            printed=Printed(f"{_error(family, printed):.{ERROR_DIGITS}f}"),
        )
        yield entry if entry.accepted else entry.because(_reason(family, planes, printed))


def _cases() -> Iterator[tuple[str, int, tuple[float, ...], str]]:
    """Family, planes, coordinates and a label; the misprinted table comes as printed and corrected."""
    for family, tables in PAPER.items():
        for planes, coordinates in enumerate(tables, 1):
            label = f"{family.capitalize()} {planes}"
            if (family, planes) == (MISPRINT[0], len(MISPRINT[1])):
                yield family, planes, MISPRINT[1], label
                label += " corrected"
            yield family, planes, coordinates, label


def _reason(family: str, planes: int, printed: tuple[float, ...]) -> str:
    excess = _error(family, printed) / _optimum(family, planes).error - 1
    if (family, printed) == MISPRINT:
        corrected = PAPER[family][planes - 1]
        wrong, right = next(pair for pair in zip(printed, corrected, strict=True) if pair[0] != pair[1])
        return f"{wrong} is a misprint of {right}: as printed the error is {excess:.1%} above the least"
    return f"the printed coordinates are not quite the optimum: their error is {excess:.2%} above the least"


@cache
def _optimum(family: str, planes: int) -> Fit:
    return optima(family=family, planes=planes)[0]


def _error(family: str, coordinates: tuple[float, ...]) -> float:
    return Fit(family=family, coordinates=coordinates).error

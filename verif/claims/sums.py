"""Processing elements and small dot products: the accumulator is the sum of levels times activations."""

from collections.abc import Iterator
from typing import Any

from ..claim import Claim, Description
from ..specification import Specification

FAMILIES: dict[str, tuple[dict[str, Any], ...]] = {
    "apot": (
        {"k": 1, "n": 1},
        {"k": 2, "n": 1},
        {"k": 2, "n": 1, "odd": True},
        {"k": 2, "n": 2},
        {"k": 2, "n": 2, "odd": True},
    ),
    "pot": ({"k": 2}, {"k": 3}),
    "uniform": ({"bits": 2}, {"bits": 4}),
    "table": ({"format": "apot_k2n2"}, {"format": "uniform_b4"}),
}
ELEMENTS = {**FAMILIES, "signmag": ({"bits": 2}, {"bits": 4})}
FOLDABLE = ("apot", "pot")
SMALL = {"activation_width": 2, "lanes": 2, "depth": 16}
"""Size of the dot products: a solver's work grows fast with lanes, and lanes differ in nothing."""


def specified(description: Description) -> Specification:
    """The accumulator against the level table."""
    return Specification(description, levels=tuple(description["levels"]))


def _claims() -> Iterator[Claim]:
    for family, choices in ELEMENTS.items():
        for choice in choices:
            parameters = {**choice, "activation_width": 8}
            yield Claim(block=f"{family}_pe", parameters=parameters, specification=specified)
    for family, choices in FAMILIES.items():
        for choice in choices:
            for fold in ({}, {"folded": True}) if family in FOLDABLE else ({},):
                parameters = {**choice, **SMALL, **fold}
                yield Claim(block=f"{family}_dot", parameters=parameters, specification=specified)


CLAIMS = tuple(_claims())

"""What takes part in a comparison, and the runs that come of it.  Loads no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..recipe import Recipe
from ..schemes import FLOAT

# Keys of a recipe that a contender may have of its own.
OWN = ("scheme", "regularizer", "strength", "br_start", "lba", "lba_start", "lba_end", "lba_ratio")

Bits = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run.

    Members
    -------
    contender : str
        Whose it is; empty for the float network that a seed's runs start from.
    bits : tuple of int, or None
        The bit-widths it is listed under.
    recipe : Recipe
    start : Run or None
        The run whose network it starts from.
    """

    contender: str
    bits: Bits | None
    recipe: Recipe
    start: "Run | None"

    def __str__(self) -> str:
        name = self.contender if self.bits is None else f"{self.contender} {label(self.bits)}"
        return f"{name or 'float network'}, seed {self.recipe.seed}"


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One of those that are compared.

    Parameters
    ----------
    name
        In the tables.
    options
        Keys of a recipe, of those in `OWN`; a table has a value for each of the bits: ``{"4/4" = 0.02, …}``.
    bits
        The bit-widths it takes part at; None for all that are compared.
    extra_bits
        With ``lba``: how many bits more than the average that it is to reach it begins with.
    after
        The contender whose network of the bits before it starts from; None for itself.
    """

    name: str
    options: Mapping[str, Any]
    bits: tuple[Bits, ...] | None = None
    extra_bits: int = 0
    after: str | None = None

    def recipe(self, bits: Bits, common: Mapping[str, Any]) -> Recipe:
        """What it is trained with at these bits."""
        chosen = {
            name: _value_at(name, value, bits) if isinstance(value, Mapping) else value
            for name, value in self.options.items()
        }
        if chosen.get("scheme") == FLOAT:
            return Recipe(**common, **chosen)
        if "lba" in chosen:
            chosen["average_bits"] = tuple(map(float, bits))
        weight, activation = (each + self.extra_bits for each in bits)
        return Recipe(**common, **chosen, weight_bits=weight, activation_bits=activation)


def label(bits: Sequence[int]) -> str:
    """``W/A``."""
    return "/".join(map(str, bits))


def labels(bits: Sequence[Sequence[int]]) -> list[str]:
    """Of each."""
    return list(map(label, bits))


def _value_at(name: str, values: Mapping[str, Any], bits: Bits) -> Any:
    """The value for these bits."""
    if label(bits) not in values:
        raise ValueError(f"{name} must have a value for these bits, not only for {', '.join(values)}")
    return values[label(bits)]

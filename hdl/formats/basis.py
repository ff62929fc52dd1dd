"""Multi-bit binary bases: every level is a signed sum of a few coordinates (DMBQ, CVPR 2021)."""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import ClassVar

from .base import Field, Format
from .checks import check_int

MAX_PLANES = 4
MAX_COORDINATE = 2**16 - 1

COORDINATES: dict[str, tuple[tuple[int, ...], ...]] = {
    "laplace": ((1,), (5, 8), (18, 31, 41), (20, 31, 38, 44)),
    "gauss": ((1,), (7, 13), (15, 25, 33), (41, 77, 98, 156)),
}
"""By family, the integers for 1 to 4 planes: all but optimal for weights of that distribution.

``python -m sw levels`` shows the optimum beside them, and the search that finds them.
"""


@dataclass(frozen=True, kw_only=True)
class Basis(Format):
    """Levels ``Σ ±A_i``: one bit for each coordinate A_i says whether it is added or subtracted (eq. 1).

    Bit i of a code is *plane* i: 1 adds A_i and 0 subtracts it, so code 0 is the lowest level.  No level
    is zero as a rule.  Since every channel has a scale of its own, only the ratios of coordinates matter,
    and small integers serve.

    With no planes at all (M = 0) a channel is pruned: it has no code, so it has no format either.  Whoever
    packs such a channel leaves its sum out, and only its bias stays.

    Parameters
    ----------
    coordinates
        1 to 4 integers from 1 to 65535 in ascending order; `basis` gives those of a family.

    Members
    -------
    planes : int
        The number of coordinates, M.

    Raises
    ------
    TypeError
        If `coordinates` is not a tuple of integers.
    ValueError
        If there are too few or too many, one is out of range, they do not ascend, or `signed` is False.
    """

    scheme: ClassVar[str] = "basis"
    pattern: ClassVar[str] = r"basis_(?P<coordinates>\d+(_\d+)*)"

    coordinates: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.signed is not True:
            raise ValueError(f"signed must be True, since a basis has levels below zero, not {self.signed!r}")
        if not isinstance(self.coordinates, tuple):
            raise TypeError(f"coordinates must be a tuple of integers, not {self.coordinates!r}")
        if not 1 <= len(self.coordinates) <= MAX_PLANES:
            raise ValueError(f"coordinates must be 1 to {MAX_PLANES} integers, not {len(self.coordinates)!r}")
        for each in self.coordinates:
            check_int("coordinates", each, low=1, high=MAX_COORDINATE)
        if list(self.coordinates) != sorted(self.coordinates):
            raise ValueError(f"coordinates must ascend, not {self.coordinates!r}")

    @property
    def name(self) -> str:
        return "_".join(map(str, ("basis", *self.coordinates)))

    @property
    def planes(self) -> int:
        return len(self.coordinates)

    @property
    def code_width(self) -> int:
        return self.planes

    @property
    def fields(self) -> tuple[Field, ...]:
        return tuple(Field(f"plane{i}", 1) for i in range(self.planes))

    @cached_property
    def levels(self) -> tuple[int, ...]:
        choices = [(-coordinate, coordinate) for coordinate in reversed(self.coordinates)]
        return tuple(sum(signs) for signs in product(*choices))


def basis(*, family: str, planes: int) -> Basis:
    """The basis for weights of a distribution: ``basis(family="laplace", planes=2)`` is ``basis_5_8``.

    Raises
    ------
    TypeError, ValueError
        If `family` is not ``"laplace"`` or ``"gauss"``, or `planes` not an integer from 1 to 4.
    """
    if family not in COORDINATES:
        raise ValueError(f"family must be {' or '.join(COORDINATES)}, not {family!r}")
    check_int("planes", planes, low=1, high=MAX_PLANES)
    return Basis(coordinates=COORDINATES[family][planes - 1])

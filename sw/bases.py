"""Coordinates of binary bases: those of least expected error, and integers that come close."""

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from hdl.formats import check_int
from hdl.formats.basis import MAX_PLANES
from hdl.formats.digits import adders

from .expectation import DISTRIBUTIONS, Array, Distribution, midpoints

PAPER: dict[str, tuple[tuple[float, ...], ...]] = {
    "laplace": ((1.0,), (1.009, 1.591), (0.832, 1.434, 1.897), (0.838, 1.324, 1.619, 1.879)),
    "gauss": ((0.8,), (0.521, 0.981), (0.445, 0.748, 0.985), (0.3, 0.547, 0.71, 1.12)),
}
"""The coordinates of DMBQ's table by number of planes; see `MISPRINT`."""

MISPRINT = ("laplace", (0.832, 1.514, 1.897))
"""What the paper prints for Laplace and 3 planes: 1.514 instead of 1.434, which has 5 % less error."""

MAX_INTEGER_BITS = 10
_STARTS = 64
_ROUNDS = 1500
_SCALE_ROUNDS = 80
_TINY = 1e-12


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A basis for a distribution: levels ``Σ ±scale·coordinate``.

    Parameters
    ----------
    family
        A name of `DISTRIBUTIONS`.
    coordinates
        Ascending; none for a channel that is pruned.
    scale
        What one unit of a coordinate stands for.
    """

    family: str
    coordinates: tuple[float, ...]
    scale: float = 1.0

    @cached_property
    def levels(self) -> Array:
        """All levels, ascending."""
        if not self.coordinates:
            return np.zeros(1)
        upper = magnitudes(self.scale * np.array(self.coordinates))[0]
        return np.concatenate([-upper[::-1], upper])

    @cached_property
    def edges(self) -> Array:
        """Halfway between neighbouring levels."""
        return midpoints(self.levels)

    @cached_property
    def error(self) -> float:
        """Expected squared error."""
        if not self.coordinates:
            return DISTRIBUTIONS[self.family].power
        upper = magnitudes(self.scale * np.array(self.coordinates))[0]
        return float(DISTRIBUTIONS[self.family].error(upper))


def magnitudes(coordinates: Array) -> tuple[Array, Array]:
    """Magnitudes of the sums of each row of `coordinates`, ascending, and the signs that make them.

    Returns
    -------
    levels : array (…, 2^(M-1))
    signs : array (…, 2^(M-1), M)
        ``levels = Σ_i signs[…, i] · coordinates[…, i]``.
    """
    planes = coordinates.shape[-1]
    upper = np.array([(*signs, 1) for signs in product((-1, 1), repeat=planes - 1)], dtype=np.float64)
    sums = coordinates @ upper.T
    order = np.argsort(np.abs(sums), axis=-1, kind="stable")
    flipped = np.where(sums < 0, -1.0, 1.0)[..., None] * upper
    return (
        np.take_along_axis(np.abs(sums), order, axis=-1),
        np.take_along_axis(flipped, order[..., None], axis=-2),
    )


def optima(*, family: str, planes: int, starts: int = _STARTS, seed: int = 0) -> list[Fit]:
    """Local optima of the expected error, the best one first.

    From random starts, Lloyd's two steps in turn: every x goes to its nearest level, then the coordinates
    are the least-squares solution for those cells.  The error never grows.  For 3 planes and more there
    are several optima, and one start is not enough.

    Raises
    ------
    TypeError, ValueError
        If `family` is unknown or `planes` not from 1 to 4.
    """
    distribution = _distribution(family)
    check_int("planes", planes, low=1, high=MAX_PLANES)
    alpha = np.random.default_rng(seed).uniform(0.1, 2.5, size=(starts, planes))
    for _ in range(_ROUNDS):
        levels, signs = magnitudes(alpha)
        mass, mean = distribution.cells(levels)
        normal = np.einsum("bki,bk,bkj->bij", signs, mass, signs) + _TINY * np.eye(planes)
        moments = np.einsum("bki,bk->bi", signs, mean)
        better = np.abs(np.linalg.solve(normal, moments[..., None])[..., 0])
        if np.allclose(better, alpha, rtol=0, atol=_TINY):
            break
        alpha = better
    found: dict[tuple[float, ...], Fit] = {}
    for each in np.sort(alpha, axis=-1):
        fit = Fit(family=family, coordinates=tuple(map(float, each)))
        found.setdefault(tuple(round(value, 3) for value in fit.coordinates), fit)
    return sorted(found.values(), key=lambda fit: fit.error)


def best_integers(
    *, family: str, planes: int, bits: int, most_adders: int | None = None, near: list[Fit] | None = None
) -> Fit:
    """The integers of `bits` bits whose expected error, with the best scale for them, is least.

    Candidates are the integers around the optima, scaled to every largest coordinate; an optimum whose
    own error is above what was found already has none.  Common factors are divided out.

    Parameters
    ----------
    most_adders
        Only integers that a circuit applies with so few adders; at least one a plane but the first.
    near
        What `optima` found, if it is at hand.

    Raises
    ------
    TypeError, ValueError
        If `family` is unknown, `planes` not from 1 to 4, `bits` not from 1 to 10, or `most_adders` too few.
    """
    distribution = _distribution(family)
    check_int("bits", bits, low=1, high=MAX_INTEGER_BITS)
    if most_adders is not None:
        check_int("most_adders", most_adders, low=planes - 1)
    best = None
    for fit in near or optima(family=family, planes=planes):
        if best is None or fit.error < best.error:
            sets = sorted(_around(np.array(fit.coordinates), largest=2**bits - 1))
            if most_adders is not None:
                sets = [each for each in sets if adders(each) <= most_adders]
            around = np.array(sets, dtype=np.float64)
            scale, error = best_scale(distribution, around, first=fit.coordinates[-1] / around[:, -1])
            at = int(np.argmin(np.round(error, 12)))
            found = Fit(family=family, coordinates=tuple(map(int, around[at])), scale=float(scale[at]))
            best = found if best is None or found.error < best.error else best
    assert best is not None
    return best


def scaled(*, family: str, coordinates: tuple[int, ...], near: list[Fit] | None = None) -> Fit:
    """Given coordinates with the scale of least expected error, searched from every optimum's size.

    Parameters
    ----------
    near
        What `optima` found, if it is at hand.

    Raises
    ------
    TypeError, ValueError
        If `family` is unknown, or there are not 1 to 4 coordinates.
    """
    distribution = _distribution(family)
    starts = near or optima(family=family, planes=len(coordinates))
    sets = np.array([coordinates] * len(starts), dtype=np.float64)
    first = np.array([fit.coordinates[-1] for fit in starts]) / max(coordinates)
    scale, error = best_scale(distribution, sets, first=first)
    return Fit(family=family, coordinates=coordinates, scale=float(scale[np.argmin(error)]))


def best_scale(distribution: Distribution, sets: Array, *, first: Array) -> tuple[Array, Array]:
    """For each row of `sets` the scale of least expected error, searched from `first`, and that error."""
    unit = magnitudes(sets)[0]
    scale = first
    for _ in range(_SCALE_ROUNDS):
        mass, mean = distribution.cells(scale[:, None] * unit)
        before, scale = scale, np.sum(mean * unit, axis=-1) / np.sum(mass * unit * unit, axis=-1)
        if np.allclose(scale, before, rtol=_TINY, atol=0):
            break
    return scale, distribution.error(scale[:, None] * unit)


def _around(optimum: Array, *, largest: int) -> set[tuple[int, ...]]:
    """Sets of positive integers up to `largest`, each at most one off the scaled optimum or its rounding."""
    found = set()
    steps = np.array(list(product((-1, 0, 1), repeat=len(optimum) - 1)), dtype=np.int64)
    for top in range(1, largest + 1):
        lower = np.rint(optimum[:-1] * top / optimum[-1]).astype(np.int64) + steps
        for each in np.clip(lower, 1, largest):
            integers = np.sort(np.array([*each, top]))
            found.add(tuple(map(int, integers // np.gcd.reduce(integers))))
    return found


def _distribution(family: str) -> Distribution:
    if family not in DISTRIBUTIONS:
        raise ValueError(f"family must be {' or '.join(DISTRIBUTIONS)}, not {family!r}")
    return DISTRIBUTIONS[family]

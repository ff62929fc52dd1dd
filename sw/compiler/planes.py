"""Weights as planes of ±1: how an array of signs runs any of them, a pass for each plane."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from hdl.formats import Basis, Format
from hdl.formats.basis import COORDINATES
from hdl.parameters import BIAS_WIDTH, MULTIPLIER_WIDTH

from ..graph import Integers
from ..requantize import Requantization
from .digits import MAX_PLACE, Digits

Coordinates = tuple[int, ...]

_PRUNED: Coordinates = ()


@dataclass(frozen=True, kw_only=True)
class Planes:
    """Weights of some output channels, split.

    A weight is ``Σ_i ±factor_i · 2^place_i``, the factors being its channel's.  The accelerator multiplies
    each pass by the layer's multiplier times the factor, which is how channels of different bases, and of
    fewer planes, share the passes of a tile.

    Members
    -------
    patterns : array
        For every weight the key of its signs in `digits`.
    digits : Digits
        Place of each plane, and the signs of each pattern.
    factors : array (channels, planes)
    constants : Requantization
        For the sums of these planes, which may be twice those of the weights; of multipliers one for each
        source.
    """

    patterns: Integers
    digits: Digits
    factors: Integers
    constants: Requantization


def has_planes(array: Format) -> bool:
    """Whether an array's weights are ±1, so that layers run plane by plane."""
    return array.grid == (-1, 1)


def bases_of(weight_format: Format) -> tuple[Coordinates, ...]:
    """Coordinates that channels of this format may have, the fewest first.

    Integers may be those of a layer whose channels have bases of their own, so all that quantizers use are
    tried.
    """
    if isinstance(weight_format, Basis):
        return (weight_format.coordinates,)
    known = {coordinates for family in COORDINATES.values() for coordinates in family}
    return tuple(sorted(known, key=lambda each: (len(each), each)))


def channel_bases(
    weights: Integers, multipliers: Integers, *, weight_format: Format
) -> list[Coordinates | None]:
    """The basis of fewest planes that makes all weights of each output channel.

    No coordinates stand for a channel of zeros only or of multipliers 0, and None for one that no basis
    makes, or only one whose coordinates times a multiplier do not fit in the multiplier's bits.

    Parameters
    ----------
    multipliers
        See `Convolution.multipliers`.
    """
    bases = [(coordinates, _patterns(coordinates)) for coordinates in bases_of(weight_format)]
    largest = multipliers[np.arange(len(weights)), abs(multipliers).argmax(axis=1)]
    found: list[Coordinates | None] = []
    for channel, factor in zip(weights, largest.tolist(), strict=True):
        levels = np.unique(channel).tolist()
        fitting = (
            coordinates
            for coordinates, patterns in bases
            if patterns.keys() >= set(levels) and _fits(factor * max(coordinates), MULTIPLIER_WIDTH)
        )
        found.append(_PRUNED if levels == [0] or factor == 0 else next(fitting, None))
    return found


def plane_count(bases: Sequence[Coordinates | None], weights: Integers) -> int:
    """Planes that channels of these bases take together; below 0 for those of plain integers."""
    if None in bases:
        return -_integer_planes(weights)
    return max(len(each) for each in bases if each is not None)


def split(
    weights: Integers,
    constants: Requantization,
    bases: Sequence[Coordinates | None],
    *,
    planes: int,
) -> Planes:
    """Split the channels' weights into the planes that `plane_count` tells.

    Raises
    ------
    ValueError
        If integers are too wide for the places of passes, or a bias for twice the scale.
    """
    if planes < 0:
        return _integers(weights, constants, planes=-planes)
    patterns = np.zeros_like(weights)
    factors = np.zeros((len(weights), max(planes, 1)), dtype=np.int64)
    for index, coordinates in enumerate(bases):
        if coordinates:
            known = _patterns(coordinates)
            levels = np.array(sorted(known))
            signs = np.array([known[level] for level in levels.tolist()])
            patterns[index] = signs[np.searchsorted(levels, weights[index])]
            factors[index, : len(coordinates)] = coordinates
    digits = _signs(patterns, places=(0,) * factors.shape[1])
    return Planes(patterns=patterns, digits=digits, factors=factors, constants=constants)


def _integers(weights: Integers, constants: Requantization, *, planes: int) -> Planes:
    """Integers of two's complement: ``2·w = Σ_i ±2^i - 1``, so y is of half the scale.

    The -1 is a pass of its own, whose signs are all + and whose factor is -1.
    """
    if planes > MAX_PLACE + 1:
        raise ValueError(f"weights of {planes} bits must have at most {MAX_PLACE + 1} to run as planes")
    multiplier, bias, shift = constants
    limit = 1 << (BIAS_WIDTH - 2)
    # Channels that are their biases alone are the same at any scale.
    counts = multiplier.any(axis=1)
    doubled = counts.astype(np.int64)
    if ((bias < -limit) | (bias >= limit))[counts].any():
        raise ValueError(f"bias must lie in {-limit} … {limit - 1} for weights that run as planes of bits")
    # Bits of the most negative number are all 0; the last pass has one that is always 1.
    patterns = weights + (1 << (planes - 1)) + (1 << planes)
    digits = _signs(patterns, places=(*range(planes), 0))
    factors = np.ones((len(weights), planes + 1), dtype=np.int64)
    factors[:, -1] = -1
    return Planes(
        patterns=patterns,
        digits=digits,
        factors=factors,
        constants=Requantization(multiplier, bias << doubled, shift + doubled),
    )


def _integer_planes(weights: Integers) -> int:
    """Bits of two's complement that hold all weights."""
    return 1 + max(int(weights.max()).bit_length(), (~int(weights.min())).bit_length())


def _signs(patterns: Integers, *, places: tuple[int, ...]) -> Digits:
    """Digits of the patterns in use: bit i says whether plane i is added."""
    used = np.unique(patterns).tolist()
    signs = {
        pattern: tuple(1 if pattern >> index & 1 else -1 for index in range(len(places))) for pattern in used
    }
    return Digits(places=places, digits=signs)


@lru_cache(maxsize=64)
def _patterns(coordinates: Coordinates) -> dict[int, int]:
    """For each sum of a basis the planes that are added, as bits."""
    choices = product((0, 1), repeat=len(coordinates))
    return {
        sum(each if bit else -each for each, bit in zip(coordinates, bits, strict=True)): sum(
            bit << index for index, bit in enumerate(bits)
        )
        for bits in choices
    }


def _fits(value: int, width: int) -> bool:
    return -(1 << (width - 1)) <= value < 1 << (width - 1)

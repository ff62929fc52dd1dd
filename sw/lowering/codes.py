"""What an activation quantizer asks for: a tensor of unsigned codes, and when each code begins."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hdl.console import RefusedError
from hdl.formats import Format, Uniform, ranked

from ..graph import Integers
from ..quantizers import MixedActivation, Quantizer
from ..quantizers.lsq import LSQActivation, LSQWeight

# Uniform codes of more bits are written digit by digit by hardware whose codes are narrower: their thresholds
# must be exactly halfway, in a unit that is a power of two of a level.
WIDE_BITS = 4

_FAR = -1e9


@dataclass(frozen=True, kw_only=True)
class Codes:
    """Ranks of an unsigned format that stand for real values.

    Members
    -------
    format : Format
        Unsigned; level L of it stands for ``(L - zero) · scale``.
    scale : float
        Real value of one level.
    zero : int
        The level that stands for 0, which is not 0 if values may be negative.
    edges : tuple of float
        Where each rank but the first begins, in units of `scale`.  The last ranks may not occur.
    """

    format: Format
    scale: float
    zero: int
    edges: tuple[float, ...]

    @property
    def clip(self) -> float:
        """The largest magnitude that the codes stand for."""
        reached = self.format.grid[len(self.edges)] - self.zero
        return max(reached, self.zero) * self.scale

    @property
    def is_wide(self) -> bool:
        """Whether narrower hardware must write it digit by digit."""
        return isinstance(self.format, Uniform) and self.format.bits > WIDE_BITS


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A tensor of codes for some of the channels of a quantizer, in the others of which it holds 0.

    Members
    -------
    codes : Codes
    steps : array of int
        Levels of each channel's step; 0 for a channel that it does not hold.
    parts : array of int or None
        Levels of the quantizer that make one of the tensor's; 0 for a channel that it does not hold.  None if
        its codes are the quantizer's own.
    """

    codes: Codes
    steps: Integers
    parts: Integers | None


@torch.no_grad()
def codes_of(quantizer: Quantizer, *, name: str, dtype: torch.dtype) -> Codes:
    """What the quantizer puts out when it computes in a type.

    Raises
    ------
    RefusedError
        If its step was never measured.
    """
    if isinstance(quantizer, LSQActivation | LSQWeight) and not quantizer.step.item():
        raise RefusedError(f"{name}: the activations' step must have been measured: train the model first")
    # The scale is learned, whatever the values.
    scale = torch.tensor(float(quantizer.scale(torch.zeros(()))), dtype=dtype).item()
    fmt, edges = quantizer.format, quantizer.edges()
    lowest = int(quantizer.levels(torch.tensor([_FAR * scale]))[0]) if fmt.signed else 0
    used = [level for level in fmt.grid if level >= lowest]
    halves = [(low + high) / 2 for low, high in pairwise(used)]
    return Codes(
        format=ranked([level - lowest for level in used]) if fmt.signed else fmt,
        scale=scale,
        zero=-lowest,
        edges=tuple(halves if edges is None else edges.double().tolist()),
    )


def grids_of(quantizer: Quantizer, codes: Codes, *, level_width: int | None) -> list[Grid] | None:
    """The tensors for channels whose steps differ, those of the largest levels first; None if they do not.

    One tensor for all of them if its levels, of which each step is a whole number, have no more bits than
    `level_width`.  Otherwise channels share one if their steps are whole numbers of its levels, which are
    those of the channel with the most bits, and take no more digits of so many bits than theirs would.

    Parameters
    ----------
    codes
        See `codes_of`.
    """
    if not isinstance(quantizer, MixedActivation):
        return None
    steps = quantizer.step_levels().numpy()
    if len({*steps.tolist()} - {0}) < 2:
        return None
    if level_width is None or codes.format.level_width <= level_width:
        return [Grid(codes=codes, steps=steps, parts=None)]
    bits = quantizer.bits.numpy()
    counts, digits = 2**bits - 1, -(-bits // level_width)
    grids, left = [], bits > 0
    while left.any():
        most = int(counts[left].max())
        held = left & (most % np.maximum(counts, 1) == 0) & (digits == -(-most.bit_length() // level_width))
        grids.append(_grid(codes, most, counts=np.where(held, counts, 0)))
        left &= ~held
    return sorted(grids, key=lambda grid: -grid.codes.scale)


def _grid(codes: Codes, most: int, *, counts: Integers) -> Grid:
    """Of uniform levels up to `most`, for the channels that have a number of steps."""
    held, part = counts > 0, codes.format.grid[len(codes.edges)] // most
    uniform = Codes(
        format=Uniform(bits=most.bit_length(), signed=False),
        scale=codes.scale * part,
        zero=0,
        edges=tuple(level + 0.5 for level in range(most)),
    )
    return Grid(codes=uniform, steps=held * (most // np.maximum(counts, 1)), parts=held * part)


def alive(quantizer: nn.Module) -> Tensor | None:
    """For each channel 1 if it has bits and 0 if it is pruned; None if all have."""
    if not isinstance(quantizer, MixedActivation) or bool((quantizer.bits > 0).all()):
        return None
    return (quantizer.bits > 0).double()


def thresholds(
    codes: Codes, *, unit: float, moved: int, nearest: bool, low: int, high: int
) -> NDArray[np.int64]:
    """The integers that y is compared with, between `low` and `high`; `high` is never passed.

    Parameters
    ----------
    unit
        Real value of one unit of y.
    moved
        How many levels y is above what the codes stand for.
    nearest
        Whether y is the nearest integer, not the next higher one.
    """
    edges = (np.array(codes.edges) + moved) * (codes.scale / unit)
    # The nearest integer is above t from t + 1/2 on; the next higher one from t.
    counts = np.floor(edges) if nearest else np.rint(edges)
    unreached = np.full(len(codes.format.grid) - 1 - len(edges), high)
    return np.concatenate([np.clip(counts, low, high), unreached]).astype(np.int64)

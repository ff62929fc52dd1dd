"""Multi-bit binary weights matched to their distribution, channel by channel (Wang et al., CVPR 2021)."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from hdl.formats import Basis, Format, check_bool

from ..bases import scaled
from .base import SMALLEST_SCALE, Quantizer
from .projection import Projection, projection

FAMILIES = ("laplace", "gauss")


@lru_cache(maxsize=64)
def best_unit(family: str, coordinates: tuple[int, ...]) -> float:
    """What one unit of a coordinate stands for in weights of spread 1, for the least expected error."""
    return scaled(family=family, coordinates=coordinates).scale


class _Round(torch.autograd.Function):
    """Rounds weights channel by channel; the gradient passes where nothing was clipped."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, quantizer: "DMBQWeight") -> Tensor:
        prepared = quantizer.prepared(values)
        scales = quantizer.scale_of(prepared)
        units = prepared / scales
        # Comparisons are many times faster if they give the type that they compare.
        inside = torch.le(units.abs(), quantizer.highest(units), out=torch.empty_like(units))
        ctx.save_for_backward(inside)
        return quantizer.rounding().levels(units, 1.0).mul_(scales)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None


class DMBQWeight(Quantizer):
    """Weights rounded to the signed sums of a basis, with a scale for each output channel.

    A channel's scale is ``unit × spread``: its spread is ``b = E|w - µ|`` for the Laplace family and
    ``σ = sqrt(E[(w - µ)²])`` for the normal one, as measured at each call.  As for other quantizers, two
    views agree bit for bit::

        quantizer(w) == quantizer.levels(w) * quantizer.scale(w)

    The gradient passes straight through where ``|w - µ|`` is at most the highest level's, and stops
    elsewhere (the clamp's mask in the authors' code); µ and the scale are constants to it.  The authors
    average b over iterations instead; that is left out.

    Parameters
    ----------
    fmt
        A basis; `hdl.formats.basis` gives integers that are all but optimal for a family.
    family
        ``"laplace"`` or ``"gauss"``: how the spread is measured.
    unit
        What one unit of a coordinate stands for when the spread is 1.  None takes the one of least
        expected error; the paper's own coordinates are integers of unit 0.001.
    centred
        Subtract the channel's mean µ before, as in the paper.  It is not added afterwards: that keeps
        weights on the format's grid, and takes the sum of its inputs, times µ, from each output.  Without
        it µ = 0, as in the authors' code.

    Members
    -------
    projection : Projection
        Nearest-level rounding for it.

    Raises
    ------
    TypeError, ValueError
        If `fmt` is not a basis, `family` unknown, `unit` not positive or `centred` not a bool.
    """

    def __init__(
        self, fmt: Basis, *, family: str = "laplace", unit: float | None = None, centred: bool = True
    ) -> None:
        super().__init__()
        if not isinstance(fmt, Basis):
            raise TypeError(f"fmt must be a basis, not {fmt!r}")
        if family not in FAMILIES:
            raise ValueError(f"family must be {' or '.join(FAMILIES)}, not {family!r}")
        if unit is not None and (not isinstance(unit, (int, float)) or isinstance(unit, bool)):
            raise TypeError(f"unit must be a positive number or None, not {unit!r}")
        if unit is not None and not 0 < unit < float("inf"):
            raise ValueError(f"unit must be a positive number or None, not {unit!r}")
        check_bool("centred", centred)
        self._format, self.family, self.centred = fmt, family, centred
        self.unit = best_unit(family, fmt.coordinates) if unit is None else float(unit)
        self.projection = projection(fmt)

    @property
    def format(self) -> Format:
        return self._format

    def prepared(self, values: Tensor) -> Tensor:
        """What is rounded: weights, less their channel's mean if `centred`."""
        if not self.centred:
            return values
        return values - by_channel(values, values.detach().flatten(1).mean(1))

    @torch.no_grad()
    def scale(self, values: Tensor) -> Tensor:
        """Real value of one level for each channel, positive, shaped to multiply `values`."""
        return self.scale_of(self.prepared(values))

    def scale_of(self, prepared: Tensor) -> Tensor:
        """The same, given what is rounded."""
        flat = prepared.flatten(1)
        spread = flat.abs().mean(1) if self.family == "laplace" else flat.square().mean(1).sqrt()
        return by_channel(prepared, (self.units() * spread).clamp_min_(SMALLEST_SCALE))

    def highest(self, values: Tensor) -> Tensor:
        """The highest level, of all channels or of each one, shaped to be compared with the values."""
        return values.new_tensor(self.format.max_level)

    def units(self) -> float | Tensor:
        """What one unit of a coordinate stands for when the spread is 1, in all channels or in each."""
        return self.unit

    def rounding(self) -> Projection:
        """What rounds weights that are given in levels."""
        return self.projection

    @torch.no_grad()
    def levels(self, values: Tensor) -> Tensor:
        """The integer level of every weight (int64)."""
        prepared = self.prepared(values)
        return self.rounding().levels(prepared / self.scale_of(prepared), 1.0).long()

    def forward(self, values: Tensor) -> Tensor:
        """Fake-quantized weights; the first axis is the output channel."""
        return _Round.apply(values, self)

    def extra_repr(self) -> str:
        return f"{self.format.name}, {self.family}"


def by_channel(values: Tensor, numbers: Tensor) -> Tensor:
    """One number for each output channel, shaped to multiply the values."""
    return numbers.view(-1, *[1] * (values.dim() - 1))

"""Learned step size: uniform levels whose distance is trained (Esser et al., ICLR 2020)."""

from math import sqrt

import torch
from torch import Tensor, nn

from hdl.formats import Format, Uniform

from .base import SMALLEST_SCALE, NearestQuantizer
from .clip import Clip
from .projection import Rounding


class FullRange(Rounding):
    """Consecutive integers down to the format's lowest level, which symmetric schemes leave out."""

    def __init__(self, fmt: Format) -> None:
        super().__init__(fmt)
        self.low = fmt.grid[0]


class _LearnedStep(NearestQuantizer):
    """``v^ = round(clip(v/s, -Qn, Qp)) · s`` with the step s learned, common to weights and activations.

    Only the magnitude of s counts: a descent step that carries it past 0 leaves a network that goes on
    learning, where a bound just above 0 would leave every value at the clip.

    The step's gradient is multiplied by ``g = 1 / sqrt(N · Qp)``, section 2.2.
    """

    def __init__(self, fmt: Format) -> None:
        super().__init__(fmt)
        self.projection = FullRange(fmt)
        # 0 stands for a step that is not measured yet.
        self.step = nn.Parameter(torch.zeros(()))

    def scale(self, values: Tensor) -> float:
        """The step; until one is measured, the one that these values would start."""
        return max(abs(self.step.item()) or self.first_step(values), SMALLEST_SCALE)

    @torch.no_grad()
    def first_step(self, values: Tensor) -> float:
        """``2 E|v| / sqrt(Qp)``, section 2.1, rounded as the parameter is."""
        seen = values.abs() if self.format.signed else values.relu()
        start = 2 * seen.mean() / sqrt(self.format.max_level)
        return start.to(self.step.dtype).item()

    def features(self, values: Tensor) -> int:
        """N of the gradient's factor."""
        return values.numel()

    def forward(self, values: Tensor) -> Tensor:
        if self.training and not self.step.item():
            with torch.no_grad():
                self.step.fill_(self.first_step(values))
        # Clip's slope is that of the clipping value s·Qp, so the chain rule adds another Qp.
        highest = self.format.max_level
        factor = highest / sqrt(max(self.features(values), 1) * highest)
        return Clip.apply(values, self.step.abs() * factor, self.scale(values), self.projection, True)


class LSQWeight(_LearnedStep):
    """Weights rounded to all ``2^b`` levels ``-2^(b-1) … 2^(b-1) - 1`` times a learned step.

    Halfway between two levels, the lower one is taken, as everywhere in this package.  The first tensor
    seen in training sets the step to ``2 E|w| / sqrt(Qp)``.  N is the number of weights.

    Parameters
    ----------
    fmt
        A signed uniform format.

    Members
    -------
    step : Parameter
        The step, 0 until it is measured.

    Raises
    ------
    ValueError
        If `fmt` is another format.
    """

    def __init__(self, fmt: Format) -> None:
        if not (isinstance(fmt, Uniform) and fmt.signed):
            raise ValueError(f"fmt must be a signed uniform format, not {fmt.name!r}")
        super().__init__(fmt)


class LSQActivation(_LearnedStep):
    """Activations rounded to the levels ``0 … 2^b - 1`` times a learned step; the clip at 0 is the ReLU.

    The first batch seen in training sets the step to ``2 E|x| / sqrt(Qp)``, x after the ReLU.  N is the
    number of features of one sample, as in the paper; public code counts the whole batch.

    Parameters
    ----------
    fmt
        An unsigned uniform format.

    Members
    -------
    step : Parameter
        The step, 0 until it is measured.

    Raises
    ------
    ValueError
        If `fmt` is another format.
    """

    def __init__(self, fmt: Format) -> None:
        if not isinstance(fmt, Uniform) or fmt.signed:
            raise ValueError(f"fmt must be an unsigned uniform format, not {fmt.name!r}")
        super().__init__(fmt)

    def features(self, values: Tensor) -> int:
        return values[:1].numel() if values.dim() else 1

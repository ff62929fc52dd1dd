"""Reparameterized clipping: quantization with a learned clipping value (APoT paper, eqs. 7 and 8)."""

import torch
from torch import Tensor, nn

from hdl.formats import Format, check_bool

from ..checks import check_positive
from .base import SMALLEST_SCALE, NearestQuantizer
from .clip import Clip
from .normalize import normalized


class _Clipped(NearestQuantizer):
    """The learned clipping value, common to weights and activations."""

    def __init__(self, fmt: Format, *, alpha: float, masked: bool) -> None:
        super().__init__(fmt)
        check_bool("masked", masked)
        check_positive("alpha", alpha)
        self.alpha = nn.Parameter(torch.tensor(float(alpha)))
        self.masked = masked

    def scale(self, _values: Tensor | None = None) -> float:
        return max(self.alpha.item() / self.format.max_level, SMALLEST_SCALE)

    def forward(self, values: Tensor) -> Tensor:
        return Clip.apply(self.prepared(values), self.alpha, self.scale(values), self.projection, self.masked)


class RCFWeight(_Clipped):
    """Normalized weights, clipped at a learned ±α and rounded to a signed format.

    Parameters
    ----------
    fmt
        A signed format.
    alpha
        Initial clipping value, in standard deviations of the weights.
    masked
        Stop the gradient of weights outside ±α.  The paper passes it everywhere.
    detach
        Take the weights' mean and deviation as constants in the gradient.

    Raises
    ------
    TypeError, ValueError
        If `fmt` is not signed, `alpha` not positive, or an option not a bool.
    """

    def __init__(
        self, fmt: Format, *, alpha: float = 3.0, masked: bool = False, detach: bool = False
    ) -> None:
        if not fmt.signed:
            raise ValueError(f"fmt must be a signed format, not {fmt.name!r}")
        super().__init__(fmt, alpha=alpha, masked=masked)
        check_bool("detach", detach)
        self.detach = detach

    def prepared(self, values: Tensor) -> Tensor:
        return normalized(values, detach=self.detach)


class RCFActivation(_Clipped):
    """Activations, clipped to 0 … a learned α and rounded to an unsigned format; the clip at 0 is the ReLU.

    Parameters
    ----------
    fmt
        An unsigned format.
    alpha
        Initial clipping value.
    masked
        Stop the gradient of activations outside 0 … α, the default.

    Raises
    ------
    TypeError, ValueError
        If `fmt` is signed, `alpha` not positive, or `masked` not a bool.
    """

    def __init__(self, fmt: Format, *, alpha: float = 6.0, masked: bool = True) -> None:
        if fmt.signed:
            raise ValueError(f"fmt must be an unsigned format, not {fmt.name!r}")
        super().__init__(fmt, alpha=alpha, masked=masked)

"""Quantizers whose bit-width is each channel's own: what loss-guided allocation takes bits from (DMBQ)."""

from collections.abc import Callable, Sequence
from math import lcm

import torch
from torch import Tensor, nn

from hdl.formats import Format, Uniform, basis, check_int
from hdl.formats.basis import MAX_PLANES

from ..checks import check_positive
from .base import SMALLEST_SCALE, Quantizer
from .clip import Clip
from .dmbq import DMBQWeight, best_unit, by_channel
from .projection import Projection


class MixedQuantizer(Quantizer):
    """A number of bits for each channel, which may be 0: such a channel is pruned, its values are 0.

    Members
    -------
    bits : Tensor
        Of each channel (int64); part of the state.
    observe : callable or None
        In training, called with the real values and with those they are rounded to, of which it may take
        the gradient.
    """

    bits: Tensor
    observe: Callable[[Tensor, Tensor], None] | None

    def _allot(self, *, channels: int, bits: int) -> None:
        check_int("channels", channels, low=1)
        check_int("bits", bits, low=1, high=MAX_PLANES)
        self.register_buffer("bits", torch.full((channels,), bits))
        self.observe = None

    def _observed(self, real: Tensor, result: Tensor) -> Tensor:
        if self.observe is not None and self.training and result.requires_grad:
            self.observe(real.detach(), result)
        return result

    def extra_repr(self) -> str:
        return f"{len(self.bits)} channels, {self.bits.double().mean().item():.2f} bits on average"


class _ChannelBases(Projection):
    """The nearest sum of each channel's own basis, for weights in levels; the first axis is the channel.

    Parameters
    ----------
    grids, boundaries
        Levels of each channel, and halfway between them, in rows filled up with infinity.
    """

    def __init__(self, grids: Tensor, boundaries: Tensor) -> None:
        nn.Module.__init__(self)
        self.grids, self.boundaries = grids, boundaries

    def inside(self, units: Tensor) -> Tensor:
        return units.abs() <= by_channel(units, _largest(self.grids))

    def levels(self, values: Tensor, scale: float) -> Tensor:
        units = (values / scale).flatten(1).contiguous()
        levels = self.grids.gather(1, torch.searchsorted(self.boundaries, units))
        return levels.masked_fill_(units.isnan(), float("nan")).view(values.shape)


class _ChannelSteps(Projection):
    """Integer levels of each channel's own step; the second axis is the channel.

    The highest level of all channels is the least that every step divides: 105 of 1 to 4 bits, with steps
    of 105, 35, 15 and 7.
    """

    def __init__(self, bits: Tensor) -> None:
        nn.Module.__init__(self)
        self.bits = bits
        self.low, self.high = 0, lcm(*(2**each - 1 for each in bits.unique().tolist() if each))

    def levels(self, values: Tensor, scale: float) -> Tensor:
        shape = (-1, *[1] * (values.dim() - 2))
        steps = (2**self.bits - 1).view(shape)
        parts = (self.high // steps.clamp(min=1)).to(values.dtype)
        found = (values / scale / parts - 0.5).ceil().clamp_(min=0)
        return torch.minimum(found, steps).mul_(parts)


class MixedDMBQWeight(MixedQuantizer, DMBQWeight):
    """Weights of DMBQ, each output channel with as many planes as `bits` says; see `DMBQWeight`.

    Parameters
    ----------
    channels
        Output channels.
    bits
        Planes of every channel at the start, 1 to 4.
    family, centred
        See `DMBQWeight`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range.
    """

    grids: Tensor
    boundaries: Tensor
    unit_table: Tensor

    def __init__(
        self, *, channels: int, bits: int = MAX_PLANES, family: str = "laplace", centred: bool = True
    ) -> None:
        check_int("bits", bits, low=1, high=MAX_PLANES)
        DMBQWeight.__init__(self, basis(family=family, planes=bits), family=family, centred=centred)
        self._allot(channels=channels, bits=bits)
        formats = [basis(family=family, planes=planes) for planes in range(1, MAX_PLANES + 1)]
        width = len(formats[-1].grid)
        grids: list[Sequence[float]] = [(0,), *(fmt.grid for fmt in formats)]
        edges: list[Sequence[float]] = [(), *([half / 2 for half in fmt.boundaries] for fmt in formats)]
        tables = {
            "grids": _rows(grids, width=width),
            "boundaries": _rows(edges, width=width - 1),
            "unit_table": torch.tensor([1.0, *(best_unit(family, fmt.coordinates) for fmt in formats)]),
        }
        for name, values in tables.items():
            self.register_buffer(name, values, persistent=False)

    @property
    def format(self) -> Format:
        """Plain integers, as wide as the largest level of any channel."""
        largest = int(_largest(self.grids[self.bits]).max())
        return Uniform(bits=max(2, largest.bit_length() + 1))

    def units(self) -> Tensor:
        return self.unit_table[self.bits]

    def rounding(self) -> Projection:
        return _ChannelBases(self.grids[self.bits], self.boundaries[self.bits])

    def forward(self, values: Tensor) -> Tensor:
        return self._observed(self.prepared(values), super().forward(values))


class MixedActivation(MixedQuantizer):
    """Activations clipped to 0 … a learned α and rounded to ``2^B - 1`` steps, B that of their channel.

    The clipping value is the layer's; B = 0 makes a channel 0.  The second axis is the channel.  One level
    is such a part of α that the levels of every B are integers: α / 105 if all of 1 to 4 bits occur.

    Parameters
    ----------
    channels
        Channels of the activations.
    bits
        Of every channel at the start, 1 to 4.
    alpha
        Initial clipping value.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range.
    """

    def __init__(self, *, channels: int, bits: int = MAX_PLANES, alpha: float = 3.0) -> None:
        super().__init__()
        check_positive("alpha", alpha)
        self._allot(channels=channels, bits=bits)
        self.alpha = nn.Parameter(torch.tensor(float(alpha)))

    @property
    def format(self) -> Format:
        """Plain integers that hold every channel's levels; those of B bits if no channel has others."""
        return Uniform(bits=_ChannelSteps(self.bits).high.bit_length(), signed=False)

    def scale(self, _values: Tensor | None = None) -> float:
        return max(self.alpha.item() / _ChannelSteps(self.bits).high, SMALLEST_SCALE)

    @torch.no_grad()
    def levels(self, values: Tensor) -> Tensor:
        return _ChannelSteps(self.bits).levels(values, self.scale()).long()

    def forward(self, values: Tensor) -> Tensor:
        # A channel without bits is 0 whatever its values and α: no gradient goes through it.
        alive = (self.bits > 0).view(-1, *[1] * (values.dim() - 2)).to(values.dtype)
        steps = _ChannelSteps(self.bits)
        return self._observed(
            values.relu(), Clip.apply(values * alive, self.alpha, self.scale(), steps, True)
        )


def _rows(rows: Sequence[Sequence[float]], *, width: int) -> Tensor:
    """A table whose shorter rows are filled up with infinity."""
    filled = [[*row, *[float("inf")] * (width - len(row))] for row in rows]
    return torch.tensor(filled)


def _largest(grids: Tensor) -> Tensor:
    """The highest level of each row."""
    return grids.masked_fill(grids.isinf(), 0).amax(1)

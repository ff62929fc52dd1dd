"""Quantizers whose bit-width is each channel's own: what loss-guided allocation takes bits from (DMBQ)."""

from collections.abc import Callable
from itertools import accumulate
from math import lcm

import numpy as np
import torch
from torch import Tensor, nn

from hdl.formats import Format, Uniform, basis, check_int, ranked
from hdl.formats.basis import MAX_PLANES

from ..checks import check_positive
from .base import SMALLEST_SCALE, Quantizer
from .clip import Clip
from .dmbq import DMBQWeight, best_unit, by_channel
from .projection import Projection, half_levels


class MixedQuantizer(Quantizer):
    """A number of bits for each channel, which may be 0: such a channel is pruned, its values are 0.

    Members
    -------
    bits : Tensor
        Of each channel (int64); part of the state.
    observe : callable or None
        In training, called with a function that makes a new tensor of the real values, and with those they
        are rounded to, of which it may take the gradient.
    """

    bits: Tensor
    observe: Callable[[Callable[[], Tensor], Tensor], None] | None

    def _allot(self, *, channels: int, bits: int) -> None:
        check_int("channels", channels, low=1)
        check_int("bits", bits, low=1, high=MAX_PLANES)
        self.register_buffer("bits", torch.full((channels,), bits))
        self.observe = None

    def _observed(self, real: Callable[[Tensor], Tensor], values: Tensor, result: Tensor) -> Tensor:
        """The result, after the observer was told of it and of what a function makes of the values."""
        if self.observe is not None and self.training and result.requires_grad:
            self.observe(lambda: real(values.detach()), result)
        return result

    def extra_repr(self) -> str:
        return f"{len(self.bits)} channels, {self.bits.double().mean().item():.2f} bits on average"


class _ChannelBases(Projection):
    """The nearest sum of each channel's own basis, for weights in levels; the first axis is the channel.

    Boundaries are half-integers, as for `projection.Lookup`, of which the tables stand in a row.

    Parameters
    ----------
    table
        The tables of all bases, and then what stands for what is not a number.
    highest, zeros
        For each channel its highest level, and the place of level 0 in the table.
    """

    def __init__(self, table: Tensor, highest: Tensor, zeros: Tensor) -> None:
        nn.Module.__init__(self)
        self.table, self.highest, self.zeros = table, highest, zeros

    def levels(self, values: Tensor, scale: float) -> Tensor:
        high, zeros = (by_channel(values, each.to(values.dtype)) for each in (2 * self.highest, self.zeros))
        halves = values / (scale / 2)
        torch.minimum(halves, high, out=halves)
        torch.maximum(halves, -high, out=halves)
        halves.ceil_().add_(zeros).nan_to_num_(len(self.table) - 1)
        return self.table.to(values.dtype).index_select(0, halves.int().reshape(-1)).view(values.shape)


class _ChannelSteps(Projection):
    """Integer levels of each channel's own step; the second axis is the channel.

    The highest level of all channels is the least that every step divides: 105 of 1 to 4 bits, with steps
    of 105, 35, 15 and 7.
    """

    def __init__(self, bits: Tensor) -> None:
        nn.Module.__init__(self)
        self.bits = bits
        self.low, self.high = 0, lcm(*(2**each - 1 for each in set(bits.tolist()) if each))

    def levels(self, values: Tensor, scale: float) -> Tensor:
        steps = (2**self.bits - 1).view(-1, *[1] * (values.dim() - 2))
        parts = (self.high // steps.clamp(min=1)).to(values.dtype)
        found = (values / (parts * scale)).sub_(0.5).ceil_().clamp_(min=0)
        return torch.minimum(found, steps.to(values.dtype), out=found).mul_(parts)


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

    table: Tensor
    highest_table: Tensor
    zero_table: Tensor
    unit_table: Tensor

    def __init__(
        self, *, channels: int, bits: int = MAX_PLANES, family: str = "laplace", centred: bool = True
    ) -> None:
        check_int("bits", bits, low=1, high=MAX_PLANES)
        DMBQWeight.__init__(self, basis(family=family, planes=bits), family=family, centred=centred)
        self._allot(channels=channels, bits=bits)
        formats = [basis(family=family, planes=planes) for planes in range(1, MAX_PLANES + 1)]
        highest = [0, *(fmt.max_level for fmt in formats)]
        before = accumulate((4 * high + 1 for high in highest[:-1]), initial=0)
        rows = [np.zeros(1, np.float32), *(half_levels(fmt)[:-1] for fmt in formats), np.full(1, np.nan)]
        tables = {
            "table": torch.from_numpy(np.concatenate(rows, dtype=np.float32)),
            "highest_table": torch.tensor(highest),
            "zero_table": torch.tensor(
                [start + 2 * high for start, high in zip(before, highest, strict=True)]
            ),
            "unit_table": torch.tensor([1.0, *(best_unit(family, fmt.coordinates) for fmt in formats)]),
        }
        for name, values in tables.items():
            self.register_buffer(name, values, persistent=False)

    @property
    def format(self) -> Format:
        """Plain integers, as wide as the largest level of any channel."""
        return Uniform(bits=max(2, int(self.highest_table[self.bits].max()).bit_length() + 1))

    def units(self) -> Tensor:
        return self.unit_table[self.bits]

    def highest(self, values: Tensor) -> Tensor:
        return by_channel(values, self.highest_table[self.bits].to(values.dtype))

    def rounding(self) -> Projection:
        return _ChannelBases(self.table, self.highest_table[self.bits], self.zero_table[self.bits])

    def forward(self, values: Tensor) -> Tensor:
        return self._observed(lambda each: self.prepared(each).clone(), values, super().forward(values))


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
        """The levels that any channel has; those of B bits if no channel has others."""
        return ranked(self._used())

    def step_levels(self) -> Tensor:
        """How many levels each channel's step is; 0 for a channel without bits."""
        steps = 2**self.bits - 1
        return torch.where(steps > 0, _ChannelSteps(self.bits).high // steps.clamp(min=1), 0)

    def _used(self) -> list[int]:
        """The levels that any channel has, ascending."""
        high, steps = _ChannelSteps(self.bits).high, {*self.step_levels().tolist()} - {0}
        return sorted({0, high}.union(*(range(0, high, step) for step in steps)))

    def edges(self) -> Tensor:
        """Halfway between levels that any channel has; each channel rounds halfway between its own."""
        used = torch.tensor(self._used(), dtype=torch.float64)
        return (used[1:] + used[:-1]) / 2

    def scale(self, _values: Tensor | None = None) -> float:
        return self._scale(_ChannelSteps(self.bits))

    def _scale(self, steps: _ChannelSteps) -> float:
        return max(self.alpha.item() / steps.high, SMALLEST_SCALE)

    @torch.no_grad()
    def levels(self, values: Tensor) -> Tensor:
        steps = _ChannelSteps(self.bits)
        return steps.levels(values, self._scale(steps)).long()

    def forward(self, values: Tensor) -> Tensor:
        steps, seen = _ChannelSteps(self.bits), values
        if not self.bits.all():
            # A channel without bits is 0 whatever its values and α: no gradient goes through it.
            seen = values * (self.bits > 0).view(-1, *[1] * (values.dim() - 2)).to(values.dtype)
        result = Clip.apply(seen, self.alpha, self._scale(steps), steps, True)
        return self._observed(torch.relu, values, result)

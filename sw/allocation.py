"""Loss-guided bit-width allocation: bits go where the loss misses them least (Wang et al., CVPR 2021)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hdl.console import RefusedError
from hdl.formats import check_int

from .checks import check_positive
from .execution import Execution
from .layers import Quantized
from .models import Block
from .quantizers import DMBQWeight, MixedActivation, MixedDMBQWeight, RCFActivation
from .quantizers.mixed import MAX_PLANES, MixedQuantizer
from .recipe import GRANULARITIES

FIRST_RATIO = 0.01


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """When bits are taken, from what, and down to which average.

    Parameters
    ----------
    granularity
        What has bits of its own: ``"gp"`` the network, ``"lp"`` each layer, ``"cp"`` each channel.
    weight_bits, activation_bits
        The averages aimed at, fractions too; weights count once each, activations once for each element of
        a feature map.
    start, end
        The first and the last epoch, counted from 1, after which bits are taken.
    ratio
        The share of all groups that lose a bit after the last epoch; it rises to this from 0.01.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range.
    """

    granularity: str = "cp"
    weight_bits: float = 2.0
    activation_bits: float = 2.0
    start: int = 1
    end: int = 150
    ratio: float = 0.3

    def __post_init__(self) -> None:
        if self.granularity not in GRANULARITIES:
            raise ValueError(f"granularity must be {', '.join(GRANULARITIES)}, not {self.granularity!r}")
        check_positive("weight_bits", self.weight_bits)
        check_positive("activation_bits", self.activation_bits)
        check_int("start", self.start, low=1)
        check_int("end", self.end, low=self.start)
        check_positive("ratio", self.ratio)
        if self.ratio > 1:
            raise ValueError(f"ratio must be at most 1, not {self.ratio!r}")

    def share(self, epoch: int) -> float:
        """The share of groups that lose a bit after this epoch; 0 before the first and after the last."""
        if not self.start <= epoch <= self.end:
            return 0.0
        if self.start == self.end:
            return self.ratio
        return (self.ratio - FIRST_RATIO) * (epoch - self.start) / (self.end - self.start) + FIRST_RATIO


class Sensitivity:
    """How much the loss notices the rounding of one tensor, channel by channel or all together.

    Every step adds ``|Σ (x - x^) g(x^)| / n`` to each group, the sum over the n elements of the group and g
    the gradient of the loss by the rounded value.

    Parameters
    ----------
    quantizer
        What rounds the tensor; it is watched from now on.
    axis
        Of the channels.
    by_channel
        Whether each channel is a group, or all of them are one.

    Members
    -------
    total : Tensor
        The sum since `reset`, one for each group.
    pending : list of Tensor
        What backward passes told of each group and `gather` has not added yet, with its sign.
    elements : int
        Elements of a channel: its weights, or its part of the feature map of one image.
    """

    def __init__(self, quantizer: MixedQuantizer, *, axis: int, by_channel: bool) -> None:
        self.quantizer, self.axis, self.by_channel = quantizer, axis, by_channel
        self.elements = 1
        self.reset()
        quantizer.observe = self._watch

    def reset(self) -> None:
        """Forget what was added."""
        self.total = torch.zeros(len(self.quantizer.bits) if self.by_channel else 1, dtype=torch.float64)
        self.pending: list[Tensor] = []

    def _watch(self, real: Callable[[], Tensor], rounded: Tensor) -> None:
        shape = rounded.shape
        self.elements = shape.numel() // shape[self.axis] // (shape[0] if self.axis else 1)
        others = [axis for axis in range(len(shape)) if axis != self.axis]
        levels = rounded.detach()

        def add(gradient: Tensor) -> None:
            # Only now, and in one tensor: errors of all layers would take as much memory as their values.
            sums = real().sub_(levels).mul_(gradient).sum(others).double()
            count = shape.numel() // shape[self.axis]
            if not self.by_channel:
                sums, count = sums.sum(0, keepdim=True), shape.numel()
            self.pending.append(sums / count)

        rounded.register_hook(add)


def gather(tensors: Sequence[Sensitivity], execution: Execution, *, scale: float = 1.0) -> None:
    """Add what a backward pass told, of the whole batch, to the sums of several tensors.

    Parameters
    ----------
    execution
        The processes that had their shares of the batch; all come to the same sums.
    scale
        What the loss was multiplied by.  A pass that overflowed for that reason counts as nothing.
    """
    waiting = [part for tensor in tensors for part in tensor.pending]
    if not waiting:
        return
    means = execution.mean(torch.cat(waiting)).cpu().div_(scale).nan_to_num_(0, 0, 0)
    parts = iter(means.abs_().split([len(part) for part in waiting]))
    for tensor in tensors:
        # Processes see the same weights, but activations of different images: n counts them all.
        times = execution.size if tensor.axis else 1
        for _ in tensor.pending:
            tensor.total += next(parts) / times
        tensor.pending.clear()


class Side:
    """The weights of a network, or its activations: groups that are ranked among one another.

    Members
    -------
    tensors : list of Sensitivity
        One for each quantized tensor.
    """

    def __init__(self, tensors: list[Sensitivity], *, granularity: str) -> None:
        self.tensors, self.granularity = tensors, granularity

    @property
    def bits(self) -> Tensor:
        """Of every channel of every tensor."""
        return torch.cat([tensor.quantizer.bits.cpu() for tensor in self.tensors])

    @property
    def elements(self) -> Tensor:
        """What every channel counts in the average."""
        return torch.cat([torch.full_like(t.quantizer.bits.cpu(), t.elements) for t in self.tensors])

    @property
    def average(self) -> float:
        """Average bits of an element."""
        return (self.bits * self.elements).sum().item() / self.elements.sum().item()

    def take(self, *, share: float, target: float) -> int:
        """Take a bit from a share of the groups, the least sensitive first, until the average is reached.

        Groups without bits are not ranked.  If there is anything to take, it is taken from at least one.

        Returns
        -------
        int
            How many groups lost a bit.
        """
        groups, sensitivity = self._groups()
        count = len(sensitivity)
        sizes = torch.zeros(count, dtype=torch.long).index_add(0, groups, self.elements)
        bits = torch.zeros(count, dtype=torch.long).index_copy(0, groups, self.bits)
        order = sensitivity.masked_fill(bits == 0, float("inf")).argsort(stable=True)
        ranked = order[: int((bits > 0).sum())]
        excess = (bits * sizes).sum().item() - target * sizes.sum().item()
        if excess <= 0 or share == 0:
            return 0
        needed = int((sizes[ranked].cumsum(0) < excess).sum()) + 1
        chosen = ranked[: min(max(1, int(count * share)), needed)]
        lost = torch.zeros(count, dtype=torch.long).index_fill(0, chosen, 1)[groups]
        lengths = [len(tensor.quantizer.bits) for tensor in self.tensors]
        for tensor, part in zip(self.tensors, lost.split(lengths), strict=True):
            tensor.quantizer.bits -= part.to(tensor.quantizer.bits.device)
        return len(chosen)

    def _groups(self) -> tuple[Tensor, Tensor]:
        """The group of every channel, and the sensitivity of every group."""
        totals = [tensor.total for tensor in self.tensors]
        if self.granularity == "cp":
            return torch.arange(len(self.bits)), torch.cat(totals)
        owner = torch.cat([torch.full_like(t.quantizer.bits.cpu(), i) for i, t in enumerate(self.tensors)])
        if self.granularity == "lp":
            return owner, torch.cat(totals)
        return torch.zeros_like(owner), torch.stack(totals).sum(0)


class Allocator:
    """Watches a network's mixed quantizers while it trains, and takes bits after each epoch.

    Bits are never given back.  They are part of the network's state; what is known about an epoch in
    progress is not, so that a run goes on only from the end of an epoch.

    Parameters
    ----------
    model
        A network that went through `mixed`.
    allocation
        When, from what, and how far.

    Members
    -------
    weights, activations : Side

    Raises
    ------
    RefusedError
        If the network has no mixed quantizers of either kind.
    """

    def __init__(self, model: nn.Module, allocation: Allocation) -> None:
        self.allocation = allocation
        self.weights = self._side(model, MixedDMBQWeight, axis=0)
        self.activations = self._side(model, MixedActivation, axis=1)

    def _side(self, model: nn.Module, kind: type[MixedQuantizer], *, axis: int) -> Side:
        granularity = self.allocation.granularity
        tensors = [
            Sensitivity(module, axis=axis, by_channel=granularity == "cp")
            for module in model.modules()
            if isinstance(module, kind)
        ]
        if not tensors:
            raise RefusedError("model must have layers of scheme dmbq, from which bits can be taken")
        return Side(tensors, granularity=granularity)

    def observe(self, execution: Execution, *, scale: float = 1.0) -> None:
        """Take account of a backward pass; see `gather`."""
        gather((*self.weights.tensors, *self.activations.tensors), execution, scale=scale)

    def step(self, epoch: int) -> None:
        """Take bits after an epoch, counted from 1, and begin to watch the next one."""
        share = self.allocation.share(epoch)
        self.weights.take(share=share, target=self.allocation.weight_bits)
        self.activations.take(share=share, target=self.allocation.activation_bits)
        for tensor in (*self.weights.tensors, *self.activations.tensors):
            tensor.reset()


def mixed(model: nn.Module) -> nn.Module:
    """Give a network's DMBQ quantizers a number of bits for each channel, in place.

    Weights are split by output channel, and the activations between layers, which have learned clipping
    values, by channel.  The first and the last layer's weights, which are not DMBQ's, stay as they are, and
    so do activations that may be negative.

    Raises
    ------
    RefusedError
        If activations have more than 4 bits.
    """
    for module in model.modules():
        if isinstance(module, Quantized) and isinstance(module.quantizer, DMBQWeight):
            module.quantizer = _mixed_weight(module.quantizer, channels=len(module.weight))
            if isinstance(module.input_quantizer, RCFActivation):
                module.input_quantizer = _mixed_activation(
                    module.input_quantizer, channels=_input_channels(module)
                )
        elif isinstance(module, Block) and isinstance(module.activation, RCFActivation):
            module.activation = _mixed_activation(module.activation, channels=module.convolution.out_channels)
    return model


def _mixed_weight(old: DMBQWeight, *, channels: int) -> MixedDMBQWeight:
    return MixedDMBQWeight(
        channels=channels, bits=old.format.code_width, family=old.family, centred=old.centred
    )


def _mixed_activation(old: RCFActivation, *, channels: int) -> MixedActivation:
    bits = old.format.code_width
    if bits > MAX_PLANES:
        raise RefusedError(f"--bits of an activation must be at most {MAX_PLANES} with --lba, not {bits}")
    return MixedActivation(channels=channels, bits=bits, alpha=old.alpha.item())


def _input_channels(layer: Quantized) -> int:
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels
    assert isinstance(layer, nn.Linear)
    return layer.in_features

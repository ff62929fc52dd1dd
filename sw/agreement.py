"""How far the integer graph is from the model it was exported from, computed in floats."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .graph import Integers
from .interchange import Header
from .lowering import lower
from .quantizers import Quantizer


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Shares, 0 … 1, in which integer arithmetic and the float model give the same answer.

    Members
    -------
    codes : dict
        Share of equal codes, by the name of their tensor in the graph.
    top1 : float
        Share of images with the same most likely class.
    alone : dict
        Share of equal codes where the layers before had put out those of the float model; empty if that was
        not tried.
    """

    codes: dict[str, float]
    top1: float
    alone: dict[str, float] = field(default_factory=dict)


@torch.no_grad()
def float_codes(
    model: nn.Module, images: Tensor, *, level_width: int | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """Rank codes and logits, as the quantized model computes them in floats.

    Parameters
    ----------
    model
        A quantized model in evaluation mode that can be exported.
    images
        Integers that the graph takes, shape (batch, channels, height, width).
    level_width
        With which the graph was exported; see `sw.lowering.lower`.

    Returns
    -------
    tuple
        Codes (int64) of every tensor of codes that the graph writes, by its name, in the shape of the input
        of the layer that reads them; and logits.

    Raises
    ------
    RefusedError
        If the model cannot be exported.
    """
    lowering = lower(model, (images.shape[1], images.shape[2], images.shape[3]), level_width=level_width)
    codes: dict[str, Tensor] = {}

    def keep(name: str, quantizer: nn.Module, inputs: tuple[Tensor, ...], _output: Any) -> None:
        assert isinstance(quantizer, Quantizer)
        codes[name] = _codes(quantizer, inputs[0], parts=lowering.parts.get(name))

    hooks = [
        model.get_submodule(quantizer).register_forward_hook(partial(keep, name))
        for name, quantizer in lowering.quantizers.items()
    ]
    try:
        logits = model(_taken(images, model, lowering.content.header["rounding"]))
    finally:
        for hook in hooks:
            hook.remove()
    return codes, logits


def _taken(images: Tensor, model: nn.Module, rounding: Header | None) -> Tensor:
    """What the model rounds to these images."""
    if rounding is None:
        return images
    scale, offset = (
        torch.tensor(rounding[name], dtype=torch.float64).view(-1, 1, 1) for name in ("scale", "offset")
    )
    return ((images - offset) / scale).to(next(model.parameters()).dtype)


def _codes(quantizer: Quantizer, values: Tensor, *, parts: Integers | None) -> Tensor:
    """The codes (int64) of a tensor for which a quantizer rounds these values; `parts` as in `Lowering`."""
    levels = quantizer.levels(values)
    if parts is None:
        return torch.searchsorted(_used(quantizer), levels.contiguous())
    each = torch.from_numpy(parts).view(-1, *[1] * (levels.dim() - 2))
    return torch.where(each > 0, levels // each.clamp(min=1), 0)


def _used(quantizer: Quantizer) -> Tensor:
    """The levels that the quantizer puts out, ascending: rank r is the r-th."""
    grid = torch.tensor(quantizer.format.grid)
    if not quantizer.format.signed:
        return grid
    far = torch.tensor([-1e9 * float(quantizer.scale(torch.zeros(())))])
    return grid[grid >= quantizer.levels(far)]


def agreement(
    model: nn.Module,
    images: Tensor,
    *,
    codes: Mapping[str, Tensor],
    logits: Tensor,
    level_width: int | None = None,
) -> Agreement:
    """Compare a quantized model with what the integer graph computed for the same images.

    Parameters
    ----------
    model, images, level_width
        See `float_codes`.
    codes
        The graph's codes by tensor.
    logits
        Its results, in any unit.

    Raises
    ------
    ValueError
        If there are no codes of a tensor, or of another size.
    """
    expected, float_logits = float_codes(model, images, level_width=level_width)
    top1 = (float_logits.argmax(1) == logits.argmax(1)).double().mean().item()
    return Agreement(codes=equal_shares(expected, codes), top1=top1)


def equal_shares(expected: Mapping[str, Tensor], codes: Mapping[str, Tensor]) -> dict[str, float]:
    """Share of equal codes of each expected tensor.

    Raises
    ------
    ValueError
        If there are no codes of a tensor, or of another size.
    """
    shares = {}
    for name, theirs in expected.items():
        if name not in codes or codes[name].numel() != theirs.numel():
            found = tuple(codes[name].shape) if name in codes else "none"
            raise ValueError(f"codes of {name!r} must have shape {tuple(theirs.shape)}, not {found}")
        shares[name] = (codes[name].flatten() == theirs.flatten()).double().mean().item()
    return shares

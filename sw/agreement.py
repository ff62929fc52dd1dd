"""How far the integer network is from the model it was exported from, computed in floats."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .models import Network
from .quantizers import Quantizer


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Shares, 0 … 1, in which integer arithmetic and the float model give the same answer.

    Members
    -------
    codes : dict
        Share of equal activation codes, by block name.
    top1 : float
        Share of images with the same most likely class.
    """

    codes: dict[str, float]
    top1: float


@torch.no_grad()
def float_codes(model: nn.Module, images: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """Rank codes after every block and the logits, as the quantized model computes them in floats.

    Parameters
    ----------
    model
        A quantized model in evaluation mode.
    images
        uint8, shape (batch, channels, height, width).

    Returns
    -------
    tuple
        Codes (int64, batch × channels × height × width) of each block, and logits.

    Raises
    ------
    TypeError
        If the model is no chain of blocks.
    """
    if not isinstance(model, Network):
        raise TypeError(f"model must be a chain of blocks, not {type(model).__name__}")
    codes: list[Tensor] = []

    def keep(quantizer: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        assert isinstance(quantizer, Quantizer)
        grid = torch.tensor(quantizer.format.grid)
        codes.append(torch.searchsorted(grid, quantizer.levels(inputs[0]).contiguous()))

    hooks = [block.activation.register_forward_hook(keep) for block in model.chain()]
    try:
        logits = model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(codes), logits


def agreement(model: nn.Module, images: Tensor, *, codes: Sequence[Tensor], logits: Tensor) -> Agreement:
    """Compare a quantized model with what the integer network computed for the same images.

    Parameters
    ----------
    model, images
        See `float_codes`.
    codes
        The integer network's codes after every layer but the last.
    logits
        Its results, in any unit.

    Raises
    ------
    ValueError
        If the codes are not those of as many layers, or of another shape.
    """
    expected, float_logits = float_codes(model, images)
    shapes = [tuple(code.shape) for code in expected]
    found = [tuple(code.shape) for code in codes]
    if shapes != found:
        raise ValueError(f"codes must have shapes {shapes}, not {found}")
    return Agreement(
        codes={
            f"blocks.{index}": (ours == theirs).double().mean().item()
            for index, (ours, theirs) in enumerate(zip(expected, codes, strict=True))
        },
        top1=(float_logits.argmax(1) == logits.argmax(1)).double().mean().item(),
    )

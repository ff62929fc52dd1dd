"""Tensors in the executor's memories, by where the compiler has placed them."""

import torch
from torch import Tensor
from torch.nn import functional

from ..compiler.placement import Codes, Values
from .memories import Memories


def codes_of(memories: Memories, placed: Codes) -> Tensor:
    """A tensor of codes, int32 (images, channels, height, width), its channels in the graph's order."""
    channels, height, width = placed.shape
    lanes = memories.codes.shape[2] * (memories.codes.shape[1] // memories.activation_words)
    words = memories.codes.view(len(memories.codes), -1, lanes)
    last = placed.base + (height * width - 1) * placed.pitch
    pixels = words[:, placed.base : last + placed.pixel_words].unfold(1, placed.pixel_words, placed.pitch)
    digits = (
        pixels.transpose(2, 3).reshape(len(words), height * width, len(placed.digits), -1).to(torch.int32)
    )
    places = torch.tensor([place for place, _ in placed.digits], dtype=torch.int32)
    stored = (digits << places[:, None]).sum(2, dtype=torch.int32)
    codes = functional.pad(stored, (placed.first * lanes, channels))[:, :, :channels]
    return _in_order(codes, placed).transpose(1, 2).reshape(-1, channels, height, width)


def values_of(memories: Memories, placed: Values) -> Tensor:
    """A tensor of values, int32 (images, channels, height, width), its channels in the graph's order."""
    channels, height, width = placed.shape
    groups = memories.values[:, placed.base : placed.base + height * width * placed.pitch]
    values = _in_order(groups.reshape(len(groups), height * width, -1)[:, :, :channels], placed)
    return values.transpose(1, 2).reshape(-1, channels, height, width)


def _in_order(channels: Tensor, placed: Codes | Values) -> Tensor:
    """The last axis in the graph's order."""
    return channels[:, :, torch.tensor(placed.order).argsort()] if placed.order else channels

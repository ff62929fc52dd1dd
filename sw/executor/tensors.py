"""Tensors in the executor's memories, by where the compiler has placed them."""

import torch
from torch import Tensor
from torch.nn import functional

from ..compiler.placement import Codes, Values
from .memories import Memories


def codes_of(memories: Memories, placed: Codes) -> Tensor:
    """A tensor of codes, int32 (images, channels, height, width), its channels in the graph's order."""
    channels, height, width = placed.shape
    words, stored = _words(memories, placed)
    lanes = words.shape[2]
    digits = words[:, stored].reshape(len(words), height * width, len(placed.digits), -1).to(torch.int32)
    codes = (digits << _places(placed)).sum(2, dtype=torch.int32)
    codes = functional.pad(codes, (placed.first * lanes, channels))[:, :, :channels]
    return _in_order(codes, placed).transpose(1, 2).reshape(-1, channels, height, width)


def put_codes(memories: Memories, placed: Codes, codes: Tensor) -> None:
    """Write a tensor of codes as `codes_of` reads it; channels that nobody reads may be left out."""
    words, stored = _words(memories, placed)
    lanes, channels = words.shape[2], codes.shape[1]
    moved = codes.flatten(2).transpose(1, 2)[:, :, list(placed.order) or slice(None)].to(torch.int32)
    first, end = placed.first * lanes, (placed.first + placed.words) * lanes
    moved = functional.pad(moved, (0, max(0, end - channels)))[:, :, first:end]
    widths = torch.tensor([(len(table) - 1).bit_length() for _, table in placed.digits])[:, None]
    digits = moved[:, :, None] >> _places(placed) & (1 << widths) - 1
    words[:, stored] = digits.reshape(len(words), -1, lanes).to(torch.uint8)


def _words(memories: Memories, placed: Codes) -> tuple[Tensor, Tensor]:
    """Activation memory, (images, words, lanes), and which of its words hold a tensor, pixel by pixel."""
    lanes = memories.codes.shape[2] * (memories.codes.shape[1] // memories.activation_words)
    pixels = torch.arange(placed.shape[1] * placed.shape[2]) * placed.pitch + placed.base
    stored = (pixels[:, None] + torch.arange(placed.pixel_words)).flatten()
    return memories.codes.view(len(memories.codes), -1, lanes), stored


def _places(placed: Codes) -> Tensor:
    return torch.tensor([place for place, _ in placed.digits], dtype=torch.int32)[:, None]


def values_of(memories: Memories, placed: Values) -> Tensor:
    """A tensor of values, int32 (images, channels, height, width), its channels in the graph's order."""
    channels, height, width = placed.shape
    groups = memories.values[:, placed.base : placed.base + height * width * placed.pitch]
    values = _in_order(groups.reshape(len(groups), height * width, -1)[:, :, :channels], placed)
    return values.transpose(1, 2).reshape(-1, channels, height, width)


def _in_order(channels: Tensor, placed: Codes | Values) -> Tensor:
    """The last axis in the graph's order."""
    return channels[:, :, torch.tensor(placed.order).argsort()] if placed.order else channels

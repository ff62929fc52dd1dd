"""Convolutions and linear layers: their weights as levels, and what one unit of their sums stands for."""

from dataclasses import replace
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hdl.console import RefusedError
from hdl.formats import Format

from ..graph import Integers
from ..layers import Quantized, QuantizedConv2d, QuantizedLinear
from ..quantizers import MixedQuantizer
from .bounds import Array, Bound
from .builder import Builder
from .values import ConvolutionDraft, Value, Written, fresh


class Weights(NamedTuple):
    """A layer's weights in a kernel's shape.

    Members
    -------
    format : Format
    real : array
        Fake-quantized (float32), shape (out, in / groups, height, width).
    scale : array
        Real value of one level (float32), or of one of each output channel's.
    levels : array of int
    bits : array of int or None
        Of each output channel, if they differ.
    """

    format: Format
    real: NDArray[np.float32]
    scale: NDArray[np.float32]
    levels: Integers
    bits: Integers | None


def convolution(builder: Builder, name: str, layer: QuantizedConv2d, value: Value) -> Value:
    """What a convolution makes of a value."""
    if value.flat:
        raise RefusedError("input must be a map, not flattened")
    stride, padding = _walk(layer)
    if layer.groups not in (1, layer.in_channels) or layer.groups not in (1, layer.out_channels):
        raise RefusedError(
            f"groups must be 1, or the channels before and after (depthwise), not {layer.groups}"
        )
    if value.shape[0] != layer.in_channels:
        raise RefusedError(f"input must have {layer.in_channels} channels, not {value.shape[0]}")
    weights = weights_of(layer, tuple(layer.weight.shape))
    shape = {"stride": stride, "padding": padding, "groups": layer.groups}
    return _layer(builder, name, layer, value, weights, **shape)


def linear(builder: Builder, name: str, layer: QuantizedLinear, value: Value) -> Value:
    """What a linear layer makes of a flattened map: a convolution as large as the map."""
    if not value.flat:
        raise RefusedError("input must be flattened")
    if int(np.prod(value.shape)) != layer.in_features:
        raise RefusedError(f"input must have {layer.in_features} values, not {int(np.prod(value.shape))}")
    weights = weights_of(layer, (layer.out_features, *value.shape))
    result = _layer(builder, name, layer, value, weights, stride=1, padding=0, groups=1)
    return replace(result, flat=True)


@torch.no_grad()
def weights_of(layer: Quantized, shape: tuple[int, ...]) -> Weights:
    """A layer's weights, given the kernel's shape.

    Raises
    ------
    RefusedError
        If they are not quantized.
    """
    quantizer = layer.quantizer
    if quantizer is None:
        raise RefusedError("weights must be quantized, not float")
    scale = quantizer.scale(layer.weight)
    numbers = scale.reshape(-1).numpy() if isinstance(scale, Tensor) else scale
    return Weights(
        format=quantizer.format,
        real=np.ascontiguousarray(quantizer(layer.weight).reshape(shape).float().numpy()),
        scale=np.array(numbers, dtype=np.float32),
        levels=quantizer.levels(layer.weight).reshape(shape).numpy().astype(np.int64),
        bits=quantizer.bits.numpy() if isinstance(quantizer, MixedQuantizer) else None,
    )


def _walk(layer: nn.Conv2d) -> tuple[int, int]:
    """Stride and padding, which must be the same in both directions."""
    if layer.padding_mode != "zeros" or layer.dilation != (1, 1):
        raise RefusedError(
            "must be padded with zeros and not dilated, "
            f"not padding_mode {layer.padding_mode!r}, dilation {layer.dilation}"
        )
    padding = layer.padding
    if isinstance(padding, str):
        padding = tuple((size - 1) // 2 if padding == "same" else 0 for size in layer.kernel_size)
        if layer.padding == "same" and not all(size % 2 for size in layer.kernel_size):
            raise RefusedError(f"padding 'same' must have an odd kernel, not {layer.kernel_size}")
    for what, pair in (("stride", layer.stride), ("padding", padding)):
        if pair[0] != pair[1]:
            raise RefusedError(f"{what} must be the same in both directions, not {pair}")
    return int(layer.stride[0]), int(padding[0])


def _layer(
    builder: Builder, name: str, layer: Quantized, value: Value, weights: Weights, **walk: int
) -> Value:
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    bias = np.zeros(len(weights.levels)) if layer.bias is None else layer.bias.detach().double().numpy()
    if value.draft is None:
        image = builder.image(value, layer.input_quantizer, f"{name}.input_quantizer")
        return _of_image(builder, name, image, weights, bias, walk)
    if isinstance(layer, nn.Linear) and layer.input_quantizer is None and value.quantizer is None:
        sources: tuple[Written, ...] = (builder.real_codes(value),)
    else:
        sources = builder.codes(value, layer.input_quantizer, f"{name}.input_quantizer")
    return _of_codes(builder, name, sources, weights, bias, walk, shape=value.shape)


def _of_codes(
    builder: Builder,
    name: str,
    sources: tuple[Written, ...],
    weights: Weights,
    bias: Array,
    walk: dict[str, int],
    *,
    shape: tuple[int, int, int],
) -> Value:
    """A layer that reads tensors of codes, each of which has one scale."""
    main = sources[0].codes
    zero = main.zero
    if zero and walk["padding"]:
        raise RefusedError("input may be negative, so it must not be padded")
    scales = weights.scale.astype(np.float64) * main.scale
    highest = max(main.format.max_level - zero, zero)
    sums = np.abs(weights.levels).sum(axis=(1, 2, 3))
    return _drafted(
        builder,
        name,
        weights,
        sources=sources,
        scales=np.broadcast_to(scales, sums.shape),
        constant=bias,
        excess=zero * weights.levels.sum(axis=(1, 2, 3)),
        bound_of_sums=Bound.certain(np.abs(scales) * sums * highest + np.abs(bias)),
        shape=_output_shape(shape, weights, walk),
        **walk,
    )


def _of_image(
    builder: Builder, name: str, image: Value, weights: Weights, bias: Array, walk: dict[str, int]
) -> Value:
    """A layer that reads pixels, each channel of which has a scale and an offset of its own.

    As many convolutions as there are scales, in which the input channels of the others have weights of 0.
    All but the last write values that the next one adds.
    """
    scales = list(dict.fromkeys(image.gain.tolist()))
    if walk["groups"] > 1 or len(scales) == 1:
        gain = image.gain if walk["groups"] > 1 else np.full(len(bias), scales[0])
        return _of_pixels(builder, name, image, weights, bias, gain=gain, walk=walk)
    if 0 not in weights.format.codes:
        raise RefusedError(
            "the image's scale must be the same in all channels, since the weights' format "
            f"{weights.format.name} has no level 0"
        )
    parts: list[Value] = []
    for index, scale in enumerate(scales):
        last, mask = scale == scales[-1], (image.gain == scale).reshape(1, -1, 1, 1)
        own = weights._replace(levels=weights.levels * mask, real=weights.real * mask)
        part_name, part_bias = (name, bias) if last else (f"{name}.{index}", np.zeros_like(bias))
        gain = np.full(len(bias), scale)
        parts.append(_of_pixels(builder, part_name, image, own, part_bias, gain=gain, walk=walk))
    *others, main = parts
    assert isinstance(main.draft, ConvolutionDraft)
    main.draft.partials = [each.draft for each in others if isinstance(each.draft, ConvolutionDraft)]
    return replace(main, bound=reduce(Bound.plus, (each.bound for each in parts)))


def _of_pixels(
    builder: Builder,
    name: str,
    image: Value,
    weights: Weights,
    bias: Array,
    *,
    gain: Array,
    walk: dict[str, int],
) -> Value:
    """A convolution of pixels, whose scale in each output channel is `gain`."""
    assert image.format is not None
    reals = weights.scale.astype(np.float64)
    ends = (image.gain * level + image.offset for level in (image.format.grid[0], image.format.max_level))
    spread = np.maximum(*map(np.abs, ends))
    # The second axis is the input channel, of which a depthwise output has one.
    offset, spread = (each[:, None] if walk["groups"] > 1 else each for each in (image.offset, spread))
    reach = (np.abs(weights.levels).sum(axis=(2, 3)) * spread).sum(axis=1)
    return _drafted(
        builder,
        name,
        weights,
        sources=(),
        image=image,
        scales=np.broadcast_to(reals * gain, bias.shape),
        constant=bias + reals * (weights.levels.sum(axis=(2, 3)) * offset).sum(axis=1),
        excess=np.zeros_like(bias, dtype=np.int64),
        bound_of_sums=Bound.certain(reals * reach + np.abs(bias)),
        shape=_output_shape(image.shape, weights, walk),
        **walk,
    )


def _drafted(
    builder: Builder, name: str, weights: Weights, *, sources: tuple[Written, ...], **members: Any
) -> Value:
    draft = builder.convolution(
        name,
        sources=sources,
        weight_format=weights.format,
        weights=weights.real,
        scale=weights.scale,
        bits=weights.bits,
        **members,
    )
    return fresh(draft, draft.bound_of_sums)


def _output_shape(
    source: tuple[int, int, int], weights: Weights, walk: dict[str, int]
) -> tuple[int, int, int]:
    outputs, _, *kernel = weights.levels.shape
    height, width = (
        (size + 2 * walk["padding"] - length) // walk["stride"] + 1
        for size, length in zip(source[1:], kernel, strict=True)
    )
    if min(height, width) < 1:
        raise RefusedError(f"kernel {kernel[0]}×{kernel[1]} must fit in its padded input")
    return outputs, height, width

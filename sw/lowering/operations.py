"""What a module without weights makes of a value: normalization, activations, pooling."""

from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, fx, nn

from hdl.console import RefusedError

from ..models.pixels import Pixels
from ..models.resnet import Subsampling
from ..quantizers import Quantizer
from .bounds import Array, Bound
from .builder import Builder
from .values import Value, fresh

SUPPORTED = (
    "supported are Conv2d, Linear, BatchNorm2d, ReLU, ReLU6, MaxPool2d, AvgPool2d, AdaptiveAvgPool2d(1), "
    "flatten, sums of two, sums and products with numbers, Dropout and Identity"
)


def array(values: Tensor) -> Array:
    """A tensor's values in float64, in one row."""
    return values.detach().double().numpy().reshape(-1)


def normalized(builder: Builder, value: Value, norm: nn.BatchNorm2d | nn.BatchNorm1d) -> Value:
    """Batch normalization by running statistics."""
    if norm.running_mean is None or norm.running_var is None:
        raise RefusedError("batch normalization must keep running statistics")
    if value.shape[0] != norm.num_features:
        raise RefusedError(f"input must have {norm.num_features} channels, not {value.shape[0]}")
    gamma = np.ones(norm.num_features) if norm.weight is None else array(norm.weight)
    beta = np.zeros(norm.num_features) if norm.bias is None else array(norm.bias)
    gain = gamma / np.sqrt(array(norm.running_var) + norm.eps)
    offset = beta - array(norm.running_mean) * gain
    bound = value.bound.scaled(gain, offset).or_less(Bound.normal(beta, gamma))
    return replace(builder.affine(value, gain, offset, bound=bound), expected=beta)


def pixels(builder: Builder, value: Value, module: Pixels) -> Value:
    """The image's scale and offset for each channel."""
    return builder.affine(value, array(module.scale), array(module.offset))


def rectified(_builder: Builder, value: Value, *, ceiling: float | None = None) -> Value:
    """Clamped at 0, and perhaps at a ceiling."""
    if value.draft is None or value.quantizer is not None:
        raise RefusedError("an activation must follow a layer, and precede the quantizer")
    ceilings = [each for each in (value.ceiling, ceiling) if each is not None]
    before = value.base if value.rectified else value if value.shared else None
    return replace(value, rectified=True, ceiling=min(ceilings, default=None), base=before, shared=False)


def pooled(builder: Builder, value: Value, name: str, module: nn.MaxPool2d | nn.AvgPool2d) -> Value:
    """The maximum or the mean of each window."""
    average = isinstance(module, nn.AvgPool2d)
    stride = module.kernel_size if module.stride is None else module.stride
    kernel = _pair(module.kernel_size)
    strides, padding = _pair(stride), _pair(module.padding)
    if strides[0] != strides[1] or padding[0] != padding[1]:
        raise RefusedError(
            f"stride and padding must be the same in both directions, not {strides}, {padding}"
        )
    if module.ceil_mode or (
        isinstance(module, nn.MaxPool2d) and (module.return_indices or module.dilation != 1)
    ):
        raise RefusedError("pooling must have no ceil_mode, return_indices or dilation")
    if isinstance(module, nn.AvgPool2d) and padding[0] and not module.count_include_pad:
        raise RefusedError("an average must not be padded, or count_include_pad")
    divisor = module.divisor_override if isinstance(module, nn.AvgPool2d) else None
    shape = {"kernel": kernel, "stride": strides[0], "padding": padding[0]}
    if average:
        return _average(builder, value, name, divisor=divisor or kernel[0] * kernel[1], **shape)
    return _pooled(builder, value, name, kind="maximum", **shape)


def averaged(builder: Builder, value: Value, name: str, size: Any, *, flat: bool = False) -> Value:
    """The mean of each channel."""
    if any(each != 1 for each in np.atleast_1d(np.array(size, dtype=object))):
        raise RefusedError(f"output size must be 1, not {size}")
    kernel = value.shape[1], value.shape[2]
    return replace(_average(builder, value, name, divisor=kernel[0] * kernel[1], kernel=kernel), flat=flat)


def subsampled(builder: Builder, value: Value, name: str, module: Subsampling) -> Value:
    """A shortcut without weights: pixels left out, channels of 0 added."""
    *_, before, after = module.padding
    padding = {"channels_before": before, "channels_after": after}
    return _pooled(builder, value, name, kind="maximum", stride=module.stride, **padding)


def flattened(_builder: Builder, value: Value, *, start: int = 1, end: int = -1) -> Value:
    """All of an image in one row, channels first."""
    if start != 1 or end not in (-1, 3):
        raise RefusedError(f"flatten must start at 1 and go to the end, not {start} … {end}")
    return replace(value, flat=True)


def quantized(_builder: Builder, value: Value, name: str, quantizer: Quantizer) -> Value:
    """A value that is rounded where it stands, not by the layer that reads it."""
    if value.quantizer is not None:
        raise RefusedError(f"a value must be quantized once, not by {value.quantizer_name} too")
    return replace(value, quantizer=quantizer, quantizer_name=name)


def module_call(builder: Builder, node: fx.Node, module: nn.Module, value: Value) -> Value:
    """What a module without weights makes of a value."""
    name = str(node.target)
    match module:
        case Quantizer():
            return quantized(builder, value, name, module)
        case Pixels():
            return pixels(builder, value, module)
        case Subsampling():
            return subsampled(builder, value, name, module)
        case nn.BatchNorm2d() | nn.BatchNorm1d():
            return normalized(builder, value, module)
        case nn.ReLU():
            return rectified(builder, value)
        case nn.Hardtanh() if module.min_val == 0:
            return rectified(builder, value, ceiling=module.max_val)
        case nn.MaxPool2d() | nn.AvgPool2d():
            return pooled(builder, value, name, module)
        case nn.AdaptiveAvgPool2d():
            return averaged(builder, value, name, module.output_size)
        case nn.Flatten():
            return flattened(builder, value, start=module.start_dim, end=module.end_dim)
        case nn.Dropout() | nn.Dropout2d() | nn.Identity():
            return value
    raise RefusedError(f"must be an operation that can be exported; {SUPPORTED}")


def _pair(value: Any) -> tuple[int, int]:
    return (int(value[0]), int(value[1])) if isinstance(value, (tuple, list)) else (int(value), int(value))


def _average(builder: Builder, value: Value, name: str, *, divisor: int, **shape: Any) -> Value:
    sums = _pooled(builder, value, name, kind="sum", **shape)
    return replace(sums, gain=sums.gain / divisor)


def _pooled(builder: Builder, value: Value, name: str, *, kind: str, **shape: Any) -> Value:
    """The maximum commutes with rounding, so that a quantizer may come after it."""
    if value.flat:
        raise RefusedError("input must be a map, not flattened")
    quantizer = value.quantizer
    if kind == "maximum" and quantizer is not None:
        value = replace(value, quantizer=None)
    draft = builder.pooling(name, builder.values(value), kind=kind, **shape)
    before, after = draft.channels_before, draft.channels_after
    positive = value.rectified or value.positive
    result = replace(fresh(draft, value.bound.cut(value.ceiling).padded(before, after)), positive=positive)
    return replace(result, quantizer=quantizer, quantizer_name=value.quantizer_name)

"""What functions, and methods of tensors, make of values."""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from hdl.console import RefusedError

from .builder import Builder
from .operations import averaged, flattened, pooled, rectified
from .values import Value


def _max_pool(builder: Builder, name: str, value: Value, *args: Any, **options: Any) -> Value:
    return pooled(builder, value, name, nn.MaxPool2d(*args, **options))


def _avg_pool(builder: Builder, name: str, value: Value, *args: Any, **options: Any) -> Value:
    return pooled(builder, value, name, nn.AvgPool2d(*args, **options))


def _hardtanh(
    builder: Builder, _name: str, value: Value, min_val: float = -1.0, max_val: float = 1.0, **_: Any
) -> Value:
    if min_val != 0:
        raise RefusedError(f"hardtanh must start at 0, not {min_val}")
    return rectified(builder, value, ceiling=max_val)


def _mean(builder: Builder, name: str, value: Value, dim: Any, keepdim: bool = False, **_: Any) -> Value:
    if tuple(dim if isinstance(dim, (tuple, list)) else (dim,)) not in ((2, 3), (-2, -1), (-1, -2), (3, 2)):
        raise RefusedError(f"a mean must be over rows and columns, dimensions 2 and 3, not {dim}")
    return averaged(builder, value, name, 1, flat=not keepdim)


def _reshaped(builder: Builder, _name: str, value: Value, *sizes: Any) -> Value:
    sizes = tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes
    if len(sizes) != 2 or sizes[1] not in (-1, int(np.prod(value.shape))):
        raise RefusedError("a change of shape must flatten all but the batch")
    return flattened(builder, value)


def _sum(builder: Builder, _name: str, left: Any, right: Any, *, alpha: float = 1) -> Value:
    if alpha != 1:
        raise RefusedError(f"alpha must be 1, not {alpha}")
    if isinstance(left, Value) and isinstance(right, Value):
        return builder.added(left, right)
    value, number = (left, right) if isinstance(left, Value) else (right, left)
    return _scaled(builder, value, 1.0, _number(number))


def _product(builder: Builder, _name: str, left: Any, right: Any) -> Value:
    value, number = (left, right) if isinstance(left, Value) else (right, left)
    return _scaled(builder, value, _number(number), 0.0)


def _difference(builder: Builder, _name: str, left: Value, right: Any) -> Value:
    return _scaled(builder, left, 1.0, -_number(right))


def _quotient(builder: Builder, _name: str, left: Value, right: Any) -> Value:
    return _scaled(builder, left, 1 / _number(right), 0.0)


def _scaled(builder: Builder, value: Value, gain: float, offset: float) -> Value:
    ones = np.ones(value.shape[0])
    return builder.affine(value, gain * ones, offset * ones)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RefusedError(f"a factor or summand must be a number or the like, not {type(value).__name__}")
    return float(value)


def _unchanged(_builder: Builder, _name: str, value: Value, *_: Any, **__: Any) -> Value:
    return value


def _rectified(builder: Builder, _name: str, value: Value, **_: Any) -> Value:
    return rectified(builder, value)


def _rectified6(builder: Builder, _name: str, value: Value, **_: Any) -> Value:
    return rectified(builder, value, ceiling=6.0)


def _flattened(builder: Builder, _name: str, value: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    return flattened(builder, value, start=start_dim, end=end_dim)


def _averaged(builder: Builder, name: str, value: Value, output_size: Any) -> Value:
    return averaged(builder, value, name, output_size)


# Functions, and names of a tensor's methods.
_GROUPS: dict[Callable[..., Value], tuple[Any, ...]] = {
    _sum: (operator.add, operator.iadd, torch.add, "add", "add_"),
    _product: (operator.mul, operator.imul, torch.mul, "mul", "mul_"),
    _difference: (operator.sub, operator.isub, torch.sub, "sub", "sub_"),
    _quotient: (operator.truediv, operator.itruediv, torch.div, "div", "div_"),
    _rectified: (functional.relu, torch.relu, torch.relu_, "relu", "relu_"),
    _rectified6: (functional.relu6,),
    _hardtanh: (functional.hardtanh,),
    _max_pool: (functional.max_pool2d, torch.max_pool2d),
    _avg_pool: (functional.avg_pool2d,),
    _averaged: (functional.adaptive_avg_pool2d,),
    _mean: (torch.mean, "mean"),
    _flattened: (torch.flatten, "flatten"),
    _reshaped: (torch.reshape, "reshape", "view"),
    _unchanged: (
        functional.dropout, functional.dropout2d,
        "to", "type", "float", "double", "contiguous", "clone", "detach",
    ),
}  # fmt: skip

CALLS = {target: make for make, targets in _GROUPS.items() for target in targets}

IN_PLACE = {
    operator.iadd, operator.imul, operator.isub, operator.itruediv, torch.relu_,
    "add_", "mul_", "sub_", "div_", "relu_",
}  # fmt: skip

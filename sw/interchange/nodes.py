"""One node of the graph from its entry in the header and its tensors."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdl.console import RefusedError
from hdl.formats import Format
from hdl.parameters import BIAS_WIDTH, VALUE_WIDTH

from ..graph import MULTIPLIER_WIDTH, SHIFT_LIMIT, Addend, Convolution, Encoding, Integers, Node, Pooling
from ..grid import grid_levels
from .content import Header, Tensors
from .members import (
    count,
    counts,
    format_of,
    integer_tensor,
    member,
    objects,
    optional,
    positive,
    tensor,
)

KINDS = ("maximum", "sum")


def node_of(entry: Header, tensors: Tensors) -> Node:
    """The node, every part of it checked but how it fits the others.

    Raises
    ------
    RefusedError
        If a part is missing, has a wrong type, shape or range, or a weight is off its format's grid.
    """
    name, op = member(entry, "node", "name", str), entry.get("op")
    if op not in _OPERATIONS:
        raise RefusedError(f"{name}: op must be {' or '.join(_OPERATIONS)}, not {op!r}")
    values = optional(entry, name, "values", dict)
    if values is not None:
        positive(values, f"{name}: values", "scale")
    common = {
        "name": name,
        "source": member(entry, name, "source", str),
        "encodings": tuple(_encoding(each, tensors, name) for each in objects(entry, name, "encodings")),
        "values": None if values is None else member(values, f"{name}: values", "tensor", str),
        "rectified": member(entry, name, "rectified", bool),
        "residual": optional(entry, name, "residual", str),
        "stride": count(entry, name, "stride", low=1),
        "padding": count(entry, name, "padding", low=0),
    }
    return _OPERATIONS[op](entry, tensors, common)


def _encoding(entry: Header, tensors: Tensors, node: str) -> Encoding:
    where = f"{node}: encoding"
    name = member(entry, where, "tensor", str)
    fmt = format_of(entry, name, "format", signed=False)
    positive(entry, name, "scale")
    count(entry, name, "zero", low=0, high=fmt.max_level)
    limit = 2 ** (VALUE_WIDTH - 1)
    thresholds = integer_tensor(
        tensors,
        f"{name}.thresholds",
        number=len(fmt.grid) - 1,
        low=-limit,
        high=limit - 1,
        of="between levels",
    )
    if (np.diff(thresholds) < 0).any():
        raise RefusedError(f"{name}.thresholds: must not descend")
    return Encoding(tensor=name, format=fmt.name, thresholds=tuple(thresholds.tolist()))


def _convolution(entry: Header, tensors: Tensors, common: dict[str, Any]) -> Convolution:
    name = common["name"]
    weight_format = format_of(entry, name, "weight_format", signed=True)
    weights = tensor(tensors, f"{name}.weight", kind="f", dimensions=(4,))
    further = optional(entry, name, "addends", list) or []
    return Convolution(
        addends=tuple(
            _addend(index, each, tensors, name, len(weights)) for index, each in enumerate(further)
        ),
        weights=_levels(weights, tensors, weight_format, name=name),
        weight_format=weight_format.name,
        groups=count(entry, name, "groups", low=1),
        **common,
        **_constants(tensors, name, number=len(weights)),
    )


def _addend(index: int, source: object, tensors: Tensors, name: str, outputs: int) -> Addend:
    if not isinstance(source, str):
        raise RefusedError(f"{name}: addends must hold names of tensors, not {source!r}")
    return Addend(
        tensor=source, multiplier=_multiplier(tensors, f"{name}.addend{index}.multiplier", number=outputs)
    )


def _pooling(entry: Header, tensors: Tensors, common: dict[str, Any]) -> Pooling:
    name = common["name"]
    if entry.get("kind") not in KINDS:
        raise RefusedError(f"{name}: kind must be {' or '.join(KINDS)}, not {entry.get('kind')!r}")
    height, width = counts(entry, name, "kernel", number=2, low=1)
    if common["padding"] >= min(height, width):
        raise RefusedError(f"{name}: padding must be less than the kernel, not {common['padding']}")
    return Pooling(
        kind=entry["kind"],
        kernel=(height, width),
        channels_before=count(entry, name, "channels_before", low=0),
        channels_after=count(entry, name, "channels_after", low=0),
        **common,
        **_constants(tensors, name),
    )


_OPERATIONS = {"convolution": _convolution, "pooling": _pooling}


def _constants(tensors: Tensors, name: str, *, number: int | None = None) -> dict[str, Any]:
    """Multiplier, bias and shift, as many as there are output channels; of a pooling alike."""
    found: dict[str, Any] = {"multiplier": _multiplier(tensors, f"{name}.multiplier", number=number)}
    for part, low, high in (
        ("bias", -(2 ** (BIAS_WIDTH - 1)), 2 ** (BIAS_WIDTH - 1) - 1),
        ("shift", 0, SHIFT_LIMIT),
    ):
        number = len(found["multiplier"])
        found[part] = integer_tensor(
            tensors, f"{name}.{part}", number=number, low=low, high=high, of="an output channel"
        )
    return found


def _multiplier(tensors: Tensors, name: str, *, number: int | None) -> Integers:
    limit = 2 ** (MULTIPLIER_WIDTH - 1)
    return integer_tensor(tensors, name, number=number, low=-limit, high=limit - 1, of="an output channel")


def _levels(weights: NDArray[Any], tensors: Tensors, fmt: Format, *, name: str) -> Integers:
    """The level of every weight, by the layer's scale or its channel's."""
    scale = tensor(tensors, f"{name}.scale", kind="f", dimensions=(0, 1))
    if scale.ndim == 0:
        return grid_levels(weights, float(scale), fmt, name=f"{name}.weight")
    if len(scale) != len(weights):
        raise RefusedError(
            f"{name}.scale: must have {len(weights)} values or be one number, not {len(scale)}"
        )
    channels = enumerate(zip(weights, scale.tolist(), strict=True))
    return np.stack(
        [grid_levels(part, unit, fmt, name=f"{name}.weight[{i}]") for i, (part, unit) in channels]
    )

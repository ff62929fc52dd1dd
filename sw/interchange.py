"""The interchange file before packing: real weights on the grid, scales and the layer graph, in safetensors.

Tensors of layer ``name``: ``name.weight`` (float32, output × input × height × width, the fake-quantized
weights), ``name.scale`` (float32, real value of one weight level, for the layer or for each output channel),
``name.multiplier``, ``name.bias`` and ``name.shift`` (int64, one an output channel), and, where outputs are
not rounded to the nearest level, ``name.boundaries`` (int64); see `sw.network` for these four.  Where output
channels have different numbers of bits, ``name.bits`` (int64) says which, for readers that make use of it.

The metadata entry ``network`` is JSON: kind, version, input_shape, logit_scale, and the layers in order with
name, formats, stride, padding, fraction, and ``input_scale``, the real value of one input level, for readers
that compute in floats.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hdl.console import RefusedError
from hdl.files import replacing
from hdl.formats import Format, check_int, named
from hdl.parameters import BIAS_WIDTH, VALUE_WIDTH

from .grid import grid_levels
from .network import MULTIPLIER_WIDTH, SHIFT_LIMIT, IntegerLayer, IntegerNetwork, Integers

KIND = "nonuniform-hdl network"
VERSION = 1
FRACTION_LIMIT = 16

Header = dict[str, Any]
Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Interchange:
    """Contents of an interchange file, not yet judged.

    Members
    -------
    header : dict
        The JSON header.
    tensors : dict
        Arrays by name.
    """

    header: Header
    tensors: Tensors


def save(content: Interchange, path: Path) -> None:
    """Replace the file, whole or not at all."""
    header = json.dumps(content.header, sort_keys=True, separators=(",", ":"))
    with replacing(path) as temporary:
        save_file(content.tensors, temporary, metadata={"network": header})


def read(path: Path) -> Interchange:
    """Read an interchange file without judging its contents.

    Raises
    ------
    RefusedError
        If it is not a safetensors file with a header of this kind and version.
    """
    path.stat()
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise RefusedError(f"{path}: must be a safetensors file written by 'export' ({error})") from error
    try:
        header = json.loads(metadata.get("network", ""))
    except json.JSONDecodeError as error:
        raise RefusedError(
            f"{path}: metadata 'network' must be the JSON header that 'export' writes"
        ) from error
    return Interchange(header=header, tensors=tensors)


def load_network(path: Path) -> IntegerNetwork:
    """Read an interchange file as integers.

    Raises
    ------
    RefusedError
        If the file is unreadable, incomplete or inconsistent, or a weight is off its format's grid.
    """
    try:
        return integers(read(path))
    except RefusedError as error:
        text = str(error)
        raise RefusedError(text if text.startswith(str(path)) else f"{path}: {text}") from error


def integers(content: Interchange) -> IntegerNetwork:
    """The integer network of an interchange file's contents, every part of it checked.

    Raises
    ------
    RefusedError
        If anything is missing, has a wrong shape or type, does not fit its neighbours, or a weight is
        off its format's grid.
    """
    header = content.header
    if not isinstance(header, dict) or header.get("kind") != KIND:
        raise RefusedError(f"header: kind must be {KIND!r}")
    if header.get("version") != VERSION:
        raise RefusedError(f"header: version must be {VERSION}, not {header.get('version')!r}")
    shape = _member(header, "header", "input_shape", list)
    if len(shape) != 3 or not all(type(size) is int and size > 0 for size in shape):
        raise RefusedError(f"header: input_shape must be three positive integers, not {shape!r}")
    logit_scale = _member(header, "header", "logit_scale", float)
    if not 0 < logit_scale < float("inf"):
        raise RefusedError(f"header: logit_scale must be a positive number, not {logit_scale!r}")
    entries = _member(header, "header", "layers", list)
    if not entries:
        raise RefusedError("header: layers must hold at least one layer")
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in entries]
    if len({str(name) for name in names}) != len(names):
        raise RefusedError(f"header: layer names must differ, not {names!r}")
    layers = tuple(_layer(entry, content.tensors, last=entry is entries[-1]) for entry in entries)
    _check_chain(tuple(shape), layers)
    return IntegerNetwork(input_shape=tuple(shape), layers=layers, logit_scale=logit_scale)


def _layer(entry: Any, tensors: Tensors, *, last: bool) -> IntegerLayer:
    if not isinstance(entry, dict):
        raise RefusedError(f"header: a layer must be an object, not {entry!r}")
    name = _member(entry, "layer", "name", str)
    weight_format = _format(entry, name, "weight_format", signed=True)
    input_format = _format(entry, name, "input_format", signed=False)
    if last != (entry.get("output_format") is None):
        raise RefusedError(
            f"{name}: output_format must be {'null in' if last else 'given before'} the last layer"
        )
    output_format = None if last else _format(entry, name, "output_format", signed=False)
    weights = _tensor(tensors, f"{name}.weight", kind="f", dimensions=(4,))
    channels = len(weights)
    multiplier, bias, shift = (
        _integers(tensors, f"{name}.{part}", count=channels, low=low, high=high)
        for part, low, high in (
            ("multiplier", -(2 ** (MULTIPLIER_WIDTH - 1)), 2 ** (MULTIPLIER_WIDTH - 1) - 1),
            ("bias", -(2 ** (BIAS_WIDTH - 1)), 2 ** (BIAS_WIDTH - 1) - 1),
            ("shift", 0, SHIFT_LIMIT),
        )
    )
    return IntegerLayer(
        name=name,
        weights=_levels(weights, tensors, weight_format, name=name),
        weight_format=weight_format.name,
        input_format=input_format.name,
        output_format=output_format.name if output_format else None,
        stride=_count(entry, name, "stride", low=1),
        padding=_count(entry, name, "padding", low=0),
        multiplier=multiplier,
        bias=bias,
        shift=shift,
        fraction=_count(entry, name, "fraction", low=0 if last else 1, high=FRACTION_LIMIT),
        boundaries=_boundaries(tensors, name, output_format),
    )


def _levels(weights: NDArray[Any], tensors: Tensors, fmt: Format, *, name: str) -> Integers:
    """The level of every weight, by the layer's scale or its channel's."""
    scale = _tensor(tensors, f"{name}.scale", kind="f", dimensions=(0, 1))
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


def _boundaries(tensors: Tensors, name: str, output: Format | None) -> tuple[int, ...] | None:
    if f"{name}.boundaries" not in tensors:
        return None
    if output is None:
        raise RefusedError(f"{name}.boundaries: must not be given for the last layer")
    limit = 2 ** (VALUE_WIDTH - 1) - 1
    count = len(output.grid) - 1
    values = _integers(tensors, f"{name}.boundaries", count=count, low=0, high=limit, of="between levels")
    if (np.diff(values) < 0).any():
        raise RefusedError(f"{name}.boundaries: must not descend")
    return tuple(values.tolist())


def _check_chain(input_shape: tuple[int, int, int], layers: tuple[IntegerLayer, ...]) -> None:
    """Refuse layers that do not fit one another."""
    channels, height, width = input_shape
    before: IntegerLayer | None = None
    for layer in layers:
        outputs, inputs, *kernel = layer.weights.shape
        if inputs != channels:
            raise RefusedError(f"{layer.name}.weight: must have {channels} input channels, not {inputs}")
        if before and layer.input_format != before.output_format:
            raise RefusedError(
                f"{layer.name}: input_format must be {before.output_format!r}, the output_format of "
                f"{before.name}, not {layer.input_format!r}"
            )
        height, width = (
            (size + 2 * layer.padding - length) // layer.stride + 1
            for size, length in zip((height, width), kernel, strict=True)
        )
        if height < 1 or width < 1:
            raise RefusedError(
                f"{layer.name}.weight: kernel {kernel[0]}×{kernel[1]} must fit in its padded input"
            )
        channels, before = outputs, layer


def _member(values: Header, where: str, key: str, kind: type) -> Any:
    value = values.get(key)
    if not isinstance(value, kind):
        raise RefusedError(f"{where}: {key} must be a JSON {_JSON_NAMES[kind]}, not {value!r}")
    return value


_JSON_NAMES = {list: "array", float: "real number", str: "string"}


def _count(entry: Header, name: str, key: str, *, low: int, high: int | None = None) -> int:
    try:
        check_int(key, entry.get(key), low=low, high=high)
    except (TypeError, ValueError) as error:
        raise RefusedError(f"{name}: {error}") from error
    return int(entry[key])


def _format(entry: Header, name: str, key: str, *, signed: bool) -> Format:
    try:
        fmt = named(_member(entry, name, key, str))
    except (TypeError, ValueError) as error:
        raise RefusedError(f"{name}: {key}: {error}") from error
    if fmt.signed != signed:
        raise RefusedError(
            f"{name}: {key} must be {'a signed' if signed else 'an unsigned'} format, not {fmt.name!r}"
        )
    return fmt


def _tensor(tensors: Tensors, name: str, *, kind: str, dimensions: tuple[int, ...]) -> NDArray[Any]:
    if name not in tensors:
        raise RefusedError(f"{name}: tensor must be present")
    tensor = tensors[name]
    if tensor.ndim not in dimensions or 0 in tensor.shape:
        wanted = " or ".join(map(str, dimensions))
        raise RefusedError(f"{name}: must have {wanted} dimensions, none of them 0, not shape {tensor.shape}")
    if tensor.dtype.kind != kind:
        raise RefusedError(f"{name}: must be {'real' if kind == 'f' else 'integer'}, not {tensor.dtype}")
    return tensor


def _integers(
    tensors: Tensors, name: str, *, count: int, low: int, high: int, of: str = "an output channel"
) -> Integers:
    values = _tensor(tensors, name, kind="i", dimensions=(1,))
    if len(values) != count:
        raise RefusedError(f"{name}: must have {count} values, one {of}, not {len(values)}")
    wrong = values[(values < low) | (values > high)]
    if len(wrong):
        raise RefusedError(f"{name}: must be {low} … {high}, not {wrong[0]}")
    return values.astype(np.int64)

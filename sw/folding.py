"""From a trained torch model to the interchange contents: quantized weights, folded normalization."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hdl.console import RefusedError
from hdl.formats import Format

from .graph import IMAGE
from .interchange import KIND, VERSION, Header, Interchange, Tensors
from .models import IMAGE_FORMAT, IMAGE_SCALE, Network, QuantizedConv2d, QuantizedLinear
from .quantizers import MixedActivation, MixedQuantizer, Quantizer
from .requantize import Requantization, fraction_of, requantization


class Activations(NamedTuple):
    """What flows between two layers.

    Members
    -------
    format : Format
    scale : float
        Real value of one level.
    edges : array or None
        Where rounding steps from each level to the next, in levels; None if halfway between them.
    """

    format: Format
    scale: float
    edges: NDArray[np.float64] | None = None


@torch.no_grad()
def interchange(model: nn.Module) -> Interchange:
    """The interchange contents of a quantized model, as it computes in evaluation mode.

    Raises
    ------
    RefusedError
        If the model is a float one or no chain of layers, or a channel's constants do not fit the
        hardware's widths.
    """
    if not isinstance(model, Network):
        raise RefusedError(f"model must be a chain of layers like small_cnn, not a {type(model).__name__}")
    if not model.precision.quantized:
        raise RefusedError("model must be quantized, not float (train with another --scheme)")
    entries: list[Header] = []
    tensors: Tensors = {}
    flow, shape, source = Activations(IMAGE_FORMAT, IMAGE_SCALE), model.input_shape, IMAGE
    for index, block in enumerate(model.chain()):
        name = f"blocks.{index}"
        after = activations(block.activation)
        tensors |= _weight_tensors(name, block.convolution, block.convolution.weight)
        fraction = fraction_of(after.format)
        unit = flow.scale * tensors[f"{name}.scale"].astype(np.float64)
        alive = _alive(block.activation, name=name)
        numbers = _folded(block.norm, unit=unit, target=after.scale / 2**fraction, alive=alive, name=name)
        tensors |= {f"{name}.{part}": values for part, values in numbers._asdict().items()}
        if after.edges is not None:
            thresholds = np.rint(after.edges * 2**fraction).astype(np.int64)
        else:
            thresholds = np.array(after.format.boundaries, dtype=np.int64) << fraction >> 1
        tensors[f"{name}.thresholds"] = thresholds
        entries.append(_entry(name, source, block.convolution, after))
        source = name
        shape = _map_shape(block.convolution, shape)
        flow = after
    classifier, name = model.classifier, "classifier"
    kernel = classifier.weight.reshape(-1, *shape)
    tensors |= _weight_tensors(name, classifier, kernel)
    if tensors[f"{name}.scale"].ndim:
        raise RefusedError(f"{name}: must have one scale for all weights, so its scheme must not be dmbq")
    logit_scale = flow.scale * float(tensors[f"{name}.scale"])
    bias = np.rint(_float64(classifier.bias) / logit_scale).astype(np.int64)
    plain = Requantization(np.ones_like(bias), bias, np.zeros_like(bias))
    tensors |= {f"{name}.{part}": values for part, values in plain._asdict().items()}
    entries.append(_entry(name, source, classifier, None))
    header = {
        "kind": KIND,
        "version": VERSION,
        "input_shape": list(model.input_shape),
        "input_format": IMAGE_FORMAT.name,
        "input_scale": [IMAGE_SCALE] * model.input_shape[0],
        "input_offset": [0.0] * model.input_shape[0],
        "border": 0,
        "fill": [],
        "logit_scale": logit_scale,
        "nodes": entries,
    }
    return Interchange(header=header, tensors=tensors)


def activations(quantizer: nn.Module) -> Activations:
    """Format and scale of what an activation quantizer puts out."""
    assert isinstance(quantizer, Quantizer)
    # The scale is learned, whatever the values; the model computes with its float32.
    scale, edges = quantizer.scale(torch.zeros(())), quantizer.edges()
    return Activations(quantizer.format, float(np.float32(scale)), None if edges is None else _float64(edges))


def _weight_tensors(name: str, layer: QuantizedConv2d | QuantizedLinear, shaped: Tensor) -> Tensors:
    """The fake-quantized weights in the kernel's shape, and their scale, or those of their channels."""
    quantizer = layer.quantizer
    assert quantizer is not None
    weight = quantizer(layer.weight).reshape(shaped.shape)
    bits = {f"{name}.bits": quantizer.bits.numpy()} if isinstance(quantizer, MixedQuantizer) else {}
    return bits | {
        f"{name}.weight": np.ascontiguousarray(weight.float().numpy()),
        f"{name}.scale": _scales(quantizer.scale(layer.weight)),
    }


def _scales(scale: float | Tensor) -> NDArray[np.float32]:
    values = scale.reshape(-1).numpy() if isinstance(scale, Tensor) else scale
    return np.array(values, dtype=np.float32)


def _alive(quantizer: nn.Module, *, name: str) -> NDArray[np.float64]:
    """For each channel of activations, or for all, 1 if it has bits and 0 if it is pruned.

    Raises
    ------
    RefusedError
        If channels have different bits: a layer's outputs are all encoded alike.
    """
    if not isinstance(quantizer, MixedActivation):
        return np.ones(1)
    widths = [bits for bits in quantizer.bits.unique().tolist() if bits]
    if len(widths) > 1:
        raise RefusedError(
            f"{name}: activations must have the same bits in all channels, or none, to be exported, not "
            f"{', '.join(map(str, widths))} (train with the activations' --bits as their --average-bits)"
        )
    return (quantizer.bits > 0).double().numpy()


def _folded(
    norm: nn.BatchNorm2d,
    *,
    unit: NDArray[np.float64],
    target: float,
    alive: NDArray[np.float64],
    name: str,
) -> Requantization:
    """Batch normalization of accumulators that count `unit`, as integers that count `target`."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = _float64(norm.weight) / np.sqrt(_float64(norm.running_var) + norm.eps)
    offset = _float64(norm.bias) - _float64(norm.running_mean) * gain
    return requantization(alive * gain * unit / target, alive * offset / target, name=name)


def _entry(
    name: str, source: str, layer: QuantizedConv2d | QuantizedLinear, after: Activations | None
) -> Header:
    assert layer.quantizer is not None
    stride, padding = (
        (layer.stride[0], int(layer.padding[0])) if isinstance(layer, QuantizedConv2d) else (1, 0)
    )
    encodings = [] if after is None else [_encoding(name, after)]
    return {
        "op": "convolution",
        "name": name,
        "source": source,
        "encodings": encodings,
        "values": None,
        "rectified": False,
        "residual": None,
        "weight_format": layer.quantizer.format.name,
        "stride": stride,
        "padding": padding,
        "groups": 1,
    }


def _encoding(name: str, after: Activations) -> Header:
    return {"tensor": name, "format": after.format.name, "scale": after.scale, "zero": 0}


def _map_shape(convolution: nn.Conv2d, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    _, height, width = shape
    kernel, stride, padding = convolution.kernel_size[0], convolution.stride[0], int(convolution.padding[0])
    height, width = ((size + 2 * padding - kernel) // stride + 1 for size in (height, width))
    return convolution.out_channels, height, width


def _float64(values: Tensor) -> NDArray[np.float64]:
    return values.detach().double().numpy()

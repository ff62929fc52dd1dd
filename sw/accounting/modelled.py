"""The accounting of any torch model, trained or not: formats and bits are those of its quantizers."""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from torch import nn

from hdl.formats import Format

from ..architectures import Layer
from ..layers import Quantized
from ..models import IMAGE_FORMAT, Network
from ..models.shapes import architecture_of
from ..quantizers import MixedQuantizer, Quantizer
from .fixops import BINARY_OPERATIONS, REAL, UNIFORM
from .sizes import REAL_BITS
from .usage import CHANNEL_BITS, LayerUsage, counted_bits, layer_usage, whole_bytes


class Numbers(NamedTuple):
    """What the weights of a layer are, or its input.

    Members
    -------
    format : Format or None
        None for real numbers, and for channels of different bits.
    bits : sequence of Fraction or None
        Of each channel that has bits of its own; None otherwise.
    """

    format: Format | None
    bits: Sequence[Fraction] | None

    @property
    def real(self) -> bool:
        return self.format is None and self.bits is None

    def each(self, channels: int) -> Sequence[Fraction]:
        """Counted bits, channel by channel."""
        if self.bits is not None:
            return self.bits
        assert self.format is not None
        return [Fraction(counted_bits(self.format))] * channels

    def __str__(self) -> str:
        if self.format is not None:
            return self.format.name
        return f"real {REAL_BITS} bits" if self.bits is None else f"mixed {float(_mean(self.bits)):.2f} bits"


def model_usage(
    model: nn.Module,
    *,
    input_shape: tuple[int, int, int],
    averages: tuple[float, float] | None = None,
) -> list[LayerUsage]:
    """What each layer costs, in the order of their calls.

    A multiply-accumulate of a real number counts 1.  Where channels have bits of their own, one of w and a
    bits counts ``w·a/64``.

    Parameters
    ----------
    model
        Float or quantized, of square convolutions over square maps, with one linear layer at the end.
    input_shape
        Channels, height, width of an image.
    averages
        Bits of a weight and of an activation to count wherever an allocation is still to take some; None for
        those that there are.

    Raises
    ------
    RefusedError
        If the model is not of this kind.
    """
    layers = architecture_of(model, name="", input_shape=input_shape).layers
    inputs = _inputs(model)
    weight_bits, activation_bits = averages or (None, None)
    usages = []
    for layer in layers:
        module = model.get_submodule(layer.name)
        quantizer = module.quantizer if isinstance(module, Quantized) else None
        weight = _numbers(quantizer, weight_bits)
        activation = _numbers(inputs.get(layer.name), activation_bits)
        if layer is layers[0] and activation.real and not weight.real:
            activation = Numbers(IMAGE_FORMAT, None)
        usages.append(_usage(layer, weight, activation))
    return usages


def _inputs(model: nn.Module) -> dict[str, Quantizer]:
    """What rounds the input of each layer, by the layer's name."""
    found: dict[str, nn.Module | None] = {
        name: module.input_quantizer
        for name, module in model.named_modules()
        if isinstance(module, Quantized)
    }
    if isinstance(model, Network):
        names = [*(f"blocks.{index}.convolution" for index in range(1, len(model.blocks))), "classifier"]
        found |= dict(zip(names, (block.activation for block in model.chain()), strict=True))
    return {name: quantizer for name, quantizer in found.items() if isinstance(quantizer, Quantizer)}


def _numbers(quantizer: Quantizer | None, average: float | None) -> Numbers:
    if isinstance(quantizer, MixedQuantizer):
        own = [Fraction(bits) for bits in quantizer.bits.tolist()]
        return Numbers(None, own if average is None else [Fraction(str(average))] * len(own))
    return Numbers(None if quantizer is None else quantizer.format, None)


def _usage(layer: Layer, weight: Numbers, activation: Numbers) -> LayerUsage:
    if weight.format is not None and activation.format is not None:
        return layer_usage(
            layer.name,
            weight.format,
            activation.format,
            weights=layer.weights,
            macs=layer.macs,
            outputs=layer.outputs,
        )
    real = weight.real or activation.real
    cost = Fraction(1) if real else _products(layer, weight, activation) / BINARY_OPERATIONS
    return LayerUsage(
        name=layer.name,
        weight_format=str(weight),
        input_format=str(activation),
        weights=layer.weights,
        macs=layer.macs,
        formula=REAL.formula if real else UNIFORM.formula,
        fixops=layer.macs * cost,
        text_fixops=layer.macs * cost,
        weight_bytes=whole_bytes(layer.weights * _stored_bits(weight)),
        channel_bytes=whole_bytes(layer.outputs * CHANNEL_BITS),
        lookup_bytes=0,
    )


def _products(layer: Layer, weight: Numbers, activation: Numbers) -> Fraction:
    """Mean of w·a over the multiply-accumulates: within a group each output channel meets each input one."""
    sides = (weight.each(layer.outputs), activation.each(layer.inputs))
    means = [[_mean(part) for part in _parts(side, layer.groups)] for side in sides]
    return _mean([w * a for w, a in zip(*means, strict=True)])


def _stored_bits(weight: Numbers) -> Fraction:
    """Bits of a weight's code, on average."""
    if weight.bits is not None:
        return _mean(weight.bits)
    return Fraction(REAL_BITS if weight.format is None else weight.format.code_width)


def _parts(values: Sequence[Fraction], count: int) -> list[Sequence[Fraction]]:
    size = len(values) // count
    return [values[index * size : (index + 1) * size] for index in range(count)]


def _mean(values: Sequence[Fraction]) -> Fraction:
    return sum(values, Fraction()) / len(values)

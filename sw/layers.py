"""Convolutions and linear layers whose weights and input pass a quantizer."""

from typing import Any

from torch import Tensor, nn

from .quantizers import Quantizer
from .schemes import FLOAT, LayerPrecision

# Kinds of layers with weights, which must not be passed over in silence.
WEIGHTED = (
    nn.Linear, nn.Bilinear, nn.Conv1d, nn.Conv2d, nn.Conv3d,
    nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip


class Quantized(nn.Module):
    """What both kinds of layers share.

    The state of a float layer loads into a quantized one: quantizers it says nothing of stay as they are.

    Members
    -------
    quantizer : Quantizer or None
        Of the weights; None leaves them real.
    input_quantizer : Quantizer or None
        Of the input; None leaves it as it comes.
    precision : LayerPrecision
        What the quantizers were made for.
    signed_input : bool
        Whether they were made for an input that may be negative.
    """

    weight: Tensor
    quantizer: Quantizer | None
    input_quantizer: Quantizer | None
    precision = LayerPrecision(scheme=FLOAT)
    signed_input = False

    def quantized_weight(self) -> Tensor:
        """The weights that the layer computes with."""
        return self.weight if self.quantizer is None else self.quantizer(self.weight)

    def quantized_input(self, values: Tensor) -> Tensor:
        """The input that the layer computes with."""
        return values if self.input_quantizer is None else self.input_quantizer(values)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("quantizer", "input_quantizer"):
            start, quantizer = f"{prefix}{name}.", getattr(self, name)
            if quantizer is not None and not any(key.startswith(start) for key in state_dict):
                state_dict.update({start + key: value for key, value in quantizer.state_dict().items()})
        super()._load_from_state_dict(state_dict, prefix, *rest)


class QuantizedConv2d(Quantized, nn.Conv2d):
    """A convolution whose weights pass a quantizer, if it has one; without bias unless made from another."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        padding: int = 1,
        quantizer: Quantizer | None,
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)
        self.quantizer, self.input_quantizer = quantizer, None

    def forward(self, values: Tensor) -> Tensor:
        return self._conv_forward(self.quantized_input(values), self.quantized_weight(), self.bias)


class QuantizedLinear(Quantized, nn.Linear):
    """A linear layer whose weights pass a quantizer, if it has one; the bias stays real."""

    def __init__(self, inputs: int, outputs: int, *, quantizer: Quantizer | None) -> None:
        super().__init__(inputs, outputs)
        self.quantizer, self.input_quantizer = quantizer, None

    def forward(self, values: Tensor) -> Tensor:
        return nn.functional.linear(self.quantized_input(values), self.quantized_weight(), self.bias)

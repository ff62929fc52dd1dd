"""Every scheme by name: which quantizers the weights and the input of a layer get."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from hdl.formats import Format

from ..schemes import FLOAT, REAL, LayerPrecision
from .absmax import AbsMaxWeight
from .base import Quantizer
from .dmbq import DMBQWeight
from .lcq import LCQActivation, LCQWeight
from .lloyd import LloydWeight
from .lsq import LSQActivation, LSQWeight
from .rcf import RCFActivation, RCFWeight

INITIAL_CLIP = 6.0


class RCFSignedActivation(RCFWeight):
    """Activations of both signs, clipped at a learned ±α; see `RCFActivation`."""

    def __init__(self, fmt: Format) -> None:
        super().__init__(fmt, alpha=INITIAL_CLIP, masked=True)

    def prepared(self, values: Tensor) -> Tensor:
        return values


class LSQSignedActivation(LSQWeight):
    """Activations of both signs, rounded to multiples of a learned step; see `LSQActivation`."""

    def features(self, values: Tensor) -> int:
        return values[:1].numel() if values.dim() else 1


class LCQSignedActivation(LCQActivation):
    """Activations of both signs, companded alike on either side; see `LCQActivation`."""

    signed = True


class Scheme(NamedTuple):
    """Makers of a scheme's quantizers, from a format, or from the bits where levels are learned.

    Members
    -------
    weight : callable
        For weights.
    activation : callable
        For activations that are never negative, which is what the hardware takes.
    signed_activation : callable
        For activations of both signs, which networks like MobileNetV2 have.
    """

    weight: Callable[[Any], Quantizer]
    activation: Callable[[Any], Quantizer] = RCFActivation
    signed_activation: Callable[[Any], Quantizer] = RCFSignedActivation


CATALOG = {
    "uniform": Scheme(RCFWeight),
    "pot": Scheme(RCFWeight),
    "apot": Scheme(RCFWeight),
    "lsq": Scheme(LSQWeight, LSQActivation, LSQSignedActivation),
    "dmbq": Scheme(DMBQWeight),
    "dmbq_gauss": Scheme(lambda fmt: DMBQWeight(fmt, family="gauss")),
    "lloyd": Scheme(lambda bits: LloydWeight(bits=bits)),
    "absmax": Scheme(lambda fmt: AbsMaxWeight(bits=fmt.bits)),
    "lcq": Scheme(
        lambda bits: LCQWeight(bits=bits),
        lambda bits: LCQActivation(bits=bits),
        lambda bits: LCQSignedActivation(bits=bits),
    ),
}


def weight_quantizer(layer: LayerPrecision) -> Quantizer | None:
    """A new quantizer of a layer's weights, None if they stay real."""
    if layer.scheme == FLOAT or layer.weight_bits == REAL:
        return None
    fmt, _ = layer.formats()
    return CATALOG[layer.scheme].weight(layer.weight_bits if fmt is None else fmt)


def activation_quantizer(layer: LayerPrecision, *, signed: bool = False) -> Quantizer | None:
    """A new quantizer of a layer's input, None if it stays real.

    Parameters
    ----------
    signed
        Whether the input may be negative.

    Raises
    ------
    ValueError
        If the scheme has no format of that width with a sign.
    """
    if layer.scheme == FLOAT or layer.activation_bits == REAL:
        return None
    _, fmt = layer.formats(signed=signed)
    scheme = CATALOG[layer.scheme]
    make = scheme.signed_activation if signed else scheme.activation
    return make(layer.activation_bits if fmt is None else fmt)

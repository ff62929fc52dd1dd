"""Any torch model, quantized in place: ``quantize(model, Recipe(scheme="apot", weight_bits=4))``."""

from fnmatch import fnmatchcase
from typing import NamedTuple, TypeVar

from torch import nn

from hdl.console import RefusedError

from .layers import WEIGHTED, Quantized, QuantizedConv2d, QuantizedLinear
from .precision import Precision
from .quantizers import Quantizer
from .quantizers.catalog import activation_quantizer, weight_quantizer
from .recipe import Recipe
from .schemes import LayerPrecision
from .tracing import calls

Model = TypeVar("Model", bound=nn.Module)

# The quantized form of each kind of layer.
FORMS: dict[type[nn.Module], type[Quantized]] = {nn.Conv2d: QuantizedConv2d, nn.Linear: QuantizedLinear}


class Plan(NamedTuple):
    """What one layer is to get.

    Members
    -------
    precision : LayerPrecision
    signed : bool
        Whether its input may be negative.
    quantizer, input_quantizer : Quantizer or None
        New ones.
    """

    precision: LayerPrecision
    signed: bool
    quantizer: Quantizer | None
    input_quantizer: Quantizer | None


def quantize(model: Model, recipe: Recipe | Precision) -> Model:
    """Give a model's convolutions and linear layers quantizers for their weights and their input.

    The layers stay the objects they are, with the weights they have, and change their class to
    `QuantizedConv2d` or `QuantizedLinear`; everything else in the model, and the names in its state, stay.
    The state of the float model still loads.  Of a model that is quantized already, layers get the
    quantizers of the new precision, which take over clipping values and curves; steps, which belong to a
    number of bits, are measured anew by the next batch.  So progressive initialization is::

        for stage in recipe.stages:
            quantize(model, stage)
            ...  # train

    Layers are called as torch.fx finds by following the forward pass: the first and the last one have 8-bit
    integers, and an input that may be negative gets a quantizer with a sign.  A model that cannot be
    followed needs both in its recipe, as `outer` and `signed`.

    Parameters
    ----------
    model
        Any model made of `nn.Conv2d` and `nn.Linear`.
    recipe
        What it is to become; of a `Recipe`, the precision aimed at.

    Returns
    -------
    Module
        The same model.

    Raises
    ------
    RefusedError
        If the model has no such layer, calls their functions itself, or cannot be followed; if the recipe
        names a layer that is not there, or gives one a width that its scheme does not have; or if a layer
        to be quantized is of another kind.  The model is then as it was.
    """
    precision = recipe.precision if isinstance(recipe, Recipe) else recipe
    layers = weighted_layers(model)
    if not layers:
        raise RefusedError("model must have a layer to quantize, a torch.nn.Conv2d or torch.nn.Linear")
    precision.check_names(layers)
    _check_quantizers(model)
    for name, plan in _plans(model, layers, precision).items():
        _apply(layers[name], plan)
    return model


def weighted_layers(model: nn.Module) -> dict[str, nn.Module]:
    """A model's convolutions and linear layers of any kind, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, WEIGHTED)}


def _check_quantizers(model: nn.Module) -> None:
    """Refuse a model that quantizes between its layers: what is swapped here would come on top."""
    inside = {part for layer in model.modules() if isinstance(layer, Quantized) for part in layer.modules()}
    for name, module in model.named_modules():
        if isinstance(module, Quantizer) and module not in inside:
            raise RefusedError(f"model must not have quantizers beside its layers, like {name}")


def _plans(model: nn.Module, layers: dict[str, nn.Module], precision: Precision) -> dict[str, Plan]:
    if not precision.quantized:
        return {name: _plan(name, layer, precision.layer(name), False) for name, layer in layers.items()}
    outer, signed = precision.outer, precision.signed
    if outer is None or signed is None:
        found = calls(model)
        if not found.order:
            raise RefusedError("model must call its layers in its forward pass")
        outer = tuple(dict.fromkeys((found.order[0], found.order[-1]))) if outer is None else outer
        signed = tuple(found.signed) if signed is None else signed
    image = outer[0] if outer else None
    return {
        name: _plan(
            name,
            layer,
            precision.layer(name, outer=outer, image=image),
            any(fnmatchcase(name, pattern) for pattern in signed),
        )
        for name, layer in layers.items()
    }


def _plan(name: str, layer: nn.Module, precision: LayerPrecision, signed: bool) -> Plan:
    try:
        quantizer = weight_quantizer(precision)
        input_quantizer = activation_quantizer(precision, signed=signed)
    except ValueError as error:
        raise RefusedError(f"layer {name}: {error}") from error
    quantized = quantizer is not None or input_quantizer is not None
    if quantized and type(layer) not in FORMS and not isinstance(layer, Quantized):
        raise RefusedError(
            f"layer {name} must be a torch.nn.Conv2d or torch.nn.Linear itself, not {type(layer).__name__} "
            "(or be left in float by a rule)"
        )
    return Plan(precision, signed, quantizer, input_quantizer)


def _apply(layer: nn.Module, plan: Plan) -> None:
    if not isinstance(layer, Quantized):
        if plan.quantizer is None and plan.input_quantizer is None:
            return
        layer.__class__ = FORMS[type(layer)]
        assert isinstance(layer, Quantized)
        layer.quantizer = layer.input_quantizer = None
    before, after = layer.precision, plan.precision
    same = before.scheme == after.scheme
    if not (same and before.weight_bits == after.weight_bits):
        layer.quantizer = _succeeding(layer, layer.quantizer, plan.quantizer)
    same = same and layer.signed_input == plan.signed
    if not (same and before.activation_bits == after.activation_bits):
        layer.input_quantizer = _succeeding(layer, layer.input_quantizer, plan.input_quantizer)
    layer.precision, layer.signed_input = after, plan.signed


def _succeeding(layer: Quantized, old: Quantizer | None, new: Quantizer | None) -> Quantizer | None:
    """The new quantizer, with the learned parameters, by name, that do not belong to a number of bits."""
    if new is None:
        return None
    learned = dict(old.named_parameters()) if old is not None else {}
    for name, parameter in new.named_parameters():
        if name != "step" and name in learned and learned[name].shape == parameter.shape:
            parameter.data = learned[name].detach().clone()
    return new.to(device=layer.weight.device, dtype=layer.weight.dtype).train(layer.training)

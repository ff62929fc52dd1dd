"""The walk over a model's calls, from the image to the result."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from hdl.console import RefusedError
from hdl.formats import Format, Uniform

from ..interchange import Interchange
from ..layers import WEIGHTED, QuantizedConv2d, QuantizedLinear
from ..models.chain import Network
from ..models.pixels import IMAGE_FORMAT
from . import layers, operations
from .bounds import Bound
from .builder import Builder
from .calls import CALLS, IN_PLACE
from .emission import Lowering, emitted
from .tracing import described, traced
from .values import Shape, Value


class _Other:
    """What is no value, like a shape."""


def interchange(
    model: nn.Module,
    input_shape: Shape | None = None,
    *,
    image_format: Format = IMAGE_FORMAT,
    level_width: int | None = None,
) -> Interchange:
    """The interchange contents of a quantized model; see `lower`."""
    return lower(model, input_shape, image_format=image_format, level_width=level_width).content


@torch.no_grad()
def lower(
    model: nn.Module,
    input_shape: Shape | None = None,
    *,
    image_format: Format = IMAGE_FORMAT,
    level_width: int | None = None,
) -> Lowering:
    """Follow a quantized model, as it computes in evaluation mode, and write it as a graph of integers.

    Parameters
    ----------
    model
        What `sw.quantize.quantize` returned, or a `Network`; on the CPU.
    input_shape
        Channels, height, width of an image; a `Network` knows its own.
    image_format
        A uniform format, with a sign or not, whose levels are what the model takes.  If its first layer
        quantizes what it takes, an image is the levels of that quantizer instead.
    level_width
        Bits of an activation level, if channels of different bits are not to need more: those that would are
        tensors of their own, and the layer that reads them adds up sums with multipliers of their own.  None
        for one tensor with as many as it needs.

    Raises
    ------
    RefusedError
        If the model is a float one, cannot be followed, has a layer that stays in float or an operation
        that the accelerator does not have, or a channel's constants do not fit the hardware's widths.
    """
    if not any(isinstance(module, QuantizedConv2d | QuantizedLinear) for module in model.modules()):
        raise RefusedError("model must be quantized, not float (train with another --scheme)")
    if isinstance(model, Network):
        if not model.precision.quantized:
            raise RefusedError("model must be quantized, not float (train with another --scheme)")
        input_shape = model.input_shape
    if not isinstance(image_format, Uniform):
        raise RefusedError(f"image_format must be a uniform format, not {image_format.name!r}")
    if input_shape is None:
        raise RefusedError("input_shape must be given: the model does not know its images' shape")
    device = next(model.parameters()).device
    if device.type != "cpu":
        raise RefusedError(f"model must be on the CPU, not on {device}")
    training = model.training
    model.eval()
    try:
        walk = _Walk(model, input_shape, image_format, level_width)
        return emitted(walk.builder, walk.run(), input_shape)
    finally:
        model.train(training)


class _Walk:
    """One pass over the calls."""

    def __init__(
        self, model: nn.Module, input_shape: Shape, image_format: Format, level_width: int | None
    ) -> None:
        self.model = model
        parameter = next(model.parameters())
        self.builder = Builder(parameter.dtype, level_width=level_width)
        channels, largest = input_shape[0], max(-image_format.grid[0], image_format.max_level)
        self.image = Value(
            draft=None,
            shape=input_shape,
            gain=np.ones(channels),
            offset=np.zeros(channels),
            bound=Bound.certain(np.full(channels, float(largest))),
            format=image_format,
        )
        self._found: dict[fx.Node, Value | _Other] = {}

    def run(self) -> Value:
        """The result's value."""
        for node in traced(self.model).nodes:
            if node.op == "output":
                found = self._argument(node.args[0])
                if not isinstance(found, Value) or found.draft is None:
                    raise RefusedError("model must return one tensor that its layers compute")
                return found
            try:
                self._found[node] = self._called(node)
            except RefusedError as error:
                raise RefusedError(f"{described(node, self.model)}: {error}") from error
        raise RefusedError("model must return a tensor")

    def _argument(self, argument: Any) -> Any:
        if not isinstance(argument, fx.Node):
            return argument
        found = self._found[argument]
        return (
            replace(found, shared=found.shared or len(argument.users) > 1)
            if isinstance(found, Value)
            else found
        )

    def _called(self, node: fx.Node) -> Value | _Other:
        if node.op == "placeholder":
            if any(isinstance(each, Value) for each in self._found.values()):
                raise RefusedError("a model must have one input, the image")
            return self.image
        if not any(isinstance(self._found[each], Value) for each in node.all_input_nodes):
            return _Other()
        args = list(fx.map_arg(node.args, self._argument))
        self._check_in_place(node, args)
        if node.op == "call_module":
            return self._module(node, args)
        if node.target is getattr or node.target == "size":
            return _Other()
        if node.target not in CALLS:
            raise RefusedError(f"must be an operation that can be exported; {operations.SUPPORTED}")
        try:
            return CALLS[node.target](self.builder, node.name, *args, **self._options(node))
        except TypeError as error:
            raise RefusedError(f"must be called with other arguments ({error})") from error

    def _options(self, node: fx.Node) -> dict[str, Any]:
        return dict(fx.map_arg(node.kwargs, self._argument))

    def _module(self, node: fx.Node, args: list[Any]) -> Value:
        module, name = self.model.get_submodule(str(node.target)), str(node.target)
        (value,) = args
        if isinstance(module, QuantizedConv2d):
            return layers.convolution(self.builder, name, module, value)
        if isinstance(module, QuantizedLinear):
            return layers.linear(self.builder, name, module, value)
        if isinstance(module, WEIGHTED):
            raise RefusedError("must be quantized, not left in float")
        return operations.module_call(self.builder, node, module, value)

    def _check_in_place(self, node: fx.Node, args: list[Any]) -> None:
        """Refuse to change what others read too."""
        if node.op == "call_module":
            in_place = getattr(self.model.get_submodule(str(node.target)), "inplace", False)
        else:
            in_place = node.target in IN_PLACE or node.kwargs.get("inplace", False)
        if in_place and args[0].shared and args[0].draft is not None:
            raise RefusedError("must not be in place, since its input is used elsewhere too")

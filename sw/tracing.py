"""What a model's graph tells of its layers: the order of calls, and which inputs are never negative."""

import operator
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.nn import functional

from hdl.console import RefusedError

from .layers import WEIGHTED
from .quantizers import Quantizer

# Nothing below 0 comes out of these, whatever goes in.
_NONNEGATIVE_MODULES = (nn.ReLU, nn.Sigmoid, nn.Hardsigmoid, nn.Softmax, nn.Softplus)
_NONNEGATIVE_CALLS = {
    functional.relu, functional.relu6, functional.sigmoid, functional.hardsigmoid, functional.softmax,
    functional.softplus, torch.relu, torch.relu_, torch.sigmoid, torch.softmax, torch.abs, torch.exp,
    torch.square, "size", "relu", "relu_", "sigmoid", "softmax", "abs", "exp", "square",
}  # fmt: skip

# If nothing below 0 goes into these, nothing comes out.
_KEEPING_MODULES = (
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Flatten, nn.Unflatten,
    nn.Dropout, nn.Dropout2d, nn.Identity, nn.ZeroPad2d, nn.PixelShuffle,
)  # fmt: skip
_KEEPING_CALLS = {
    functional.max_pool2d, functional.avg_pool2d, functional.adaptive_avg_pool2d, functional.dropout,
    functional.adaptive_max_pool2d,
    torch.flatten, torch.cat, torch.add, torch.mul, torch.mean, torch.reshape, torch.permute, torch.transpose,
    torch.squeeze, torch.unsqueeze, torch.clone, torch.chunk, torch.split, torch.stack,
    operator.add, operator.iadd, operator.mul, operator.imul, operator.floordiv, operator.getitem,
    "add", "add_", "mul", "mul_", "mean", "sum", "flatten", "view", "reshape", "permute", "transpose",
    "squeeze", "unsqueeze", "contiguous", "clone", "chunk", "split", "detach",
}  # fmt: skip

# Of these, those that a negative constant may turn.
_ARITHMETIC = {
    torch.add, torch.mul, operator.add, operator.iadd, operator.mul, operator.imul,
    operator.floordiv, "add", "add_", "mul", "mul_",
}  # fmt: skip

_LAYER_CALLS: dict[Any, str] = {
    functional.conv1d: "conv1d",
    functional.conv2d: "conv2d",
    functional.conv3d: "conv3d",
    functional.conv_transpose2d: "conv_transpose2d",
    functional.linear: "linear",
    functional.bilinear: "bilinear",
}


class Calls(NamedTuple):
    """How a model calls its layers.

    Members
    -------
    order : tuple of str
        Names of convolutions and linear layers, as first called.
    signed : frozenset of str
        Those whose input is not known to stay at or above 0.
    """

    order: tuple[str, ...]
    signed: frozenset[str]


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (*WEIGHTED, Quantizer)) or super().is_leaf_module(m, module_qualified_name)


def calls(model: nn.Module) -> Calls:
    """Follow a model's forward pass symbolically.

    Raises
    ------
    RefusedError
        If it calls a convolution or linear function with weights of its own instead of a layer, whose
        weights would stay real, or cannot be followed because it depends on values.
    """
    try:
        graph = _Tracer().trace(model)
    except Exception as error:  # what a forward pass does with a symbol instead of a tensor is anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RefusedError(
            "model must have a forward pass that torch.fx can trace, or a recipe that names its outer and "
            f"signed layers ({reason})"
        ) from error
    modules = dict(model.named_modules())
    nonnegative: set[fx.Node] = set()
    order: dict[str, None] = {}
    signed: set[str] = set()
    for node in graph.nodes:
        if node.op == "call_function" and node.target in _LAYER_CALLS:
            raise RefusedError(
                f"model must call layers, not torch.nn.functional.{_LAYER_CALLS[node.target]} "
                f"(at {node.name} of the traced graph)"
            )
        below_zero = any(each not in nonnegative for each in node.all_input_nodes)
        if node.op == "call_module" and isinstance(modules[node.target], WEIGHTED):
            order[node.target] = None
            if below_zero:
                signed.add(node.target)
        elif _is_nonnegative(node, modules, kept=not below_zero):
            nonnegative.add(node)
    return Calls(tuple(order), frozenset(signed))


def _is_nonnegative(node: fx.Node, modules: dict[str, nn.Module], *, kept: bool) -> bool:
    """Whether a node's value is never negative; `kept` says it of its inputs."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        if isinstance(module, Quantizer):
            return not module.format.signed
        if isinstance(module, nn.Hardtanh):
            return bool(module.min_val >= 0)
        return isinstance(module, _NONNEGATIVE_MODULES) or (kept and isinstance(module, _KEEPING_MODULES))
    if node.op not in ("call_function", "call_method"):
        return False
    if node.target in _NONNEGATIVE_CALLS or (node.target is getattr and node.args[1] == "shape"):
        return True
    if node.target is functional.pad:
        return kept and len(node.args) < 4 and node.kwargs.get("value") is None
    constants = [each for each in (*node.args, *node.kwargs.values()) if isinstance(each, (int, float))]
    if node.target in _ARITHMETIC and any(each < 0 for each in constants):
        return False
    return kept and node.target in _KEEPING_CALLS

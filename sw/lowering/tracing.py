"""The calls of a model's forward pass, and how a refusal names one."""

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import fx, nn

from hdl.console import RefusedError

from ..layers import WEIGHTED
from ..models.pixels import Pixels
from ..models.resnet import Subsampling
from ..quantizers import Quantizer

_TRACING = (str(Path(torch.__file__).parent), __file__)

LEAVES = (*WEIGHTED, Quantizer, Pixels, Subsampling)


# Where in a node's meta data the line of the model's source stands that made it.
_LINE = "source line"


class _Tracer(fx.Tracer):
    def create_node(self, *arguments: Any, **options: Any) -> fx.Node:
        node = super().create_node(*arguments, **options)
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_code.co_filename.startswith(_TRACING):
            frame = frame.f_back
        # A call that none of the model's own lines makes, as in a Sequential, was made from this package.
        path = Path(__file__) if frame is None else Path(frame.f_code.co_filename)
        if frame is not None and path.parent != Path(__file__).parent:
            node.meta[_LINE] = f"{path.name} line {frame.f_lineno}"
        return node

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LEAVES) or super().is_leaf_module(m, module_qualified_name)


def traced(model: nn.Module) -> fx.Graph:
    """The calls in order.

    Raises
    ------
    RefusedError
        If the forward pass depends on values.
    """
    try:
        return _Tracer().trace(model)
    except Exception as error:  # what a forward pass does with a symbol instead of a tensor is anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RefusedError(f"model must have a forward pass that torch.fx can trace ({reason})") from error


def described(node: fx.Node, model: nn.Module) -> str:
    """The call's name, what it is, and where it was written."""
    if node.op == "call_module":
        what = type(model.get_submodule(str(node.target))).__name__
        name = str(node.target)
    else:
        what = str(getattr(node.target, "__name__", node.target))
        name = node.name
    return f"{name} ({what}, {node.meta[_LINE]})" if _LINE in node.meta else f"{name} ({what})"

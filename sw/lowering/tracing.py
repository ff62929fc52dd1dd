"""The calls of a model's forward pass, and how a refusal names one."""

import re

from torch import fx, nn

from hdl.console import RefusedError

from ..layers import WEIGHTED
from ..models.pixels import Pixels
from ..models.resnet import Subsampling
from ..quantizers import Quantizer

LEAVES = (*WEIGHTED, Quantizer, Pixels, Subsampling)


class _Tracer(fx.Tracer):
    def __init__(self) -> None:
        super().__init__()
        self.record_stack_traces = True

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
    places = re.findall(r'File "([^"]+)", line (\d+)', node.stack_trace or "")
    places = [(path, line) for path, line in places if "/torch/" not in path]
    where = f", {places[-1][0].rpartition('/')[2]} line {places[-1][1]}" if places else ""
    return f"{name} ({what}{where})"

"""The order of output channels: those of as many planes side by side, so that tiles share them."""

from collections import defaultdict
from dataclasses import replace

import numpy as np

from hdl.formats import named

from ..graph import IMAGE, Convolution, IntegerGraph, Integers, Node, Pooling
from .planes import channel_bases
from .shapes import written

Orders = dict[str, tuple[int, ...]]

_FIXED = ""
"""What tensors whose channels must stay where they are are tied to."""


def sorted_by_planes(graph: IntegerGraph, *, rows: int) -> tuple[IntegerGraph, Orders]:
    """The same graph with channels moved, so that tiles of so many rows take fewer planes together.

    Tensors that are added, pooled or convolved channel by channel have one order; the image's and the
    results' is given.  Of the orders that sort one of a tensor's writers, or all by their mean, the cheapest
    is taken.  Channels of most planes come first, so that a last tile that is not full has the fewest.

    Returns
    -------
    graph
    orders
        For each tensor whose channels were moved, the channel that was in each one's place before.
    """
    tied = _tied(graph)
    writers: dict[str, list[Convolution]] = defaultdict(list)
    for node in graph.nodes:
        if isinstance(node, Convolution) and node.groups == 1 and not node.is_result:
            writers[tied[written(node)[0]]].append(node)
    by_class = {each: _order(nodes, rows=rows) for each, nodes in writers.items() if each != tied[_FIXED]}
    orders = {tensor: by_class[each] for tensor, each in tied.items() if each in by_class}
    nodes = tuple(_moved(node, orders) for node in graph.nodes)
    return replace(graph, nodes=nodes), {tensor: tuple(order.tolist()) for tensor, order in orders.items()}


def _tied(graph: IntegerGraph) -> dict[str, str]:
    """For each tensor one that stands for all those that have its order of channels."""
    parents = {_FIXED: _FIXED, IMAGE: _FIXED}

    def root(tensor: str) -> str:
        while parents[tensor] != tensor:
            tensor = parents[tensor]
        return tensor

    for node in graph.nodes:
        outputs = list(written(node)) or [_FIXED]
        parents |= {tensor: tensor for tensor in outputs if tensor not in parents}
        beside = [node.residual] if node.residual is not None else []
        if isinstance(node, Pooling):
            beside += [node.source, *([_FIXED] if node.channels_before or node.channels_after else [])]
        if isinstance(node, Convolution) and node.groups > 1:
            beside.append(node.source)
        for tensor in (*outputs, *beside):
            parents[root(tensor)] = root(outputs[0])
    return {tensor: root(tensor) for tensor in parents}


def _order(writers: list[Convolution], *, rows: int) -> Integers:
    """The cheapest order for the layers that write tensors of one order."""
    planes = np.array([_planes(node) for node in writers])
    # Layers over one map: what a plane costs is as many products as a channel has.
    costs = np.array([node.weights[0].size for node in writers])
    keys = [np.zeros(planes.shape[1], dtype=np.int64), costs @ planes, *planes]
    orders = [np.argsort(-key, kind="stable") for key in keys]
    return min(orders, key=lambda order: _cost(planes[:, order], costs, rows=rows))


def _cost(planes: Integers, costs: Integers, *, rows: int) -> int:
    """Planes of all tiles, each as many as its channel of most has."""
    tiles = np.maximum.reduceat(planes, range(0, planes.shape[1], rows), axis=1)
    return int(costs @ tiles.sum(axis=1))


def _planes(node: Convolution) -> list[int]:
    bases = channel_bases(node.weights, node.multiplier, weight_format=named(node.weight_format))
    most = 2 + max((len(each) for each in bases if each is not None), default=0)
    return [most if each is None else len(each) for each in bases]


def _moved(node: Node, orders: dict[str, Integers]) -> Node:
    """The node that reads and writes tensors in their new order."""
    own = orders.get(written(node)[0]) if not node.is_result else None
    if own is not None:
        constants = {part: getattr(node, part)[own] for part in ("multiplier", "bias", "shift")}
        node = replace(node, **constants)
    if isinstance(node, Convolution):
        weights = node.weights if own is None else node.weights[own]
        if node.groups == 1 and node.source in orders:
            weights = weights[:, orders[node.source]]
        node = replace(node, weights=np.ascontiguousarray(weights))
    return node

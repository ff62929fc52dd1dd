"""The order of output channels: those of as many planes side by side, so that tiles share them."""

from dataclasses import replace

import numpy as np

from hdl.formats import named

from .graph import Convolution, IntegerGraph, Integers, Node
from .planes import channel_bases

Orders = dict[str, tuple[int, ...]]


def sorted_by_planes(graph: IntegerGraph) -> tuple[IntegerGraph, Orders]:
    """The same graph with output channels sorted where nobody but convolutions sees their order.

    Those of most planes come first, so that a last tile that is not full has the fewest.

    Returns
    -------
    graph
    orders
        For each tensor of codes whose channels were moved, the channel that was in each one's place before.
    """
    nodes, orders = list(graph.nodes), Orders()
    for index, node in enumerate(nodes):
        readers = [
            each for each, other in enumerate(nodes) if other.source in {one.tensor for one in node.encodings}
        ]
        if not isinstance(node, Convolution) or not _is_free(node, [nodes[each] for each in readers]):
            continue
        order = _order(node)
        nodes[index] = _moved(node, order)
        for reader in readers:
            other = nodes[reader]
            assert isinstance(other, Convolution)
            nodes[reader] = replace(other, weights=np.ascontiguousarray(other.weights[:, order]))
        orders |= {encoding.tensor: tuple(order.tolist()) for encoding in node.encodings}
    return replace(graph, nodes=tuple(nodes)), orders


def _is_free(node: Convolution, readers: list[Node]) -> bool:
    """Whether the order shows nowhere else: not in results, values, poolings or diagonals of weights."""
    if node.is_result or node.values is not None or node.residual is not None or node.groups > 1:
        return False
    return all(isinstance(reader, Convolution) and reader.groups == 1 for reader in readers)


def _order(node: Convolution) -> Integers:
    bases = channel_bases(node.weights, node.multiplier, weight_format=named(node.weight_format))
    most = 1 + max((len(each) for each in bases if each is not None), default=0)
    counts = np.array([most if each is None else len(each) for each in bases])
    return np.argsort(-counts, kind="stable")


def _moved(node: Convolution, order: Integers) -> Convolution:
    return replace(
        node,
        weights=np.ascontiguousarray(node.weights[order]),
        multiplier=node.multiplier[order],
        bias=node.bias[order],
        shift=node.shift[order],
    )

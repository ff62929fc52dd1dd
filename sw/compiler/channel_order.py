"""The order of channels: those of as many planes, and those that the same layers hear, side by side."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from hdl.formats import named
from hdl.parameters import AcceleratorParameters

from ..graph import IMAGE, Convolution, IntegerGraph, Integers, Node, Pooling
from .placement import silent_channels
from .planes import channel_bases, has_planes
from .shapes import tensor_shapes, written

Orders = dict[str, tuple[int, ...]]

_FIXED = ""
"""What tensors whose channels must stay where they are are tied to."""


def reordered(graph: IntegerGraph, *, parameters: AcceleratorParameters) -> tuple[IntegerGraph, Orders]:
    """The same graph with channels moved, so that tiles take fewer planes together, and readers fewer words.

    Tensors that are added, pooled or convolved channel by channel have one order; the image's and the
    results' is given.  Of some orders, see `_Channels.order`, each takes the one of the fewest steps.

    Returns
    -------
    graph
    orders
        For each tensor whose channels were moved, the channel that was in each one's place before.
    """
    tied = _tied(graph)
    classes = _classes(graph, tied, parameters=parameters)
    del classes[tied[_FIXED]]
    by_class = {
        name: channels.order(rows=parameters.rows, lanes=parameters.lanes)
        for name, channels in classes.items()
        if channels.differ
    }
    orders = {tensor: by_class[each] for tensor, each in tied.items() if each in by_class}
    nodes = tuple(_moved(node, orders) for node in graph.nodes)
    return replace(graph, nodes=nodes), {tensor: tuple(order.tolist()) for tensor, order in orders.items()}


@dataclass(kw_only=True)
class _Channels:
    """The channels of tensors of one order, and the layers on either side.

    Members
    -------
    planes : list of array
        What each layer that writes them needs for each channel.
    plane_steps : list of int
        Steps that a plane of a tile takes it, over the whole map.
    silent : list of array of bool
        Channels that are always 0, for each layer that reads them.
    word_steps : list of float
        Steps that a word takes it, over the whole map.
    """

    planes: list[Integers] = field(default_factory=list)
    plane_steps: list[int] = field(default_factory=list)
    silent: list[NDArray[np.bool_]] = field(default_factory=list)
    word_steps: list[float] = field(default_factory=list)

    @property
    def differ(self) -> bool:
        """Whether their order makes a difference."""
        return bool(self.planes) and any(len(np.unique(each)) > 1 for each in (*self.planes, *self.silent))

    def order(self, *, rows: int, lanes: int) -> Integers:
        """The order of the fewest steps, of those that sort one of the writers, all by their mean, or tiles.

        Channels of most planes come first, so that a last tile that is not full has the fewest; those that
        most readers need not hear go to the end, of all or of those of as many planes, and those that the
        same readers hear may stand side by side.
        """
        return min(self._orders(rows=rows), key=lambda order: self._steps(order, rows=rows, lanes=lanes))

    def _orders(self, *, rows: int) -> Iterator[Integers]:
        size = len(self.planes[0])
        means = np.array(self.plane_steps) @ np.array(self.planes)
        unheard = sum((each.astype(np.int64) for each in self.silent), np.zeros(size, dtype=np.int64))
        hearers = self._hearers()
        for key in (np.zeros(size, dtype=np.int64), means, *self.planes):
            yield np.argsort(-key, kind="stable")
            yield np.lexsort((unheard, -key))
            yield np.lexsort((-key, unheard))
            yield np.lexsort((-key, hearers, unheard))
        yield self._filled(unheard, rows=rows)

    def _hearers(self) -> Integers:
        """For each channel a number that those of the same readers share."""
        silent = np.array(self.silent, dtype=np.int64).reshape(len(self.silent), len(self.planes[0]))
        return np.unique(silent, axis=1, return_inverse=True)[1].reshape(-1)

    def _filled(self, unheard: Integers, *, rows: int) -> Integers:
        """Tile after tile, from the channel of most planes on, each with those that add the fewest to it."""
        planes, steps = np.array(self.planes), np.array(self.plane_steps)
        totals, order, left = steps @ planes, list[int](), np.arange(planes.shape[1])
        while len(left):
            tile = planes[:, left[totals[left].argmax()]]
            for _ in range(min(rows, len(left))):
                grown = np.maximum(tile[:, None], planes[:, left])
                # Of those that add as few, the one of most planes: none of the tiles that follow has it.
                best = np.lexsort((unheard[left], -totals[left], steps @ grown))[0]
                tile = grown[:, best]
                order.append(int(left[best]))
                left = np.delete(left, best)
        return np.array(order)

    def _steps(self, order: Integers, *, rows: int, lanes: int) -> float:
        total = 0.0
        for planes, steps in zip(self.planes, self.plane_steps, strict=True):
            # A tile's planes are as many as its channel of most has.
            total += steps * int(np.maximum.reduceat(planes[order], range(0, len(order), rows)).sum())
        for silent, each in zip(self.silent, self.word_steps, strict=True):
            heard = np.flatnonzero(~silent[order])
            total += each * (heard[-1] // lanes - heard[0] // lanes + 1 if len(heard) else 1)
        return total


def _classes(
    graph: IntegerGraph, tied: dict[str, str], *, parameters: AcceleratorParameters
) -> dict[str, _Channels]:
    """For each order that tensors have, the layers that write and read them."""
    classes: dict[str, _Channels] = defaultdict(_Channels, {tied[_FIXED]: _Channels()})
    shapes, silent, p = tensor_shapes(graph), {}, parameters
    for node in graph.nodes:
        for encoding in node.encodings:
            silent[encoding.tensor] = np.isin(
                np.arange(len(node.multiplier)), [*silent_channels(node, encoding)]
            )
        if not isinstance(node, Convolution) or node.groups > 1:
            continue
        _, height, width = shapes[node.name if node.is_result else written(node)[0]]
        _, inputs, *kernel = node.weights.shape
        steps, planes = height * width * int(np.prod(kernel)), np.array(_planes(node, p))
        for source in node.sources:
            if source not in silent:
                continue
            reader = classes[tied[source]]
            reader.silent.append(silent[source])
            reader.word_steps.append(steps * planes.sum() / p.rows)
        if not node.is_result:
            writer = classes[tied[written(node)[0]]]
            writer.planes.append(planes)
            writer.plane_steps.append(steps * -(-inputs // p.lanes))
    return classes


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
            beside += node.sources
        ties = [(tensor, outputs[0]) for tensor in (*outputs, *beside)]
        if isinstance(node, Convolution):
            ties += [(addend.tensor, node.source) for addend in node.addends]
        for tensor, other in ties:
            parents[root(tensor)] = root(other)
    return {tensor: root(tensor) for tensor in parents}


def _planes(node: Convolution, parameters: AcceleratorParameters) -> list[int]:
    """What each channel takes; those of an array that has no planes are alike."""
    if not has_planes(parameters.format):
        return [1] * len(node.weights)
    bases = channel_bases(node.weights, node.multipliers, weight_format=named(node.weight_format))
    most = 2 + max((len(each) for each in bases if each is not None), default=0)
    return [most if each is None else len(each) for each in bases]


def _moved(node: Node, orders: dict[str, Integers]) -> Node:
    """The node that reads and writes tensors in their new order."""
    own = orders.get(written(node)[0]) if not node.is_result else None
    if own is not None:
        constants = {part: getattr(node, part)[own] for part in ("multiplier", "bias", "shift")}
        node = replace(node, **constants)
    if isinstance(node, Convolution):
        weights, addends = node.weights, node.addends
        if own is not None:
            weights = weights[own]
            addends = tuple(replace(each, multiplier=each.multiplier[own]) for each in addends)
        if node.groups == 1 and node.source in orders:
            weights = weights[:, orders[node.source]]
        node = replace(node, weights=np.ascontiguousarray(weights), addends=addends)
    return node

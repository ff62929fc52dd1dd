"""Where every tensor lies in activation and values memory, and which of its forms a command makes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from hdl.console import RefusedError
from hdl.formats import Format, named
from hdl.parameters import AcceleratorParameters

from ..graph import IMAGE, Encoding, IntegerGraph, Node, Pooling
from .digits import activation_digits
from .live_ranges import Buffer, allocate, demand
from .shapes import Shape, last_readers, tensor_shapes

Digit = tuple[int, tuple[int, ...]]
"""Place of a digit, and the table that decodes it."""


@dataclass(frozen=True, kw_only=True)
class Codes:
    """A tensor in activation memory, from `base`: for each digit a pixel has `words` words.

    `order` tells the channel of the graph that lies in each one's place; empty if that is its own.  The
    `silent` channels are always 0.
    """

    base: int
    shape: Shape
    format: Format
    digits: tuple[Digit, ...]
    words: int
    order: tuple[int, ...] = ()
    silent: frozenset[int] = frozenset()

    @property
    def pitch(self) -> int:
        """Words of a pixel."""
        return self.words * len(self.digits)


@dataclass(frozen=True, kw_only=True)
class Values:
    """A tensor in values memory, from `base`: a pixel has `pitch` words; see `Codes` for `order`."""

    base: int
    shape: Shape
    pitch: int
    order: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where all tensors lie, by name, and the words that takes.

    Members
    -------
    shapes : dict
        Of all tensors, and of the result by the last node's name.
    codes, values : dict
        Where they lie; values also under `kept_values`.
    activation_words, value_words : int
        Words in use.
    live_activations, live_values : list of int
        Words that are needed while each node runs.
    """

    shapes: dict[str, Shape]
    codes: dict[str, Codes]
    values: dict[str, Values]
    activation_words: int
    value_words: int
    live_activations: list[int]
    live_values: list[int]


def silent_channels(node: Node, encoding: Encoding) -> frozenset[int]:
    """Channels whose codes are 0 whatever the node reads: those of multiplier 0, if their bias is small."""
    if node.residual is not None:
        return frozenset()
    still = (node.multiplier == 0) & (node.bias >> node.shift <= encoding.thresholds[0])
    return frozenset(np.flatnonzero(still).tolist())


def is_wide(encoding: Encoding, parameters: AcceleratorParameters) -> bool:
    """Whether a code takes several digits."""
    return named(encoding.format).code_width > parameters.code_width


def direct_encoding(node: Node, parameters: AcceleratorParameters) -> Encoding | None:
    """The encoding that is written with the node's y; the others are made of its values.

    Of rectified values, thresholds below 0 can no longer be told, so such an encoding goes first.
    """
    narrow = [encoding for encoding in node.encodings if not is_wide(encoding, parameters)]
    return min(narrow, key=lambda encoding: not _below_zero(node, encoding), default=None)


def later_encodings(node: Node, parameters: AcceleratorParameters) -> list[Encoding]:
    """The encodings that are made of the node's values, by commands of their own.

    Raises
    ------
    RefusedError
        If one of them has thresholds that rectified values do not reach.
    """
    direct = direct_encoding(node, parameters)
    later = [encoding for encoding in node.encodings if encoding is not direct]
    for encoding in later:
        if _below_zero(node, encoding):
            raise RefusedError(
                f"layer {node.name!r}: thresholds of {encoding.tensor!r} must not be negative, since they "
                f"are compared with rectified values"
            )
    return later


def _below_zero(node: Node, encoding: Encoding) -> bool:
    return node.rectified and encoding.thresholds[0] < 0


def kept_values(node: Node, parameters: AcceleratorParameters) -> str | None:
    """Name of the values that a node writes: its own, or those it keeps until they are encoded."""
    if node.values is None and later_encodings(node, parameters):
        return f"values of {node.name!r}"
    return node.values


def pixel_groups(node: Node, source: Shape, parameters: AcceleratorParameters) -> int:
    """Groups of outputs that a node writes for a pixel: whole tiles."""
    p = parameters
    groups = -(-len(node.multiplier) // p.rows) * p.groups
    if isinstance(node, Pooling):
        before = node.channels_before // p.requantizers
        groups = max(groups, before + -(-source[0] // p.rows) * p.groups)
    return groups


def place_tensors(
    graph: IntegerGraph,
    parameters: AcceleratorParameters,
    *,
    orders: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> Placement:
    """Give every tensor words that no other one uses while it is needed.

    Parameters
    ----------
    orders
        Of channels, by the tensor that has one of its own.

    Raises
    ------
    RefusedError
        If a tensor's format does not fit the array, or the tensors do not fit the memories.
    """
    return _Placer(graph, parameters, orders).run()


class _Placer:
    """Lists the tensors in order of execution, then allocates them."""

    def __init__(
        self, graph: IntegerGraph, parameters: AcceleratorParameters, orders: Mapping[str, tuple[int, ...]]
    ) -> None:
        self._graph = graph
        self._orders = orders
        self._p = parameters
        self._shapes = tensor_shapes(graph)
        self._last = last_readers(graph)
        self._codes: dict[str, Codes] = {}
        self._values: dict[str, Values] = {}
        self._code_buffers: dict[str, Buffer] = {}
        self._value_buffers: dict[str, Buffer] = {}

    def run(self) -> Placement:
        p, nodes = self._p, self._graph.nodes
        reader = next(node.name for node in nodes if node.source == IMAGE)
        words = -(-self._shapes[IMAGE][0] // p.lanes)
        self._add_codes(IMAGE, self._graph.input_format, node=reader, words=words, first=0)
        for index, node in enumerate(nodes):
            if node.is_result:
                continue
            groups = pixel_groups(node, self._shapes[node.source], p)
            for encoding in node.encodings:
                words = -(-groups // p.groups_per_word)
                self._add_codes(encoding.tensor, encoding.format, node=node.name, words=words, first=index)
                silent = silent_channels(node, encoding)
                self._codes[encoding.tensor] = replace(self._codes[encoding.tensor], silent=silent)
            self._add_values(node, index, groups=groups)
        names = [node.name for node in nodes]
        code_buffers = list(self._code_buffers.values())
        value_buffers = list({id(buffer): buffer for buffer in self._value_buffers.values()}.values())
        activation_words = allocate(
            code_buffers,
            nodes=names,
            what="activation memory",
            limit=p.activation_words,
            pinned=self._code_buffers[IMAGE],
        )
        value_words = allocate(value_buffers, nodes=names, what="values memory", limit=p.value_words)
        return Placement(
            shapes=self._shapes,
            codes={k: replace(v, base=self._code_buffers[k].base) for k, v in self._codes.items()},
            values={k: replace(v, base=self._value_buffers[k].base) for k, v in self._values.items()},
            activation_words=activation_words,
            value_words=value_words,
            live_activations=demand(code_buffers, nodes=len(nodes)),
            live_values=demand(value_buffers, nodes=len(nodes)),
        )

    def _add_codes(self, tensor: str, format_name: str, *, node: str, words: int, first: int) -> None:
        fmt, shape = named(format_name), self._shapes[tensor]
        widths = {"code_width": self._p.code_width, "activation_width": self._p.activation_width}
        try:
            digits = tuple(activation_digits(fmt, **widths))
        except ValueError as error:
            raise RefusedError(f"layer {node!r}: {error}") from error
        order = self._orders.get(tensor, ())
        codes = Codes(base=0, shape=shape, format=fmt, digits=digits, words=words, order=order)
        self._codes[tensor] = codes
        size = shape[1] * shape[2] * codes.pitch
        self._code_buffers[tensor] = Buffer(first=first, last=self._last.get(tensor, first), size=size)

    def _add_values(self, node: Node, index: int, *, groups: int) -> None:
        """Values written over a residual that nobody reads later take its words."""
        name = kept_values(node, self._p)
        if name is None:
            return
        shape, last = self._output(node), self._last.get(name, index)
        if node.residual is not None and self._last[node.residual] == index:
            buffer = self._value_buffers[node.residual]
            buffer.last = last
            self._values[name] = self._values[node.residual]
        else:
            buffer = Buffer(first=index, last=last, size=shape[1] * shape[2] * groups)
            order = self._orders.get(name, ())
            self._values[name] = Values(base=0, shape=shape, pitch=groups, order=order)
        self._value_buffers[name] = buffer

    def _output(self, node: Node) -> Shape:
        return self._shapes[node.encodings[0].tensor if node.encodings else str(node.values)]

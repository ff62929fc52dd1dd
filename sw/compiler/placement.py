"""Where every tensor lies in activation and values memory, and which of its forms a command makes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import lcm
from types import MappingProxyType

import numpy as np

from hdl.console import RefusedError
from hdl.formats import Format, named
from hdl.parameters import AcceleratorParameters

from ..graph import IMAGE, Convolution, Encoding, IntegerGraph, Node, Pooling
from .digits import activation_digits
from .live_ranges import Buffer, allocate, demand
from .shapes import Shape, last_readers, tensor_shapes

Digit = tuple[int, tuple[int, ...]]
"""Place of a digit, and the table that decodes it."""


@dataclass(frozen=True, kw_only=True)
class Codes:
    """A tensor in activation memory, from `base`: for each digit a pixel has `words` words.

    They are those from word `first` on; channels of others are always 0, and nobody reads them.  From pixel
    to pixel there are `pitch` words, of which others may belong to tensors that are read with it.  `order`
    tells the channel of the graph that lies in each one's place; empty if that is its own.  The `silent`
    channels are always 0.
    """

    base: int
    shape: Shape
    format: Format
    digits: tuple[Digit, ...]
    words: int
    pitch: int
    first: int = 0
    order: tuple[int, ...] = ()
    silent: frozenset[int] = frozenset()

    @property
    def pixel_words(self) -> int:
        """Words of a pixel that are the tensor's."""
        return self.words * len(self.digits)

    def tiles(self, *, rows: int, lanes: int) -> range:
        """Tiles of `rows` channels that are written."""
        last = min(self.shape[0], (self.first + self.words) * lanes)
        return range(self.first * lanes // rows, -(-last // rows))


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


def read_words(node: Convolution, silent: frozenset[int], *, lanes: int) -> range:
    """Words of a pixel that a convolution must read if these channels are always 0; at least one."""
    unheard = np.isin(np.arange(node.weights.shape[1]), [*silent])
    channels = np.flatnonzero(node.weights.any(axis=(0, 2, 3)) & ~unheard)
    return range(channels[0] // lanes, channels[-1] // lanes + 1) if len(channels) else range(1)


def _read_together(convolutions: Sequence[Convolution]) -> list[tuple[str, ...]]:
    """The sources of convolutions that read several, each once.

    Raises
    ------
    RefusedError
        If one of them is read together with others elsewhere.
    """
    found: dict[tuple[str, ...], str] = {}
    for node in convolutions:
        if node.addends:
            found.setdefault(node.sources, node.name)
    for sources, name in found.items():
        for others in found:
            if others != sources and {*others} & {*sources}:
                raise RefusedError(
                    f"layer {name!r}: its sources must be those of {found[others]!r}, of which it reads some"
                )
    return list(found)


def _each_once(buffers: Mapping[str, Buffer]) -> list[Buffer]:
    return list({id(buffer): buffer for buffer in buffers.values()}.values())


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
        self._convolutions = [node for node in graph.nodes if isinstance(node, Convolution)]
        self._together = _read_together(self._convolutions)
        self._codes: dict[str, Codes] = {}
        self._values: dict[str, Values] = {}
        self._code_buffers: dict[str, Buffer] = {}
        self._value_buffers: dict[str, Buffer] = {}

    def run(self) -> Placement:
        p, nodes = self._p, self._graph.nodes
        reader = next(node.name for node in nodes if node.source == IMAGE)
        words = -(-self._shapes[IMAGE][0] // p.lanes)
        self._add_codes(IMAGE, self._graph.input_format, node=reader, words=range(words), first=0)
        for index, node in enumerate(nodes):
            if node.is_result:
                continue
            groups = pixel_groups(node, self._shapes[node.source], p)
            for encoding in node.encodings:
                silent = silent_channels(node, encoding)
                stored = self._stored(node, encoding, silent, words=-(-groups // p.groups_per_word))
                self._add_codes(encoding.tensor, encoding.format, node=node.name, words=stored, first=index)
                self._codes[encoding.tensor] = replace(self._codes[encoding.tensor], silent=silent)
            self._add_values(node, index, groups=groups)
        self._interleave()
        names = [node.name for node in nodes]
        code_buffers, value_buffers = map(_each_once, (self._code_buffers, self._value_buffers))
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
            codes={k: replace(v, base=v.base + self._code_buffers[k].base) for k, v in self._codes.items()},
            values={k: replace(v, base=self._value_buffers[k].base) for k, v in self._values.items()},
            activation_words=activation_words,
            value_words=value_words,
            live_activations=demand(code_buffers, nodes=len(nodes)),
            live_values=demand(value_buffers, nodes=len(nodes)),
        )

    def _stored(self, node: Node, encoding: Encoding, silent: frozenset[int], *, words: int) -> range:
        """Words of a pixel that are stored: where a pooling writes nothing else, the tiles that are read."""
        p, readers = self._p, [each for each in self._convolutions if encoding.tensor in each.sources]
        alone = len(node.encodings) == 1 and node.values is None
        plain = isinstance(node, Pooling) and not node.channels_before and not node.channels_after
        if not (alone and plain and readers and all(each.groups == 1 for each in readers)):
            return range(words)
        reads = [read_words(each, silent, lanes=p.lanes) for each in readers]
        tile = lcm(p.rows, p.lanes) // p.lanes
        end = -(-max(each.stop for each in reads) // tile) * tile
        return range(min(each.start for each in reads) // tile * tile, min(end, words))

    def _add_codes(self, tensor: str, format_name: str, *, node: str, words: range, first: int) -> None:
        fmt, shape = named(format_name), self._shapes[tensor]
        widths = {"code_width": self._p.code_width, "activation_width": self._p.activation_width}
        try:
            digits = tuple(activation_digits(fmt, **widths))
        except ValueError as error:
            raise RefusedError(f"layer {node!r}: {error}") from error
        pitch = len(words) * len(digits)
        self._codes[tensor] = Codes(
            base=0,
            shape=shape,
            format=fmt,
            digits=digits,
            words=len(words),
            pitch=pitch,
            first=words.start,
            order=self._orders.get(tensor, ()),
        )
        size = shape[1] * shape[2] * pitch
        self._code_buffers[tensor] = Buffer(first=first, last=self._last.get(tensor, first), size=size)

    def _interleave(self) -> None:
        """Tensors that are read together lie side by side, pixel by pixel."""
        for tensors in self._together:
            pitch = sum(self._codes[tensor].pitch for tensor in tensors)
            buffers, base = [self._code_buffers[tensor] for tensor in tensors], 0
            shared = Buffer(
                first=min(each.first for each in buffers),
                last=max(each.last for each in buffers),
                size=sum(each.size for each in buffers),
            )
            for tensor in tensors:
                codes = self._codes[tensor]
                self._codes[tensor] = replace(codes, base=base, pitch=pitch)
                self._code_buffers[tensor] = shared
                base += codes.pitch

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

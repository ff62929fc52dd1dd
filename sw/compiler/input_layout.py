"""How a host lays images out in activation memory, so that the first convolution fills the lanes."""

from dataclasses import dataclass, replace

import numpy as np

from hdl.console import RefusedError
from hdl.formats import Uniform, named

from ..graph import IMAGE, Convolution, ImageRounding, IntegerGraph
from .shapes import Shape, output_shape


@dataclass(frozen=True, kw_only=True)
class InputLayout:
    """How a host lays an image out in activation memory.

    Values are counted from the lowest one.  The image gets a border of `padding` pixels that hold `fill`, and
    is unfolded into patches of `kernel` × `kernel` pixels (1 leaves it as it is), whose values become the
    channels of one pixel; each value is cut into digits of `digit_width` bits, and a pixel's words hold all
    channels' first digits, then all channels' second digits, and so on.

    Parameters
    ----------
    shape
        Channels, height, width of an image, without border.
    lowest, highest
        The least and the greatest value that an image may hold.
    kernel, stride, padding
        Of the patches.
    fill
        What the border holds, counted from the lowest value, one number a channel; empty for 0.
    digit_width, digits
    words
        Words of activation memory that an image takes.
    rounding
        What makes such values of that which the model takes; None if they are the same.
    """

    shape: Shape
    lowest: int
    highest: int
    kernel: int
    stride: int
    padding: int
    fill: tuple[int, ...]
    digit_width: int
    digits: int
    words: int
    rounding: ImageRounding | None = None


@dataclass(frozen=True, kw_only=True)
class Patches:
    """What the host does with an image before the engine sees it; see `InputLayout`."""

    kernel: int
    stride: int
    padding: int


def counted(graph: IntegerGraph) -> IntegerGraph:
    """The same network for images whose values are counted from the lowest level, if they have a sign.

    A sum of products is then too large by ``-lowest · Σ weights``, which the bias takes off exactly.  Padding
    inside the engine would be the lowest level instead of 0, so the host adds it; a kernel that another one's
    padding is too much for gets weights of 0 around it.

    Raises
    ------
    RefusedError
        If a layer would pad beyond a border that does not hold 0.
    """
    values = named(graph.input_format)
    if not values.signed:
        return graph
    lowest, readers = values.grid[0], [node for node in graph.nodes if node.source == IMAGE]
    padding = max(node.padding for node in readers if isinstance(node, Convolution))
    if padding and graph.border and any(graph.fill):
        raise RefusedError(
            f"layer {readers[0].name!r}: a signed image must not be padded beyond a border that holds "
            f"{graph.fill}"
        )
    border = graph.border + padding
    fill = tuple(level - lowest for level in graph.fill or [0] * graph.input_shape[0])
    return replace(
        graph,
        nodes=tuple(
            _counting(node, lowest, padding=padding)
            if isinstance(node, Convolution) and node.source == IMAGE
            else node
            for node in graph.nodes
        ),
        input_format=Uniform(bits=values.code_width, signed=False).name,
        border=border,
        fill=fill if border else (),
    )


def _counting(node: Convolution, lowest: int, *, padding: int) -> Convolution:
    """A reader of an image that is counted from its lowest level and padded already."""
    # Where this overflows, weights are no levels or sums of products do so too, which `check_sums` refuses.
    bias = node.bias + lowest * node.weights.sum(axis=(1, 2, 3)) * node.multiplier
    ring = (padding - node.padding,) * 2
    weights = np.pad(node.weights, ((0, 0), (0, 0), ring, ring))
    return replace(node, weights=weights, bias=bias, padding=0)


def unfolded(graph: IntegerGraph, *, lanes: int) -> tuple[IntegerGraph, Patches]:
    """The graph as the engine sees it, and what the host does before.

    The host adds the border.  Where that fills the lanes better, it also unfolds the image into patches, and
    the first layer becomes a convolution of 1 × 1 over them: an image has few channels, its patches have as
    many as the kernel has taps.
    """
    channels, height, width = graph.input_shape
    bordered = (channels, height + 2 * graph.border, width + 2 * graph.border)
    plain = replace(graph, input_shape=bordered, border=0, fill=())
    readers = [node for node in graph.nodes if node.source == IMAGE]
    first = readers[0]
    if len(readers) > 1 or not isinstance(first, Convolution) or not _fills_better(first, lanes=lanes):
        return plain, Patches(kernel=1, stride=1, padding=graph.border)
    if first.padding and graph.border:
        return plain, Patches(kernel=1, stride=1, padding=graph.border)
    shape = output_shape(first, bordered)
    outputs, inputs, length, _ = first.weights.shape
    flat = np.ascontiguousarray(first.weights.reshape(outputs, inputs * length * length, 1, 1))
    nodes = tuple(
        replace(first, weights=flat, stride=1, padding=0) if node is first else node for node in graph.nodes
    )
    patches = Patches(kernel=length, stride=first.stride, padding=first.padding + graph.border)
    return replace(plain, input_shape=(flat.shape[1], *shape[1:]), nodes=nodes), patches


def _fills_better(layer: Convolution, *, lanes: int) -> bool:
    """Whether patches need fewer words a pixel than the kernel's taps."""
    _, inputs, height, width = layer.weights.shape
    taps = height * width
    return layer.groups == 1 and height == width and -(-inputs * taps // lanes) < taps * -(-inputs // lanes)

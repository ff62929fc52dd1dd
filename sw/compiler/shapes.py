"""Shapes of a graph's tensors, and how long each is needed."""

from hdl.console import RefusedError

from ..graph import IMAGE, Convolution, IntegerGraph, Node, Pooling

Shape = tuple[int, int, int]
"""Channels, height, width."""


def tensor_shapes(graph: IntegerGraph) -> dict[str, Shape]:
    """Shape of every tensor by name, the image with its border, and of the result by the last node's name.

    Raises
    ------
    RefusedError
        If a kernel does not fit in its padded input.
    """
    channels, height, width = graph.input_shape
    shapes = {IMAGE: (channels, height + 2 * graph.border, width + 2 * graph.border)}
    for node in graph.nodes:
        shape = output_shape(node, shapes[node.source])
        shapes |= dict.fromkeys((*written(node), node.name) if node.is_result else written(node), shape)
    return shapes


def output_shape(node: Node, source: Shape) -> Shape:
    """Shape of what a node computes of a tensor.

    Raises
    ------
    RefusedError
        If the kernel does not fit in the padded input.
    """
    stride, padding = walk(node)
    height, width = (
        (size + 2 * padding - length) // stride + 1
        for size, length in zip(source[1:], kernel_of(node), strict=True)
    )
    if min(height, width) < 1:
        raise RefusedError(f"layer {node.name!r}: kernel must fit in the padded input")
    return len(node.multiplier), height, width


def kernel_of(node: Node) -> tuple[int, int]:
    """Height and width of a node's window."""
    if isinstance(node, Convolution):
        return node.weights.shape[2], node.weights.shape[3]
    assert isinstance(node, Pooling)
    return node.kernel


def walk(node: Node) -> tuple[int, int]:
    """Stride and padding of a node."""
    assert isinstance(node, Convolution | Pooling)
    return node.stride, node.padding


def written(node: Node) -> tuple[str, ...]:
    """Names of the tensors that a node writes."""
    codes = tuple(encoding.tensor for encoding in node.encodings)
    return codes if node.values is None else (*codes, node.values)


def read(node: Node) -> tuple[str, ...]:
    """Names of the tensors that a node reads."""
    sources = node.sources if isinstance(node, Convolution) else (node.source,)
    return sources if node.residual is None else (*sources, node.residual)


def last_readers(graph: IntegerGraph) -> dict[str, int]:
    """Index of the last node that reads each tensor."""
    return {tensor: index for index, node in enumerate(graph.nodes) for tensor in read(node)}

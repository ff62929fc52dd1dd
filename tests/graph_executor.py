"""The definition in `sw.graph`, word by word, in torch."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hdl.formats import named
from sw.graph import IMAGE, Convolution, IntegerGraph, Node, Pooling

LIMIT = 2**17


class Run(NamedTuple):
    """Codes of every tensor of codes, values of every tensor of values, and y of the last node."""

    codes: dict[str, Tensor]
    values: dict[str, Tensor]
    result: Tensor


def execute(graph: IntegerGraph, images: Tensor, *, given: Mapping[str, Tensor] | None = None) -> Run:
    """Run images; with `given` codes, every node reads these instead of those computed before it."""
    codes, values = {}, {}
    read = {IMAGE: bordered(graph, images.long())}
    for node in graph.nodes:
        y = scaled(node, accumulator(node, read, values))
        if node.residual is not None:
            y = y + values[node.residual]
        saturated = y.clamp(-LIMIT, LIMIT - 1)
        for each in node.encodings:
            codes[each.tensor] = sum((saturated > threshold).long() for threshold in each.thresholds)
            source = (given or codes).get(each.tensor, codes[each.tensor]).view(y.shape)
            read[each.tensor] = torch.tensor(named(each.format).levels)[source]
        if node.values is not None:
            values[node.values] = saturated.clamp(min=0) if node.rectified else saturated
    return Run(codes, values, y.flatten(1))


def bordered(graph: IntegerGraph, images: Tensor) -> Tensor:
    """Images as the host hands them over."""
    if not graph.border:
        return images
    count, channels, height, width = images.shape
    shape = (count, channels, height + 2 * graph.border, width + 2 * graph.border)
    fill = torch.tensor(graph.fill or [0] * channels).view(1, -1, 1, 1)
    around = fill.expand(shape).clone()
    around[:, :, graph.border : -graph.border, graph.border : -graph.border] = images
    return around


def accumulator(node: Node, read: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Tensor:
    if isinstance(node, Convolution):
        weights = torch.from_numpy(node.weights).double()
        walk = {"stride": node.stride, "padding": node.padding, "groups": node.groups}
        return functional.conv2d(read[node.source].double(), weights, **walk).long()
    assert isinstance(node, Pooling)
    source = values[node.source].double()
    if node.kind == "maximum":
        padded = functional.pad(source, (node.padding,) * 4, value=float("-inf"))
        pooled = functional.max_pool2d(padded, node.kernel, node.stride)
    else:
        area = node.kernel[0] * node.kernel[1]
        pooled = functional.avg_pool2d(source, node.kernel, node.stride, node.padding) * area
    channels = (0, 0, 0, 0, node.channels_before, node.channels_after)
    return functional.pad(pooled.round().long(), channels)


def scaled(node: Node, sums: Tensor) -> Tensor:
    multiplier, bias, shift = (
        torch.from_numpy(each).view(1, -1, 1, 1) for each in (node.multiplier, node.bias, node.shift)
    )
    return (sums * multiplier + bias) >> shift

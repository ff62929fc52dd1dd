"""The integer reference: a graph's exact arithmetic in torch, from levels alone.

It shares no code with the packer or the hardware: levels are computed here from the papers' formulas,
nodes are plain convolutions and windows over whole tensors, and there are no passes, tiles or codes of
weights.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from sw.graph import IMAGE, Convolution, IntegerGraph, Node, Pooling

EXACT_FLOAT = 2**53
VALUE_RANGE = (-(2**17), 2**17 - 1)
"""Values are saturated to these."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What a run computed.

    Members
    -------
    codes, values : dict
        Every tensor that a node wrote, by name, int64 (N, C, H, W).
    logits : Tensor
        The last node's results, int64 (N, classes).
    """

    codes: dict[str, Tensor]
    values: dict[str, Tensor]
    logits: Tensor


def unsigned_levels(name: str) -> Tensor:
    """Ascending levels of an unsigned format, from the closed form.

    ``uniform_bBu``: 0 … 2^B - 1.  ``pot_kKu`` and ``apot_kKnNu``: sums over i < N of zero or
    ``2^-(i + jN)``, j < 2^K - 1 (APoT eq. 5); ``apot_k2nNou``: the last exponent one larger, and one more
    term of zero or ``2^-2N`` (eq. 6); all divided by the smallest power.  ``companded_…u`` lists its levels,
    after the outer bits if those are not 8.
    """
    scheme, _, rest = name.rstrip("u").partition("_")
    if scheme == "uniform":
        return torch.arange(2 ** int(rest[1:]))
    if scheme == "companded":
        return torch.tensor([int(level) for level in rest.split("_") if not level.startswith("o")])
    k, _, n = rest[1:].partition("n")
    odd = n.endswith("o")
    count = int(n.rstrip("o") or 1)
    powers = 2 ** int(k) - 1
    terms = [
        [0.0, *(2.0 ** -(i + j * count + (odd and j == powers - 1)) for j in range(powers))]
        for i in range(count)
    ]
    if odd:
        terms.append([0.0, 2.0 ** -(2 * count)])
    sums = torch.tensor(sorted(sum(choice) for choice in product(*terms)), dtype=torch.float64)
    return (sums / sums[sums > 0].min()).to(torch.int64)


def run(graph: IntegerGraph, images: Tensor, *, given: Mapping[str, Tensor] | None = None) -> Trace:
    """Run images (N, C, H, W), whose integers are levels of the input format, through the graph.

    Parameters
    ----------
    given
        Codes that are read instead of the computed ones, by tensor: each node can so be compared with
        something that computes other codes before it.

    Returns
    -------
    Trace

    Raises
    ------
    OverflowError
        If a sum could leave the range in which the float64 convolution is exact, or a scaled one int64.
    ValueError
        If the last node is no result.
    """
    codes: dict[str, Tensor] = {}
    values: dict[str, Tensor] = {}
    levels = {IMAGE: _bordered(images.to(torch.int64), graph)}
    for node in graph.nodes:
        y = _scaled(node, levels if isinstance(node, Convolution) else values)
        if node.residual is not None:
            y = y + values[node.residual]
        if node.is_result:
            return Trace(codes=codes, values=values, logits=y.flatten(1))
        y = y.clamp(*VALUE_RANGE)
        for encoding in node.encodings:
            ranks = torch.bucketize(y.contiguous(), torch.tensor(encoding.thresholds), right=False)
            codes[encoding.tensor] = ranks
            read = (given or codes).get(encoding.tensor, ranks).view(y.shape)
            levels[encoding.tensor] = unsigned_levels(encoding.format)[read]
        if node.values is not None:
            values[node.values] = y.clamp(min=0) if node.rectified else y
    raise ValueError("graph must end with a node that writes no tensor")


def _bordered(images: Tensor, graph: IntegerGraph) -> Tensor:
    fill = torch.tensor(graph.fill or [0] * images.shape[1]).view(1, -1, 1, 1)
    return functional.pad(images - fill, [graph.border] * 4) + fill


def _scaled(node: Node, tensors: Mapping[str, Tensor]) -> Tensor:
    """``(Σ accumulator · multiplier + bias) >> shift``, in int64."""
    accumulators = {node.source: node.multiplier}
    if isinstance(node, Convolution):
        accumulators |= {addend.tensor: addend.multiplier for addend in node.addends}
    bias, shift = (torch.from_numpy(constants)[None, :, None, None] for constants in (node.bias, node.shift))
    total, largest = bias, int(abs(node.bias).max())
    for source, constants in accumulators.items():
        levels = tensors[source]
        accumulator = _convolved(node, levels) if isinstance(node, Convolution) else _pooled(node, levels)
        largest += int(accumulator.abs().max()) * int(abs(constants).max())
        total = total + accumulator * torch.from_numpy(constants)[None, :, None, None]
    if largest >= 2**63:
        raise OverflowError(f"layer {node.name!r}: scaled sums must stay below 2^63")
    return total >> shift


def _convolved(node: Convolution, levels: Tensor) -> Tensor:
    weights = torch.from_numpy(node.weights)
    if int(weights.abs().sum(dim=(1, 2, 3)).max()) * int(levels.abs().max()) >= EXACT_FLOAT:
        raise OverflowError(f"layer {node.name!r}: sums must stay below 2^53")
    convolved = functional.conv2d(
        levels.double(), weights.double(), stride=node.stride, padding=node.padding, groups=node.groups
    )
    return convolved.to(torch.int64)


def _pooled(node: Node, values: Tensor) -> Tensor:
    assert isinstance(node, Pooling)
    # No value is as small as the filling, and some of every window lies inside.
    filling = VALUE_RANGE[0] - 1 if node.kind == "maximum" else 0
    padded = functional.pad(values, [node.padding] * 4, value=filling)
    windows = padded.unfold(2, node.kernel[0], node.stride).unfold(3, node.kernel[1], node.stride)
    pooled = windows.amax((-2, -1)) if node.kind == "maximum" else windows.sum((-2, -1))
    return functional.pad(pooled, [0, 0, 0, 0, node.channels_before, node.channels_after])

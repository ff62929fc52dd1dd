"""The integer reference: a network's exact arithmetic in torch, from levels alone.

It shares no code with the packer or the hardware: levels are computed here from the papers' formulas,
layers are plain convolutions over whole tensors, and there are no passes, tiles or codes of weights.
"""

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from sw.network import IntegerLayer, IntegerNetwork

EXACT_FLOAT = 2**53


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What a run computed: rank codes after every encoding layer, and the final results."""

    codes: tuple[Tensor, ...]
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


def run(network: IntegerNetwork, images: Tensor) -> Trace:
    """Run levels (N, C, H, W) of the first layer's input format through the network.

    Returns
    -------
    Trace
        Codes (N, C, H, W) of every layer but the last; logits (N, classes), int64.

    Raises
    ------
    OverflowError
        If a sum could leave the range in which the float64 convolution is exact, or a scaled one int64.
    """
    levels = images.to(torch.int64)
    codes: list[Tensor] = []
    for layer in network.layers:
        values = _scaled(layer, levels)
        if layer.output_format is None:
            return Trace(codes=tuple(codes), logits=values.flatten(1))
        table = unsigned_levels(layer.output_format)
        boundaries = (table[:-1] + table[1:]) * 2 ** (layer.fraction - 1)
        if layer.boundaries is not None:
            boundaries = torch.tensor(layer.boundaries)
        ranks = torch.bucketize(values.contiguous(), boundaries, right=False)
        codes.append(ranks)
        levels = table[ranks]
    raise ValueError("network must end with a layer without an output format")


def _scaled(layer: IntegerLayer, levels: Tensor) -> Tensor:
    """``(accumulator · multiplier + bias) >> shift``, in int64."""
    weights = torch.from_numpy(layer.weights)
    if int(weights.abs().sum(dim=(1, 2, 3)).max()) * int(levels.max()) >= EXACT_FLOAT:
        raise OverflowError(f"layer {layer.name!r}: sums must stay below 2^53")
    convolved = functional.conv2d(
        levels.double(), weights.double(), stride=layer.stride, padding=layer.padding
    )
    accumulator = convolved.to(torch.int64)
    largest = int(accumulator.abs().max()) * int(abs(layer.multiplier).max()) + int(abs(layer.bias).max())
    if largest >= 2**63:
        raise OverflowError(f"layer {layer.name!r}: scaled sums must stay below 2^63")
    multiplier, bias, shift = (
        torch.from_numpy(values)[None, :, None, None]
        for values in (layer.multiplier, layer.bias, layer.shift)
    )
    return (accumulator * multiplier + bias) >> shift

"""Random layers and chains of them whose codes use the whole of their format."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.random import Generator

from hdl.formats import Format, named
from hdl.layouts import VALUE_WIDTH
from sw.graph import IMAGE, Convolution, Encoding, IntegerGraph, Integers

MULTIPLIER_BITS = 17
MAX_BIAS = 2**46
SPREAD = 2.0 ** (VALUE_WIDTH - 2)
"""What most y come to, whatever they are encoded as."""


def random_levels(rng: Generator, fmt: Format, shape: tuple[int, ...]) -> Integers:
    """Levels that symmetric quantizers use: all but the most negative one of two's complement."""
    used = [level for level in fmt.grid if abs(level) <= fmt.max_level]
    return rng.choice(np.array(used, dtype=np.int64), size=shape)


def thresholds_of(format_name: str, *, fraction: int) -> tuple[int, ...]:
    """Halfway between neighbouring levels, where y has so many binary places."""
    return tuple((low + high) << fraction >> 1 for low, high in pairwise(named(format_name).grid))


def random_encoding(rng: Generator, tensor: str, format_name: str) -> Encoding:
    """Levels spread over the usual y, or over half of them."""
    fraction = VALUE_WIDTH - named(format_name).level_width - 1 - int(rng.integers(0, 2))
    return Encoding(
        tensor=tensor, format=format_name, thresholds=thresholds_of(format_name, fraction=fraction)
    )


def random_constants(rng: Generator, *, typical: float, outputs: int) -> dict[str, Integers]:
    """Gains of either sign that spread accumulators of typical size over the usual y, and offsets."""
    gain = rng.uniform(0.4, 1.2, outputs) * SPREAD / typical * rng.choice([-1, 1], outputs)
    offset = rng.uniform(-0.2, 0.5, outputs) * SPREAD
    width = int(rng.integers(9, MULTIPLIER_BITS + 1))
    shift = np.floor(np.log2((2**width - 1) / abs(gain))).astype(np.int64)
    shift = np.clip(shift, 0, int(np.log2(MAX_BIAS / SPREAD)))
    return {
        "multiplier": np.rint(gain * 2.0**shift).astype(np.int64),
        "bias": np.rint(offset * 2.0**shift).astype(np.int64),
        "shift": shift,
    }


def random_convolution(
    rng: Generator,
    *,
    name: str,
    outputs: int,
    inputs: int,
    kernel: tuple[int, int],
    weight_format: str,
    input_format: str,
    source: str = IMAGE,
    encodings: Mapping[str, str] | None = None,
    groups: int = 1,
    **members: Any,
) -> Convolution:
    """A layer of random weights that writes these encodings, tensor by format, and what `members` say.

    One that writes nothing has the sums, scaled a little, as results.
    """
    weights = random_levels(rng, named(weight_format), (outputs, inputs // groups, *kernel))
    if encodings or members.get("values"):
        levels = np.array(named(input_format).grid)
        # All weights may be 0.
        typical = np.sqrt(weights[0].size) * _rms(weights) * _rms(levels) or 1.0
        constants = random_constants(rng, typical=typical, outputs=outputs)
    else:
        constants = {
            "multiplier": rng.integers(1, 8, outputs) * rng.choice([-1, 1], outputs),
            "bias": rng.integers(-(2**16), 2**16, outputs),
            "shift": rng.integers(0, 4, outputs),
        }
    return Convolution(
        name=name,
        source=source,
        weights=weights,
        weight_format=weight_format,
        groups=groups,
        encodings=tuple(random_encoding(rng, tensor, each) for tensor, each in (encodings or {}).items()),
        **constants,
        **members,
    )


def random_table(rng: Generator, *, bits: int, largest: int) -> str:
    """Name of a format whose levels are as good as learned: any magnitudes up to the largest."""
    magnitudes = np.sort(rng.choice(np.arange(1, largest + 1), size=2 ** (bits - 1) - 1, replace=False))
    return "_".join(map(str, ("companded", f"o{largest.bit_length() + 1}", 0, *magnitudes)))


def random_network(
    rng: Generator,
    *,
    weight_format: str,
    activation_format: str,
    input_shape: tuple[int, int, int] = (1, 8, 7),
    channels: tuple[int, ...] = (6, 9, 5),
    classes: int = 10,
    end_format: str = "uniform_b8",
) -> IntegerGraph:
    """Convolutions of random shape with so many output channels, then a layer over the whole map.

    The first and the last layer have weights of `end_format`, and the image unsigned integers of 8 bits.
    """
    inputs, *size = input_shape
    nodes, source, before = [], IMAGE, "uniform_b8u"
    for index, outputs in enumerate(channels):
        length = int(rng.integers(1, 1 + min(3, *size)))
        stride = int(rng.integers(1, 3)) if index else 1
        padding = int(rng.integers(0, 1 + length // 2))
        nodes.append(
            random_convolution(
                rng,
                name=f"layer{index}",
                source=source,
                outputs=outputs,
                inputs=inputs,
                kernel=(length, length),
                weight_format=weight_format if index else end_format,
                input_format=before,
                encodings={f"codes{index}": activation_format},
                stride=stride,
                padding=padding,
            )
        )
        size = [(length_in + 2 * padding - length) // stride + 1 for length_in in size]
        inputs, source, before = outputs, f"codes{index}", activation_format
    last = random_convolution(
        rng,
        name="classifier",
        source=source,
        outputs=classes,
        inputs=inputs,
        kernel=(size[0], size[1]),
        weight_format=end_format,
        input_format=before,
    )
    return IntegerGraph(input_shape=input_shape, nodes=(*nodes, last), logit_scale=0.125)


def random_images(
    rng: Generator, shape: tuple[int, int, int], *, count: int, input_format: str = "uniform_b8u"
) -> Integers:
    """Images (count, C, H, W) of all levels of a uniform format."""
    lowest, *_, highest = named(input_format).grid
    return rng.integers(lowest, highest + 1, (count, *shape))


def _rms(values: Integers) -> float:
    return float(np.sqrt(np.mean(values.astype(np.float64) ** 2)))

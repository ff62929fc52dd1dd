"""Random integer layers and networks whose codes use the whole of their format."""

import numpy as np
from numpy.random import Generator

from hdl.formats import Format, named
from hdl.layouts import VALUE_WIDTH
from sw.network import IntegerLayer, IntegerNetwork, Integers

MULTIPLIER_BITS = 17
MAX_BIAS = 2**46


def random_levels(rng: Generator, fmt: Format, shape: tuple[int, ...]) -> Integers:
    """Levels that symmetric quantizers use: all but the most negative one of two's complement."""
    used = [level for level in fmt.grid if abs(level) <= fmt.max_level]
    return rng.choice(np.array(used, dtype=np.int64), size=shape)


def random_layer(
    rng: Generator,
    *,
    name: str,
    outputs: int,
    inputs: int,
    kernel: tuple[int, int],
    weight_format: str,
    input_format: str,
    output_format: str | None,
    stride: int = 1,
    padding: int = 0,
) -> IntegerLayer:
    """A layer of random weights whose gains, of either sign, spread the sums over the output's levels.

    Without an output format, the results are the sums, scaled a little.
    """
    weights = random_levels(rng, named(weight_format), (outputs, inputs, *kernel))
    if output_format is None:
        fraction = 0
        multiplier = rng.integers(1, 8, outputs) * rng.choice([-1, 1], outputs)
        bias = rng.integers(-(2**16), 2**16, outputs)
        shift = rng.integers(0, 4, outputs)
    else:
        levels = named(output_format)
        fraction = VALUE_WIDTH - levels.level_width - 1 - int(rng.integers(0, 2))
        top = levels.max_level * 2.0**fraction
        typical = np.sqrt(weights[0].size) * _rms(weights) * _rms(np.array(named(input_format).grid))
        gain = rng.uniform(0.4, 1.2, outputs) * top / typical * rng.choice([-1, 1], outputs)
        offset = rng.uniform(-0.2, 0.5, outputs) * top
        width = int(rng.integers(9, MULTIPLIER_BITS + 1))
        shift = np.floor(np.log2((2**width - 1) / abs(gain))).astype(np.int64)
        shift = np.clip(shift, 0, int(np.log2(MAX_BIAS / top)))
        multiplier = np.rint(gain * 2.0**shift).astype(np.int64)
        bias = np.rint(offset * 2.0**shift).astype(np.int64)
    return IntegerLayer(
        name=name,
        weights=weights,
        weight_format=weight_format,
        input_format=input_format,
        output_format=output_format,
        stride=stride,
        padding=padding,
        multiplier=multiplier,
        bias=bias,
        shift=shift,
        fraction=fraction,
    )


def random_network(
    rng: Generator,
    *,
    weight_format: str,
    activation_format: str,
    input_shape: tuple[int, int, int] = (1, 8, 7),
    channels: tuple[int, ...] = (6, 9, 5),
    classes: int = 10,
    end_format: str = "uniform_b8",
) -> IntegerNetwork:
    """Convolutions of random shape with so many output channels, then a layer over the whole map.

    The first and the last layer have weights of `end_format`, and the image unsigned integers of 8 bits.
    """
    inputs, *size = input_shape
    layers, before = [], "uniform_b8u"
    for index, outputs in enumerate(channels):
        length = int(rng.integers(1, 1 + min(3, *size)))
        stride = int(rng.integers(1, 3)) if index else 1
        padding = int(rng.integers(0, 1 + length // 2))
        layers.append(
            random_layer(
                rng,
                name=f"layer{index}",
                outputs=outputs,
                inputs=inputs,
                kernel=(length, length),
                weight_format=weight_format if index else end_format,
                input_format=before,
                output_format=activation_format,
                stride=stride,
                padding=padding,
            )
        )
        size = [(length_in + 2 * padding - length) // stride + 1 for length_in in size]
        inputs, before = outputs, activation_format
    last = random_layer(
        rng,
        name="classifier",
        outputs=classes,
        inputs=inputs,
        kernel=(size[0], size[1]),
        weight_format=end_format,
        input_format=before,
        output_format=None,
    )
    return IntegerNetwork(input_shape=input_shape, layers=(*layers, last), logit_scale=0.125)


def random_images(rng: Generator, shape: tuple[int, int, int], *, count: int) -> Integers:
    """Images (count, C, H, W) of 8-bit integers."""
    return rng.integers(0, 256, (count, *shape))


def _rms(values: Integers) -> float:
    return float(np.sqrt(np.mean(values.astype(np.float64) ** 2)))

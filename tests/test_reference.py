"""The integer reference against literal tables and plain loops over Python's integers."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from sw.network import IntegerLayer, IntegerNetwork
from tests.random_networks import random_images, random_network
from verif.reference import run, unsigned_levels

# Unsigned levels written out from the papers' equations, over the smallest.
TABLES = {
    "uniform_b1u": [0, 1],
    "uniform_b2u": [0, 1, 2, 3],
    "uniform_b4u": list(range(16)),
    "uniform_b8u": list(range(256)),
    "pot_k1u": [0, 1],
    "pot_k2u": [0, 1, 2, 4],
    "pot_k3u": [0, 1, 2, 4, 8, 16, 32, 64],
    "apot_k1n1u": [0, 1],
    "apot_k1n3u": [0, 1, 2, 3, 4, 5, 6, 7],
    "apot_k2n1u": [0, 1, 2, 4],
    # {0, 2^0, 2^-2, 2^-4} + {0, 2^-1, 2^-3, 2^-5}, over 2^-5.
    "apot_k2n2u": [0, 1, 2, 3, 4, 6, 8, 9, 12, 16, 18, 24, 32, 33, 36, 48],
    # {0, 2^0, 2^-1, 2^-3} + {0, 2^-2}, over 2^-3.
    "apot_k2n1ou": [0, 1, 2, 3, 4, 6, 8, 10],
}


@pytest.mark.parametrize("name", TABLES)
def test_levels(name: str) -> None:
    assert unsigned_levels(name).tolist() == TABLES[name]


def rank(value: int, table: list[int], fraction: int) -> int:
    """How many midpoints of neighbouring levels lie below the value, which has `fraction` binary places."""
    return sum((low + high) * 2**fraction < 2 * value for low, high in pairwise(table))


def naive(network: IntegerNetwork, image: np.ndarray) -> tuple[list[list[int]], list[int]]:
    """Codes of every layer but the last, and results, in Python's integers, one output at a time."""
    levels, codes = image.tolist(), []
    for layer in network.layers:
        values = convolved(layer, levels)
        flat = [value for plane in values for row in plane for value in row]
        if layer.output_format is None:
            return codes, flat
        table = TABLES[layer.output_format]
        codes.append([rank(value, table, layer.fraction) for value in flat])
        levels = [[[table[rank(value, table, layer.fraction)] for value in row] for row in p] for p in values]
    raise AssertionError


def convolved(layer: IntegerLayer, levels: list[list[list[int]]]) -> list[list[list[int]]]:
    outputs, inputs, kernel_height, kernel_width = layer.weights.shape
    height, width = len(levels[0]), len(levels[0][0])
    pad, stride = layer.padding, layer.stride
    planes = []
    for o in range(outputs):
        plane = []
        for y in range(0, height + 2 * pad - kernel_height + 1, stride):
            row = []
            for x in range(0, width + 2 * pad - kernel_width + 1, stride):
                total = 0
                for c in range(inputs):
                    for i in range(kernel_height):
                        for j in range(kernel_width):
                            if 0 <= y + i - pad < height and 0 <= x + j - pad < width:
                                level = levels[c][y + i - pad][x + j - pad]
                                total += int(layer.weights[o, c, i, j]) * level
                scaled = total * int(layer.multiplier[o]) + int(layer.bias[o])
                row.append(scaled // 2 ** int(layer.shift[o]))
            plane.append(row)
        planes.append(plane)
    return planes


@pytest.mark.parametrize("activation_format", ["apot_k2n2u", "apot_k2n1ou", "pot_k3u", "uniform_b4u"])
@pytest.mark.parametrize("seed", range(3))
def test_whole_networks_equal_plain_loops(activation_format: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    network = random_network(
        rng,
        weight_format="apot_k2n2",
        activation_format=activation_format,
        input_shape=(2, 6, 5),
        channels=(3, 4, 2),
        classes=3,
    )
    images = random_images(rng, (2, 6, 5), count=2)
    trace = run(network, torch.from_numpy(images))
    assert trace.logits.dtype == torch.int64
    for index, image in enumerate(images):
        codes, results = naive(network, image)
        assert trace.logits[index].tolist() == results
        assert [found[index].flatten().tolist() for found in trace.codes] == codes
    assert len(torch.cat([codes.flatten() for codes in trace.codes]).unique()) > 5


def layer(**changed: Any) -> IntegerLayer:
    """One input, one weight 1, plain results."""
    values: dict[str, Any] = {
        "name": "layer",
        "weights": np.ones((1, 1, 1, 1), dtype=np.int64),
        "weight_format": "uniform_b8",
        "input_format": "uniform_b8u",
        "output_format": None,
        "stride": 1,
        "padding": 0,
        "multiplier": np.array([1]),
        "bias": np.array([0]),
        "shift": np.array([0]),
        "fraction": 0,
    }
    return IntegerLayer(**(values | changed))


def network(*layers: IntegerLayer) -> IntegerNetwork:
    return IntegerNetwork(input_shape=(1, 1, 1), layers=layers, logit_scale=1.0)


def pixels(*values: int) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1)


def test_shift_rounds_down() -> None:
    scaled = layer(multiplier=np.array([-1]), shift=np.array([1]))
    assert run(network(scaled), pixels(0, 1, 2, 3)).logits.tolist() == [[0], [-1], [-1], [-2]]


def test_halves_belong_to_the_lower_code() -> None:
    """Levels 0, 1, 2, 4 in halves: boundaries at 1, 3 and 6."""
    first = layer(output_format="pot_k2u", fraction=1)
    last = layer(input_format="pot_k2u")
    trace = run(network(first, last), pixels(0, 1, 2, 3, 4, 5, 6, 7, 255))
    assert trace.codes[0].flatten().tolist() == [0, 0, 1, 1, 2, 2, 2, 3, 3]
    assert trace.logits.flatten().tolist() == [0, 0, 1, 1, 2, 2, 2, 4, 4]


def test_sums_that_could_lose_a_bit_are_refused() -> None:
    wide = layer(weights=np.full((1, 1, 1, 1), 2**45))
    assert run(network(wide), pixels(255)).logits.item() == 255 * 2**45
    with pytest.raises(OverflowError, match=r"^layer 'layer': sums must stay below 2\^53$"):
        run(network(replace(wide, weights=np.full((1, 1, 1, 1), -(2**45)))), pixels(256))


def test_scaled_sums_that_int64_cannot_hold_are_refused() -> None:
    steep = layer(weights=np.full((1, 1, 1, 1), 2**40), multiplier=np.array([-(2**17)]))
    assert run(network(steep), pixels(63)).logits.item() == -63 * 2**57
    with pytest.raises(OverflowError, match=r"^layer 'layer': scaled sums must stay below 2\^63$"):
        run(network(steep), pixels(64))


def test_a_network_without_results_is_refused() -> None:
    with pytest.raises(ValueError, match="network must end with a layer without an output format"):
        run(network(layer(output_format="pot_k2u", fraction=1)), pixels(1))

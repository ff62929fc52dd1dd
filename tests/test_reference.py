"""The integer reference against literal tables and plain loops over Python's integers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sw.graph import IMAGE, Convolution, Encoding, IntegerGraph, Integers, Node, Pooling
from tests.random_graphs import random_graph
from tests.random_networks import random_images, random_network, thresholds_of
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

Map = list[list[list[int]]]


@pytest.mark.parametrize("name", TABLES)
def test_levels(name: str) -> None:
    assert unsigned_levels(name).tolist() == TABLES[name]


def naive(graph: IntegerGraph, image: np.ndarray) -> tuple[dict[str, Map], list[int]]:
    """Every tensor's codes or values, and the results, in Python's integers, one output at a time."""
    fill = graph.fill or (0,) * len(image)
    plain = {
        (c, y, x): int(value)
        for c, plane in enumerate(image)
        for y, row in enumerate(plane)
        for x, value in enumerate(row)
    }
    edge, (_, height, width) = graph.border, image.shape
    rows, columns = range(-edge, height + edge), range(-edge, width + edge)
    levels: dict[str, Map] = {
        IMAGE: [[[plain.get((c, y, x), fill[c]) for x in columns] for y in rows] for c in range(len(image))]
    }
    written: dict[str, Map] = {}
    for node in graph.nodes:
        residual = written[node.residual] if node.residual else None
        if isinstance(node, Convolution):
            multipliers = [node.multiplier, *(addend.multiplier for addend in node.addends)]
            sources = [levels[name] for name in (node.source, *(addend.tensor for addend in node.addends))]
        else:
            multipliers, sources = [node.multiplier], [written[node.source]]
        y = outputs_of(node, list(zip(sources, multipliers, strict=True)), residual)
        if node.is_result:
            return written, [value for plane in y for row in plane for value in row]
        y = each_of(y, lambda value: min(max(value, -(2**17)), 2**17 - 1))
        for each in node.encodings:
            codes = each_of(y, lambda value, each=each: sum(limit < value for limit in each.thresholds))
            written[each.tensor] = codes
            levels[each.tensor] = each_of(codes, lambda code, each=each: TABLES[each.format][code])
        if node.values is not None:
            written[node.values] = each_of(y, lambda value: max(value, 0)) if node.rectified else y
    raise AssertionError


def each_of(values: Map, function: Any) -> Map:
    return [[[function(value) for value in row] for row in plane] for plane in values]


def outputs_of(node: Node, sources: list[tuple[Map, Integers]], residual: Map | None) -> Map:
    assert isinstance(node, Convolution | Pooling)
    source, _ = sources[0]
    kernel = node.weights.shape[2:] if isinstance(node, Convolution) else node.kernel
    sizes = [
        range(0, size + 2 * node.padding - length + 1, node.stride)
        for size, length in zip((len(source[0]), len(source[0][0])), kernel, strict=True)
    ]
    planes = []
    for o in range(len(node.multiplier)):
        plane = []
        for j, top in enumerate(sizes[0]):
            row = []
            for i, left in enumerate(sizes[1]):
                window = [
                    (dy, dx, top + dy - node.padding, left + dx - node.padding)
                    for dy in range(kernel[0])
                    for dx in range(kernel[1])
                    if 0 <= top + dy - node.padding < len(source[0])
                    and 0 <= left + dx - node.padding < len(source[0][0])
                ]
                scaled = int(node.bias[o])
                for each, multiplier in sources:
                    scaled += accumulated(node, each, o, window) * int(multiplier[o])
                y = scaled // 2 ** int(node.shift[o])
                row.append(y + (residual[o][j][i] if residual else 0))
            plane.append(row)
        planes.append(plane)
    return planes


def accumulated(node: Node, source: Map, output: int, window: list[tuple[int, int, int, int]]) -> int:
    if isinstance(node, Pooling):
        channel = output - node.channels_before
        if not 0 <= channel < len(source):
            return 0
        inside = [source[channel][y][x] for _, _, y, x in window]
        return max(inside) if node.kind == "maximum" else sum(inside)
    assert isinstance(node, Convolution)
    inputs = range(len(source)) if node.groups == 1 else [output]
    return sum(
        int(node.weights[output, place, dy, dx]) * source[channel][y][x]
        for place, channel in enumerate(inputs)
        for dy, dx, y, x in window
    )


def check(graph: IntegerGraph, images: np.ndarray) -> None:
    trace = run(graph, torch.from_numpy(images))
    assert trace.logits.dtype == torch.int64
    found = trace.codes | trace.values
    for index, image in enumerate(images):
        tensors, results = naive(graph, image)
        assert trace.logits[index].tolist() == results
        assert {name: tensor[index].tolist() for name, tensor in found.items()} == tensors


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
    check(network, images)
    codes = run(network, torch.from_numpy(images)).codes.values()
    assert len(torch.cat([each.flatten() for each in codes]).unique()) > 5


@pytest.mark.parametrize("seed", range(12))
def test_whole_graphs_equal_plain_loops(seed: int) -> None:
    """Residuals, poolings, depthwise layers, several encodings, a border, and an image with a sign."""
    rng = np.random.default_rng(seed)
    graph = random_graph(
        rng,
        weight_formats=("apot_k2n2",),
        activation_formats=("apot_k2n2u", "uniform_b4u"),
        rows=4,
        requantizers=2,
        input_format=("uniform_b8u", "uniform_b8")[seed % 2],
    )
    check(graph, random_images(rng, graph.input_shape, count=1, input_format=graph.input_format))


def layer(**changed: Any) -> Convolution:
    """One input, one weight 1, plain results."""
    values: dict[str, Any] = {
        "name": "layer",
        "source": IMAGE,
        "weights": np.ones((1, 1, 1, 1), dtype=np.int64),
        "weight_format": "uniform_b8",
        "multiplier": np.array([1]),
        "bias": np.array([0]),
        "shift": np.array([0]),
    }
    return Convolution(**(values | changed))


def network(*nodes: Node) -> IntegerGraph:
    return IntegerGraph(input_shape=(1, 1, 1), nodes=nodes, logit_scale=1.0)


def pixels(*values: int) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1, 1, 1)


def test_shift_rounds_down() -> None:
    scaled = layer(multiplier=np.array([-1]), shift=np.array([1]))
    assert run(network(scaled), pixels(0, 1, 2, 3)).logits.tolist() == [[0], [-1], [-1], [-2]]


def test_halves_belong_to_the_lower_code() -> None:
    """Levels 0, 1, 2, 4 in halves: boundaries at 1, 3 and 6."""
    assert thresholds_of("pot_k2u", fraction=1) == (1, 3, 6)
    first = layer(encodings=(Encoding(tensor="codes", format="pot_k2u", thresholds=(1, 3, 6)),))
    trace = run(network(first, layer(source="codes")), pixels(0, 1, 2, 3, 4, 5, 6, 7, 255))
    assert trace.codes["codes"].flatten().tolist() == [0, 0, 1, 1, 2, 2, 2, 3, 3]
    assert trace.logits.flatten().tolist() == [0, 0, 1, 1, 2, 2, 2, 4, 4]


def test_values_saturate_after_the_residual() -> None:
    """The residual is added to y, not to what y would be saturated to."""
    steep = layer(multiplier=np.array([1024]), values="values")
    opposite = layer(multiplier=np.array([-512]), residual="values", values="sum")
    last = Pooling(
        name="last",
        source="sum",
        kind="sum",
        multiplier=np.array([1]),
        bias=np.array([0]),
        shift=np.array([0]),
    )
    trace = run(network(steep, opposite, last), pixels(1, 255))
    assert trace.values["values"].flatten().tolist() == [1024, 131071]
    assert trace.logits.flatten().tolist() == [512, 131071 - 255 * 512]
    rectified = run(
        network(replace(layer(multiplier=np.array([-3]), values="sum"), rectified=True), last), pixels(7)
    )
    assert rectified.logits.item() == 0


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


def test_a_graph_without_results_is_refused() -> None:
    with pytest.raises(ValueError, match="graph must end with a node that writes no tensor"):
        run(network(layer(values="values")), pixels(1))

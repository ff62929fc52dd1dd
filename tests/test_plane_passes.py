"""Layers of any weights on an array of ±1: planes are passes, whose multipliers carry the coordinates."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import Generator

from hdl.console import RefusedError
from hdl.formats import basis, named
from hdl.parameters import AcceleratorParameters
from sw.allocation import mixed
from sw.compiler.channel_order import reordered
from sw.compiler.compile import compile_network, lower
from sw.compiler.placement import silent_channels
from sw.compiler.planes import channel_bases, plane_count, split
from sw.compiler.schedule import program_cycles
from sw.export import integer_network
from sw.graph import IMAGE, Convolution, Encoding, IntegerGraph, Integers, Pooling
from sw.models import build
from sw.precision import Precision
from sw.quantizers import MixedDMBQWeight
from sw.requantize import Requantization
from tests.accelerator_cases import case
from tests.executor_check import check_executor
from tests.random_graphs import random_graph
from tests.random_networks import random_convolution, random_images
from verif.network import accelerator, classify

PARAMETERS = AcceleratorParameters(
    weight_format="basis_1",
    rows=4,
    lanes=4,
    requantizers=4,
    depth=1024,
    passes=24,
    weight_words=4096,
    channel_words=2048,
)
GRAPHS = replace(PARAMETERS, value_words=4096, encodings=16, tables=4, program_words=4096, weight_words=16384)

TWO_ROWS = replace(PARAMETERS, rows=2, lanes=2, requantizers=2)

VGG = replace(
    PARAMETERS, rows=16, lanes=16, requantizers=8, depth=2**16, activation_words=2**16, value_words=2**18
)


def mixed_weights(rng: Generator, planes: list[int], shape: tuple[int, ...], *, family: str) -> Integers:
    """Levels of which each output channel has a basis of so many planes, or none."""
    grids = [basis(family=family, planes=count).levels if count else (0,) for count in planes]
    return np.stack([rng.choice(np.array(grid), size=shape) for grid in grids])


def chain(seed: int, *, family: str, planes: list[int]) -> IntegerGraph:
    """Layers of 8 bits, 2 planes, mixed planes and 8 bits again."""
    rng, codes = np.random.default_rng([26, seed]), "uniform_b4u"
    two = basis(family=family, planes=2).name
    shape: dict[str, Any] = {"kernel": (3, 3), "padding": 1, "input_format": codes}

    def layer(index: int, **members: Any) -> Convolution:
        made = random_convolution(
            rng, name=f"layer{index}", encodings={f"codes{index}": codes}, **(shape | members)
        )
        # A coordinate needs some of the multiplier's bits.
        less = np.minimum(made.shift, 8)
        return replace(
            made, multiplier=made.multiplier >> less, bias=made.bias >> less, shift=made.shift - less
        )

    first = {"kernel": (2, 2), "padding": 0, "input_format": "uniform_b8u", "weight_format": "uniform_b8"}
    nodes = [
        random_convolution(rng, name="layer0", encodings={"codes0": codes}, outputs=5, inputs=2, **first),
        layer(1, source="codes0", outputs=6, inputs=5, weight_format=two),
        layer(2, source="codes1", outputs=len(planes), inputs=6, weight_format="uniform_b10"),
    ]
    weights = mixed_weights(rng, planes, (6, 3, 3), family=family)
    nodes[2] = replace(nodes[2], weights=weights)
    last = {"outputs": 7, "inputs": len(planes), "kernel": (4, 3), "weight_format": "uniform_b8"}
    nodes.append(random_convolution(rng, name="last", source="codes2", input_format=codes, **last))
    return IntegerGraph(input_shape=(2, 5, 4), nodes=tuple(nodes), logit_scale=1.0)


def test_a_chain_simulated(tmp_path: Path) -> None:
    """Every result, and as many cycles as planned; tiles of 4, 3, 2 and no planes take as many passes."""
    network = chain(0, family="laplace", planes=[2, 0, 4, 3, 4, 0, 2, 3, 0, 4, 3, 2, 0, 4, 2, 3])
    made = case(network, PARAMETERS, random_images(np.random.default_rng(1), (2, 5, 4), count=2))
    commands = dict(zip("0123", (each for _, each in lower(network, PARAMETERS).nodes), strict=True))
    assert [len(each.passes) for each in commands["0"]] == [2 * 9]
    assert [len(each.passes) for each in commands["1"]] == [2]
    assert [len(each.passes) for each in commands["2"]] == [4, 3, 2, 1]
    assert commands["2"][-1].steps == [1]
    assert [len(each.passes) for each in commands["3"]] == [9]
    verilog = tmp_path / "accelerator.v"
    accelerator(PARAMETERS).write(verilog)
    answers = classify(made.compiled, made.images, verilog=verilog, simulator="icarus")
    np.testing.assert_array_equal(answers.logits, made.expected)
    assert answers.cycles.tolist() == [program_cycles(made.compiled.schedule)] * 2


@pytest.mark.parametrize("family", ["laplace", "gauss"])
def test_chains_executed(family: str) -> None:
    """Channels that do not fill the last tile, and multipliers that fit any coordinate or not."""
    network = chain(1, family=family, planes=[3, 0, 4, 1, 2, 2, 1, 0, 4, 3])
    check_executor(network, PARAMETERS)
    wide = [
        replace(node, multiplier=node.multiplier << 7, bias=node.bias << 7, shift=node.shift + 7)
        for node in network.nodes[1:-1]
    ]
    check_executor(replace(network, nodes=(network.nodes[0], *wide, network.nodes[-1])), PARAMETERS)


@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(i, marks=pytest.mark.nightly) for i in range(4, 60))]
)
def test_graphs_executed(seed: int) -> None:
    """Residuals, poolings and depthwise layers, whose weights of 0 are sums of planes too."""
    graph = random_graph(
        np.random.default_rng([27, seed]),
        weight_formats=(("basis_5_8", "basis_1", "laplace_m3", "apot_k2n1")[seed % 4],),
        activation_formats=("uniform_b4u", "uniform_b2u"),
        rows=4,
        requantizers=4,
    )
    check_executor(graph, GRAPHS)


@pytest.mark.parametrize("family", ["laplace", "gauss"])
def test_planes_add_up_to_weights(family: str) -> None:
    rng = np.random.default_rng(5)
    weights = mixed_weights(rng, [0, 1, 2, 3, 4], (40,), family=family)
    ones = np.ones(5, dtype=np.int64)
    constants = Requantization(ones[:, None], ones, ones)
    bases = channel_bases(weights, constants.multiplier, weight_format=named("uniform_b10"))
    assert [len(each) for each in bases if each is not None] == [0, 1, 2, 3, 4]
    planes = split(weights, constants, bases, planes=plane_count(bases, weights))
    np.testing.assert_array_equal(sums(planes), weights)


@pytest.mark.parametrize("bits", range(1, 17))
def test_planes_add_up_to_twice_the_integers(bits: int) -> None:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    weights = np.unique([low, high, *range(max(low, -200), min(high, 200))])[None]
    constants = Requantization(np.array([[3]]), np.array([-5]), np.array([2]))
    assert plane_count([None], weights) == -bits
    planes = split(weights, constants, [None], planes=-bits)
    np.testing.assert_array_equal(sums(planes), 2 * weights)
    assert [each.tolist() for each in planes.constants] == [[[3]], [-10], [3]]


def test_channels_of_multiplier_0_keep_any_bias() -> None:
    """Their y is the bias alone, whatever sums are doubled."""
    constants = Requantization(np.array([[3], [0]]), np.array([-5, 2**47 - 1]), np.array([2, 47]))
    planes = split(np.array([[3], [-3]]), constants, [None, ()], planes=-3)
    assert [each.tolist() for each in planes.constants] == [[[3], [0]], [-10, 2**47 - 1], [3, 47]]


@pytest.mark.parametrize(
    ("bias", "residual", "silent"), [(7, None, True), (8, None, False), (-9, None, True), (7, "sum", False)]
)
def test_only_codes_of_0_are_silent(bias: int, residual: str | None, silent: bool) -> None:
    """y is 3, and codes begin above that; 4 is code 1, and what is added may be anything."""
    encoding = Encoding(tensor="codes", format="uniform_b2u", thresholds=(3, 5, 7))
    parts = {"multiplier": np.array([1, 0]), "bias": np.array([0, bias]), "shift": np.array([0, 1])}
    node = Pooling(name="node", source="values", kind="sum", residual=residual, **parts)
    assert silent_channels(node, encoding) == ({1} if silent else set())


def sums(planes: Any) -> Integers:
    """Σ sign · factor · 2^place, of every weight."""
    signs = np.array([[planes.digits.digits[key] for key in row] for row in planes.patterns.tolist()])
    assert set(np.unique(signs)) <= {-1, 1}
    return (signs * planes.factors[:, None] << np.array(planes.digits.places)).sum(axis=-1)


def test_bases_are_only_those_whose_multipliers_fit() -> None:
    """Multipliers of 18 bits with a sign: 8 · 16383 fits, 8 · 16384 does not, and -8 · 16384 does."""
    weights, multiplier = np.array([[13, -3]] * 3), np.array([[16383], [16384], [-16384]])
    bases = channel_bases(weights, multiplier, weight_format=named("basis_5_8"))
    assert bases == [(5, 8), None, (5, 8)]


def test_channels_are_sorted_with_their_readers() -> None:
    graph = chain(2, family="gauss", planes=[0, 4, 3, 2])
    seen, orders = reordered(graph, parameters=TWO_ROWS)
    assert orders["codes2"] == (1, 2, 3, 0)
    np.testing.assert_array_equal(seen.nodes[3].weights, graph.nodes[3].weights[:, [1, 2, 3, 0]])
    np.testing.assert_array_equal(seen.nodes[2].bias, graph.nodes[2].bias[[1, 2, 3, 0]])
    assert set(orders) == {"codes2"}


def test_tensors_that_meet_have_one_order() -> None:
    """A pooling goes along; one that adds channels, or is the result, keeps everything in its place."""
    graph = chain(2, family="gauss", planes=[0, 4, 3, 2])
    kept = replace(graph.nodes[2], values="sums")
    constants = {part: np.arange(4) for part in ("multiplier", "bias", "shift")}
    pooled = Pooling(name="pool", source="sums", kind="maximum", values="pooled", **constants)
    nodes = (*graph.nodes[:2], kept, pooled, graph.nodes[3])
    seen, orders = reordered(replace(graph, nodes=nodes), parameters=TWO_ROWS)
    assert orders["codes2"] == orders["sums"] == orders["pooled"] == (1, 2, 3, 0)
    np.testing.assert_array_equal(seen.nodes[3].bias, [1, 2, 3, 0])
    for last in (replace(pooled, channels_before=1), replace(pooled, values=None)):
        altered = replace(graph, nodes=(*nodes[:3], last, nodes[4]))
        assert reordered(altered, parameters=TWO_ROWS) == (altered, {})


@pytest.mark.parametrize("pattern", [[0, 2, 3, 4, 0, 2, 3, 2], [4, 0]])
def test_half_the_planes_take_half_the_cycles(pattern: list[int]) -> None:
    """VGG-small with 2.0 planes on average is within 1.10 · 2.0/4.0 of the same network with 4."""
    few, all_four = vgg_cycles(pattern), vgg_cycles([4])
    ratios = {"whole": sum(few) / sum(all_four), "inner": sum(few[1:-1]) / sum(all_four[1:-1])}
    print(", ".join(f"{name}: {ratio:.3f}" for name, ratio in ratios.items()))
    assert max(ratios.values()) <= 1.10 * 2.0 / 4.0


def vgg_cycles(pattern: list[int]) -> list[int]:
    """Cycles of each layer, whose channels have so many planes in random order."""
    precision = Precision(scheme="dmbq", weight_bits=4, activation_bits=4)
    model = mixed(build("vgg_small", input_shape=(3, 32, 32), classes=10, precision=precision))
    rng = np.random.default_rng(0)
    for quantizer in model.modules():
        if isinstance(quantizer, MixedDMBQWeight):
            quantizer.bits.copy_(torch.from_numpy(rng.permutation(np.resize(pattern, len(quantizer.bits)))))
    graph = integer_network(model.eval(), (3, 32, 32))
    return [sum(each.cycles(VGG) for each in commands) for _, commands in lower(graph, VGG).nodes]


def test_what_does_not_fit_is_refused() -> None:
    network = chain(0, family="laplace", planes=[2])
    with pytest.raises(RefusedError, match=r"layer 'layer0': passes needs 18 passes, 2 more than the .* 16"):
        compile_network(network, replace(PARAMETERS, passes=16))
    large = replace(network.nodes[0], bias=np.full(5, 2**46))
    with pytest.raises(
        RefusedError, match="layer 'layer0': bias must lie in -70368744177664 … 70368744177663"
    ):
        compile_network(replace(network, nodes=(large, *network.nodes[1:])), PARAMETERS)


def test_integers_beyond_the_places_of_passes_are_refused() -> None:
    node = random_convolution(
        np.random.default_rng(0),
        name="wide",
        source=IMAGE,
        outputs=1,
        inputs=1,
        kernel=(1, 1),
        weight_format="uniform_b16",
        input_format="uniform_b8u",
    )
    node = replace(node, weights=np.array([[[[2**15]]]]))
    graph = IntegerGraph(input_shape=(1, 1, 1), nodes=(node,), logit_scale=1.0)
    with pytest.raises(RefusedError, match="layer 'wide': weights of 17 bits must have at most 16 to run as"):
        compile_network(graph, replace(PARAMETERS, passes=64))

"""Arrays of every family of rows run networks of their weights: every bit and every cycle."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hdl.parameters import AcceleratorParameters
from sw.compiler.schedule import program_cycles
from sw.graph import IntegerGraph
from tests.accelerator_cases import Case, case
from tests.random_networks import random_images, random_network
from verif.network import accelerator, classify

FAMILIES: dict[str, dict[str, Any]] = {
    "basis_1": {"rows": 4, "lanes": 4, "requantizers": 4},
    "basis_5_8": {"rows": 8, "lanes": 4, "requantizers": 4},
    "companded_0_1_3_4": {"rows": 4, "lanes": 4, "requantizers": 2},
}


def below_zero(network: IntegerGraph) -> IntegerGraph:
    """Some thresholds are negative: rows without a channel must write code 0 nevertheless."""
    nodes = []
    for node in network.nodes:
        moved = [
            replace(each, thresholds=tuple(value - each.thresholds[1] - 1 for value in each.thresholds))
            for each in node.encodings
        ]
        nodes.append(replace(node, encodings=tuple(moved)))
    return replace(network, nodes=tuple(nodes))


def random_case(weight_format: str) -> Case:
    """Layers whose channels do not fill the last tile, nor the image the first word."""
    rng = np.random.default_rng([7, *weight_format.encode()])
    parameters = AcceleratorParameters(
        weight_format=weight_format, depth=1024, weight_words=2048, **FAMILIES[weight_format]
    )
    formats = {"weight_format": weight_format, "end_format": weight_format}
    network = random_network(
        rng, activation_format="uniform_b4u", input_shape=(1, 6, 5), channels=(5, 6), **formats
    )
    network = below_zero(network)
    return case(network, parameters, random_images(rng, network.input_shape, count=2))


@pytest.mark.parametrize(
    "weight_format",
    [
        "basis_5_8",
        *(pytest.param(each, marks=pytest.mark.nightly) for each in FAMILIES if each != "basis_5_8"),
    ],
)
def test_networks(weight_format: str, tmp_path: Path) -> None:
    made = random_case(weight_format)
    verilog = tmp_path / "accelerator.v"
    accelerator(made.compiled.parameters).write(verilog)
    answers = classify(made.compiled, made.images, verilog=verilog, simulator="icarus")
    np.testing.assert_array_equal(answers.logits, made.expected)
    assert answers.cycles.tolist() == [program_cycles(made.compiled.schedule)] * len(made.images)

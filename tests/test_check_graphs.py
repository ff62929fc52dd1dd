"""Faults in simulated graphs with values and residuals are found where the reference has them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sw.compiler.compile import compile_network
from tests.random_networks import random_images
from tests.test_executor import graph_for
from verif.check import check
from verif.reference import run as run_reference


@pytest.mark.nightly
@pytest.mark.parametrize("place", [0, -1])
@pytest.mark.parametrize("shape", [pytest.param("pot_k2_3x2", marks=pytest.mark.xdist_group("check_graphs"))])
def test_a_bias_is_found(place: int, shape: str, icarus: str) -> None:
    """In the first or last node that writes values, of the first graph with several."""
    cases = (graph_for(shape, seed) for seed in range(50))
    graph, parameters = next(
        case for case in cases if sum(node.values is not None for node in case[0].nodes) > 1
    )
    node = [each for each in graph.nodes if each.values is not None][place]
    channel = len(node.bias) // 2
    bias = node.bias.copy()
    bias[channel] += 3 << int(node.shift[channel])
    other = replace(
        graph, nodes=tuple(replace(each, bias=bias) if each is node else each for each in graph.nodes)
    )
    rng, shape = np.random.default_rng(0), graph.input_shape
    images = random_images(rng, shape, count=1, input_format=graph.input_format)
    right, wrong = (run_reference(each, torch.from_numpy(images)) for each in (graph, other))
    differs = right.values[str(node.values)] != wrong.values[str(node.values)]
    pixel = np.argwhere(differs.numpy()[0, channel])[0].tolist()
    compiled, loaded = (compile_network(each, parameters) for each in (graph, other))
    finding = check(compiled, images, loaded=loaded, simulator=icarus)
    found = finding.difference
    assert found is not None
    assert (found.layer, found.channel, found.y, found.x) == (node.name, channel, *pixel)
    assert finding.differing_pass == 0

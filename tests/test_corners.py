"""Arrays and networks at the corners of what the parameters allow, on Icarus, where unknown bits show."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hdl.console import RefusedError
from hdl.layouts import Section
from hdl.parameters import AcceleratorParameters
from sw.compiler.compile import Compiled, compile_network
from sw.compiler.schedule import program_cycles
from sw.graph import IntegerGraph
from tests.random_networks import random_convolution, random_images, random_network
from verif.network import accelerator, classify
from verif.reference import run

ROOMY = {
    "depth": 512,
    "passes": 40,
    "activation_words": 5000,
    "weight_words": 5000,
    "channel_words": 2000,
}
"""Enough to find out how much is enough."""

CORNERS: dict[str, tuple[str, dict[str, Any]]] = {
    "smallest": ("apot_k2n1u", {"rows": 1, "lanes": 1, "requantizers": 1, "tables": 3}),
    "one-lane": ("apot_k2n2u", {"rows": 12, "lanes": 1, "requantizers": 1}),
    "one-row": ("apot_k2n2u", {"rows": 1, "lanes": 8, "requantizers": 1, "encodings": 3}),
    "few-rows-many-lanes": ("apot_k2n2u", {"rows": 2, "lanes": 16, "requantizers": 1}),
    "one-group": ("apot_k2n2u", {"rows": 4, "lanes": 8, "requantizers": 4}),
    "narrow-codes": (
        "uniform_b1u",
        {"rows": 4, "lanes": 8, "requantizers": 4, "code_width": 1, "activation_width": 1},
    ),
    "wide-codes": (
        "uniform_b8u",
        {"rows": 4, "lanes": 4, "requantizers": 4, "code_width": 8, "activation_width": 8},
    ),
    "codes-wider-than-levels": (
        "uniform_b3u",
        {"rows": 4, "lanes": 4, "requantizers": 4, "code_width": 7, "activation_width": 3},
    ),
    "ternary": ("uniform_b2u", {"weight_format": "apot_k1n1", "rows": 4, "lanes": 4, "requantizers": 4}),
    "wide-weights": ("uniform_b4u", {"weight_format": "apot_k3n3", "rows": 2, "lanes": 4, "requantizers": 2}),
    "three-rows": ("apot_k2n2u", {"rows": 3, "lanes": 2, "requantizers": 1}),
    "partial-words": ("apot_k2n2u", {"rows": 6, "lanes": 8, "requantizers": 2}),
    "far-shifts": ("uniform_b4u", {"weight_format": "pot_k4", "rows": 2, "lanes": 4, "requantizers": 2}),
}
"""Format of the activations, and what is special."""


def parameters(**changed: Any) -> AcceleratorParameters:
    return AcceleratorParameters(**(ROOMY | changed))


def exact(network: IntegerGraph, chosen: AcceleratorParameters) -> AcceleratorParameters:
    """The same accelerator with memories of exactly the words that the network needs."""
    compiled = compile_network(network, chosen)
    words = {section: len(each) for section, each in compiled.sections.items()}
    smallest = replace(
        chosen,
        weight_words=words[Section.WEIGHTS],
        channel_words=words[Section.CHANNELS],
        program_words=words[Section.PROGRAM],
        result_words=_results(compiled),
        passes=max(layer.passes for layer in compiled.schedule),
    )
    low, high = 1, chosen.activation_words
    while low < high:
        middle = (low + high) // 2
        try:
            compile_network(network, replace(smallest, activation_words=middle))
            high = middle
        except RefusedError:
            low = middle + 1
    return replace(smallest, activation_words=low)


def _results(compiled: Compiled) -> int:
    """Result memory holds whole tiles."""
    groups = compiled.parameters.groups
    return -(-compiled.results // groups) * groups


def check(network: IntegerGraph, roomy: AcceleratorParameters, folder: Path, *, images: int = 2) -> None:
    """Logits and cycles of a network on an accelerator without a word to spare: the last ones are used."""
    chosen = exact(network, roomy)
    compiled = compile_network(network, chosen)
    limit = 2 ** (compiled.input.digits * compiled.input.digit_width)
    pictures = random_images(np.random.default_rng(7), network.input_shape, count=images) % limit
    path = folder / "accelerator.v"
    accelerator(chosen).write(path)
    found = classify(compiled, pictures, verilog=path, simulator="icarus")
    np.testing.assert_array_equal(found.logits, run(network, torch.from_numpy(pictures)).logits.numpy())
    assert set(found.cycles.tolist()) == {program_cycles(compiled.schedule)}


@pytest.fixture(autouse=True)
def _on_icarus(request: pytest.FixtureRequest) -> None:
    chosen = request.config.getoption("simulator")
    if chosen and "icarus" not in chosen:
        pytest.skip("runs on icarus")


NIGHTLY = set(CORNERS) - {"smallest", "one-row", "narrow-codes", "wide-weights", "partial-words"}


@pytest.mark.parametrize(
    "corner", [pytest.param(name, marks=pytest.mark.nightly if name in NIGHTLY else ()) for name in CORNERS]
)
def test_corner(corner: str, tmp_path: Path) -> None:
    activations, changed = CORNERS[corner]
    chosen = parameters(**changed)
    weights = chosen.weight_format
    network = random_network(
        np.random.default_rng([5, *corner.encode()]),
        weight_format=weights,
        activation_format=activations,
        input_shape=(2, 4, 5),
        channels=(3, 6),
        classes=5,
        end_format="uniform_b8" if weights != "pot_k4" else weights,
    )
    check(network, chosen, tmp_path)


def linear(inputs: int, classes: int, **formats: str) -> IntegerGraph:
    """A single layer: nothing is encoded, so the image has no boundaries."""
    layer = random_convolution(
        np.random.default_rng(3),
        name="only",
        outputs=classes,
        inputs=inputs,
        kernel=(1, 1),
        weight_format=formats.get("weight_format", "apot_k2n1o"),
        input_format=formats.get("input_format", "uniform_b8u"),
    )
    return IntegerGraph(input_shape=(inputs, 1, 1), nodes=(layer,), logit_scale=1.0)


def test_a_linear_classifier(tmp_path: Path) -> None:
    chosen = parameters(rows=4, lanes=4, requantizers=4)
    network = linear(11, 6)
    assert len(compile_network(network, chosen).sections[Section.BOUNDARIES]) == 0
    check(network, chosen, tmp_path)

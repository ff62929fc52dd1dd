"""The generated accelerator on both simulators against the integer reference: every bit and every cycle."""

from pathlib import Path

import numpy as np
import pytest

from hdl.formats import named
from sw import training
from sw.compiler.fitting import fitting_parameters
from sw.compiler.schedule import program_cycles
from sw.data import digits
from sw.export import integer_network
from sw.graph import IntegerGraph
from sw.recipe import Recipe
from tests.accelerator_cases import GAPS, SHAPES, case, check_cases, grouped, random_case, written
from verif.network import accelerator, classify


def check_random(shape: str, seeds: list[int], gaps: str, verilog: Path, simulator: str) -> None:
    check_cases([random_case(shape, seed) for seed in seeds], gaps, verilog, simulator)


def check_pauses(shape: str, gaps: str, folder: Path, simulator: str) -> None:
    """Two networks of their own for every pattern of pauses."""
    seed = 2 * list(GAPS).index(gaps)
    check_random(shape, [seed, seed + 1], gaps, written(shape, folder), simulator)


@pytest.mark.parametrize("gaps", ["steady", "both_slow"])
@pytest.mark.parametrize("shape", grouped(SHAPES))
def test_random_networks_on_icarus(shape: str, gaps: str, tmp_path: Path, icarus: str) -> None:
    """Bits and cycles alike, with and without pauses."""
    check_pauses(shape, gaps, tmp_path, icarus)


@pytest.mark.parametrize("gaps", GAPS)
@pytest.mark.parametrize("shape", grouped(["apot_k2n1o_4x8", "pot_k2_3x2"]))
def test_random_networks_on_verilator(shape: str, gaps: str, tmp_path: Path, verilator: str) -> None:
    """Two of the shapes, since a build takes long, with every combination of pauses."""
    check_pauses(shape, gaps, tmp_path, verilator)


@pytest.mark.nightly
@pytest.mark.parametrize("gaps", GAPS)
@pytest.mark.parametrize("shape", grouped(SHAPES))
def test_random_networks_with_every_pause(shape: str, gaps: str, tmp_path: Path, simulator: str) -> None:
    check_pauses(shape, gaps, tmp_path, simulator)


@pytest.mark.nightly
@pytest.mark.parametrize("gaps", GAPS)
@pytest.mark.parametrize("seed", range(100, 160, 10))
@pytest.mark.parametrize("shape", grouped(SHAPES))
def test_many_random_networks(shape: str, seed: int, gaps: str, tmp_path: Path, simulator: str) -> None:
    check_random(shape, list(range(seed, seed + 10)), gaps, written(shape, tmp_path), simulator)


def test_the_random_networks_cover_the_layers() -> None:
    """Kernels 1 … 5, also oblong; strides 1 … 3; paddings; signs; tiles whole or not; one or many passes."""
    cases = [random_case(shape, seed) for shape in SHAPES for seed in range(2 * len(GAPS))]
    layers = [(each.compiled.parameters, layer) for each in cases for layer in each.network.nodes[:2]]
    kernels = [layer.weights.shape[2:] for _, layer in layers]
    assert {length for kernel in kernels for length in kernel} == {1, 2, 3, 4, 5}
    assert {height == width for height, width in kernels} == {True, False}
    assert {layer.stride for _, layer in layers} == {1, 2, 3}
    assert {layer.padding for _, layer in layers} == {0, 1, 2, 3}
    firsts = [(named(each.network.input_format).signed, each.network.nodes[0].padding > 0) for each in cases]
    assert set(firsts) == {(True, True), (True, False), (False, True), (False, False)}
    assert {len(layer.multiplier) % p.rows == 0 for p, layer in layers} == {True, False}
    assert {-(-len(layer.multiplier) // p.rows) for p, layer in layers} == {1, 2, 3}
    assert {layer.weights.shape[1] > p.lanes for p, layer in layers} == {True, False}
    assert {bool((layer.multiplier < 0).any()) for _, layer in layers} == {True, False}
    passes = {layer.passes for each in cases for layer in each.compiled.schedule}
    assert {1, 2, 6} <= passes
    varied = [bool((each.expected[0] != each.expected[1]).any()) for each in cases]
    assert sum(varied) > 0.9 * len(varied)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> IntegerGraph:
    """A network trained on digits for 2 epochs."""
    path = tmp_path_factory.mktemp("digits") / "net.pt"
    return integer_network(training.train(Recipe(epochs=2), digits(), path))


@pytest.mark.xdist_group("accelerator")
def test_held_out_digits(trained: IntegerGraph, simulator: str, tmp_path: Path) -> None:
    """A trained network on the accelerator as it is by default, on images that training has not seen."""
    images = digits().test_images[: {"verilator": 100, "icarus": 3}[simulator]].numpy()
    expected = case(trained, fitting_parameters(trained), images)
    path = tmp_path / "accelerator.v"
    accelerator(expected.compiled.parameters).write(path)
    answers = classify(expected.compiled, images, verilog=path, simulator=simulator)
    np.testing.assert_array_equal(answers.logits, expected.expected)
    assert set(answers.cycles.tolist()) == {program_cycles(expected.compiled.schedule)}
    hits = answers.logits.argmax(axis=1) == digits().test_labels[: len(images)].numpy()
    assert simulator == "icarus" or hits.mean() >= 0.7

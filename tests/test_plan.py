"""``python -m sw plan``: cycles, memories and images a second of networks that have not run."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from hdl.parameters import AcceleratorParameters
from sw.__main__ import main
from sw.compiler.compile import compile_network
from sw.compiler.fitting import fitting_parameters
from sw.compiler.schedule import program_cycles
from sw.graph import Convolution, IntegerGraph
from sw.image import write_image
from sw.interchange import save
from sw.lowering import interchange
from sw.models import build
from sw.precision import Precision
from tests.random_graphs import random_graph
from tests.random_networks import random_network

CHOSEN = AcceleratorParameters(
    rows=8, lanes=4, requantizers=2, encodings=16, tables=4, value_words=4096, program_words=1024, cores=2
)


def plan(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["plan", *map(str, arguments)], env={"COLUMNS": "120"})


@pytest.fixture
def graph() -> IntegerGraph:
    return random_graph(
        np.random.default_rng(3),
        weight_formats=("apot_k2n1o",),
        activation_formats=("apot_k2n2u",),
        rows=8,
        requantizers=2,
    )


@pytest.fixture
def image(graph: IntegerGraph, tmp_path: Path) -> Path:
    path = tmp_path / "net.bin"
    write_image(path, compile_network(graph, CHOSEN))
    return path


def test_json_says_what_the_compiler_knows(graph: IntegerGraph, image: Path) -> None:
    found = json.loads(plan(image, "--clock", "250", "--json").stdout)
    compiled = compile_network(graph, CHOSEN)
    cycles = program_cycles(compiled.schedule)
    assert found["cycles"] == cycles
    assert found["images_per_second"] == pytest.approx(2 * 250e6 / cycles)
    assert [layer["name"] for layer in found["layers"]] == [node.name for node in graph.nodes]
    weights = [node.weights for node in graph.nodes if isinstance(node, Convolution)]
    assert found["macs"] >= sum(each.size for each in weights)
    assert found["share_of_peak"] == pytest.approx(found["macs"] / (32 * cycles))
    for name, memory in found["memories"].items():
        assert 0 < memory["used"] <= memory["words"], name
    for part, memory in (("activation_words", "activations"), ("value_words", "values")):
        most = max(layer[part] for layer in found["layers"])
        assert most <= found["memories"][memory]["used"] <= 1.5 * most
    assert found["memories"]["weights"]["used"] == sum(layer["weight_words"] for layer in found["layers"])
    assert found["parameters"]["lanes"] == 4
    bits = [layer["sum_bits"] for layer in found["layers"]]
    assert [each > 0 for each in bits] == [isinstance(node, Convolution) for node in graph.nodes]
    sums = found["accumulators"]
    assert (sums["used"], sums["bits"], sums["depth"]) == (max(bits), CHOSEN.accumulator_width, CHOSEN.depth)
    assert CHOSEN.lanes <= sums["narrowest_depth"] <= CHOSEN.depth
    compile_network(graph, replace(CHOSEN, depth=sums["narrowest_depth"]))


def test_the_table(graph: IntegerGraph, image: Path) -> None:
    result = plan(image)
    assert (result.exit_code, result.stderr) == (0, "")
    cycles = program_cycles(compile_network(graph, CHOSEN).schedule)
    total = next(line for line in result.stdout.splitlines() if line.split()[:1] == ["total"])
    assert f"{cycles:,}" in total.split()
    assert f"{2 * 100e6 / cycles:,.1f} images a second at 100 MHz" in result.stdout
    lines = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line.split()}
    layers = compile_network(graph, CHOSEN).schedule
    assert f"of {CHOSEN.accumulator_width} bits" in result.stdout
    for layer in layers:
        assert lines[layer.name][5] == (str(layer.sum_bits) if layer.sum_bits else "0")
    used = max(layer.sum_bits for layer in layers)
    assert (
        f"sums of a pass need {used} of {CHOSEN.accumulator_width} bits, for which a depth" in result.stdout
    )


def test_fitting_parameters_take_any_graph(graph: IntegerGraph) -> None:
    """Memories are chosen as large as they must be, and codes as narrow as inner layers allow."""
    chosen = fitting_parameters(graph)
    compiled = compile_network(graph, chosen)
    assert chosen.code_width == 4
    assert chosen.value_words >= compiled.usage["value_words"] > 0
    assert chosen.value_words - compiled.usage["value_words"] < 512


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_fit_what_is_chosen_for_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    formats = {"weight_formats": ("apot_k2n1o",), "activation_formats": ("apot_k2n2u", "uniform_b3u")}
    graph = random_graph(rng, rows=16, requantizers=8, **formats)
    compile_network(graph, fitting_parameters(graph))


def test_an_image_of_another_accelerator_is_refused(image: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    chosen = AcceleratorParameters()
    content = {"parameters": vars(chosen), "build_id": f"{chosen.build_id:08x}"}
    other.write_text(json.dumps(content))
    result = plan(image, "--accelerator", other)
    assert result.exit_code == 1
    assert f"but must be for build {chosen.build_id:08x}" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["none.bin"], 1, "none.bin: no such file or directory"),
        (["none.bin", "--clock", "0"], 2, "--clock"),
        ([], 2, "Missing argument 'NETWORK'"),
    ],
)
def test_refusals(arguments: list[str], status: int, message: str) -> None:
    result = plan(*arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_chain_needs_no_values() -> None:
    rng = np.random.default_rng(0)
    graph = random_network(rng, weight_format="apot_k2n1o", activation_format="apot_k2n2u")
    assert fitting_parameters(graph).value_words == 0


def test_an_array_is_chosen_for_a_network_but_not_for_a_packed_image(tmp_path: Path, image: Path) -> None:
    precision = Precision(scheme="dmbq", weight_bits=2)
    content = interchange(build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=precision).eval())
    save(content, tmp_path / "net.safetensors")
    arguments = ["--weight-format", "uniform_b5", "--rows", "32", "--json"]
    found = json.loads(plan(tmp_path / "net.safetensors", *arguments).stdout)
    assert (found["parameters"]["weight_format"], found["parameters"]["rows"]) == ("uniform_b5", 32)
    usual = json.loads(plan(tmp_path / "net.safetensors", "--json").stdout)
    narrow = json.loads(plan(tmp_path / "net.safetensors", "--narrow", "--json").stdout)
    assert narrow["accumulators"]["depth"] == usual["accumulators"]["narrowest_depth"] < 4608
    assert narrow["parameters"] == usual["parameters"] | {"depth": narrow["accumulators"]["depth"]}
    assert (usual["parameters"]["weight_format"], usual["parameters"]["rows"]) == ("basis_1", 16)
    result = plan(image, "--rows", "32")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith("net.bin: is packed for an array already, so none can be chosen\n")

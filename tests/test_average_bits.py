"""Cycles follow the average of bits: of the planes of weights, and of the channels that activations keep."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hdl.parameters import AcceleratorParameters
from sw.allocation import mixed
from sw.compiler.compile import compile_network, lower
from sw.compiler.schedule import program_cycles
from sw.export import integer_network
from sw.graph import IntegerGraph
from sw.models import build
from sw.precision import Precision
from sw.quantize import quantize
from sw.quantizers import MixedActivation, MixedDMBQWeight
from tests.executor_check import check_executor
from tests.random_networks import random_images
from verif.network import accelerator, classify
from verif.reference import run as run_reference

ROOT = Path(__file__).parents[1]
DMBQ = Precision(scheme="dmbq", weight_bits=4, activation_bits=4)
EVEN, MIDDLE = (0, 1, 2, 3, 4), (1, 2, 3)
"""Bits that are 2.0 on average: as many channels of each."""

PLANES = AcceleratorParameters(
    weight_format="basis_1",
    rows=16,
    lanes=16,
    requantizers=4,
    code_width=5,
    activation_width=7,
    depth=2**16,
    passes=32,
    activation_words=2**20,
    value_words=2**20,
    weight_words=2**20,
    channel_words=2**16,
    program_words=4096,
    result_words=1024,
    encodings=32,
    tables=16,
)
SMALL = replace(
    PLANES, rows=4, lanes=4, activation_words=1024, value_words=1024, weight_words=2**15, channel_words=2048
)


class Chain(nn.Module):
    """Three convolutions, in the second of which most of the work is, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((1, 32), (32, 32), (32, 16)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(16, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(images / 255).mean((2, 3)))


def chain() -> nn.Module:
    torch.manual_seed(4)
    return mixed(quantize(Chain(), DMBQ)).eval()


def network(name: str, shape: tuple[int, int, int], *, classes: int = 10) -> nn.Module:
    torch.manual_seed(4)
    return mixed(build(name, input_shape=shape, classes=classes, precision=DMBQ)).eval()


def narrowed(parameters: AcceleratorParameters, level_width: int) -> AcceleratorParameters:
    """The same array for levels of so many bits."""
    width = min(parameters.code_width, level_width)
    return replace(parameters, code_width=width, activation_width=level_width, passes=128)


def allotted(
    model: nn.Module,
    shape: tuple[int, int, int],
    *,
    weights: tuple[int, ...],
    activations: tuple[int, ...],
    level_width: int | None = None,
) -> IntegerGraph:
    """The graph of a model whose channels have as many of these bits each, in random order."""
    rng = np.random.default_rng(0)
    for quantizer in model.modules():
        if isinstance(quantizer, MixedActivation | MixedDMBQWeight):
            bits = activations if isinstance(quantizer, MixedActivation) else weights
            found = rng.permutation(np.resize(bits, len(quantizer.bits)))
            quantizer.bits.copy_(torch.from_numpy(found))
    return integer_network(model, shape, level_width=level_width)


@pytest.mark.parametrize(("level_width", "most"), [(7, 1.10 * 2.0 / 4.0), (4, 0.64), (2, 0.57)])
def test_a_network_of_half_the_bits_takes_half_the_cycles_simulated(
    level_width: int, most: float, tmp_path: Path
) -> None:
    """Of bits 0 to 4; results of both networks are the reference's, and the counters the plans'.

    26 channels are 7 words in one tensor, and 8 or 9 in those of narrower levels.
    """
    verilog, shape, found = tmp_path / "accelerator.v", (1, 2, 2), []
    parameters = narrowed(SMALL, level_width)
    accelerator(parameters).write(verilog)
    for bits in (EVEN, (4,)):
        graph = allotted(chain(), shape, weights=bits, activations=bits, level_width=level_width)
        compiled = compile_network(graph, parameters)
        images = random_images(np.random.default_rng(1), shape, count=1)
        answers = classify(compiled, images, verilog=verilog, simulator="icarus")
        expected = run_reference(graph, torch.from_numpy(images)).logits
        np.testing.assert_array_equal(answers.logits, expected.numpy())
        assert answers.cycles.tolist() == [program_cycles(compiled.schedule)]
        found.append(int(answers.cycles[0]))
    few, all_four = found
    print(f"{few} of {all_four} cycles: {few / all_four:.3f}")
    assert few / all_four <= most


@pytest.mark.parametrize("level_width", [7, 4, 2, 1])
@pytest.mark.parametrize("weight_format", ["basis_1", "uniform_b9"])
def test_mixed_networks_executed(weight_format: str, level_width: int) -> None:
    """Every tensor, where channels are pruned, moved and left out, on an array of signs and of integers."""
    parameters = replace(SMALL, weight_format=weight_format, weight_words=2**17, channel_words=2**14)
    parameters, levels = narrowed(parameters, level_width), {"level_width": level_width}
    for bits in (EVEN, MIDDLE):
        check_executor(allotted(chain(), (1, 4, 4), weights=bits, activations=bits, **levels), parameters)
    large = replace(
        parameters, activation_words=2**14, value_words=2**14, program_words=2**13, weight_words=2**18
    )
    graph = allotted(network("resnet10", (1, 8, 8)), (1, 8, 8), weights=MIDDLE, activations=EVEN, **levels)
    check_executor(graph, large)


def test_pruned_channels_are_neither_computed_nor_read() -> None:
    """Of 32 channels half have no bits: 4 of 8 tiles take a step each, and 4 of 8 words are read."""
    graph = allotted(chain(), (1, 4, 4), weights=(2,), activations=(0, 3))
    commands = {node.name: each for node, each in lower(graph, SMALL).nodes}
    steps = [(each.fields["tiles"], each.steps) for each in commands["features.3"]]
    assert steps == [(4, [9 * 4, 9 * 4]), (4, [1])]
    assert [(each.fields["tiles"], each.steps) for each in commands["features.6"]] == [(4, [9 * 4] * 2)]
    # A pooling in front of the codes, and their counts, make no difference.
    for bits in ((0, 3), (0, 3, 0, 2)):
        graph = allotted(network("vgg_small", (3, 8, 8)), (3, 8, 8), weights=(2,), activations=bits)
        kept = {node.name: np.count_nonzero(node.multiplier) for node in graph.nodes}
        assert kept["features.3"] == kept["features.6"] == 64
        assert kept.get("features.6.levels", 64) == 64


def test_wide_activations_take_a_pass_for_each_digit_of_narrow_codes() -> None:
    """Of 4 bits in codes of 2 twice those of 2 bits, also where a sum is kept in a unit of its own."""
    narrow, shape = replace(SMALL, code_width=2, activation_width=2, passes=64), (1, 8, 8)
    model = network("resnet10", shape)
    wide, plain = (allotted(model, shape, weights=(2,), activations=(bits,)) for bits in (4, 2))
    check_executor(
        wide,
        replace(narrow, activation_words=2**13, value_words=2**13, weight_words=2**17, channel_words=2**13),
    )
    passes = [
        [
            len(commands[0].passes)
            for node, commands in lower(graph, narrow).nodes
            if node.name.endswith("conv2")
        ]
        for graph in (wide, plain)
    ]
    assert passes == [[4] * 4, [2] * 4]


@pytest.mark.parametrize(
    ("bits", "level_width"), [(EVEN, 7), ((0, 2, 4), 7), ((1, 2, 2, 3), 7), (EVEN, 4), (EVEN, 2), (MIDDLE, 2)]
)
def test_vgg_of_half_the_bits_takes_half_the_cycles(bits: tuple[int, ...], level_width: int) -> None:
    arrays = [(16, level_width)]
    ratio = ratios("vgg_small", (3, 32, 32), 10, cases={"": (bits, bits)}, arrays=arrays)[0][0]
    print(f"{ratio:.3f}")
    assert ratio <= 1.10 * 2.0 / 4.0


def ratios(
    name: str,
    shape: tuple[int, int, int],
    classes: int,
    *,
    cases: dict[str, tuple[tuple[int, ...], tuple[int, ...]]],
    arrays: Sequence[tuple[int, int]],
) -> list[list[float]]:
    """For each case and array, of rows and bits of a level, the part of the cycles that 4 bits take."""
    model = network(name, shape, classes=classes)

    def all_cycles(weights: tuple[int, ...], activations: tuple[int, ...]) -> Iterator[int]:
        bits = {"weights": weights, "activations": activations}
        for rows, level_width in arrays:
            array = narrowed(replace(PLANES, rows=rows, lanes=rows), level_width)
            graph = allotted(model, shape, **bits, level_width=level_width)
            yield sum(each.cycles(array) for _, commands in lower(graph, array).nodes for each in commands)

    whole = list(all_cycles((4,), (4,)))
    return [
        [few / all_four for few, all_four in zip(all_cycles(*case), whole, strict=True)]
        for case in cases.values()
    ]


CASES = {
    "0 … 4 and 0 … 4": (EVEN, EVEN),
    "1 … 3 and 1 … 3": (MIDDLE, MIDDLE),
    "2 and 0 … 4": ((2,), EVEN),
    "0 … 4 and 2": (EVEN, (2,)),
    "2 and 2": ((2,), (2,)),
}
NETWORKS: tuple[tuple[str, tuple[int, int, int], int], ...] = (
    ("vgg_small", (3, 32, 32), 10),
    ("resnet18", (3, 224, 224), 1000),
    ("resnet20", (3, 32, 32), 10),
)


@pytest.mark.nightly
def test_the_documented_table() -> None:
    """What docs/networks.md says of half the bits, in tensors of levels of 7 bits."""
    check_documented([ratios(*each, cases=CASES, arrays=[(16, 7), (4, 7)]) for each in NETWORKS])


@pytest.mark.nightly
@pytest.mark.parametrize("rows", [16, 4])
def test_the_documented_table_of_levels(rows: int) -> None:
    """What it says of arrays of other levels."""
    arrays = [(rows, level_width) for level_width in (7, 4, 2, 1)]
    check_documented([ratios(*each, cases=CASES, arrays=arrays) for each in NETWORKS[::2]])


def check_documented(columns: list[list[list[float]]]) -> None:
    rows = [
        f"| {case} | " + " | ".join(f"{ratio:.2f}" for column in columns for ratio in column[index]) + " |"
        for index, case in enumerate(CASES)
    ]
    print("\n".join(rows))
    assert "\n".join(rows) in (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")

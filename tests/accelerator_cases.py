"""Small accelerators, random networks for them, and what must come back."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gen.verilog import Design
from hdl.layouts import Status
from hdl.parameters import AcceleratorParameters
from sw.bits import Words
from sw.compiler.compile import Compiled, compile_network
from sw.compiler.schedule import program_cycles
from sw.driver import encode_images, load_packets, response_length, run_packets
from sw.graph import IMAGE, IntegerGraph, Integers
from tests.random_graphs import random_graph
from tests.random_networks import random_convolution, random_images, random_table
from verif.network import accelerator, exchange
from verif.reference import run as run_reference

GAPS = {
    "steady": (0, 0),
    "slow_source": (0x5A3C_10F7, 0),
    "slow_sink": (0, 0xE1B2_7FC6),
    "both_slow": (0x8000_7FFF, 0x6D31_F00A),
}
"""Patterns of the source's and the sink's pauses."""

VALUES = {"value_words": 4096, "encodings": 16, "tables": 4, "program_words": 1024}
"""What graphs need that are no chains."""

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "apot_k1n1_4x4": ("uniform_b4u", {"rows": 4, "lanes": 4, "requantizers": 4, "activation_width": 4}),
    "apot_k2n1_8x4": (
        "apot_k2n1u",
        {"rows": 8, "lanes": 4, "requantizers": 2, "code_width": 2, "activation_width": 3, **VALUES},
    ),
    "apot_k2n1o_4x8": ("apot_k2n2u", {"rows": 4, "lanes": 8, "requantizers": 4, **VALUES}),
    "apot_k2n2_6x8": ("apot_k2n2u", {"rows": 6, "lanes": 8, "requantizers": 2}),
    "pot_k2_3x2": (
        "pot_k3u",
        {"rows": 3, "lanes": 2, "requantizers": 1, "code_width": 3, "activation_width": 7, **VALUES},
    ),
    "uniform_b4_8x8": ("apot_k2n2u", {"rows": 8, "lanes": 8, "requantizers": 8}),
    "signmag_b6_4x4": (
        "apot_k2n1u",
        {
            "rows": 4,
            "lanes": 4,
            "requantizers": 2,
            "code_width": 2,
            "activation_width": 3,
            "codebooks": 3,
            "index_width": 3,
            **VALUES,
        },
    ),
}
"""Weight format and size of the array: its format of activations, and its other parameters."""

GRAPHS = ("apot_k2n1_8x4", "apot_k2n1o_4x8", "pot_k2_3x2", "signmag_b6_4x4")
"""Shapes that run graphs: tiles of whole words, parts of words, and both; and one with codebooks."""

MEMORIES = {
    "depth": 4096,
    "activation_words": 4096,
    "weight_words": 8192,
    "channel_words": 2048,
    "result_words": 32,
}


def small(shape: str) -> AcceleratorParameters:
    return AcceleratorParameters(
        weight_format=shape.rpartition("_")[0], passes=32, **SHAPES[shape][1], **MEMORIES
    )


def weight_formats(parameters: AcceleratorParameters, seed: int) -> tuple[str, ...]:
    """Formats of inner layers: the array's own, or two tables where there are codebooks for them."""
    if not parameters.codebooks:
        return (parameters.weight_format,)
    rng = np.random.default_rng([seed, parameters.codebooks])
    bits, largest = parameters.index_width, parameters.format.max_level
    return tuple(random_table(rng, bits=bits, largest=largest) for _ in range(2))


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network in memory, images, and what must come back for each."""

    network: IntegerGraph
    compiled: Compiled
    images: Integers
    expected: Integers

    @property
    def loads(self) -> list[Words]:
        """Packets that load the network."""
        return load_packets(self.compiled.sections, parameters=self.compiled.parameters)

    @property
    def runs(self) -> list[Words]:
        """Packets that load and run each image."""
        compiled, parameters = self.compiled, self.compiled.parameters
        encoded = encode_images(self.images, layout=compiled.input, parameters=parameters)
        return run_packets(encoded, results=compiled.results, parameters=parameters)

    def check(self, responses: list[list[int]]) -> None:
        """Each image's status, cycles and results."""
        heads = [response[:2] for response in responses]
        assert heads == [[Status.DONE, program_cycles(self.compiled.schedule)]] * len(self.images)
        results = np.array([response[2:] for response in responses], dtype=np.uint32).view(np.int32)
        np.testing.assert_array_equal(results[:, : self.compiled.classes], self.expected)


def case(network: IntegerGraph, parameters: AcceleratorParameters, images: Integers) -> Case:
    return Case(
        network=network,
        compiled=compile_network(network, parameters),
        images=images,
        expected=run_reference(network, torch.from_numpy(images)).logits.numpy(),
    )


def random_case(shape: str, seed: int, *, images: int = 2) -> Case:
    """Two convolutions of random shape, then a layer over the whole map; the ends have 8 bits now and then.

    Every other image of 8 bits has a sign.

    Channels are few enough for a part of a tile, or enough for several tiles and words.
    """
    rng = np.random.default_rng([seed, *shape.encode()])
    parameters, activations = small(shape), SHAPES[shape][0]
    bits = (parameters.code_width, 8)[seed % 2]
    first, *others = weight_formats(parameters, seed)
    ends = first if rng.random() < 0.5 else "uniform_b8"
    inner = (first, *others)[seed // 2 % (1 + len(others))]
    channels, *size = input_shape = (int(rng.integers(2, 5)), *rng.integers(5, 9, 2).tolist())
    input_format = before = f"uniform_b{bits}{'' if seed % 4 == 3 else 'u'}"
    layers, source = [], IMAGE
    for weights in (ends, inner):
        kernel = tuple(int(rng.integers(1, 1 + min(5, length))) for length in size)
        stride, padding = int(rng.integers(1, 4)), int(rng.integers(0, 1 + min(kernel) // 2 + 1))
        outputs = int(rng.integers(3, 2 * parameters.rows + 2))
        options = {"kernel": kernel, "stride": stride, "padding": padding, "outputs": outputs}
        target = f"codes{len(layers)}"
        formats = {"weight_format": weights, "input_format": before, "encodings": {target: activations}}
        name = f"layer{len(layers)}"
        options |= {"name": name, "source": source, "inputs": channels}
        layers.append(random_convolution(rng, **options, **formats))
        size = [(a + 2 * padding - b) // stride + 1 for a, b in zip(size, kernel, strict=True)]
        channels, source, before = outputs, target, activations
    options = {"kernel": (size[0], size[1]), "outputs": int(rng.integers(3, 12))}
    options |= {"weight_format": ends, "input_format": before}
    layers.append(random_convolution(rng, name="last", source=source, inputs=channels, **options))
    network = IntegerGraph(
        input_shape=input_shape, nodes=tuple(layers), logit_scale=1.0, input_format=input_format
    )
    pictures = random_images(rng, input_shape, count=images, input_format=input_format)
    return case(network, parameters, pictures)


def graph_case(shape: str, seed: int, *, images: int = 1) -> Case:
    """Blocks of everything that a graph can hold; images of odd seeds have a sign."""
    rng = np.random.default_rng([seed, *shape.encode(), 1])
    parameters, activations = small(shape), SHAPES[shape][0]
    graph = random_graph(
        rng,
        weight_formats=weight_formats(parameters, seed),
        activation_formats=(activations, f"uniform_b{parameters.code_width}u"),
        rows=parameters.rows,
        requantizers=parameters.requantizers,
        input_format=("uniform_b8u", "uniform_b8")[seed % 2],
    )
    pictures = random_images(rng, graph.input_shape, count=images, input_format=graph.input_format)
    return case(graph, parameters, pictures)


def check_cases(cases: Sequence[Case], gaps: str, verilog: Path, simulator: str) -> None:
    """Networks one after another, without a reset in between: every bit and every cycle."""
    packets = [packet for each in cases for packet in (*each.loads, *each.runs)]
    answers = sum(
        len(each.images) * response_length(results=each.compiled.results, parameters=each.compiled.parameters)
        for each in cases
    )
    cycles = sum(len(each.images) * program_cycles(each.compiled.schedule) for each in cases)
    source_gaps, sink_gaps = GAPS[gaps]
    exchanged = exchange(
        verilog,
        packets,
        answers=answers,
        simulator=simulator,
        cycle_limit=2 * cycles + 40 * (answers + sum(map(len, packets))),
        source_gaps=source_gaps,
        sink_gaps=sink_gaps,
    )
    responses = split(exchanged.words, exchanged.last)
    assert len(responses) == sum(len(each.images) for each in cases)
    for each in cases:
        each.check(responses[: len(each.images)])
        responses = responses[len(each.images) :]
    assert exchanged.busy_cycles == cycles


def split(words: Words, last: Any) -> list[list[int]]:
    """Responses, by their ends."""
    ends = (np.flatnonzero(last) + 1).tolist()
    return [words[start:end].tolist() for start, end in zip([0, *ends], ends, strict=False)]


@cache
def design(shape: str) -> Design:
    return accelerator(small(shape))


def written(shape: str, folder: Path) -> Path:
    """The accelerator of a shape; simulators build equal contents once."""
    path = folder / "accelerator.v"
    design(shape).write(path)
    return path


def grouped(shapes: Iterable[str]) -> list[Any]:
    """Shapes, each for one worker, which generates and builds it once."""
    return [pytest.param(shape, marks=pytest.mark.xdist_group(f"accelerator_{shape}")) for shape in shapes]

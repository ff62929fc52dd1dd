"""The executor of packed images against the reference, plain integers, and what becomes of wrong programs."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from hdl.layouts import (
    Section,
    channel_word,
    search_order,
    slice_width,
    slices,
    weight_word,
)
from hdl.parameters import VALUE_WIDTH, AcceleratorParameters
from sw.compiler.compile import compile_network, lower
from sw.executor import (
    Constants,
    Datapath,
    Instruction,
    Machine,
    Memories,
    Walk,
    codes_of,
    values_of,
)
from sw.executor.requantize import as_codes
from sw.graph import IntegerGraph
from tests.accelerator_cases import SHAPES, random_case, small, weight_formats
from tests.command_model import Machine as Model
from tests.random_graphs import random_graph
from tests.random_networks import random_images
from tests.test_commands import COMMANDS, number, random_command, random_machine
from tests.test_commands import SHAPES as COMMAND_SHAPES
from tests.test_commands import parameters as command_parameters
from verif.reference import run as run_reference

ROOMY = {
    "value_words": 2**12,
    "activation_words": 2**13,
    "channel_words": 2**11,
    "weight_words": 2**16,
    "program_words": 2**12,
    "tables": 16,
    "encodings": 16,
}


def graph_for(shape: str, seed: int) -> tuple[IntegerGraph, AcceleratorParameters]:
    """A random graph; the images of odd seeds have a sign."""
    rng = np.random.default_rng([seed, *shape.encode()])
    parameters = replace(small(shape), **ROOMY)
    formats = (SHAPES[shape][0],)
    sizes = {"rows": parameters.rows, "requantizers": parameters.requantizers}
    image = ("uniform_b8u", "uniform_b8")[seed % 2]
    ends = {"weight_formats": weight_formats(parameters, seed), "input_format": image}
    return random_graph(rng, activation_formats=formats, **ends, **sizes), parameters


def check_graph(shape: str, seed: int) -> None:
    """Every tensor, as soon as its node has ended, and the results."""
    graph, parameters = graph_for(shape, seed)
    rng, shape = np.random.default_rng(seed), graph.input_shape
    images = random_images(rng, shape, count=2, input_format=graph.input_format)
    expected = run_reference(graph, torch.from_numpy(images))
    lowered, machine = lower(graph, parameters), Machine(compile_network(graph, parameters))
    ends = np.cumsum([len(commands) for _, commands in lowered.nodes]) - 1
    nodes = dict(zip(ends.tolist(), graph.nodes, strict=True))
    seen = []

    def compare(instruction: Instruction, memories: Memories) -> None:
        node = nodes.get(instruction.index)
        if node is None:
            return
        for tensor in (each.tensor for each in node.encodings):
            found = codes_of(memories, lowered.placement.codes[tensor])
            torch.testing.assert_close(found.long(), expected.codes[tensor], rtol=0, atol=0)
            seen.append(tensor)
        if node.values is not None:
            found = values_of(memories, lowered.placement.values[node.values])
            torch.testing.assert_close(found.long(), expected.values[node.values], rtol=0, atol=0)
            seen.append(node.values)

    results = machine.run(images, observe=compare)
    np.testing.assert_array_equal(results, expected.logits.numpy())
    assert sorted(seen) == sorted([*expected.codes, *expected.values])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", SHAPES)
def test_graphs_equal_the_reference(shape: str, seed: int) -> None:
    check_graph(shape, seed)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(100, 140))
@pytest.mark.parametrize("shape", SHAPES)
def test_many_graphs_equal_the_reference(shape: str, seed: int) -> None:
    check_graph(shape, seed)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_the_accelerator_is_simulated_with(shape: str) -> None:
    """The networks and images of `test_accelerator`, which the hardware computes to the same results."""
    for seed in range(4):
        case = random_case(shape, seed)
        np.testing.assert_array_equal(Machine(case.compiled).run(case.images), case.expected)


def test_batches_do_not_change_results() -> None:
    case = random_case("apot_k2n1o_4x8", 0, images=5)
    machine = Machine(case.compiled)
    alone = [machine.run(case.images[index : index + 1]) for index in range(5)]
    np.testing.assert_array_equal(np.concatenate(alone), machine.run(case.images))


# Commands by themselves


def constants_of(model: Model) -> Constants:
    """Sections that hold what the model does."""
    p = model.parameters
    codes = {level: code for code, level in enumerate(p.format.levels)}
    codes = codes if not p.codebooks else {index: index for index in range(1 << p.index_width)}
    weights = [[[codes[level] for level in row] for row in word] for word in model.weights]
    trees = [search_order(each, code_width=p.code_width) for each in model.boundaries]
    numbers = {
        Section.WEIGHTS: [number(weight_word(p), word) for word in weights],
        Section.CHANNELS: [number(channel_word(p), word) for word in model.channels],
        Section.TABLES: [level for table in model.tables for level in table],
        Section.BOUNDARIES: [entry % 2**VALUE_WIDTH for tree in trees for entry in tree],
    }
    if p.codebooks:
        numbers[Section.CODEBOOKS] = [p.format.codes[level] for each in model.codebooks for level in each]
    sections = {}
    for section, words in numbers.items():
        width, count = slice_width(p, section), slices(p, section)
        cut = [[word >> width * i & (1 << width) - 1 for i in range(count)] for word in words]
        sections[section] = np.array(cut, dtype=np.uint32)
    return Constants(sections, p)


def memories_of(model: Model) -> Memories:
    p = model.parameters
    codes = np.array(model.activations, dtype=np.uint8).reshape(1, -1, p.requantizers)
    values = np.array(model.values, dtype=np.int32).reshape(1, -1, p.requantizers)
    results = np.array(model.results, dtype=np.int64).reshape(1, -1, p.requantizers)
    return Memories(
        activation_words=p.activation_words,
        codes=torch.from_numpy(codes),
        values=torch.from_numpy(values),
        results=torch.from_numpy(results),
    )


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("shape", COMMAND_SHAPES)
def test_commands_equal_plain_integers(shape: str, seed: int) -> None:
    """The very commands that the engine is simulated with, on memories full of random numbers."""
    p, draw = command_parameters(shape), random.Random(f"{shape} {seed}")
    model = random_machine(draw, p)
    datapath, memories = Datapath(constants_of(model), p), memories_of(model)
    for index in range(COMMANDS):
        fields, passes = random_command(draw, p)
        command = Instruction(index=index, address=0, fields=fields, passes=tuple(passes))
        datapath.carry_out(Walk(command, p), memories)
        model.run(fields, passes)
        expected = memories_of(model)
        for name in ("codes", "values", "results"):
            found = getattr(memories, name)
            torch.testing.assert_close(found, getattr(expected, name), rtol=0, atol=0, msg=f"{name} {fields}")


def test_boundaries_are_searched_as_they_lie() -> None:
    """Also where they are in no order: the encoder compares with one node of its tree after another."""
    rng = np.random.default_rng(3)
    tree, y = rng.integers(-50, 50, (1, 16)), torch.arange(-70, 70)
    expected = []
    for value in y.tolist():
        node = 1
        while node < 16:
            node = 2 * node + int(tree[0, node] < value)
        expected.append(node - 16)
    codes = as_codes(y, {"linear": 0, "encoding": 0}, tree, code_width=4)
    assert codes.tolist() == expected
    assert expected != [int((tree[0, 1:] < value).sum()) for value in y.tolist()]

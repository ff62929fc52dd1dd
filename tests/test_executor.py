"""The executor of packed images against the reference, plain integers, and what becomes of wrong programs."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hdl.console import RefusedError
from hdl.layouts import (
    LayerOpcode,
    Section,
    Status,
    channel_word,
    search_order,
    slice_width,
    slices,
    weight_word,
)
from hdl.parameters import BIAS_WIDTH, MAX_WINDOW, MULTIPLIER_WIDTH, VALUE_WIDTH, AcceleratorParameters
from sw.compiler import Compiled, compile_network, lower
from sw.executor import (
    Constants,
    Datapath,
    FaultError,
    Instruction,
    Machine,
    Memories,
    Walk,
    codes_of,
    values_of,
    walks,
)
from sw.executor.requantize import as_codes
from sw.graph import IntegerGraph
from sw.input_layout import InputLayout
from tests.accelerator_cases import SHAPES, random_case, small
from tests.command_model import Machine as Model
from tests.engine_bench import PARAMETERS, filled, layer, program
from tests.nested_loops import Fields, TooLongError, fate
from tests.random_graphs import random_graph
from tests.test_commands import SHAPES as COMMAND_SHAPES
from tests.test_commands import number, random_command, random_machine
from tests.test_commands import parameters as command_parameters
from tests.test_programs import JUST_RIGHT, WRONG, changed_program, garbage
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
    rng = np.random.default_rng([seed, *shape.encode()])
    parameters = replace(small(shape), **ROOMY)
    formats = (SHAPES[shape][0],)
    sizes = {"rows": parameters.rows, "requantizers": parameters.requantizers}
    weights = parameters.weight_format
    return random_graph(rng, weight_format=weights, activation_formats=formats, **sizes), parameters


def check_graph(shape: str, seed: int) -> None:
    """Every tensor, as soon as its node has ended, and the results."""
    graph, parameters = graph_for(shape, seed)
    images = np.random.default_rng(seed).integers(0, 256, (2, *graph.input_shape))
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


# Programs


def outcome(words: list[int], parameters: AcceleratorParameters = PARAMETERS) -> Status:
    """How a program ends, data aside."""
    try:
        list(walks(np.array(words), parameters))
    except FaultError as error:
        return error.status
    return Status.DONE


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_commands_have_the_hardwares_status(number: int) -> None:
    status, changed = WRONG[number]
    with pytest.raises(
        FaultError, match=f"command 0 of the program must be legal, but ends with {status.name}"
    ):
        list(walks(np.array(changed_program(changed)), PARAMETERS))


def test_the_last_words_of_each_memory_are_used() -> None:
    assert {outcome(changed_program(changed)) for changed in JUST_RIGHT} == {Status.DONE}


def test_the_second_command_is_named() -> None:
    with pytest.raises(FaultError) as caught:
        list(walks(np.array(filled(program([layer(), layer(opcode=9)]))), PARAMETERS))
    assert (caught.value.command, caught.value.status) == (1, Status.LAYER_OPCODE)


def test_the_first_wrong_command_counts() -> None:
    """Although the second one's words alone show that it is wrong."""
    words = program([layer(weights=PARAMETERS.weight_words), layer(opcode=9)])
    assert outcome(filled(words)) == Status.WEIGHT_RANGE


def test_random_programs_end_as_on_the_accelerator() -> None:
    draw, found = random.Random(5), []
    for _ in range(600):
        words = garbage(draw)
        try:
            wanted = fate(words, PARAMETERS, longest=10**4)
        except TooLongError:
            continue
        status = outcome(words)
        assert status in wanted.statuses, words
        found.append(status)
    assert set(found) >= {each for each in Status if each >= Status.LAYER_OPCODE} - {Status.RESIDUAL_RANGE}


def test_commands_that_nobody_waits_for_are_refused() -> None:
    sizes = dict.fromkeys(("output_height", "output_width", "tiles"), 65535)
    with pytest.raises(RefusedError, match=f"command 0 must take at most {2**34} steps"):
        outcome(filled(program([layer(**sizes)])))


# Commands by themselves


def constants_of(model: Model) -> Constants:
    """Sections that hold what the model does."""
    p = model.parameters
    codes = {level: code for code, level in enumerate(p.format.levels)}
    weights = [[[codes[level] for level in row] for row in word] for word in model.weights]
    trees = [search_order(each, code_width=p.code_width) for each in model.boundaries]
    numbers = {
        Section.WEIGHTS: [number(weight_word(p), word) for word in weights],
        Section.CHANNELS: [number(channel_word(p), word) for word in model.channels],
        Section.TABLES: [level for table in model.tables for level in table],
        Section.BOUNDARIES: [entry % 2**VALUE_WIDTH for tree in trees for entry in tree],
    }
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


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", COMMAND_SHAPES)
def test_commands_equal_plain_integers(shape: str, seed: int) -> None:
    """The very commands that the engine is simulated with, on memories full of random numbers."""
    p, draw = command_parameters(shape), random.Random(f"{shape} {seed}")
    model = random_machine(draw, p)
    datapath, memories = Datapath(constants_of(model), p), memories_of(model)
    for index in range(12):
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


# Hazards and bounds


def handmade(
    layers: list[Fields], *, passes: int = 1, held: int = 20, bias: int = 0, **sizes: Any
) -> Machine:
    """A program for the small engine, whose passes have two words; an image of 3 × 3 pixels of one word.

    All weights are 7, all multipliers 1; `held` weight words are there.
    """
    p = replace(PARAMETERS, **{"program_words": 200, **sizes})
    words = {
        Section.PROGRAM: program(layers, ({"count": 2},) * passes),
        Section.WEIGHTS: [0x7777] * held,
        Section.TABLES: range(16),
        Section.BOUNDARIES: range(16),
    }
    sections = {section: np.array(each, dtype=np.uint32).reshape(-1, 1) for section, each in words.items()}
    channel = 1 | (bias % 2**BIAS_WIDTH) << MULTIPLIER_WIDTH
    slices_of = [channel >> place & 2**32 - 1 for place in (0, 32, 64)]
    channels = np.array([slices_of] * p.channel_words, dtype=np.uint32)
    layout = InputLayout(
        shape=(2, 3, 3), kernel=1, stride=1, padding=0, fill=(), digit_width=4, digits=1, words=9
    )
    return Machine(
        Compiled(
            parameters=p,
            sections=sections | {Section.CHANNELS: channels},
            input=layout,
            results=2,
            classes=2,
            logit_scale=1.0,
            schedule=(),
            usage={},
        )
    )


POINT = {"passes": 1, "kernel_height": 1, "kernel_width": 1, "output_height": 1, "input_width": 1}
CODES = layer(**POINT | {"to_results": 0, "to_codes": 1, "output": 40})
VALUES = layer(**POINT | {"to_results": 0, "to_values": 1})
POOL = layer(**POINT | {"to_results": 0, "opcode": LayerOpcode.SUM})
HAZARDS: list[tuple[str, list[Fields]]] = [
    ("command 0 must read words that were written before", [CODES | {"origin": 8}]),
    ("command 0 must read words that were written before", [POOL]),
    ("command 1 must read words that were written before", [VALUES, POOL | {"origin": 1}]),
    (
        "command 1 must add a residual that was written before",
        [VALUES, VALUES | {"add_residual": 1, "residual": 1}],
    ),
    ("command 0 must write every word once", [VALUES | {"output_height": 2}]),
    ("command 0 must not write words that it reads", [CODES | {"output": 2}]),
    ("command 1 must not write words that it reads", [VALUES, POOL | {"to_values": 1, "values": 1}]),
    (
        "command 1 must not write words that it reads as residual",
        [VALUES, VALUES | {"add_residual": 1, "values": 1}],
    ),
    ("command 0 must use weights that the image holds, not word 1 of 1", [CODES]),
]


@pytest.mark.parametrize("number", range(len(HAZARDS)))
def test_hazards_are_refused(number: int) -> None:
    message, layers = HAZARDS[number]
    images = np.zeros((1, 2, 3, 3), dtype=np.uint8)
    held = 1 if "holds" in message else 20
    with pytest.raises(RefusedError, match=f"{message}$"):
        handmade(layers, held=held).run(images)


def test_values_may_be_written_over_their_residual() -> None:
    machine = handmade([VALUES, VALUES | {"add_residual": 1}, POOL | {"to_results": 1}])
    images = np.ones((1, 2, 3, 3), dtype=np.uint8)
    assert machine.run(images).tolist() == [[2 * 4 * 7] * 2]


BOUNDS: list[tuple[str, list[Fields], dict[str, int]]] = [
    ("command 0 must add at most 3 products in a pass", [CODES], {"depth": 3}),
    (
        f"command 1 must pool at most {MAX_WINDOW} values",
        [VALUES, POOL | {"kernel_height": 65, "kernel_width": 65, "input_height": 1}],
        {},
    ),
    (
        "command 0 must add at most 49 bits, not 50",
        [CODES | {"passes": 3}],
        {"passes": 3, "bias": -(2**47), "value_words": 0},
    ),
]


@pytest.mark.parametrize("number", range(len(BOUNDS)))
def test_what_could_overflow_is_refused(number: int) -> None:
    message, layers, sizes = BOUNDS[number]
    with pytest.raises(RefusedError, match=f"{message}$"):
        handmade(layers, **sizes).run(np.zeros((1, 2, 3, 3), dtype=np.uint8))

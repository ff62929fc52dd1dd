"""Arrays whose weights are indices: what codebooks hold, when they are copied, and networks that use them."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator

from hdl.console import RefusedError
from hdl.formats import named
from hdl.layouts import Section, Status
from hdl.parameters import AcceleratorParameters
from hdl.weight_decoder import WeightDecoder
from sw.compiler.codebooks import indexed
from sw.compiler.compile import compile_network
from sw.compiler.schedule import program_cycles
from sw.driver import encode_images, load_packets, response_length, run_packets, section_packets
from sw.executor import Machine
from sw.graph import IMAGE, Convolution, IntegerGraph, Integers
from tests.accelerator_cases import Case, case, graph_case, split
from tests.random_networks import random_convolution, random_images
from verif.network import accelerator, exchange

PARAMETERS = AcceleratorParameters(
    weight_format="signmag_b8",
    codebooks=3,
    index_width=3,
    rows=4,
    lanes=4,
    requantizers=2,
    depth=512,
    tables=2,
    program_words=150,
    weight_words=300,
    channel_words=100,
)
FIRST, SECOND = "companded_0_3_40_127", "companded_0_1_2_90"


def compiled_levels(weights: list[int], weight_format: str, **changed: Any) -> tuple[Any, Integers]:
    """A codebook with its digits, and the weights put together again."""
    parameters = replace(PARAMETERS, **changed)
    shaped = np.array(weights).reshape(-1, 1, 1, 1)
    found = indexed(shaped, weight_format=weight_format, parameters=parameters)
    assert set(found.codebook) >= {0, *(digit for each in found.digits.digits.values() for digit in each)}
    assert len(set(found.codebook)) == len(found.codebook) <= 1 << parameters.index_width
    assert set(found.codebook) <= set(parameters.format.grid)
    sums = [
        sum(digit << place for digit, place in zip(digits, found.digits.places, strict=True))
        for digits in map(found.digits.digits.__getitem__, weights)
    ]
    return found, np.array(sums)


def test_a_codebook_holds_the_levels_of_a_format() -> None:
    found, sums = compiled_levels([127, 0, -3, 40], FIRST)
    assert found.codebook == (-127, -40, -3, 0, 3, 40, 127)
    assert found.digits.places == (0,)
    assert sums.tolist() == [127, 0, -3, 40]
    assert compiled_levels([3], FIRST)[0].codebook == found.codebook


@pytest.mark.parametrize(
    ("extremes", "index_width", "codebook", "places"),
    [
        ((-127, 119), 4, (-8, 7), (0, 4)),
        ((-119, 127), 4, (-7, 8), (0, 4)),
        ((-127, 127), 4, (-8, 7), (0, 1, 4)),
        ((-127, 127), 5, (-16, 15), (0, 3)),
        ((-127, 127), 3, (-4, 3), (0, 2, 5)),
        ((-128, 100), 4, (-8, 7), (0, 4)),
    ],
)
def test_wide_integers_are_digits(
    extremes: tuple[int, int], index_width: int, codebook: tuple[int, int], places: tuple[int, ...]
) -> None:
    """As few as the weights that there are need, whichever side the larger ones are on."""
    weights = list(range(extremes[0], extremes[1] + 1))
    found, sums = compiled_levels(weights, "uniform_b8", index_width=index_width)
    assert (found.codebook[0], found.codebook[-1]) == codebook
    assert len(found.digits.places) == len(places)
    assert sums.tolist() == weights


def test_more_levels_than_a_codebook_holds_are_digits_too() -> None:
    weights = list(named("companded_0_1_2_3_4_5_6_100").levels)
    found, sums = compiled_levels(weights, "companded_0_1_2_3_4_5_6_100")
    assert len(found.digits.places) > 1
    assert sums.tolist() == weights


def network(*formats: str, seed: int = 0) -> IntegerGraph:
    """Layers of 1 × 1 with weights of these formats, then one over the whole map."""
    rng, nodes, source, before, inputs = np.random.default_rng(seed), [], IMAGE, "uniform_b4u", 2
    for index, weights in enumerate(formats):
        last = index == len(formats) - 1
        node = random_convolution(
            rng,
            name=f"layer{index}",
            source=source,
            outputs=6,
            inputs=inputs,
            kernel=(3, 2) if last else (1, 1),
            weight_format=weights,
            input_format=before,
            encodings=None if last else {f"codes{index}": "uniform_b4u"},
        )
        nodes.append(node)
        source, inputs = f"codes{index}", 6
    return IntegerGraph(
        input_shape=(2, 3, 2), nodes=tuple(nodes), logit_scale=1.0, input_format="uniform_b4u"
    )


def made(*formats: str, seed: int = 0, **changed: Any) -> Case:
    graph = network(*formats, seed=seed)
    images = random_images(np.random.default_rng(seed), graph.input_shape, count=2) % 16
    return case(graph, replace(PARAMETERS, **changed), images)


def test_a_layer_without_digits_is_named() -> None:
    """Two levels, of which one is 0, have one sign."""
    with pytest.raises(RefusedError) as caught:
        compile_network(network(FIRST), replace(PARAMETERS, index_width=1))
    assert str(caught.value) == (
        "layer 'layer0': weights must be sums of 2 levels of 'signmag_b8' next to 0, at different places"
    )


def test_codebooks_have_a_limit() -> None:
    formats = (FIRST, SECOND, "companded_0_1_3_9", "companded_0_1_4_9")
    with pytest.raises(RefusedError) as caught:
        compile_network(network(*formats), PARAMETERS)
    message = "layer 'layer3': codebooks needs 4 codebooks, 1 more than the accelerator's 3"
    assert str(caught.value) == message
    compile_network(network(*formats), replace(PARAMETERS, codebooks=4))


def test_the_section_holds_codes_of_the_array() -> None:
    """Sign and magnitude; level 0 where a codebook has room left."""
    sections = made(FIRST, SECOND, FIRST).compiled.sections
    entries = [[-127, -40, -3, 0, 3, 40, 127, 0], [-90, -2, -1, 0, 1, 2, 90, 0]]
    codes = [abs(level) | (level < 0) << 7 for each in entries for level in each]
    assert sections[Section.CODEBOOKS].reshape(-1).tolist() == codes
    assert made(FIRST, SECOND).compiled.sections[Section.WEIGHTS].shape[1] == 2  # 48 bits


@pytest.mark.parametrize(
    ("formats", "copies"),
    [
        ((FIRST, FIRST, FIRST), 1),
        ((FIRST, FIRST, SECOND), 2),
        ((FIRST, SECOND, FIRST), 3),
        (("uniform_b8", FIRST, FIRST, "uniform_b8"), 3),
    ],
)
def test_codebooks_are_copied_when_they_change(formats: tuple[str, ...], copies: int) -> None:
    compiled = made(*formats).compiled
    instructions = Machine(compiled).instructions
    assert sum(each.switches for each in instructions) == copies
    planned = [each.cycles for each in compiled.schedule]
    assert [each.cycles(PARAMETERS) for each in instructions] == planned
    free = [replace(each, switches=False).cycles(PARAMETERS) for each in instructions]
    assert sum(planned) - sum(free) == 8 * copies


def test_graphs_keep_a_codebook_over_poolings_and_change_it() -> None:
    """What the random graphs have, of which `test_graphs_simulated` simulates some."""
    seen = set()
    for seed in range(6):
        compiled = graph_case("signmag_b6_4x4", seed).compiled
        instructions = Machine(compiled).instructions
        pooled = False
        for each in instructions[1:]:
            seen.add(("pooling",) if each.pools else ("after pooling" if pooled else "next", each.switches))
            pooled = each.pools
    assert seen == {("pooling",), *product(("after pooling", "next"), (False, True))}


def test_a_decoder_looks_up_every_index() -> None:
    """All pairs of neighbouring indices; an entry that is written is seen by the word that comes with it."""
    p = AcceleratorParameters(
        weight_format="uniform_b4", codebooks=1, index_width=2, rows=2, lanes=2, requantizers=1, depth=4
    )
    unit, draw = WeightDecoder(parameters=p), np.random.default_rng(2)

    async def bench(ctx: Any) -> None:
        table = [0, 0, 0, 0]
        for words in product(range(4), repeat=4):
            enable, data = (int(each) for each in draw.integers((2, 16)))
            for port, value in (("enable", enable), ("address", words[0]), ("data", data)):
                ctx.set(getattr(unit.write, port), value)
            rows = [list(words[:2]), list(words[2:])]
            ctx.set(unit.weights, rows)
            await ctx.tick()
            table[words[0]] = data if enable else table[words[0]]
            assert [list(row) for row in ctx.get(unit.codes)] == [[table[i] for i in row] for row in rows]

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def simulated(packets: list[Any], cases: list[Case], folder: Path) -> list[list[int]]:
    """Responses of one accelerator, in the cycles that are planned."""
    p = cases[0].compiled.parameters
    path = folder / "accelerator.v"
    accelerator(p).write(path)
    answers = sum(response_length(results=each.compiled.results, parameters=p) for each in cases)
    cycles = sum(program_cycles(each.compiled.schedule) for each in cases)
    limit = 2 * cycles + 40 * (answers + sum(map(len, packets)))
    exchanged = exchange(path, packets, answers=answers, simulator="icarus", cycle_limit=limit)
    assert exchanged.busy_cycles == cycles
    return split(exchanged.words, exchanged.last)


def runs(each: Case, *, image: int, bank: int = 0) -> list[Any]:
    compiled = each.compiled
    encoded = encode_images(
        each.images[image : image + 1], layout=compiled.input, parameters=compiled.parameters
    )
    return run_packets(encoded, results=compiled.results, parameters=compiled.parameters, bank=bank)


def check(responses: list[list[int]], wanted: list[tuple[Case, int]]) -> None:
    for response, (each, image) in zip(responses, wanted, strict=True):
        assert response[:2] == [Status.DONE, program_cycles(each.compiled.schedule)]
        results = np.array(response[2:], dtype=np.uint32).view(np.int32)
        np.testing.assert_array_equal(results[: each.compiled.classes], each.expected[image])


def test_two_networks_have_codebooks_in_their_banks(tmp_path: Path) -> None:
    """They run in turns, with weights and tables of their own; one's last codebook is not the other's."""
    first = made(FIRST, SECOND, FIRST, banks=2)
    second = made(SECOND, SECOND, "companded_0_5_6_7", seed=1, banks=2)
    assert not np.array_equal(*(each.compiled.sections[Section.CODEBOOKS][:16] for each in (first, second)))
    p = first.compiled.parameters
    packets = [
        *load_packets(first.compiled.sections, parameters=p, bank=0),
        *load_packets(second.compiled.sections, parameters=p, bank=1),
    ]
    order = [(first, 0), (second, 0), (first, 1), (second, 1)]
    for each, image in order:
        packets += runs(each, image=image, bank=int(each is second))
    check(simulated(packets, [each for each, _ in order], tmp_path), order)


def relearned(network: IntegerGraph, table: str) -> IntegerGraph:
    """The same indices into another table."""
    nodes = []
    for node in network.nodes:
        assert isinstance(node, Convolution)
        old, new = (np.array(named(name).grid) for name in (node.weight_format, table))
        levels = new[np.searchsorted(old, node.weights)]
        nodes.append(replace(node, weights=levels, weight_format=table))
    return replace(network, nodes=tuple(nodes))


def test_a_codebook_that_comes_during_a_run_is_the_next_runs(tmp_path: Path) -> None:
    """Only the table is loaded anew: the weights, which are indices, stay."""
    first = made(FIRST, FIRST)
    second = case(relearned(first.network, SECOND), PARAMETERS, first.images)
    parts = [each.compiled.sections for each in (first, second)]
    assert np.array_equal(*(each[Section.WEIGHTS] for each in parts))
    assert not np.array_equal(first.expected, second.expected)
    packets = load_packets(parts[0], parameters=PARAMETERS) + runs(first, image=0)
    packets += section_packets(Section.CODEBOOKS, parts[1][Section.CODEBOOKS], parameters=PARAMETERS)
    packets += runs(second, image=0)
    check(simulated(packets, [first, second], tmp_path), [(first, 0), (second, 0)])

"""The engine on good, wrong and random programs: the right status, in the right cycle, and no harm done."""

import random
from collections import Counter
from contextlib import suppress

import pytest

from hdl.layouts import LAYER, LayerOpcode, Section, Status
from tests.engine_bench import (
    GOOD,
    PARAMETERS,
    PASSES,
    Bench,
    expected_results,
    filled,
    layer,
    packed_passes,
    program,
    simulate,
)
from tests.nested_loops import DIMENSIONS, TooLongError, fate, packed

LONGEST = 3000
"""Cycles of the longest random program that is simulated."""

Changes = dict[str, int]


REACHABLE = {Status.DONE, *(each for each in Status if each >= Status.LAYER_OPCODE)}
POOLS = {
    "opcode": LayerOpcode.MAXIMUM,
    **dict.fromkeys(("passes", "kernel_height", "kernel_width", "input_height", "output_height"), 1),
    "count": PARAMETERS.groups,
}
"""One pixel; a change of `count` is one of its pass."""
TO_CODES = {"to_results": 0, "to_codes": 1}
WRONG: list[tuple[Status, Changes]] = [
    (Status.LAYER_OPCODE, {"opcode": 4}),
    (Status.LAYER_OPCODE, {"opcode": 255}),
    *((Status.ZERO_DIMENSION, {name: 0}) for name in DIMENSIONS),
    (Status.LAYER_LIMIT, {"passes": PARAMETERS.passes + 1}),
    (Status.LAYER_LIMIT, {"encoding": PARAMETERS.encodings}),
    (Status.LAYER_LIMIT, {"codebook": PARAMETERS.codebooks}),
    (Status.LAYER_LIMIT, {**POOLS, "codebook": 255}),
    (Status.PROGRAM_RANGE, {"passes": 255}),
    (Status.ACTIVATION_RANGE, {"origin": PARAMETERS.activation_words}),
    (Status.ACTIVATION_RANGE, {"origin": PARAMETERS.activation_words - 7}),
    (Status.ACTIVATION_RANGE, {"origin": -1}),
    (Status.WEIGHT_RANGE, {"weights": PARAMETERS.weight_words}),
    (Status.WEIGHT_RANGE, {"weights": PARAMETERS.weight_words - 7}),
    (Status.CHANNEL_RANGE, {"channels": PARAMETERS.channel_words}),
    (Status.CHANNEL_RANGE, {"channels": PARAMETERS.channel_words - 3}),
    (Status.OUTPUT_RANGE, {"output": PARAMETERS.result_words}),
    (Status.OUTPUT_RANGE, {"output": PARAMETERS.result_words - 3}),
    (Status.OUTPUT_RANGE, {"output": 2 * PARAMETERS.activation_words - 3, **TO_CODES}),
    (Status.OUTPUT_RANGE, {"output": 2**24 - 1, **TO_CODES}),
    (Status.LAYER_LIMIT, {"opcode": LayerOpcode.SUM}),
    (Status.LAYER_LIMIT, {**POOLS, "add_residual": 1}),
    (Status.VALUES_RANGE, {**POOLS, "origin": PARAMETERS.value_words - 1}),
    (Status.VALUES_RANGE, {**POOLS, "origin": -1}),
    (Status.VALUES_RANGE, {"to_values": 1, "values": PARAMETERS.value_words}),
    (Status.VALUES_RANGE, {"to_values": 1, "values": PARAMETERS.value_words - 1}),
    (Status.VALUES_RANGE, {"to_values": 1, "values": PARAMETERS.value_words - 2, "values_pitch": 1}),
    (Status.VALUES_RANGE, {"to_values": 1, "values": 2**24 - 1}),
    (Status.RESIDUAL_RANGE, {"add_residual": 1, "residual": PARAMETERS.value_words}),
    (Status.RESIDUAL_RANGE, {"add_residual": 1, "residual": PARAMETERS.value_words - 1}),
    (Status.RESIDUAL_RANGE, {"add_residual": 1, "residual": 0, "residual_pitch": 2**24 - 1}),
]
"""What is changed in the good layer; the ranges also by a single word at their very end."""

JUST_RIGHT: list[Changes] = [
    {"passes": 3},
    {"encoding": PARAMETERS.encodings - 1},
    {"codebook": PARAMETERS.codebooks - 1},
    {"weights": PARAMETERS.weight_words - 8},
    {"channels": PARAMETERS.channel_words - 4},
    {"output": PARAMETERS.result_words - 4},
    {"output": 2 * PARAMETERS.activation_words - 4, **TO_CODES},
    {"origin": PARAMETERS.activation_words - 11},
    {"origin": -4, "padding": 1},
    {"input_height": 1, "origin": 21},
    {"to_values": 1, "values": PARAMETERS.value_words - 2},
    {"to_values": 1, "values": PARAMETERS.value_words - 3, "values_pitch": 1},
    {"add_residual": 1, "residual": PARAMETERS.value_words - 2},
    {"values": 2**24 - 1, "residual": 2**24 - 1, "rectify": 1, "linear": 1, "linear_bits": 255},
    {**POOLS, "origin": PARAMETERS.value_words - 2, "weights": 2**24 - 1},
    {**POOLS, "origin": -4, "padding": 1, "output_height": 1},
]
"""The last words of each memory; padding reads nothing, wherever it lies."""


def changed_program(changed: Changes) -> list[int]:
    """The good program with its layer changed, and with as many passes as that says it has."""
    passes = (*PASSES, PASSES[0])[: min(3, changed.get("passes", 2))]
    passes = ({"count": changed["count"]},) if "count" in changed else passes
    return filled(program([layer(**{name: changed[name] for name in changed if name != "count"})], passes))


def test_every_status_of_a_run_is_reached() -> None:
    assert {status for status, _ in WRONG} | {Status.DONE} == REACHABLE


def test_wrong_layers_end_with_their_status() -> None:
    """After each of them the good program runs as if nothing had been."""

    async def test(bench: Bench) -> None:
        await bench.check_good()
        for status, changed in WRONG:
            words = changed_program(changed)
            assert fate(words, PARAMETERS).statuses == {status}, changed
            await bench.load(Section.PROGRAM, words)
            assert await bench.expect(fate(words, PARAMETERS)) == status
            await bench.check_good()

    simulate(test)


def test_wrong_passes_end_with_their_status() -> None:
    async def test(bench: Bench) -> None:
        for status, changed in (
            (Status.ZERO_DIMENSION, {"count": 0}),
            (Status.LAYER_LIMIT, {"table": PARAMETERS.tables}),
            (Status.ACTIVATION_RANGE, {"offset": 4095}),
            (Status.DONE, {"table": PARAMETERS.tables - 1}),
        ):
            words = filled(program([layer()], (PASSES[0], PASSES[1] | changed)))
            await bench.load(Section.PROGRAM, words)
            assert await bench.expect(fate(words, PARAMETERS)) == status
        await bench.check_good()

    simulate(test)


def test_the_last_words_of_each_memory_are_used() -> None:
    async def test(bench: Bench) -> None:
        for changed in JUST_RIGHT:
            words = changed_program(changed)
            await bench.load(Section.PROGRAM, words)
            assert await bench.expect(fate(words, PARAMETERS)) == Status.DONE, changed
        await bench.check_good()

    simulate(test)


@pytest.mark.parametrize(("to_results", "output"), [(1, 8), (0, 64)])
def test_outputs_out_of_range_are_not_written(to_results: int, output: int) -> None:
    """Not even where their addresses, cut to the memory's width, would lie: in the first words."""
    changed = {"to_results": to_results, "to_codes": 1 - to_results, "output": output, "passes": 1}
    words = filled(program([layer(**changed)], PASSES[:1]))

    async def test(bench: Bench) -> None:
        await bench.check_good()
        await bench.load(Section.PROGRAM, words)
        assert await bench.expect(fate(words, PARAMETERS)) == Status.OUTPUT_RANGE
        assert await bench.results() == expected_results()
        await bench.load(Section.PROGRAM, filled(GOOD))
        assert await bench.expect(fate(filled(GOOD), PARAMETERS)) == Status.DONE
        assert await bench.results() == expected_results()

    simulate(test)


def test_codebooks_are_copied_when_they_change() -> None:
    """The good layer after one of another codebook, and of its own: not what another run left counts."""
    ends = []

    async def test(bench: Bench) -> None:
        for before in (0, 2, 1, 1):
            await bench.load_data()
            words = filled(program([layer(codebook=before), layer()]))
            await bench.load(Section.PROGRAM, words)
            await bench.expect(fate(words, PARAMETERS))
            assert await bench.results() == expected_results()
            ends.append(fate(words, PARAMETERS).cycles)

    simulate(test)
    assert [each - ends[-1] for each in ends] == [PARAMETERS.codebook_cycles] * 2 + [0] * 2


def test_programs_end_within_their_memory() -> None:
    """A HALT may be the last word; one word later, or none at all, is out of range."""
    room = PARAMETERS.program_words

    async def test(bench: Bench) -> None:
        for first in (room - len(GOOD) - 1, room - len(GOOD), room - len(GOOD) + 1, room - 1):
            words = ([0xFF] * first + GOOD)[:room]
            words += [0xFF] * (room - len(words))
            fits = first + len(GOOD) <= room
            await bench.load(Section.PROGRAM, words)
            await bench.load_data()
            status = await bench.expect(fate(words, PARAMETERS, start=first), start=first)
            assert status == (Status.DONE if fits else Status.PROGRAM_RANGE)
        endless = packed(LAYER, layer()) + packed_passes(PASSES)
        words = (endless * 4)[:room]
        await bench.load(Section.PROGRAM, words)
        assert await bench.expect(fate(words, PARAMETERS)) == Status.PROGRAM_RANGE
        await bench.check_good()

    simulate(test)


def garbage(draw: random.Random) -> list[int]:
    """Nothing but random words, or good layers with flipped bits or wrong fields."""
    kind = draw.randrange(3)
    if kind == 0:
        return [draw.getrandbits(32) for _ in range(PARAMETERS.program_words)]
    forms: tuple[Changes, ...] = (
        {},
        {"to_values": 1},
        {"add_residual": 1, "residual_pitch": 2},
        {"to_values": 1, "values": 11, "values_pitch": 2},
        {"add_residual": 1, "residual": 11, "residual_pitch": 2},
        {"channels": 9},
    )
    layers = [
        layer(passes=draw.randint(1, 2), codebook=draw.randrange(3), **draw.choice(forms))
        for _ in range(draw.randint(1, 2))
    ]
    if kind == 1:
        for _ in range(draw.randint(1, 3)):
            name = draw.choice([name for name, _ in LAYER])
            draw.choice(layers)[name] = draw.choice((0, 1, draw.randrange(32), (1 << LAYER[name].width) - 1))
        return filled(program(layers))[: PARAMETERS.program_words]
    words = program(layers)
    for _ in range(draw.randint(1, 6)):
        words[draw.randrange(len(words))] ^= 1 << draw.randrange(32)
    return filled(words)[: PARAMETERS.program_words]


SEEDS = 240


@pytest.mark.parametrize("first", range(0, SEEDS, 60))
def test_random_programs_end(first: int) -> None:
    """Whatever the program memory holds, the run ends as plain loops say, and harms no later run."""

    async def test(bench: Bench) -> None:
        for seed in range(first, first + 60):
            words = program_of(seed)
            await bench.load(Section.PROGRAM, words)
            await bench.expect(fate(words, PARAMETERS))
            if seed % 10 == 9:
                await bench.check_good()

    simulate(test)


def program_of(seed: int) -> list[int]:
    """The seed's first random program that is not too long to simulate."""
    draw = random.Random(seed)
    while True:
        words = garbage(draw)
        with suppress(TooLongError):
            fate(words, PARAMETERS, longest=LONGEST)
            return words


def test_random_programs_end_in_every_way() -> None:
    found = Counter(status for seed in range(SEEDS) for status in fate(program_of(seed), PARAMETERS).statuses)
    assert set(found) == REACHABLE
    assert min(found.values()) >= 3, found

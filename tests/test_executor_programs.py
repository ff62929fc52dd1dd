"""Programs that the executor refuses: those that the accelerator stops at, and hazards."""

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hdl.console import RefusedError
from hdl.layouts import LayerOpcode, Section, Status, sections
from hdl.parameters import BIAS_WIDTH, MAX_WINDOW, MULTIPLIER_WIDTH, AcceleratorParameters
from sw.compiler.compile import Compiled
from sw.compiler.input_layout import InputLayout
from sw.executor import FaultError, Machine, walks
from tests.accelerator_cases import random_case, small
from tests.engine_bench import PARAMETERS, filled, layer, program
from tests.nested_loops import Fields, TooLongError, fate
from tests.test_programs import JUST_RIGHT, WRONG, changed_program, garbage


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


def handmade(
    layers: list[Fields],
    *,
    passes: int = 1,
    place: int = 0,
    held: int = 20,
    weights: int = 0x7777,
    multiplier: int = 1,
    bias: int = 0,
    **sizes: Any,
) -> Machine:
    """A program for the small engine, whose passes have two words; an image of 3 × 3 pixels of one word.

    All weights are 7 unless said otherwise; `held` words of them are there.
    """
    p = replace(PARAMETERS, **{"program_words": 200, **sizes})
    words = {
        Section.PROGRAM: program(layers, ({"count": 2, "shift": place},) * passes),
        Section.WEIGHTS: [weights] * held,
        Section.TABLES: range(16),
        Section.BOUNDARIES: range(16),
        Section.CODEBOOKS: [*range(16)] * p.codebooks,
    }
    sections = {section: np.array(each, dtype=np.uint32).reshape(-1, 1) for section, each in words.items()}
    channel = multiplier | (bias % 2**BIAS_WIDTH) << MULTIPLIER_WIDTH
    slices_of = [channel >> place & 2**32 - 1 for place in (0, 32, 64)]
    channels = np.array([slices_of] * p.channel_words, dtype=np.uint32)
    layout = InputLayout(
        shape=(2, 3, 3),
        lowest=0,
        highest=15,
        kernel=1,
        stride=1,
        padding=0,
        fill=(),
        digit_width=4,
        digits=1,
        words=9,
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
    (  # 4 products of 7 and 15; the accumulators hold 2 of -8 and 15.
        "command 0 must have sums of at most 9 bits, not 10 in pass 1",
        [CODES],
        {"depth": 2, "activation_width": 4},
    ),
    (  # 4 weights of 2^30, times 2^17 in place 15.
        r"command 0 must have weights times multipliers whose sums are below 2\^63",
        [CODES],
        {"weight_format": "pot_k5", "weights": 0x041041, "multiplier": 2**17 - 1, "place": 15},
    ),
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
    (  # Passes that read the same together make 840, one of them 420.
        "command 0 must add at most 49 bits, not 50",
        [CODES | {"passes": 2}],
        {"passes": 2, "bias": 2**47 - 300, "value_words": 0},
    ),
]


@pytest.mark.parametrize("number", range(len(BOUNDS)))
def test_what_could_overflow_is_refused(number: int) -> None:
    message, layers, sizes = BOUNDS[number]
    with pytest.raises(RefusedError, match=f"{message}$"):
        handmade(layers, **sizes).run(np.zeros((1, 2, 3, 3), dtype=np.uint8))


@pytest.mark.parametrize("section", set(sections(small("pot_k2_3x2"))) - {Section.ACTIVATIONS})
def test_an_image_must_have_every_section(section: Section) -> None:
    compiled = random_case("pot_k2_3x2", 0).compiled
    sections = {name: words for name, words in compiled.sections.items() if name != section}
    with pytest.raises(RefusedError, match=f"image must have a section {section.name}$"):
        Machine(replace(compiled, sections=sections))


def test_the_ends_of_an_image_must_fit() -> None:
    compiled = random_case("pot_k2_3x2", 0).compiled
    words, room = compiled.parameters.activation_words, compiled.results * compiled.parameters.requantizers
    with pytest.raises(RefusedError, match=f"input must take 1 … {words} words, not {words + 1}$"):
        Machine(replace(compiled, input=replace(compiled.input, words=words + 1)))
    for classes in (0, room + 1):
        message = f"classes must be 1 … {room}, the results that are read, not {classes}$"
        with pytest.raises(RefusedError, match=message):
            Machine(replace(compiled, classes=classes))

"""Faults that are put into a simulated accelerator's memories are found where they are."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner, Result

from hdl.layouts import Section
from sw.bits import Words
from sw.compiler.compile import Compiled
from sw.compiler.schedule import program_cycles
from sw.executor import Instruction, Machine, Memories, Walk
from sw.image import write_image
from tests.accelerator_cases import Case, grouped, random_case, written
from verif import verdict
from verif.__main__ import main
from verif.check import Finding, check
from verif.locating import Difference
from verif.network import Exchange
from verif.probes import chunks, program_of, sums_of
from verif.simulators import SimulationError

SHAPE = grouped(["pot_k2_3x2"])


class Fault(NamedTuple):
    """An image with a fault, and what comes of that: command, its tile, pixel and row."""

    loaded: Compiled
    command: int
    tile: int
    pixel: int
    row: int
    expected: int
    found: int


def changed(compiled: Compiled, section: Section, words: Words) -> Compiled:
    return replace(compiled, sections=compiled.sections | {section: words})


def written_codes(compiled: Compiled, images: np.ndarray) -> list[np.ndarray]:
    """Codes (tiles, pixels, rows) of the first image that each command writes; empty for none."""
    found: list[np.ndarray] = []
    p = compiled.parameters

    def keep(instruction: Instruction, memories: Memories) -> None:
        walk, tiles = Walk(instruction, p), instruction.fields["tiles"]
        if instruction.fields["to_codes"]:
            groups = walk.groups("output", range(tiles), range(instruction.pixels))
            codes = memories.codes[0].numpy()[groups].reshape(instruction.pixels, tiles, p.rows)
            found.append(codes.transpose(1, 0, 2))
        else:
            found.append(np.zeros((1, 0, 1)))

    Machine(compiled).run(images, observe=keep)
    return found


def fault(case: Case, section: Section, words: Words, *, image: int = 0) -> Fault | None:
    """What a fault comes to, from the executor of the faulty image; None if nothing."""
    loaded = changed(case.compiled, section, words)
    images = case.images[image : image + 1]
    right, wrong = written_codes(case.compiled, images), written_codes(loaded, images)
    for index, (good, bad) in enumerate(zip(right, wrong, strict=True)):
        places = np.argwhere(good != bad)
        if len(places):
            place = tuple(places[0].tolist())
            return Fault(loaded, index, *place, int(good[place]), int(bad[place]))
    return None


def flipped(words: Words, address: int, bit: int) -> Words:
    copy = words.copy()
    copy[address, bit // 32] ^= np.uint32(1 << bit % 32)
    return copy


def weight_fault(case: Case, *, tile: int, turn: int, row: int, image: int = 0) -> Fault:
    """A bit of a weight in a tile, pass and row of the first layer, such that codes of this image change.

    If it is not the first image, its results change too, and the first one's codes do not.
    """
    p, sections = case.compiled.parameters, case.compiled.sections
    command = Machine(case.compiled).instructions[0]
    width = p.lanes * p.format.code_width
    start = tile * sum(command.steps) + sum(command.steps[:turn])
    for address in range(start, start + command.steps[turn]):
        for bit in range(row * width, (row + 1) * width):
            words = flipped(sections[Section.WEIGHTS], address, bit)
            found = fault(case, Section.WEIGHTS, words, image=image)
            if found is None:
                continue
            if image == 0:
                return found
            results = Machine(found.loaded).run(case.images)
            wrong = np.flatnonzero((results != case.expected).any(axis=1)).tolist()
            if wrong == [image] and fault(case, Section.WEIGHTS, words) is None:
                return found
    raise AssertionError("a flipped bit of a weight must change a code")


def command(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["check", *map(str, arguments)])


def encodings_of(case: Case) -> list[int]:
    return [each.fields["encoding"] for each in Machine(case.compiled).instructions]


@pytest.mark.parametrize("shape", SHAPE)
def test_all_is_equal(shape: str, tmp_path: Path, icarus: str) -> None:
    """Through the command: no difference, and the cycles that were planned."""
    case = random_case(shape, 1)
    write_image(tmp_path / "net.bin", case.compiled)
    np.save(tmp_path / "images.npy", case.images)
    result = command(
        *(tmp_path / "net.bin", "--input", tmp_path / "images.npy"),
        *("--verilog", written(shape, tmp_path), "--simulator", icarus),
    )
    assert result.exit_code == 0, result.output
    rows = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "images with other results than the executor's 0 of 2" in rows
    assert "memories after every command all of them equal, of 1 image" in rows
    assert f"cycles an image {program_cycles(case.compiled.schedule):,}, as planned" in rows


@pytest.mark.parametrize("shape", SHAPE)
def test_a_weight_is_found(shape: str, tmp_path: Path, icarus: str) -> None:
    """Layer, channel, pixel and pass, and what the codes must be; the waveform is there."""
    case = random_case(shape, 1)
    put = weight_fault(case, tile=1, turn=2, row=1)
    finding = check(
        case.compiled,
        case.images,
        loaded=put.loaded,
        verilog=written(shape, tmp_path),
        simulator=icarus,
        waves=tmp_path / "difference.fst",
    )
    found = finding.difference
    assert not finding.equal
    assert found is not None
    width = found.command.fields["output_width"]
    assert (found.layer, found.form, finding.image) == ("layer0", "codes", 0)
    assert (found.tile, found.row, finding.differing_pass) == (put.tile, put.row, 2) == (1, 1, 2)
    assert found.channel == case.compiled.parameters.rows + 1
    assert (found.y, found.x) == divmod(put.pixel, width)
    assert (found.expected, found.found) == (put.expected, put.found)
    assert finding.waves == tmp_path / "difference.fst"
    assert finding.waves.stat().st_size > 1000


@pytest.mark.parametrize("shape", grouped(["signmag_b6_4x4"]))
def test_an_entry_of_a_codebook_is_found(shape: str, tmp_path: Path, icarus: str) -> None:
    """In the second layer, whose codebook is another than the first one's; with a waveform."""
    case = random_case(shape, 2)
    first, second, _ = (each.fields["codebook"] for each in Machine(case.compiled).instructions)
    assert first != second
    words = case.compiled.sections[Section.CODEBOOKS]
    entries = range(second << case.compiled.parameters.index_width, len(words))
    put = next(filter(None, (fault(case, Section.CODEBOOKS, flipped(words, at, 2)) for at in entries)))
    assert put.command == 1
    finding = check(
        case.compiled,
        case.images,
        loaded=put.loaded,
        verilog=written(shape, tmp_path),
        simulator=icarus,
        waves=tmp_path / "difference.fst",
    )
    found = finding.difference
    assert found is not None
    assert (found.layer, found.tile, found.pixel, found.row) == ("layer1", put.tile, put.pixel, put.row)
    assert (found.expected, found.found) == (put.expected, put.found)
    assert finding.waves is not None
    assert finding.waves.stat().st_size > 1000


@pytest.mark.parametrize("shape", SHAPE)
def test_a_boundary_is_found(shape: str, tmp_path: Path, icarus: str) -> None:
    """In the second layer, of a network in which that has an encoding of its own; the sums are right."""
    cases = (random_case(shape, seed) for seed in range(20))
    case = next(each for each in cases if encodings_of(each)[0] != encodings_of(each)[1])
    encodings = encodings_of(case)
    words = case.compiled.sections[Section.BOUNDARIES]
    root = (encodings[1] << case.compiled.parameters.code_width) + 1
    put = fault(case, Section.BOUNDARIES, flipped(words, root, 16))
    assert put is not None
    verilog = written(shape, tmp_path)
    finding = check(case.compiled, case.images, loaded=put.loaded, verilog=verilog, simulator=icarus)
    found = finding.difference
    assert found is not None
    assert (found.layer, found.tile, found.pixel, found.row) == ("layer1", put.tile, put.pixel, put.row)
    assert (found.expected, found.found, finding.differing_pass) == (put.expected, put.found, None)


@pytest.mark.nightly
@pytest.mark.parametrize("shape", SHAPE)
def test_a_fault_that_only_the_second_image_shows(shape: str, tmp_path: Path, icarus: str) -> None:
    """The first one is black, so that no positive weight of the first layer matters."""
    case = random_case(shape, 9)
    case.images[0] = 0
    case = replace(case, expected=Machine(case.compiled).run(case.images))
    put = weight_fault(case, tile=0, turn=case.compiled.schedule[0].passes - 1, row=1, image=1)
    verilog = written(shape, tmp_path)
    finding = check(case.compiled, case.images, loaded=put.loaded, verilog=verilog, simulator=icarus)
    found = finding.difference
    assert found is not None
    assert (finding.image, finding.wrong_images) == (1, (1,))
    assert (found.layer, found.tile, found.pixel, found.row) == ("layer0", put.tile, put.pixel, put.row)


def finding(**changed: Any) -> Finding:
    """A good one, but for what is changed."""
    nothing = np.zeros(0, dtype=np.uint32)
    exchanged = Exchange(words=nothing, last=nothing > 0, cycles=9000, busy_cycles=8000, seconds=2.0)
    good = {
        "images": 3,
        "wrong_images": (),
        "planned": 1000,
        "cycles": (1000,) * 3,
        "difference": None,
        "image": 0,
        "differing_pass": None,
        "waves": None,
        "exchange": exchanged,
    }
    return Finding(**good | changed)


SECOND = Instruction(
    index=1,
    address=20,
    fields={},
    passes=({"offset": 0, "count": 2, "shift": 0}, {"offset": 2, "count": 2, "shift": 4}),
)
DIFFERENCE = Difference(
    command=SECOND,
    layer="layer1",
    form="codes",
    tile=1,
    pixel=7,
    row=2,
    channel=6,
    y=1,
    x=3,
    expected=5,
    found=4,
)
WHERE = "layer 'layer1', channel 6, pixel (1, 3): codes must be 5, not 4"
VERDICTS: list[tuple[dict[str, Any], str, str]] = [
    (
        {"difference": DIFFERENCE, "differing_pass": 1},
        f"image 0, {WHERE}",
        "command 1, pass 1 of 2 (words 2 … 3 of a pixel, place 4)",
    ),
    (
        {"difference": DIFFERENCE, "image": 2, "wrong_images": (2,)},
        f"image 2, {WHERE}",
        "command 1: its sum is right after all passes, so what follows is not",
    ),
    ({"wrong_images": (1,)}, "results of image 1 must equal the executor's", "1 of 3"),
    (
        {"cycles": (1000, 1001, 1000)},
        "runs must take 1000 cycles, as planned, not 1001",
        "1000, 1001; planned are 1000",
    ),
]


@pytest.mark.parametrize("number", range(len(VERDICTS)))
def test_verdicts(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line on standard error says what is wrong, and the table more."""
    changed, message, row = VERDICTS[number]
    case = random_case("pot_k2_3x2", 1)
    write_image(tmp_path / "net.bin", case.compiled)
    np.save(tmp_path / "images.npy", case.images)
    monkeypatch.setattr(verdict, "check", lambda *_, **__: finding(**changed))
    result = command(tmp_path / "net.bin", "--input", tmp_path / "images.npy")
    assert result.exit_code == 1
    assert f"net.bin: {message}" in result.stderr
    assert row in " ".join(result.stdout.split())


def test_an_accelerator_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = random_case("pot_k2_3x2", 1)
    write_image(tmp_path / "net.bin", case.compiled)
    np.save(tmp_path / "images.npy", case.images)

    def fails(*_: Any, **__: Any) -> None:
        raise SimulationError("accelerator must answer within 9 cycles\nand much more")

    monkeypatch.setattr(verdict, "check", fails)
    result = command(tmp_path / "net.bin", "--input", tmp_path / "images.npy")
    assert result.exit_code == 1
    assert result.stderr.strip().endswith("net.bin: accelerator must answer within 9 cycles")


@pytest.mark.parametrize("room", [{"program_words": 50}, {"result_words": 5}, {}])
def test_probes_fit_the_accelerator(room: dict[str, int]) -> None:
    """Six passes, in as few programs as hold them; results follow one another in each."""
    case = random_case("apot_k2n2_6x8", 1)
    command = next(each for each in Machine(case.compiled).instructions if len(each.passes) == 6)
    compiled = replace(case.compiled, parameters=replace(case.compiled.parameters, **room))
    p, asked = compiled.parameters, []
    for chunk in chunks(list(sums_of(replace(DIFFERENCE, command=command, tile=0), compiled)), p):
        assert len(program_of(chunk)) <= p.program_words
        assert [each.fields["output"] for each in chunk] == [p.groups * i for i in range(len(chunk))]
        assert len(chunk) * p.groups <= p.result_words
        asked += [each.fields["passes"] for each in chunk]
    assert asked == [1, 2, 3, 4, 5, 6]

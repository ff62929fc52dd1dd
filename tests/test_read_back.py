"""What was loaded is read back, slice for slice, and reading disturbs nothing."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from gen.verilog import Design
from hdl.layouts import (
    PAYLOAD_WORDS,
    PacketOpcode,
    Section,
    Status,
    section_banks,
    section_depth,
    section_width,
    sections,
    slice_width,
    slices,
)
from hdl.parameters import AcceleratorParameters
from sw.bits import Words
from sw.compiler.schedule import program_cycles
from sw.driver import load_packets, read_packets, read_words, response_length, sealed
from tests.accelerator_cases import GAPS, Case, case, random_case, split
from verif.network import accelerator, exchange

TINY = AcceleratorParameters(
    weight_format="uniform_b4",
    rows=6,
    lanes=4,
    requantizers=2,
    depth=64,
    tables=3,
    encodings=3,
    passes=3,
    activation_words=24,
    weight_words=20,
    channel_words=12,
    program_words=60,
    result_words=6,
    value_words=14,
    codebooks=3,
    index_width=3,
    banks=2,
    cores=2,
)
"""Sizes that are no powers of two; words of one slice and of several, of a whole number of them and not."""
ONE = replace(
    TINY, rows=2, lanes=2, requantizers=1, codebooks=0, index_width=0, banks=1, cores=1, value_words=0
)
"""Nothing more than once, and no codebooks."""
SHAPE = "apot_k1n1_4x4"
QUICK = 6
"""Seed of a network that loads and runs in a few hundred cycles."""


@cache
def design(parameters: AcceleratorParameters) -> Design:
    return accelerator(parameters)


class Host:
    """Sends packets, and knows by plain arrays what each must be answered with."""

    def __init__(self, parameters: AcceleratorParameters, *, seed: int) -> None:
        self.parameters = p = parameters
        self.draw = np.random.default_rng(seed)
        self.memories = {
            (section, bank): np.zeros(section_depth(p, section) * slices(p, section), dtype=np.uint32)
            for section in sections(p)
            for bank in range(section_banks(p, section))
        }
        self.packets: list[Words] = []
        self.answers: list[list[int]] = []

    def masks(self, section: Section) -> Words:
        """Which bits there are in every slice of a section."""
        p, count = self.parameters, slices(self.parameters, section)
        widths = [slice_width(p, section)] * (count - 1)
        widths.append(section_width(p, section) - sum(widths))
        return np.tile(
            np.array([2**width - 1 for width in widths], dtype=np.uint32), section_depth(p, section)
        )

    def packet(
        self, opcode: int, place: tuple[Section, int], start: int, count: int, payload: Words | None = None
    ) -> Words:
        section, bank = place
        address, part = divmod(start, slices(self.parameters, section))
        header = [opcode | section << 8 | part << 16, self.parameters.build_id, address | bank << 24, count]
        words = np.array(header, dtype=np.uint32)
        return sealed(words if payload is None else np.concatenate([words, payload]))

    def load(self, place: tuple[Section, int], start: int, payload: Words) -> None:
        end = start + len(payload)
        self.memories[place][start:end] = payload & self.masks(place[0])[start:end]
        self.packets.append(self.packet(PacketOpcode.LOAD, place, start, len(payload), payload))

    def load_corrupt(self, place: tuple[Section, int], start: int, payload: Words) -> None:
        """A word is not what it was."""
        packet = self.packet(PacketOpcode.LOAD, place, start, len(payload), payload)
        packet[self.draw.integers(4, len(packet))] ^= np.uint32(1 << int(self.draw.integers(32)))
        self.packets.append(packet)
        self.answers.append([Status.CHECKSUM, 0])

    def read(self, place: tuple[Section, int], start: int, count: int) -> None:
        self.packets.append(self.packet(PacketOpcode.READ, place, start, count))
        words = self.memories[place][start : start + count]
        self.answers.append([Status.DONE, 0, *words.tolist()])

    def read_all(self) -> None:
        for place, contents in self.memories.items():
            for start in range(0, len(contents), PAYLOAD_WORDS):
                self.read(place, start, min(PAYLOAD_WORDS, len(contents) - start))

    def fill(self) -> None:
        """Random contents everywhere, one section and bank after another."""
        for place, contents in self.memories.items():
            for start in range(0, len(contents), PAYLOAD_WORDS):
                self.load(place, start, self.random(min(PAYLOAD_WORDS, len(contents) - start)))

    def random(self, count: int) -> Words:
        return self.draw.integers(0, 2**32, count, dtype=np.uint32)

    def wander(self, turns: int) -> None:
        """Loads, loads that are corrupt, and reads, of any length at any place."""
        places = list(self.memories)
        for _ in range(turns):
            place = places[self.draw.integers(len(places))]
            room = len(self.memories[place])
            start = int(self.draw.integers(room))
            count = min(room - start, int(self.draw.choice([1, 2, 7, 40, PAYLOAD_WORDS])))
            kind = self.draw.integers(4)
            if kind == 0:
                self.load(place, start, self.random(count))
            elif kind == 1:
                self.load_corrupt(place, start, self.random(count))
            else:
                self.read(place, start, count)

    def check(self, folder: Path, *, gaps: str, simulator: str = "icarus") -> None:
        verilog = folder / "accelerator.v"
        design(self.parameters).write(verilog)
        words = sum(map(len, self.packets)) + sum(map(len, self.answers))
        exchanged = exchange(
            verilog,
            self.packets,
            answers=sum(map(len, self.answers)),
            simulator=simulator,
            cycle_limit=60 * words,
            source_gaps=GAPS[gaps][0],
            sink_gaps=GAPS[gaps][1],
        )
        assert split(exchanged.words, exchanged.last) == self.answers


def check_everything(parameters: AcceleratorParameters, gaps: str, folder: Path, simulator: str) -> None:
    """Every slice of every section, bank and core; then parts of them between good and corrupt LOADs."""
    host = Host(parameters, seed=list(GAPS).index(gaps))
    host.fill()
    host.read_all()
    host.wander(50)
    host.read_all()
    host.check(folder, gaps=gaps, simulator=simulator)


@pytest.mark.parametrize(("parameters", "gaps"), [(ONE, "steady"), (TINY, "both_slow")], ids=["one", "tiny"])
def test_everything_is_read_back(
    parameters: AcceleratorParameters, gaps: str, tmp_path: Path, icarus: str
) -> None:
    check_everything(parameters, gaps, tmp_path, icarus)


@pytest.mark.nightly
@pytest.mark.parametrize("gaps", GAPS)
@pytest.mark.parametrize("parameters", [ONE, TINY], ids=["one", "tiny"])
def test_everything_is_read_back_with_every_pause(
    parameters: AcceleratorParameters, gaps: str, tmp_path: Path, simulator: str
) -> None:
    check_everything(parameters, gaps, tmp_path, simulator)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(10, 20))
def test_long_wanderings(seed: int, tmp_path: Path, simulator: str) -> None:
    host = Host(TINY, seed=seed)
    host.fill()
    host.wander(2000)
    host.read_all()
    host.check(tmp_path, gaps=list(GAPS)[seed % len(GAPS)], simulator=simulator)


def answered(packets: list[Words], found: Case, *, answers: int, folder: Path) -> list[list[int]]:
    """What the accelerator of a case answers."""
    verilog, cycles = folder / "accelerator.v", program_cycles(found.compiled.schedule)
    design(found.compiled.parameters).write(verilog)
    exchanged = exchange(
        verilog,
        packets,
        answers=answers,
        simulator="icarus",
        cycle_limit=10 * cycles + 20 * (answers + sum(map(len, packets))),
    )
    return split(exchanged.words, exchanged.last)


def test_a_network_that_is_read_back_runs(tmp_path: Path) -> None:
    """It is read between two runs, and runs again from what was read."""
    found = random_case(SHAPE, QUICK, images=1)
    compiled, parameters = found.compiled, found.compiled.parameters
    length = response_length(results=compiled.results, parameters=parameters)
    reads = {
        section: read_packets(section, words=len(words), parameters=parameters)
        for section, words in compiled.sections.items()
    }
    asked = [packet for packets in reads.values() for packet in packets]
    words = sum(2 + int(packet[3]) for packet in asked)
    packets = [*found.loads, *found.runs, *asked, *found.runs]
    first, *responses, last = answered(packets, found, answers=2 * length + words, folder=tmp_path)
    found.check([first])
    found.check([last])
    contents = {}
    for section, packets in reads.items():
        answers, responses = responses[: len(packets)], responses[len(packets) :]
        arrays = [np.array(answer, dtype=np.uint32) for answer in answers]
        contents[section] = read_words(arrays, section=section, parameters=parameters)
        np.testing.assert_array_equal(contents[section], compiled.sections[section])
    packets = [*load_packets(contents, parameters=parameters), *found.runs]
    found.check(answered(packets, found, answers=length, folder=tmp_path))


def test_without_it_reads_are_refused(tmp_path: Path) -> None:
    loaded = random_case(SHAPE, QUICK, images=1)
    parameters = replace(loaded.compiled.parameters, read_back=False)
    found = case(loaded.network, parameters, loaded.images)
    length = response_length(results=found.compiled.results, parameters=parameters)
    reads = [read_packets(section, words=1, parameters=parameters)[0] for section in sections(parameters)]
    *image, run = found.runs
    packets = [*found.loads, *image, *reads, run]
    *refused, last = answered(packets, found, answers=2 * len(reads) + length, folder=tmp_path)
    assert refused == [[Status.PACKET_OPCODE, 0]] * len(reads)
    found.check([last])


def test_a_refusal_holds_no_words() -> None:
    answers = [np.array(words, dtype=np.uint32) for words in ([Status.DONE, 0, 7], [Status.LOAD_RANGE, 0])]
    assert read_words(answers[:1], section=Section.PROGRAM, parameters=ONE).tolist() == [[7]]
    with pytest.raises(ValueError, match=r"^answers must begin with DONE, not LOAD_RANGE$"):
        read_words(answers, section=Section.PROGRAM, parameters=ONE)

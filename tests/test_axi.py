"""The accelerator on AXI, driven by the bus models of cocotbext-axi."""

import subprocess
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import pytest

from gen.verilog import Design, generate
from hdl.layouts import (
    PACKET_HEADER,
    PAYLOAD_WORDS,
    PacketOpcode,
    Section,
    Status,
    section_depth,
    sections,
    slices,
)
from hdl.parameters import AcceleratorParameters
from hdl.registers import REGISTERS, described
from sw.bits import Words
from sw.compiler.schedule import program_cycles
from sw.driver import (
    encode_images,
    load_packets,
    read_packets,
    response_length,
    run_packet,
    sealed,
    section_packets,
)
from tests.accelerator_cases import SHAPES, Case, case, random_case, small
from verif.simulators import Bench, run

SHAPE = "apot_k1n1_4x4"
SEEDS = (6, 1)
"""Of networks that load and run in a few hundred cycles."""
SMALL = small(SHAPE)
BANKED = replace(
    SMALL, banks=2, tables=3, encodings=3, weight_words=300, channel_words=100, program_words=150
)
BANK_PLACE = PACKET_HEADER["bank"].offset % 32
PAUSES = [pytest.param(False, id="steady"), pytest.param(True, id="pauses")]


@cache
def design(parameters: AcceleratorParameters) -> Design:
    return generate("axi_accelerator", **vars(parameters))


@cache
def network(seed: int) -> Case:
    return random_case(SHAPE, seed, images=1)


def words(packets: list[Words]) -> list[list[int]]:
    return [packet.tolist() for packet in packets]


def driven(found: Case, *, bank: int = 0) -> dict[str, Any]:
    """What the bench sends to load and run a network in a bank, and what must come back."""
    compiled, parameters = found.compiled, found.compiled.parameters
    *image, _ = found.runs
    run = run_packet(results=compiled.results, parameters=parameters, bank=bank)
    return {
        "loads": words(load_packets(compiled.sections, parameters=parameters, bank=bank)),
        "runs": words([*image, run]),
        "response": [Status.DONE, program_cycles(compiled.schedule), *(found.expected[0] % 2**32).tolist()],
        "length": response_length(results=compiled.results, parameters=parameters),
    }


def wrong_packets() -> list[tuple[int, list[int]]]:
    """One of each kind, aimed at what the first network needs; the long ones would fill all of it."""
    parameters, first = SMALL, network(SEEDS[0])
    depth = section_depth(parameters, Section.WEIGHTS)
    ones = np.full((PAYLOAD_WORDS, 1), 0xFFFF_FFFF, dtype=np.uint32)
    good = {
        section: section_packets(section, ones, parameters=parameters)[0] for section in sections(parameters)
    }
    weights, run = good[Section.WEIGHTS], first.runs[-1]

    def changed(packet: Words, place: int, value: int, *, seal: bool = True) -> Words:
        packet = packet.copy()
        packet[place] ^= np.uint32(value)
        return sealed(packet[:-1]) if seal else packet

    found = [
        *((Status.CHECKSUM, changed(packet, 5, 1 << 31, seal=False)) for packet in good.values()),
        *((Status.CHECKSUM, changed(weights, place, 1 << 9, seal=False)) for place in range(4)),
        (Status.CHECKSUM, changed(weights, -1, 1, seal=False)),
        (Status.CHECKSUM, weights[:-1]),
        (Status.CHECKSUM, np.append(weights, weights[-1])),
        (Status.CHECKSUM, changed(run, 3, 1, seal=False)),
        (Status.LENGTH, run[:3]),
        (Status.LENGTH, run[:4]),
        (Status.LENGTH, sealed(np.concatenate([weights[:-1], weights[4:-1]]))),
        (Status.LENGTH, sealed(weights[:-2])),
        (Status.BUILD_ID, changed(weights, 1, 1)),
        (Status.BUILD_ID, changed(run, 1, 1 << 31)),
        (Status.PACKET_OPCODE, changed(weights, 0, PacketOpcode.LOAD ^ 7)),
        (Status.SECTION, changed(weights, 0, 0xF0 << 8)),
        (Status.LOAD_RANGE, changed(weights, 2, depth)),
        (Status.LOAD_RANGE, changed(weights, 2, 2 << BANK_PLACE)),
        (Status.LOAD_RANGE, changed(run, 3, 1 << 20)),
    ]
    return [(int(status), packet.tolist()) for status, packet in found]


def wrong_reads() -> list[tuple[int, list[int]]]:
    """One of each kind, and LOADs whose words would change what is read."""
    (read,) = read_packets(Section.WEIGHTS, words=1, parameters=SMALL)
    header, depth = read[:-1], section_depth(SMALL, Section.WEIGHTS)
    changes = [
        (Status.BUILD_ID, 1, 1),
        (Status.PACKET_OPCODE, 0, 1 << 3),
        (Status.SECTION, 0, 0x80 << 8),
        (Status.LENGTH, 3, int(header[3])),
        (Status.LENGTH, 3, PAYLOAD_WORDS << 1),
        (Status.LOAD_RANGE, 0, slices(SMALL, Section.WEIGHTS) << 16),
        (Status.LOAD_RANGE, 2, depth),
        (Status.LOAD_RANGE, 2, 1 << BANK_PLACE),
    ]
    found = [(int(Status.CHECKSUM), np.append(header, read[-1] ^ np.uint32(1)))]
    for status, place, value in changes:
        changed = header.copy()
        changed[place] ^= np.uint32(value)
        found.append((int(status), sealed(changed)))
    found.append((int(Status.LENGTH), sealed(np.append(header, header[0]))))
    loads = [(status, packet) for status, packet in wrong_packets() if len(packet) > len(read)]
    return [*((status, packet.tolist()) for status, packet in found), *loads]


def reading(section: Section, contents: Words, *, bank: int = 0) -> list[tuple[list[int], list[int]]]:
    """Packets that read a section's first words, and what they must be answered with."""
    flat = contents.reshape(-1)
    packets = words(read_packets(section, words=len(contents), parameters=SMALL, bank=bank))
    starts = range(0, len(flat), PAYLOAD_WORDS)
    answers = [flat[start : start + PAYLOAD_WORDS].tolist() for start in starts]
    return list(zip(packets, answers, strict=True))


def drive(
    test: str,
    folder: Path,
    *,
    parameters: AcceleratorParameters = SMALL,
    simulator: str = "icarus",
    seed: int = 1,
    **config: Any,
) -> None:
    verilog = folder / "axi_accelerator.v"
    design(parameters).write(verilog)
    bench = Bench(module="verif.benches.axi_accelerator", toplevel="axi_accelerator", sources=[verilog])
    config["registers"] = described(parameters)
    run(bench, simulator=simulator, config=config, tests=[test], seed=seed)


def test_ports_have_the_names_of_axi() -> None:
    """As Vivado and cocotbext-axi find interfaces: a prefix and the signal's name in the specification."""
    stream = {"tdata": 32, "tkeep": 4, "tlast": 1, "tvalid": 1, "tready": 1}
    lite = {"addr": 12, "prot": 3, "valid": 1, "ready": 1}
    response = {"resp": 2, "valid": 1, "ready": 1}
    expected = {"aclk": 1, "aresetn": 1, "irq": 1}
    for prefix in ("s_axis_in", "m_axis_out"):
        expected |= {f"{prefix}_{name}": width for name, width in stream.items()}
    for channel in ("aw", "ar"):
        expected |= {f"s_axil_{channel}{name}": width for name, width in lite.items()}
    expected |= {f"s_axil_b{name}": width for name, width in response.items()}
    expected |= {f"s_axil_r{name}": width for name, width in (response | {"data": 32}).items()}
    expected |= {"s_axil_wdata": 32, "s_axil_wstrb": 4, "s_axil_wvalid": 1, "s_axil_wready": 1}
    assert {port["name"]: port["width"] for port in design(SMALL).description["ports"]} == expected


def test_the_table_is_sound() -> None:
    """Addresses and fields apart from each other, and names that say which field is meant."""
    assert [register.address for register in REGISTERS] == list(range(0, 4 * len(REGISTERS), 4))
    names = [field.name for register in REGISTERS for field in register.fields]
    assert len(set(names)) == len(names)
    for register in REGISTERS:
        ends = [(field.low, field.low + field.width) for field in register.fields]
        assert all(0 <= low < high <= 32 for low, high in ends)
        assert all(high <= low for (_, high), (low, _) in pairwise(ends))


@pytest.mark.skipif(not which("gcc"), reason="gcc is not installed")
def test_the_header_compiles_to_the_table(tmp_path: Path) -> None:
    """C that includes the header prints every address and mask, and the build id."""
    design(SMALL).write(tmp_path / "axi_accelerator.v")
    macros = {"BUILD_ID_VALUE": SMALL.build_id, "ERROR_CHECKSUM": Status.CHECKSUM}
    for register in REGISTERS:
        macros[f"{register.name}_ADDRESS".upper()] = register.address
        for field in register.fields:
            own = register.name if field.name == register.name else f"{register.name}_{field.name}"
            macros[f"{own}_SHIFT".upper()] = field.low
            macros[f"{own}_MASK".upper()] = (2**field.width - 1) << field.low
    checks = "".join(f"assert(AXI_ACCELERATOR_{name} == {value}u);" for name, value in macros.items())
    source = tmp_path / "check.c"
    source.write_text(
        f'#include <assert.h>\n#include "axi_accelerator.h"\nint main(void) {{ {checks} return 0; }}\n'
    )
    subprocess.run(["gcc", "-Wall", "-Werror", source, "-o", tmp_path / "check"], check=True)
    subprocess.run([tmp_path / "check"], check=True)


@pytest.mark.parametrize("pauses", PAUSES)
def test_registers(pauses: bool, tmp_path: Path) -> None:
    """Reset values, what can be written, and an error for all that cannot."""
    read_only = [register.name for register in REGISTERS if not register.writable]
    drive("registers", tmp_path, pauses=pauses, read_only=read_only)


@pytest.mark.parametrize("pauses", PAUSES)
def test_networks(pauses: bool, tmp_path: Path) -> None:
    """Results, counters and the interrupt; then another network in the first one's place."""
    first, second = (driven(network(seed)) for seed in SEEDS)
    drive("networks", tmp_path, pauses=pauses, first=first, second=second)


def test_waits(tmp_path: Path) -> None:
    drive("waits", tmp_path, pauses=True, first=driven(network(SEEDS[0])))


def test_wrong_packets_have_no_effect(tmp_path: Path) -> None:
    drive("wrong", tmp_path, pauses=True, first=driven(network(SEEDS[0])), wrong=wrong_packets())


@pytest.mark.parametrize("pauses", PAUSES)
def test_memories_are_read_back(pauses: bool, tmp_path: Path) -> None:
    """Also after packets that were refused, and between two runs."""
    first = network(SEEDS[0])
    contained = first.compiled.sections
    assert set(contained) == set(sections(SMALL)) - {Section.ACTIVATIONS}
    memories = [each for section, contents in contained.items() for each in reading(section, contents)]
    (image,) = encode_images(first.images, layout=first.compiled.input, parameters=SMALL)
    drive(
        "reads",
        tmp_path,
        pauses=pauses,
        first=driven(first),
        memories=memories,
        image=reading(Section.ACTIVATIONS, image),
        wrong=wrong_reads(),
    )


def test_partial_words_are_refused(tmp_path: Path) -> None:
    first = driven(network(SEEDS[0]))
    drive("partial_words", tmp_path, pauses=True, first=first, length_error=int(Status.LENGTH))


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_resets_at_any_time(kind: str, tmp_path: Path) -> None:
    drive(f"{kind}_resets", tmp_path, pauses=kind == "soft", first=driven(network(SEEDS[0])), resets=12)


def test_two_networks_stay_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in its bank, with levels and boundaries of its own; no memory's depth is a power of two."""
    found = [network(SEEDS[0])]
    monkeypatch.setitem(SHAPES, SHAPE, ("apot_k2n1u", SHAPES[SHAPE][1]))
    found.append(random_case(SHAPE, SEEDS[1], images=1))
    contents = [each.compiled.sections for each in found]
    for section in (Section.TABLES, Section.BOUNDARIES, Section.WEIGHTS, Section.CHANNELS, Section.PROGRAM):
        assert not np.array_equal(*(each[section] for each in contents)), section
    first, second = (
        driven(case(each.network, BANKED, each.images), bank=bank) for bank, each in enumerate(found)
    )
    drive("banks", tmp_path, parameters=BANKED, pauses=False, first=first, second=second)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(2, 12))
@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_many_resets(kind: str, seed: int, tmp_path: Path, simulator: str) -> None:
    config = {"pauses": bool(seed % 2), "first": driven(network(SEEDS[0])), "resets": 100}
    drive(f"{kind}_resets", tmp_path, simulator=simulator, seed=seed, **config)

"""The memory image: what is written is read, and every damage is refused."""

import json
import struct
import subprocess
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from hdl.console import RefusedError
from hdl.layouts import Section, section_width
from hdl.parameters import AcceleratorParameters
from sw.compiler.compile import Compiled, compile_network
from sw.image import hex_lines, read_image, write_hex, write_image
from tests.random_networks import random_network

PREFIX = struct.Struct("<8sIII")
SMALL = AcceleratorParameters(
    rows=4,
    lanes=4,
    requantizers=2,
    activation_words=512,
    weight_words=1024,
    channel_words=128,
    depth=1024,
)


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    network = random_network(
        np.random.default_rng(2),
        weight_format="apot_k2n1o",
        activation_format="apot_k2n2u",
        input_shape=(1, 5, 4),
        channels=(3, 5),
        classes=3,
    )
    return compile_network(network, SMALL)


@pytest.fixture(scope="module")
def content(compiled: Compiled, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("image") / "net.bin"
    write_image(path, compiled)
    return path.read_bytes()


def refusal(tmp_path: Path, damaged: bytes, **options: Any) -> str:
    """The message with which an image is refused, without the file's name, which it must begin with."""
    path = tmp_path / "net.bin"
    path.write_bytes(damaged)
    with pytest.raises(RefusedError) as caught:
        read_image(path, **options)
    start, _, message = str(caught.value).partition(": ")
    assert start == str(path)
    return message


def with_header(content: bytes, change: Callable[[Any], Any]) -> bytes:
    """The image with another header, whose length and CRC are right."""
    magic, version, length, _ = PREFIX.unpack_from(content)
    changed = change(json.loads(content[PREFIX.size : PREFIX.size + length]))
    header = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
    return PREFIX.pack(magic, version, len(header), crc32(header)) + header + content[PREFIX.size + length :]


def test_what_is_written_is_read(compiled: Compiled, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "net.bin"
    write_image(path, compiled)
    assert path.read_bytes() == content
    for found in (read_image(path), read_image(path, parameters=SMALL)):
        assert list(found.sections) == list(compiled.sections)
        for section, words in compiled.sections.items():
            np.testing.assert_array_equal(found.sections[section], words)
        assert replace(found, sections={}) == replace(compiled, sections={})


def test_layout_of_the_file(compiled: Compiled, content: bytes) -> None:
    magic, version, length, checksum = PREFIX.unpack_from(content)
    header = content[PREFIX.size : PREFIX.size + length]
    assert (magic, version, checksum) == (b"APoTnet\n", 3, crc32(header))
    payload = b"".join(words.astype("<u4").tobytes() for words in compiled.sections.values())
    assert content[PREFIX.size + length :] == payload
    assert json.loads(header)["build_id"] == SMALL.build_id


def test_every_truncation_is_refused(content: bytes, tmp_path: Path) -> None:
    header_end = PREFIX.size + PREFIX.unpack_from(content)[2]
    for length in [*range(header_end + 1), *range(header_end + 1, len(content), 41), len(content) - 1]:
        message = refusal(tmp_path, content[:length])
        if length < PREFIX.size:
            assert message == "must be a memory image written by `python -m sw pack`"
        elif length < header_end:
            assert message == "image is truncated in its header"
        else:
            assert message.startswith("image is truncated in section ")


def test_truncated_section_says_how_much_is_there(compiled: Compiled, content: bytes, tmp_path: Path) -> None:
    last, words = list(compiled.sections.items())[-1]
    message = refusal(tmp_path, content[:-3])
    assert message == f"image is truncated in section {last.name}: {words.nbytes - 3} of {words.nbytes} bytes"


def test_every_flipped_bit_is_refused(content: bytes, tmp_path: Path) -> None:
    header_end = PREFIX.size + PREFIX.unpack_from(content)[2]
    for index in [*range(header_end), *range(header_end, len(content), 29)]:
        damaged = bytearray(content)
        damaged[index] ^= 1 << index % 8
        message = refusal(tmp_path, bytes(damaged))
        if index >= header_end:
            assert message.startswith("section ")
            assert message.endswith(" is damaged (CRC-32 differs)")
        elif index >= 16:
            assert message == "image header is damaged (CRC-32 differs)"


def test_other_files_and_versions_are_refused(content: bytes, tmp_path: Path) -> None:
    assert refusal(tmp_path, b"") == refusal(tmp_path, b"PK\3\4" + content)
    newer = content[:8] + (4).to_bytes(4, "little") + content[12:]
    assert refusal(tmp_path, newer) == "image version must be 3, not 4"
    assert refusal(tmp_path, content + b"123") == "image must end after its sections, not 3 bytes later"


def test_image_for_another_build_is_refused(content: bytes, tmp_path: Path) -> None:
    other = replace(SMALL, tables=3)
    assert refusal(tmp_path, content, parameters=other) == (
        f"image is for build {SMALL.build_id:08x}, but must be for build {other.build_id:08x}"
    )
    older = with_header(content, lambda header: header | {"build_id": 0x12345678})
    for options in ({}, {"parameters": SMALL}):
        assert refusal(tmp_path, older, **options) == (
            f"image is for build 12345678, but must be for build {SMALL.build_id:08x}"
        )
    claimed = with_header(content, lambda header: header | {"parameters": asdict(other)})
    assert refusal(tmp_path, claimed, parameters=SMALL).startswith("image is for build ")


ENTRIES = ("parameters", "build_id", "sections", "input", "output", "schedule")


@pytest.mark.parametrize(
    "change",
    [
        *(lambda header, key=key: {k: v for k, v in header.items() if k != key} for key in ENTRIES),
        *(lambda header, key=key: header | {key: 3} for key in ENTRIES if key != "build_id"),
        *(lambda header, key=key: header | {key: {"x": 1}} for key in ENTRIES if key != "build_id"),
        lambda header: header | {"parameters": header["parameters"] | {"rows": 3}},
        lambda header: header | {"sections": [header["sections"][0] | {"name": "CACHE"}]},
        lambda header: header | {"sections": [header["sections"][0] | {"words": "9"}]},
        lambda header: [header],
        lambda _: b"{",
        lambda _: b"\xff\xfe",
    ],
)
def test_headers_with_wrong_entries_are_refused(
    content: bytes, tmp_path: Path, change: Callable[[Any], Any]
) -> None:
    message = refusal(tmp_path, with_header(content, change))
    assert message.startswith(("image header must hold valid entries (", "image is for build "))


def test_sections_beyond_the_memory_are_refused(content: bytes, tmp_path: Path) -> None:
    """An image that says it holds more words than the accelerator, and does."""
    count = SMALL.encodings * 16 + 1
    payload = bytes(4 * count)
    entry = {"name": "BOUNDARIES", "words": count, "crc32": crc32(payload)}
    damaged = with_header(content, lambda header: header | {"sections": [entry]})
    end = PREFIX.size + PREFIX.unpack_from(damaged)[2]
    message = refusal(tmp_path, damaged[:end] + payload)
    assert message == "section BOUNDARIES must fit the accelerator's memory"


def memory(compiled: Compiled, section: Section) -> list[int]:
    """The words as integers of the section's width."""
    mask = (1 << section_width(compiled.parameters, section)) - 1
    return [
        int.from_bytes(row.astype("<u4").tobytes(), "little") & mask for row in compiled.sections[section]
    ]


def test_hex_files_hold_the_words(compiled: Compiled, tmp_path: Path) -> None:
    paths = write_hex(tmp_path / "net.bin", compiled)
    assert [path.name for path in paths] == [
        "net.program.hex",
        "net.weights.hex",
        "net.channels.hex",
        "net.tables.hex",
        "net.boundaries.hex",
    ]
    for path, section in zip(paths, compiled.sections, strict=True):
        lines = path.read_text().splitlines()
        assert {len(line) for line in lines} == {-(-section_width(SMALL, section) // 4)}
        assert [int(line, 16) for line in lines] == memory(compiled, section)


@pytest.mark.parametrize("section", [Section.WEIGHTS, Section.CHANNELS, Section.BOUNDARIES])
def test_readmemh_reads_the_words(compiled: Compiled, tmp_path: Path, section: Section) -> None:
    write_hex(tmp_path / "net.bin", compiled)
    expected = memory(compiled, section)
    width = section_width(SMALL, section)
    (tmp_path / "read.v").write_text(
        f"""module read;
        reg [{width - 1}:0] memory [0:{len(expected) - 1}];
        integer i;
        initial begin
          $readmemh("net.{section.name.lower()}.hex", memory);
          for (i = 0; i < {len(expected)}; i = i + 1) $display("%h", memory[i]);
        end
        endmodule
        """
    )
    subprocess.run(["iverilog", "-o", "read", "read.v"], cwd=tmp_path, check=True)
    shown = subprocess.run(["vvp", "read"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert [int(line, 16) for line in shown.splitlines()] == expected


def test_activations_have_no_hex_file() -> None:
    with pytest.raises(ValueError, match="section must be written in slices of 32 bits, not ACTIVATIONS"):
        hex_lines(np.zeros((3, 2), dtype=np.uint32), parameters=SMALL, section=Section.ACTIVATIONS)

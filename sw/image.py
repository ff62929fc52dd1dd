"""The memory image: a compiled network in one file that is checked before any of it is used.

Layout: magic, container version, length and CRC-32 of a JSON header, the header, then each section's
32-bit little-endian words.  The header names the hardware the image fits (parameters and build id), the
sections with their own CRC-32, how inputs are laid out, and the schedule.
"""

import json
import struct
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from hdl.console import RefusedError
from hdl.files import write_bytes, write_text
from hdl.layouts import Section, section_depth, section_width, slice_width, slices
from hdl.parameters import AcceleratorParameters, parameters_from

from .bits import Words
from .compiler.compile import Compiled
from .compiler.input_layout import InputLayout
from .compiler.schedule import LayerSchedule
from .graph import ImageRounding

MAGIC = b"APoTnet\n"
VERSION = 3
_PREFIX = struct.Struct("<8sIII")


def write_image(path: Path, compiled: Compiled) -> None:
    """Write the container, whole or not at all."""
    payloads = {section: words.astype("<u4").tobytes() for section, words in compiled.sections.items()}
    header = json.dumps(
        {
            "parameters": asdict(compiled.parameters),
            "build_id": compiled.parameters.build_id,
            "sections": [
                {"name": section.name, "words": len(compiled.sections[section]), "crc32": crc32(payload)}
                for section, payload in payloads.items()
            ],
            "input": asdict(compiled.input),
            "output": {
                "results": compiled.results,
                "classes": compiled.classes,
                "logit_scale": compiled.logit_scale,
            },
            "schedule": [layer.as_dict() for layer in compiled.schedule],
            "usage": compiled.usage,
        },
        sort_keys=True,
    ).encode()
    prefix = _PREFIX.pack(MAGIC, VERSION, len(header), crc32(header))
    write_bytes(path, prefix + header + b"".join(payloads.values()))


def read_image(path: Path, *, parameters: AcceleratorParameters | None = None) -> Compiled:
    """Read and check a container; with `parameters`, refuse an image for other hardware.

    Raises
    ------
    RefusedError
        If the file is not an image, is truncated or damaged, or was packed for another build.
    """
    content = path.read_bytes()
    text, start = _read_header(path, content)
    try:
        header = json.loads(text)
        found = parameters_from(header["parameters"])
        wanted = (parameters or found).build_id
        if header["build_id"] != wanted or found.build_id != wanted:
            raise RefusedError(
                f"{path}: image is for build {header['build_id']:08x}, but must be for build {wanted:08x}"
            )
        sections = _read_sections(path, content, header["sections"], start=start, parameters=found)
        return Compiled(
            parameters=found,
            sections=sections,
            input=_layout(header["input"]),
            schedule=tuple(LayerSchedule(**layer) for layer in header["schedule"]),
            usage=header["usage"],
            **header["output"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedError(f"{path}: image header must hold valid entries ({error})") from error


def _read_header(path: Path, content: bytes) -> tuple[bytes, int]:
    """The header as it is written, and where it ends."""
    if len(content) < _PREFIX.size or not content.startswith(MAGIC):
        raise RefusedError(f"{path}: must be a memory image written by `python -m sw pack`")
    _, version, length, checksum = _PREFIX.unpack_from(content)
    if version != VERSION:
        raise RefusedError(f"{path}: image version must be {VERSION}, not {version}")
    header = content[_PREFIX.size : _PREFIX.size + length]
    if len(header) < length:
        raise RefusedError(f"{path}: image is truncated in its header")
    if crc32(header) != checksum:
        raise RefusedError(f"{path}: image header is damaged (CRC-32 differs)")
    return header, _PREFIX.size + length


def _layout(entry: dict[str, Any]) -> InputLayout:
    """Of the header's entry; JSON has no tuples."""
    tuples = {name: tuple(entry[name]) for name in ("shape", "fill")}
    rounding = entry["rounding"]
    if rounding is not None:
        pairs = {name: tuple(rounding[name]) for name in ("scale", "offset")}
        rounding = ImageRounding(**rounding | pairs)
    return InputLayout(**entry | tuples | {"rounding": rounding})


def _read_sections(
    path: Path,
    content: bytes,
    entries: list[dict[str, Any]],
    *,
    start: int,
    parameters: AcceleratorParameters,
) -> dict[Section, Words]:
    sections = {}
    for entry in entries:
        name, section = entry["name"], Section[entry["name"]]
        count = slices(parameters, section)
        size = entry["words"] * count * 4
        payload = content[start : start + size]
        if len(payload) < size:
            raise RefusedError(
                f"{path}: image is truncated in section {name}: {len(payload)} of {size} bytes"
            )
        if crc32(payload) != entry["crc32"]:
            raise RefusedError(f"{path}: section {name} is damaged (CRC-32 differs)")
        if entry["words"] > section_depth(parameters, section):
            raise RefusedError(f"{path}: section {name} must fit the accelerator's memory")
        sections[section] = np.frombuffer(payload, dtype="<u4").reshape(-1, count)
        start += size
    if start != len(content):
        raise RefusedError(
            f"{path}: image must end after its sections, not {len(content) - start} bytes later"
        )
    return sections


def write_hex(path: Path, compiled: Compiled) -> list[Path]:
    """Write each section as a ``$readmemh`` file beside `path`, one memory word a line; returns the files."""
    written = []
    for section, words in compiled.sections.items():
        target = path.with_suffix(f".{section.name.lower()}.hex")
        write_text(target, hex_lines(words, parameters=compiled.parameters, section=section))
        written.append(target)
    return written


def hex_lines(words: Words, *, parameters: AcceleratorParameters, section: Section) -> str:
    """Words as ``$readmemh`` lines, most significant digit first."""
    digits = -(-section_width(parameters, section) // 4)
    if words.shape[1] == 1 or slice_width(parameters, section) == 32:
        big = np.ascontiguousarray(words[:, ::-1]).astype(">u4")
        text = big.tobytes().hex()
        step = words.shape[1] * 8
        rows = (text[i + step - digits : i + step] for i in range(0, len(text), step))
        return "".join(f"{row}\n" for row in rows)
    raise ValueError(f"section must be written in slices of 32 bits, not {section.name}")

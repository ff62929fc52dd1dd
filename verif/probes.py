"""Programs that look at one pixel: which of its passes differs, and a waveform of it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from amaranth.lib import data
from numpy.typing import NDArray

from hdl.files import write_text
from hdl.layouts import LAYER, PASS, STREAM_WIDTH, LayerOpcode, Section
from hdl.parameters import ADDRESS_WIDTH, VALUE_WIDTH, AcceleratorParameters
from sw.bits import Words, field_bits, slice_words, struct_bits
from sw.compiler.compile import Compiled
from sw.compiler.schedule import COMMAND_CYCLES, FETCH_LATENCY
from sw.driver import (
    answered_results,
    encode_images,
    load_packets,
    response_length,
    run_packet,
    section_packets,
)
from sw.executor import Instruction, Machine
from sw.image import hex_lines

from .locating import Difference
from .network import exchange
from .snapshots import Recorder, Wave

MARGIN = 16
"""Cycles that a waveform shows before and after what it is about."""


def differing_pass(
    difference: Difference,
    compiled: Compiled,
    loaded: Compiled,
    image: NDArray[np.integer],
    *,
    verilog: Path,
    simulator: str,
) -> int | None:
    """The first pass, from 0, after which the pixel's sum differs; None if it is right after all of them.

    Parameters
    ----------
    compiled, loaded
        What the executor runs, and what the simulated accelerator is loaded with.
    image
        One image (1, C, H, W).
    """
    p, command = compiled.parameters, difference.command
    probes = list(sums_of(difference, compiled))
    roomy = _roomy(p)
    right = replace(
        compiled,
        parameters=roomy,
        sections=compiled.sections
        | {Section.PROGRAM: np.concatenate([_before(compiled, command), program_of(probes)])},
        results=len(probes) * p.groups,
        classes=len(probes) * p.rows,
    )
    expected = Machine(right).run(image).reshape(-1, p.rows)[:, difference.row]

    encoded = encode_images(image, layout=compiled.input, parameters=p)[0]
    truncated = np.concatenate([_before(loaded, command), program_of([])])
    packets = [
        *load_packets(loaded.sections | {Section.PROGRAM: truncated}, parameters=p),
        *section_packets(Section.ACTIVATIONS, encoded, parameters=p),
        run_packet(results=1, parameters=p),
    ]
    lengths, cycles = [response_length(results=1, parameters=p)], _cycles(Machine(compiled).instructions, p)
    for chunk in chunks(probes, p):
        packets += section_packets(Section.PROGRAM, program_of(chunk), parameters=p)
        packets.append(run_packet(results=len(chunk) * p.groups, parameters=p))
        lengths.append(response_length(results=len(chunk) * p.groups, parameters=p))
        cycles += _cycles(chunk, p)
    words = exchange(
        verilog,
        packets,
        answers=sum(lengths),
        simulator=simulator,
        cycle_limit=2 * (cycles + 40 * (sum(map(len, packets)) + sum(lengths))),
        beside=Recorder(verilog=verilog, parameters=p, folder=Path()).beside(),
    ).words
    _, *answers = np.split(words, np.cumsum(lengths)[:-1])
    found = np.concatenate(
        [answered_results(answer[None], images=1, parameters=p).reshape(-1, p.rows) for answer in answers]
    )
    wrong = np.flatnonzero(found[:, difference.row] != expected)
    return int(wrong[0]) if len(wrong) else None


def record(
    difference: Difference,
    compiled: Compiled,
    loaded: Compiled,
    image: NDArray[np.integer],
    *,
    verilog: Path,
    folder: Path,
    waves: Path,
) -> Path:
    """Write a waveform of the differing pixel; returns its file.

    The simulation starts with the command: memories are filled with what they hold by then.
    """
    p = compiled.parameters
    command = _up_to(difference, compiled)
    start = replace(
        compiled,
        parameters=_roomy(p),
        sections=compiled.sections
        | {Section.PROGRAM: np.concatenate([_before(compiled, difference.command), program_of([])])},
    )
    memories = Machine(start).memories(image)
    filled = {name: folder / f"{name}.hex" for name in ("activations", "values", "weights", "channels")}
    words = memories.codes[0].reshape(p.activation_words, -1).numpy()
    write_text(filled["activations"], _hex(words, width=p.code_width))
    if p.value_words:
        write_text(filled["values"], _hex(memories.values[0].numpy(), width=VALUE_WIDTH))
    else:
        del filled["values"]
    for section in (Section.WEIGHTS, Section.CHANNELS):
        text = hex_lines(loaded.sections[section], parameters=p, section=section)
        write_text(filled[section.name.lower()], text)
    pixel_cycles = sum(max(steps, p.groups) for steps in command.steps)
    begin = COMMAND_CYCLES + len(command.passes) + FETCH_LATENCY + difference.pixel * pixel_cycles
    begin += 0 if command.pools else p.codebook_cycles
    wave = Wave(start=max(1, begin - MARGIN), end=begin + pixel_cycles + p.drain + MARGIN)
    small = {
        section: words for section, words in loaded.sections.items() if section.name.lower() not in filled
    }
    small[Section.PROGRAM] = program_of([command])
    packets = [*load_packets(small, parameters=p), run_packet(results=1, parameters=p)]
    answers = response_length(results=1, parameters=p)
    exchange(
        verilog,
        packets,
        answers=answers,
        simulator="icarus",
        cycle_limit=2 * (_cycles([command], p) + 40 * (sum(map(len, packets)) + answers)),
        waves=waves,
        beside=Recorder(verilog=verilog, parameters=p, folder=folder, filled=filled, wave=wave).beside(),
    )
    return waves.with_suffix(".fst")


def _roomy(parameters: AcceleratorParameters) -> AcceleratorParameters:
    """For the executor, which takes programs and results of any length."""
    return replace(parameters, program_words=2**16, result_words=2**16)


def _up_to(difference: Difference, compiled: Compiled) -> Instruction:
    """The command that differs, up to the row of pixels that does, of that pixel's tile alone.

    Output pixels before it are walked too: what lies in the padding hangs on where the walk starts.
    """
    p, command = compiled.parameters, difference.command
    fields, tile = command.fields, difference.tile
    steps = 0 if command.pools else sum(command.steps)
    moved = {
        "origin": fields["origin"] + tile * fields["tile_step"],
        "weights": fields["weights"] + tile * steps,
        "channels": fields["channels"] + tile * len(command.passes) * p.groups,
        **{name: fields[name] + tile * p.groups for name in ("output", "values", "residual")},
    }
    addresses = {name: value % (1 << ADDRESS_WIDTH) for name, value in moved.items()}
    return replace(command, fields=fields | addresses | {"tiles": 1, "output_height": difference.y + 1})


def sums_of(difference: Difference, compiled: Compiled) -> Iterator[Instruction]:
    """Commands whose results are the pixel's sums after its first pass, after two, and so on.

    Every pixel up to it is written to the same word, where it comes last.
    """
    command, groups = _up_to(difference, compiled), compiled.parameters.groups
    flags = {"to_codes": 0, "to_values": 0, "to_results": 1, "add_residual": 0, "output_pitch": 0}
    for count in range(1, len(command.passes) + 1):
        place = {"passes": count, "output_width": difference.x + 1, "output": (count - 1) * groups}
        yield replace(command, fields=command.fields | flags | place, passes=command.passes[:count])


def chunks(commands: Sequence[Instruction], parameters: AcceleratorParameters) -> Iterator[list[Instruction]]:
    """As many commands at a time as fit the program and the results, whose addresses start anew."""
    p, chunk = parameters, list[Instruction]()
    for command in commands:
        words = len(program_of([*chunk, command]))
        if chunk and (words > p.program_words or (len(chunk) + 1) * p.groups > p.result_words):
            yield chunk
            chunk = []
        chunk.append(replace(command, fields=command.fields | {"output": len(chunk) * p.groups}))
    yield chunk


def _cycles(commands: Sequence[Instruction], parameters: AcceleratorParameters) -> int:
    return COMMAND_CYCLES + sum(command.cycles(parameters) for command in commands)


def _before(compiled: Compiled, command: Instruction) -> Words:
    """The program's words before a command."""
    return compiled.sections[Section.PROGRAM][: command.address]


def program_of(commands: Sequence[Instruction]) -> Words:
    """Words of commands, and of the end behind them."""
    blocks = [
        block
        for each in commands
        for block in (_packed(LAYER, each.fields), *(_packed(PASS, turn) for turn in each.passes))
    ]
    return np.concatenate([*blocks, _packed(LAYER, {"opcode": int(LayerOpcode.HALT)})])


def _packed(layout: data.StructLayout, fields: dict[str, int]) -> Words:
    bits = struct_bits(layout, {name: np.array([value]) for name, value in fields.items()})
    return slice_words(bits, slice_width=STREAM_WIDTH).reshape(-1, 1)


def _hex(numbers: NDArray[np.integer], *, width: int) -> str:
    """``$readmemh`` lines of words that are rows of numbers."""
    bits = field_bits(numbers, width).reshape(len(numbers), -1)
    words = np.packbits(bits, axis=1, bitorder="little")[:, ::-1]
    return "".join(f"{row.tobytes().hex()}\n" for row in np.ascontiguousarray(words))

"""The program: commands fetched from words and judged as the sequencer does it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from amaranth.lib import data
from numpy.typing import NDArray

from hdl.console import RefusedError
from hdl.layouts import LAYER, LAYER_DIMENSIONS, LAYER_WORDS, PASS, STREAM_WIDTH, LayerOpcode, Status
from hdl.parameters import AcceleratorParameters

from ..compiler.schedule import layer_cycles

POOLINGS = (LayerOpcode.MAXIMUM, LayerOpcode.SUM)

Fields = dict[str, int]


class FaultError(RefusedError):
    """The accelerator ends the program with an error.

    Members
    -------
    status : Status
        What it answers.
    command : int
        Which command it stops at, from 0.
    """

    def __init__(self, status: Status, command: int) -> None:
        super().__init__(f"command {command} of the program must be legal, but ends with {status.name}")
        self.status = status
        self.command = command


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One command of the program.

    Members
    -------
    index : int
        Which one it is, from 0.
    address : int
        Its first word in the program.
    fields : dict
        Of `layouts.LAYER`, unsigned.
    passes : tuple of dict
        Fields of `layouts.PASS`.
    switches : bool
        Its codebook is copied first, since the one that is held is another.
    """

    index: int
    address: int
    fields: Fields
    passes: tuple[Fields, ...]
    switches: bool = False

    @property
    def pools(self) -> bool:
        """Whether it reads values instead of codes."""
        return self.fields["opcode"] in POOLINGS

    @property
    def pixels(self) -> int:
        """Output pixels of a tile."""
        return self.fields["output_height"] * self.fields["output_width"]

    @property
    def taps(self) -> int:
        """Pixels under the kernel."""
        return self.fields["kernel_height"] * self.fields["kernel_width"]

    @property
    def steps(self) -> list[int]:
        """Words that each pass takes of the kernel at a pixel."""
        return [self.taps * turn["count"] for turn in self.passes]

    def cycles(self, parameters: AcceleratorParameters) -> int:
        """From fetching it until its last output can be read."""
        return layer_cycles(
            parameters=parameters,
            pixels=self.pixels,
            tiles=self.fields["tiles"],
            steps=self.steps,
            switches=self.switches,
        )


def fetch(
    words: NDArray[np.integer], parameters: AcceleratorParameters, *, start: int = 0
) -> Iterator[Instruction]:
    """The commands of a program, up to its end; behind the words that are given, memory holds zeros.

    Raises
    ------
    FaultError
        At a command that the sequencer refuses.
    """
    p, pointer, index = parameters, start, 0
    codebook = None
    memory = np.zeros(p.program_words, dtype=np.int64)
    memory[: len(words)] = words.reshape(-1)
    while True:
        if pointer + LAYER_WORDS > p.program_words:
            raise FaultError(Status.PROGRAM_RANGE, index)
        address = pointer
        fields = unpacked(LAYER, memory[pointer : pointer + LAYER_WORDS])
        pointer += LAYER_WORDS
        if pointer + fields["passes"] > p.program_words:
            raise FaultError(Status.PROGRAM_RANGE, index)
        if fields["opcode"] == LayerOpcode.HALT:
            return
        turns = [unpacked(PASS, [word]) for word in memory[pointer : pointer + fields["passes"]]]
        pointer += fields["passes"]
        status = _judged(fields, turns, p)
        if status is not Status.DONE:
            raise FaultError(status, index)
        switches = bool(p.codebooks) and fields["opcode"] not in POOLINGS and fields["codebook"] != codebook
        codebook = fields["codebook"] if switches else codebook
        yield Instruction(index=index, address=address, fields=fields, passes=tuple(turns), switches=switches)
        index += 1


def _judged(fields: Fields, turns: list[Fields], parameters: AcceleratorParameters) -> Status:
    """What is wrong with a command before it is walked, or DONE."""
    p = parameters
    pools = fields["opcode"] in POOLINGS
    if fields["opcode"] != LayerOpcode.CONVOLUTION and not (pools and p.value_words):
        return Status.LAYER_OPCODE
    if any(fields[name] == 0 for name in LAYER_DIMENSIONS):
        return Status.ZERO_DIMENSION
    # The one read port of the values memory serves pooling or residuals.
    lacking = ("add_residual",) if pools else () if p.value_words else ("to_values", "add_residual", "linear")
    limits = {"passes": p.passes, "encoding": p.encodings - 1, "codebook": max(p.codebooks - 1, 0)}
    if any(fields[name] > most for name, most in limits.items()) or any(map(fields.get, lacking)):
        return Status.LAYER_LIMIT
    for turn in turns:
        if turn["count"] == 0:
            return Status.ZERO_DIMENSION
        if turn["table"] >= p.tables or (pools and turn["count"] != p.groups):
            return Status.LAYER_LIMIT
    return Status.DONE


def unpacked(layout: data.StructLayout, words: NDArray[np.integer] | list[int]) -> Fields:
    """The fields of a structure of whole words, as unsigned integers."""
    value = sum(int(word) << STREAM_WIDTH * i for i, word in enumerate(words))
    return {name: value >> field.offset & (1 << field.width) - 1 for name, field in layout}

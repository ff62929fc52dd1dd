"""Where a simulated accelerator first differs from the executor: command, layer, channel, pixel."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hdl.layouts import Section
from sw.compiler.compile import Compiled
from sw.executor import Instruction, Memories, fetch

from .snapshots import FORMS, Recorder, Snapshot


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A number that is not what it must be.

    Members
    -------
    command : Instruction
    layer : str
    form : str
        Codes, values or results.
    tile, pixel, row : int
        Output tile, pixel and row of the array in the command.
    channel, y, x : int
        Of the layer's output.
    expected, found : int
    """

    command: Instruction
    layer: str
    form: str
    tile: int
    pixel: int
    row: int
    channel: int
    y: int
    x: int
    expected: int
    found: int

    def __str__(self) -> str:
        return (
            f"layer {self.layer!r}, channel {self.channel}, pixel ({self.y}, {self.x}): {self.form} must be "
            f"{self.expected}, not {self.found}"
        )


class Expected:
    """What memories hold after every command, as the executor computes it for one image.

    Parameters
    ----------
    wanted
        What to keep.

    Members
    -------
    written : list of array (tiles, pixels, groups, requantizers)
        For each wanted snapshot.
    """

    def __init__(self, wanted: Sequence[Snapshot]) -> None:
        self._wanted = wanted
        self.written: list[NDArray[np.int64]] = []

    def observe(self, instruction: Instruction, memories: Memories) -> None:
        """Keep what the command has written for the batch's first image."""
        for each in self._wanted:
            if each.command.index == instruction.index:
                memory = memories.codes if each.form == "codes" else memories.values
                self.written.append(memory[0].numpy()[each.groups].astype(np.int64))


def first_difference(recorder: Recorder, expected: Expected, compiled: Compiled) -> Difference | None:
    """The first number that differs, in the order in which commands compute them; None if none does."""
    p, found = compiled.parameters, None
    for index, (snapshot, right) in enumerate(zip(recorder.wanted, expected.written, strict=True)):
        if found is not None and snapshot.command.index > found[0].command.index:
            break
        start = snapshot.first * (p.groups_per_word if snapshot.form == "codes" else 1)
        numbers = recorder.read(index)[snapshot.groups - start]
        wrong = np.argwhere(numbers != right)
        if len(wrong) and (found is None or tuple(wrong[0]) < found[1]):
            place = tuple(wrong[0].tolist())
            found = snapshot, place, int(right[place]), int(numbers[place])
    if found is None:
        return None
    snapshot, place, wanted, was = found
    return located(snapshot.command, compiled, form=snapshot.form, place=place, expected=wanted, found=was)


def differing_result(
    command: Instruction, compiled: Compiled, *, expected: NDArray[np.int64], found: NDArray[np.int64]
) -> Difference | None:
    """The first result of an image that differs; None if none does."""
    wrong = np.flatnonzero(expected != found)
    if not len(wrong):
        return None
    p, channel = compiled.parameters, int(wrong[0])
    place = channel // p.rows, 0, channel % p.rows // p.requantizers, channel % p.requantizers
    return located(
        command,
        compiled,
        form="results",
        place=place,
        expected=int(expected[channel]),
        found=int(found[channel]),
    )


def located(
    command: Instruction,
    compiled: Compiled,
    *,
    form: str,
    place: tuple[int, ...],
    expected: int,
    found: int,
) -> Difference:
    """A difference by the layer that the command belongs to.

    Parameters
    ----------
    place
        Tile, pixel, group, and number in the group.
    """
    p = compiled.parameters
    tile, pixel, group, lane = place
    y, x = divmod(pixel, command.fields["output_width"])
    layer, siblings = layer_of(command.index, compiled)
    row = group * p.requantizers + lane
    return Difference(
        command=command,
        layer=layer,
        form=form,
        tile=tile,
        pixel=pixel,
        row=row,
        channel=tile * p.rows + row + _channels_before(command, siblings, form, compiled),
        y=y,
        x=x,
        expected=expected,
        found=found,
    )


def layer_of(command: int, compiled: Compiled) -> tuple[str, range]:
    """Name of the layer that a command belongs to, and all its commands."""
    first = 0
    for layer in compiled.schedule:
        commands = range(first, first + layer.commands)
        if command in commands:
            return layer.name, commands
        first = commands.stop
    raise ValueError(f"command {command} must be in the schedule of {first} commands")


def _channels_before(command: Instruction, siblings: range, form: str, compiled: Compiled) -> int:
    """Channels of the tensor that other commands of the layer write before this one's."""
    _, field = FORMS.get(form, ("", "output"))
    program = fetch(compiled.sections[Section.PROGRAM], compiled.parameters)
    like = [each for each in program if each.index in siblings and _kind(each, form) == _kind(command, form)]
    before = [command.fields[field] - each.fields[field] for each in like]
    pitch = command.fields[f"{field}_pitch"]
    return max(each for each in before if 0 <= each < max(pitch, 1)) * compiled.parameters.requantizers


def _kind(command: Instruction, form: str) -> tuple[int, ...]:
    """Commands of one layer that write one tensor agree in these."""
    flag, field = FORMS.get(form, ("to_results", "output"))
    names = (flag, f"{field}_pitch", "encoding", "linear", "linear_place", "output_width")
    return tuple(command.fields[name] for name in names)

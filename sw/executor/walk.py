"""Addresses: what a command reads and writes, and the first one that lies outside its memory."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from hdl.console import RefusedError
from hdl.layouts import Status
from hdl.parameters import ADDRESS_WIDTH, COORDINATE_WIDTH, AcceleratorParameters

from .program import FaultError, Instruction, fetch

Addresses = NDArray[np.int64]
Inside = NDArray[np.bool_]

ADDRESSES, COORDINATES = 1 << ADDRESS_WIDTH, 1 << COORDINATE_WIDTH
BAND = 1 << 23
"""Numbers that are worked on together."""
LONGEST = 1 << 34
"""Steps of the longest command that is carried out: minutes of an accelerator's time."""

# What is told of several faults in one step: the last of these.
PRECEDENCE = (
    Status.ACTIVATION_RANGE,
    Status.WEIGHT_RANGE,
    Status.CHANNEL_RANGE,
    Status.OUTPUT_RANGE,
    Status.VALUES_RANGE,
    Status.RESIDUAL_RANGE,
)


class Walk:
    """The walk of one command: output tile, output pixel, pass, kernel row, kernel column, word.

    Addresses wrap at 24 bits and coordinates at 16, as in the walker.

    Parameters
    ----------
    instruction
    parameters

    Raises
    ------
    RefusedError
        If the walk is longer than anyone waits for.

    Members
    -------
    step_count : int
        Steps at a pixel, of all passes.
    blocks : list of range
        Tiles that read the same words, and are computed together.
    """

    def __init__(self, instruction: Instruction, parameters: AcceleratorParameters) -> None:
        self.instruction = instruction
        self._p = parameters
        fields = instruction.fields
        self.step_count = sum(instruction.steps)
        if fields["tiles"] * instruction.pixels * self.step_count > LONGEST:
            raise RefusedError(f"command {instruction.index} must take at most {LONGEST} steps")
        tiles = range(fields["tiles"])
        self.blocks = [tiles[i : i + 1] for i in tiles] if fields["tile_step"] else [tiles]

    def bands(self, *, each: int) -> Iterator[range]:
        """Output pixels, so many at a time that with `each` numbers a pixel they fill no memory."""
        pixels = range(self.instruction.pixels)
        count = max(1, BAND // each)
        return (pixels[start : start + count] for start in range(0, len(pixels), count))

    def reads(self, tile: int, band: range, turn: int) -> tuple[Addresses, Inside]:
        """Words that a pass reads, for pixels and steps, and whether each lies inside the input."""
        fields, current = self.instruction.fields, self.instruction.passes[turn]
        y, x = np.divmod(np.arange(band.start, band.stop)[:, None], fields["output_width"])
        taps = np.arange(self.instruction.taps)
        ky, kx = np.divmod(taps, fields["kernel_width"])
        start = fields["origin"] + tile * fields["tile_step"] + current["offset"]
        tap = (
            start
            + y * fields["row_step"]
            + x * fields["pixel_step"]
            + ky * fields["row_pitch"]
            + kx * fields["pixel_pitch"]
        )
        row = (y * fields["stride"] - fields["padding"] + ky) % COORDINATES
        column = (x * fields["stride"] - fields["padding"] + kx) % COORDINATES
        inside = (row < fields["input_height"]) & (column < fields["input_width"])
        words = tap[:, :, None] + np.arange(current["count"])
        return words.reshape(len(band), -1) % ADDRESSES, inside.repeat(current["count"], axis=1)

    def writes(self, name: str, tiles: range, band: range) -> Addresses:
        """First group of every pixel and tile; `name` is that of the field: output, values or residual."""
        fields = self.instruction.fields
        pixels = np.arange(band.start, band.stop)[:, None] * fields[f"{name}_pitch"]
        return (fields[name] + pixels + np.arange(tiles.start, tiles.stop) * self._p.groups) % ADDRESSES

    def groups(self, name: str, tiles: range, band: range) -> Addresses:
        """Every group of pixels and tiles, in one row."""
        first = self.writes(name, tiles, band)
        return (first[:, :, None] + np.arange(self._p.groups)).reshape(-1)

    def judge(self) -> None:
        """Raise what the sequencer would stop with.

        Raises
        ------
        FaultError
            For the first step that leaves a memory.
        """
        for tile in range(self.instruction.fields["tiles"]):
            found = self._constants(tile) + self._outputs(tile) + self._reads(tile)
            if found:
                first = min(step for step, _ in found)
                statuses = {status for step, status in found if step == first}
                raise FaultError(max(statuses, key=PRECEDENCE.index), self.instruction.index)

    def _constants(self, tile: int) -> list[tuple[int, Status]]:
        """The first steps of a tile that leave weight and channel memory."""
        p, fields, passes = self._p, self.instruction.fields, len(self.instruction.passes)
        found = []
        if not self.instruction.pools:
            weight = (fields["weights"] + tile * self.step_count) % ADDRESSES
            step = max(0, p.weight_words - weight)
            if step < self.step_count:
                found.append((step, Status.WEIGHT_RANGE))
        for turn, end in enumerate(np.cumsum(self.instruction.steps).tolist()):
            channel = (fields["channels"] + (tile * passes + turn) * p.groups) % ADDRESSES
            if channel + p.groups > p.channel_words:
                found.append((end - 1, Status.CHANNEL_RANGE))
        return found

    def _outputs(self, tile: int) -> list[tuple[int, Status]]:
        """The first steps of a tile at which an address of an output lies outside."""
        found = []
        for name, status, limit in self.targets():
            for band in self.bands(each=1):
                wrong = self.writes(name, range(tile, tile + 1), band)[:, 0] + self._p.groups > limit
                if wrong.any():
                    pixel = band[int(wrong.argmax())]
                    found.append((pixel * self.step_count + self.instruction.steps[0] - 1, status))
                    break
        return found

    def targets(self) -> list[tuple[str, Status, int]]:
        """What the command writes, and the residual: the address' name, its fault, the memory's groups."""
        p, fields = self._p, self.instruction.fields
        codes = p.activation_words * p.groups_per_word
        wanted = {
            "to_results": ("output", Status.OUTPUT_RANGE, p.result_words),
            "to_codes": ("output", Status.OUTPUT_RANGE, codes),
            "to_values": ("values", Status.VALUES_RANGE, p.value_words),
            "add_residual": ("residual", Status.RESIDUAL_RANGE, p.value_words),
        }
        return [target for flag, target in wanted.items() if fields[flag]]

    def _reads(self, tile: int) -> list[tuple[int, Status]]:
        """The first step of a tile that reads a word outside its memory."""
        if tile and not self.instruction.fields["tile_step"]:
            return []
        p = self._p
        limit, status = p.activation_words, Status.ACTIVATION_RANGE
        if self.instruction.pools:
            limit, status = p.value_words, Status.VALUES_RANGE
        for band in self.bands(each=4 * self.step_count):
            turns = [self.reads(tile, band, turn) for turn in range(len(self.instruction.passes))]
            wrong = np.hstack([inside & (address >= limit) for address, inside in turns])
            if wrong.any():
                return [(band.start * self.step_count + int(wrong.argmax()), status)]
        return []


def walks(words: NDArray[np.integer], parameters: AcceleratorParameters) -> Iterator[Walk]:
    """The commands of a program, each judged before the next one is fetched.

    Raises
    ------
    FaultError
        At the command that the accelerator would stop at.
    RefusedError
        If one takes longer than anyone waits for.
    """
    for instruction in fetch(words, parameters):
        walk = Walk(instruction, parameters)
        walk.judge()
        yield walk

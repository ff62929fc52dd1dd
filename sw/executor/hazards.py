"""Hazards: commands whose outcome would depend on more than the image."""

import numpy as np
from numpy.typing import NDArray

from hdl.console import RefusedError
from hdl.parameters import AcceleratorParameters

from .walk import Walk

Marks = NDArray[np.bool_]


class Hazards:
    """Follows which words hold something, command after command.

    A compiler makes no such commands; the accelerator runs them, but what comes out would hang on what an
    earlier image left, or on the order of reading and writing within a pipeline.

    Parameters
    ----------
    parameters
    input_words
        Words of activation memory that hold the image.
    """

    def __init__(self, parameters: AcceleratorParameters, *, input_words: int) -> None:
        self._p = p = parameters
        self._codes = np.zeros(p.activation_words * p.groups_per_word, dtype=bool)
        self._codes[: input_words * p.groups_per_word] = True
        self._values = np.zeros(p.value_words, dtype=bool)

    def add(self, walk: Walk) -> None:
        """Judge a command, all of whose addresses lie in their memories.

        Raises
        ------
        RefusedError
            If it reads what nobody wrote, reads what it writes, or writes something twice.
        """
        p, fields = self._p, walk.instruction.fields
        command = f"command {walk.instruction.index}"
        per_word = 1 if walk.instruction.pools else p.groups_per_word
        held = self._values if walk.instruction.pools else self._codes
        read = self._read(walk, size=len(held) // per_word)
        if (read & ~held.reshape(-1, per_word).any(axis=1)).any():
            raise RefusedError(f"{command} must read words that were written before")
        read_groups = read.repeat(per_word)
        residual = self._groups(walk, "residual") if fields["add_residual"] else np.zeros(0, dtype=np.int64)
        if not self._values[residual].all():
            raise RefusedError(f"{command} must add a residual that was written before")
        for flag, name, memory in (
            ("to_codes", "output", self._codes),
            ("to_values", "values", self._values),
        ):
            if not fields[flag]:
                continue
            groups = self._groups(walk, name)
            marks = np.zeros(len(memory), dtype=bool)
            marks[groups] = True
            if np.count_nonzero(marks) < len(groups):
                raise RefusedError(f"{command} must write every word once")
            if memory is held and (marks & read_groups).any():
                raise RefusedError(f"{command} must not write words that it reads")
            if memory is self._values and not np.array_equal(groups, residual) and marks[residual].any():
                raise RefusedError(f"{command} must not write words that it reads as residual")
            memory |= marks

    def _read(self, walk: Walk, *, size: int) -> Marks:
        marks = np.zeros(size, dtype=bool)
        for tiles in walk.blocks:
            for band in walk.bands(each=4 * walk.step_count):
                for turn in range(len(walk.instruction.passes)):
                    index, inside = walk.reads(tiles.start, band, turn)
                    marks[index[inside]] = True
        return marks

    def _groups(self, walk: Walk, name: str) -> NDArray[np.int64]:
        """All groups of an output or of the residual, in one order."""
        fields = walk.instruction.fields
        return walk.groups(name, range(fields["tiles"]), range(walk.instruction.pixels))

"""The machine: an image's program, carried out on batches of images."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from hdl.console import RefusedError
from hdl.layouts import Section, sections

from ..compiler.compile import Compiled
from ..driver import encode_images
from .datapath import Datapath
from .hazards import Hazards
from .memories import Constants, Memories
from .program import Instruction
from .walk import walks

BATCH_BYTES = 1 << 28
"""Bytes of memories that are worked on together."""

Observer = Callable[[Instruction, Memories], None]


class Machine:
    """Carries out a packed image.

    All commands are fetched and judged first, since where they read and write depends on no data.

    Parameters
    ----------
    compiled
        The image.

    Members
    -------
    instructions : tuple of Instruction
    images_at_once : int
        The most images whose memories are worked on together.

    Raises
    ------
    FaultError
        If the accelerator would end the program with an error.
    RefusedError
        If a part of the image is missing, or a command reads what nobody wrote, reads what it writes, or
        could overflow.
    """

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled
        self._p = p = compiled.parameters
        _check_whole(compiled)
        self._datapath = Datapath(Constants(compiled.sections, p), p)
        self._walks = list(walks(compiled.sections[Section.PROGRAM], p))
        self.instructions = tuple(walk.instruction for walk in self._walks)
        hazards = Hazards(p, input_words=compiled.input.words)
        for walk in self._walks:
            hazards.add(walk)
        groups = p.activation_words * p.groups_per_word + 4 * p.value_words + 8 * p.result_words
        self.images_at_once = max(1, BATCH_BYTES // (groups * p.requantizers))

    def run(self, images: NDArray[np.integer], *, observe: Observer | None = None) -> NDArray[np.int64]:
        """Results (N, classes) of images (N, C, H, W); see `memories`."""
        compiled = self._compiled
        results = self.memories(images, observe=observe).results[:, : compiled.results].flatten(1)
        return results[:, : compiled.classes].numpy()

    def memories(self, images: NDArray[np.integer], *, observe: Observer | None = None) -> Memories:
        """The memories after a run.

        Parameters
        ----------
        images
            Of the image's shape (N, C, H, W), at most `images_at_once` if memory matters.
        observe
            Called after every command with the command and the memories as they are then.

        Raises
        ------
        ValueError
            If the images have another shape.
        """
        encoded = encode_images(images, layout=self._compiled.input, parameters=self._p)
        memories = Memories.of(encoded, self._p)
        for walk in self._walks:
            self._datapath.carry_out(walk, memories)
            if observe is not None:
                observe(walk.instruction, memories)
        return memories


def _check_whole(compiled: Compiled) -> None:
    """Refuse an image that lacks a section, or whose ends do not fit its memories (RefusedError)."""
    p = compiled.parameters
    for section in set(sections(p)) - {Section.ACTIVATIONS} - set(compiled.sections):
        raise RefusedError(f"image must have a section {section.name}")
    if not 0 < compiled.input.words <= p.activation_words:
        raise RefusedError(f"input must take 1 … {p.activation_words} words, not {compiled.input.words}")
    room = min(compiled.results, p.result_words) * p.requantizers
    if not 0 < compiled.classes <= room:
        raise RefusedError(f"classes must be 1 … {room}, the results that are read, not {compiled.classes}")

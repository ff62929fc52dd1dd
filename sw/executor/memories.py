"""The memories: what an image's sections hold, and what a run reads and writes."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdl.console import RefusedError
from hdl.layouts import CHANNEL, Section, section_depth
from hdl.parameters import VALUE_WIDTH, AcceleratorParameters

from ..bits import Words
from .words import code_fields, signed_fields, word_bits


@dataclass(frozen=True, kw_only=True)
class Memories:
    """What a run reads and writes, for each image of a batch; all in groups of `requantizers` numbers.

    Members
    -------
    activation_words : int
        Words of activation memory.
    codes : uint8 tensor (images, groups, requantizers)
        Activation memory.
    values : int32 tensor (images, groups, requantizers)
    results : int64 tensor (images, groups, requantizers)
    """

    activation_words: int
    codes: Tensor
    values: Tensor
    results: Tensor

    @classmethod
    def of(cls, encoded: Words, parameters: AcceleratorParameters) -> "Memories":
        """Memories of encoded images (images, words, slices); the rest is zero."""
        p, count = parameters, len(encoded)
        codes = torch.zeros(count, p.activation_words * p.groups_per_word, p.requantizers, dtype=torch.uint8)
        bits = word_bits(encoded, parameters=p, section=Section.ACTIVATIONS)
        given = code_fields(bits, width=p.code_width).reshape(count, -1, p.requantizers)
        codes[:, : given.shape[1]] = torch.from_numpy(given)
        return cls(
            activation_words=p.activation_words,
            codes=codes,
            values=torch.zeros(count, p.value_words, p.requantizers, dtype=torch.int32),
            results=torch.zeros(count, p.result_words, p.requantizers, dtype=torch.int64),
        )


class Constants:
    """What an image's sections hold beside the program.

    Parameters
    ----------
    sections
        Words (words, slices) of each section, from its first word on.
    parameters

    Members
    -------
    tables : int64 array (tables, codes)
        Levels of activation codes.
    boundaries : int64 array (encodings, codes)
        Nodes of each encoding's search tree.
    """

    def __init__(self, sections: dict[Section, Words], parameters: AcceleratorParameters) -> None:
        self._p = p = parameters
        self._sections = sections
        self._levels = np.array(p.format.levels, dtype=np.int64)
        self._folds = np.array([p.fold(level) for level in p.format.levels], dtype=np.int64)
        if p.codebooks:
            self._codebooks = self._numbers(Section.CODEBOOKS).reshape(p.codebooks, -1)
        codes = 1 << p.code_width
        self.tables = self._numbers(Section.TABLES).reshape(-1, codes)
        boundaries = self._numbers(Section.BOUNDARIES).reshape(-1, codes)
        sign = 1 << (VALUE_WIDTH - 1)
        self.boundaries = (boundaries ^ sign) - sign

    def _numbers(self, section: Section) -> NDArray[np.int64]:
        """A section whose words are unsigned numbers; what is not given is zero."""
        numbers = np.zeros(section_depth(self._p, section), dtype=np.int64)
        given = self._sections[section].reshape(-1)
        numbers[: len(given)] = given
        return numbers

    def _words(self, section: Section, addresses: NDArray[np.int64], *, command: int) -> Words:
        held = len(self._sections[section])
        if addresses.max() >= held:
            raise RefusedError(
                f"command {command} must use {section.name.lower()} that the image holds, "
                f"not word {addresses.max()} of {held}"
            )
        return self._sections[section][addresses]

    def weights(
        self, addresses: NDArray[np.int64], *, codebook: int, command: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Levels (…, rows, lanes) of weight words, and what the array adds too much for each.

        Words hold indices into a codebook, if there are any.
        """
        p = self._p
        bits = word_bits(
            self._words(Section.WEIGHTS, addresses, command=command), parameters=p, section=Section.WEIGHTS
        )
        codes = code_fields(bits, width=p.weight_width).reshape(*addresses.shape, p.rows, p.lanes)
        if p.codebooks:
            codes = self._codebooks[codebook][codes]
        return self._levels[codes], self._folds[codes]

    def channels(self, addresses: NDArray[np.int64], *, command: int) -> dict[str, NDArray[np.int64]]:
        """Fields (…, requantizers) of channel words."""
        words = self._words(Section.CHANNELS, addresses, command=command)
        return signed_fields(word_bits(words, parameters=self._p, section=Section.CHANNELS), CHANNEL)

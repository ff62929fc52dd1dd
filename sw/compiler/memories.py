"""Contents of the memories, grown command by command."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from amaranth.lib import data
from numpy.typing import NDArray

from hdl.console import RefusedError
from hdl.layouts import LAYER, PASS, STREAM_WIDTH, LayerOpcode, Section, search_order, section_depth
from hdl.parameters import VALUE_WIDTH, AcceleratorParameters

from ..bits import Words, slice_words, struct_bits
from ..graph import Integers
from .commands import Command
from .limits import fit
from .weights import channel_words, weight_words


@dataclass(kw_only=True)
class _Growing:
    """Words that are appended, and found again if they are there already."""

    blocks: list[Words] = field(default_factory=list)
    addresses: dict[bytes, int] = field(default_factory=dict)
    size: int = 0

    def append(self, words: Words) -> int:
        """Address of the new words."""
        address = self.size
        self.blocks.append(words)
        self.size += len(words)
        return address

    def find(self, words: Words) -> int:
        """Address of these words."""
        key = words.tobytes()
        if key not in self.addresses:
            self.addresses[key] = self.append(words)
        return self.addresses[key]


class Memories:
    """What every command adds to each memory."""

    def __init__(self, parameters: AcceleratorParameters) -> None:
        self._p = parameters
        self._program: list[Words] = []
        self._weights = _Growing()
        self._channels = _Growing()
        self._tables: list[tuple[int, ...]] = []
        self._encodings: list[tuple[int, ...]] = []
        self._codebooks: list[tuple[int, ...]] = []

    def add(self, command: Command, *, name: str) -> None:
        weights, channels = self._pack(command, name=name)
        limits = self._p
        fields = command.fields | {"weights": weights, "channels": channels}
        for field_name, known, entry, what, limit in (
            ("encoding", self._encodings, command.thresholds, "encodings", limits.encodings),
            ("codebook", self._codebooks, command.codebook, "codebooks", limits.codebooks),
        ):
            if entry is not None:
                fields[field_name] = self._index(known, entry, name, what, limit)
        self._program.append(_struct_words(LAYER, {key: np.array([value]) for key, value in fields.items()}))
        passes = [dict(turn) for turn in command.passes]
        for turn, table in zip(passes, command.tables, strict=False):
            turn["table"] = self._index(self._tables, table, name, "activation tables", limits.tables)
        columns = {key: np.array([turn[key] for turn in passes]) for key in passes[0]}
        self._program.append(_struct_words(PASS, columns))

    def _pack(self, command: Command, *, name: str) -> tuple[int, int]:
        """Addresses of a command's weights and channels."""
        p, address = self._p, 0
        folds: list[Integers] = [np.zeros((command.fields["tiles"], p.rows), dtype=np.int64)]
        if command.digits is not None:
            words, folds = weight_words(
                command.parts, digits=command.digits, parameters=p, codebook=command.codebook
            )
            address = self._weights.append(words)
        places = [turn["shift"] for turn in command.passes]
        channels = channel_words(command.constants, folds=folds, places=places, name=name, parameters=p)
        return address, self._channels.find(channels)

    def _index(self, known: list[Any], entry: object, layer: str, what: str, limit: int) -> int:
        """Place of an entry that layers share."""
        if entry not in known:
            known.append(entry)
        fit(layer, what, len(known), limit, what)
        return known.index(entry)

    def sections(self) -> dict[Section, Words]:
        """Contents of the memories that a host loads once.

        Raises
        ------
        RefusedError
            If one is too small.
        """
        p = self._p
        halt = _struct_words(LAYER, {"opcode": np.array([LayerOpcode.HALT])})
        tables = np.zeros((len(self._tables), 2**p.code_width), dtype=np.uint32)
        for row, levels in zip(tables, self._tables, strict=True):
            # Again and again: a digit narrower than a code stands in its low bits.
            row[:] = np.resize(levels, row.size)
        mask = (1 << VALUE_WIDTH) - 1
        boundaries = [search_order(list(entry), code_width=p.code_width) for entry in self._encodings]
        sections = {
            Section.PROGRAM: np.concatenate([*self._program, halt]),
            Section.WEIGHTS: np.concatenate(self._weights.blocks),
            Section.CHANNELS: np.concatenate(self._channels.blocks),
            Section.TABLES: tables.reshape(-1, 1),
            Section.BOUNDARIES: (np.array(boundaries, dtype=np.int64) & mask)
            .astype(np.uint32)
            .reshape(-1, 1),
        }
        if p.codebooks:
            sections[Section.CODEBOOKS] = self._codebook_words()
        for section, words in sections.items():
            depth = section_depth(p, section)
            if len(words) > depth:
                raise RefusedError(
                    f"network needs {len(words)} words of {section.name.lower()} memory, "
                    f"{len(words) - depth} more than the accelerator's {depth}"
                )
        return sections

    def _codebook_words(self) -> Words:
        """Codes of the array's format; level 0's where a codebook has fewer than there is room for."""
        p, code_of = self._p, self._p.format.codes
        words = np.full((len(self._codebooks), 1 << p.index_width), code_of[0], dtype=np.uint32)
        for row, levels in zip(words, self._codebooks, strict=True):
            row[: len(levels)] = [code_of[level] for level in levels]
        return words.reshape(-1, 1)


def _struct_words(layout: data.StructLayout, fields: dict[str, NDArray[np.integer]]) -> Words:
    return slice_words(struct_bits(layout, fields), slice_width=STREAM_WIDTH).reshape(-1, 1)

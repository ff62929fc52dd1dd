"""The machine: an image's program, carried out on batches of images."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdl.console import RefusedError
from hdl.layouts import LayerOpcode, Section
from hdl.parameters import MAX_WINDOW, VALUE_WIDTH

from ..compiler import Compiled
from ..driver import encode_images
from .hazards import Hazards
from .memories import Constants, Memories
from .program import Instruction, fetch
from .requantize import Scaling, as_codes, as_results, as_values, scaling
from .walk import Walk

EXACT_FLOAT32, EXACT_FLOAT64 = 1 << 24, 1 << 53
"""Sums below these are exact, in whatever order they are added."""
LEAST_VALUE = -(1 << (VALUE_WIDTH - 1))
BATCH_BYTES = 1 << 28
"""Bytes of memories that are worked on together."""

Observer = Callable[[Instruction, Memories], None]


@dataclass(frozen=True, kw_only=True)
class _Block:
    """What a block of tiles works with.

    Members
    -------
    weights : list of tensor (rows, steps · lanes)
        Of each pass of a convolution; floats in which its sums are exact.
    scaling : Scaling
    """

    weights: list[Tensor]
    scaling: Scaling


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
        If a command reads what nobody wrote, reads what it writes, or could overflow.
    """

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled
        self._p = p = compiled.parameters
        self._constants = Constants(compiled.sections, p)
        self.instructions = tuple(fetch(compiled.sections[Section.PROGRAM], p))
        self._walks = [Walk(instruction, p) for instruction in self.instructions]
        hazards = Hazards(p, input_words=compiled.input.words)
        for walk in self._walks:
            walk.judge()
            hazards.add(walk)
        self._blocks: dict[tuple[int, int], _Block] = {}
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
            self._carry_out(walk, memories)
            if observe is not None:
                observe(walk.instruction, memories)
        return memories

    def _carry_out(self, walk: Walk, memories: Memories) -> None:
        p, instruction = self._p, walk.instruction
        images = len(memories.codes)
        for tiles in walk.blocks:
            block = self._block(walk, tiles)
            rows = len(tiles) * p.rows
            for band in walk.bands(each=images * max(walk.step_count * p.lanes, rows)):
                total = block.scaling.bias.expand(images, len(band), rows)
                for turn, multiplier in enumerate(block.scaling.multiplier):
                    if instruction.pools:
                        sums = self._pooled(walk, tiles, band, turn, memories)
                    else:
                        sums = self._products(walk, tiles, band, turn, block.weights[turn], memories)
                    total = total + sums * multiplier
                self._write(walk, tiles, band, total >> block.scaling.shift, memories)

    # Sums

    def _block(self, walk: Walk, tiles: range) -> _Block:
        """Weights and constants of a block of tiles; unpacked once."""
        key = walk.instruction.index, tiles.start
        if key not in self._blocks:
            self._blocks[key] = self._unpacked(walk, tiles)
        return self._blocks[key]

    def _unpacked(self, walk: Walk, tiles: range) -> _Block:
        p, instruction = self._p, walk.instruction
        rows = len(tiles) * p.rows
        matrices, reach, folds = [], [], []
        start = 0
        for steps, turn in zip(instruction.steps, instruction.passes, strict=True):
            if instruction.pools:
                window = instruction.taps if instruction.fields["opcode"] == LayerOpcode.SUM else 1
                if window > MAX_WINDOW:
                    raise RefusedError(f"command {instruction.index} must pool at most {MAX_WINDOW} values")
                reach.append(np.full(rows, window * -LEAST_VALUE))
                folds.append(np.zeros(rows, dtype=np.int64))
                continue
            addresses = np.arange(tiles.start, tiles.stop)[:, None] * walk.step_count + np.arange(steps)
            addresses += instruction.fields["weights"] + start
            levels, excess = self._constants.weights(addresses, command=instruction.index)
            start += steps
            matrix = levels.transpose(0, 2, 1, 3).reshape(rows, -1)
            if np.count_nonzero(matrix, axis=1).max() > p.depth:
                raise RefusedError(
                    f"command {instruction.index} must add at most {p.depth} products in a pass"
                )
            sums = abs(matrix).sum(axis=1) * int(self._constants.tables[turn["table"]].max())
            exact = torch.float32 if sums.max() < EXACT_FLOAT32 else torch.float64
            if sums.max() >= EXACT_FLOAT64:
                raise RefusedError(f"command {instruction.index} must have sums below 2^53")
            matrices.append(torch.from_numpy(matrix).to(exact))
            reach.append(sums)
            folds.append(excess.sum(axis=(1, 3)).reshape(rows))
        found = scaling(instruction, tiles, self._constants, p, reach=np.stack(reach), folds=np.stack(folds))
        return _Block(weights=matrices, scaling=found)

    def _products(
        self, walk: Walk, tiles: range, band: range, turn: int, weights: Tensor, memories: Memories
    ) -> Tensor:
        """Sums of a pass, (images, pixels, rows)."""
        p = self._p
        table = self._constants.tables[walk.instruction.passes[turn]["table"]]
        words = memories.codes.view(len(memories.codes), -1, p.lanes)
        index, inside = walk.reads(tiles.start, band, turn)
        gathered = _gathered(words, index, inside, torch.from_numpy(table).to(weights.dtype))
        return (gathered.flatten(2) @ weights.T).to(torch.int64)

    def _pooled(self, walk: Walk, tiles: range, band: range, turn: int, memories: Memories) -> Tensor:
        """Maxima or sums of the values in a window, (images, pixels, rows); 0 where none is inside."""
        p, fields = self._p, walk.instruction.fields
        index, inside = walk.reads(tiles.start, band, turn)
        places = torch.from_numpy(np.where(inside, index, 0)).flatten()
        shape = (len(band), -1, p.groups, p.requantizers)
        taps = memories.values.index_select(1, places).unflatten(1, shape[:3])
        outside = torch.from_numpy(~inside).view(1, *shape[:3], 1)
        if fields["opcode"] == LayerOpcode.MAXIMUM:
            largest = taps.masked_fill(outside, LEAST_VALUE).amax(2)
            pooled = largest.masked_fill(outside.all(2), 0).to(torch.int64)
        else:
            pooled = taps.masked_fill(outside, 0).sum(2, dtype=torch.int64)
        return pooled.flatten(2).repeat(1, 1, len(tiles))

    # Outputs

    def _write(self, walk: Walk, tiles: range, band: range, y: Tensor, memories: Memories) -> None:
        """Write y (images, pixels, rows) in every form that the command names."""
        p, fields = self._p, walk.instruction.fields

        def groups(name: str) -> Tensor:
            return torch.from_numpy(walk.groups(name, tiles, band))

        y = y.reshape(len(y), -1, p.requantizers)
        if fields["add_residual"]:
            y = y + memories.values[:, groups("residual")]
        if fields["to_results"]:
            # With numpy, which keeps the last of several results for one word.
            memories.results.numpy()[:, groups("output").numpy()] = as_results(y).numpy()
        if fields["to_codes"]:
            codes = as_codes(y, fields, self._constants.boundaries, code_width=p.code_width)
            memories.codes[:, groups("output")] = codes
        if fields["to_values"]:
            memories.values[:, groups("values")] = as_values(y, rectify=bool(fields["rectify"]))


def _gathered(words: Tensor, index: NDArray[np.int64], inside: NDArray[np.bool_], table: Tensor) -> Tensor:
    """Levels of the codes in memory words, (images, pixels, steps, lanes); 0 for what lies outside."""
    low = int(index[inside].min()) if inside.any() else 0
    high = int(index[inside].max()) + 1 if inside.any() else 0
    levels = table[words[:, low:high].int()]
    levels = torch.cat([levels, torch.zeros_like(words[:, :1], dtype=table.dtype)], dim=1)
    places = torch.from_numpy(np.where(inside, index - low, high - low))
    return levels.index_select(1, places.flatten()).view(len(words), *places.shape, -1)

"""The datapath: what one command does to the memories of a batch of images."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hdl.console import RefusedError
from hdl.layouts import LayerOpcode
from hdl.parameters import MAX_WINDOW, VALUE_WIDTH, AcceleratorParameters

from .memories import Constants, Memories
from .requantize import Scaling, Turn, as_codes, as_results, as_values, scaling
from .walk import Walk

EXACT_FLOAT32, EXACT_FLOAT64 = 1 << 24, 1 << 53
"""Sums below these are exact, in whatever order they are added."""
LEAST_VALUE = -(1 << (VALUE_WIDTH - 1))


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


class Datapath:
    """Carries out commands; what they take of the constants is unpacked once.

    Parameters
    ----------
    constants
    parameters

    Raises
    ------
    RefusedError
        By `carry_out`, if the constants are not there or a sum could overflow.
    """

    def __init__(self, constants: Constants, parameters: AcceleratorParameters) -> None:
        self._constants = constants
        self._p = parameters
        self._blocks: dict[tuple[int, int], _Block] = {}

    def carry_out(self, walk: Walk, memories: Memories) -> None:
        """Change the memories as the command does."""
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
        pools = walk.instruction.pools
        turns = list(self._pooled_turns(walk, tiles) if pools else self._turns(walk, tiles))
        found = scaling(walk.instruction, tiles, self._constants, self._p, turns=turns)
        return _Block(weights=[] if pools else [self._exact(walk, each) for each in turns], scaling=found)

    def _turns(self, walk: Walk, tiles: range) -> Iterator[Turn]:
        """The passes of a convolution."""
        instruction, rows = walk.instruction, len(tiles) * self._p.rows
        start = instruction.fields["weights"]
        for steps, turn in zip(instruction.steps, instruction.passes, strict=True):
            addresses = np.arange(tiles.start, tiles.stop)[:, None] * walk.step_count + np.arange(steps)
            levels, excess = self._constants.weights(
                addresses + start, codebook=instruction.fields["codebook"], command=instruction.index
            )
            start += steps
            yield Turn(
                weights=levels.transpose(0, 2, 1, 3).reshape(rows, -1),
                least=0,
                largest=int(self._constants.tables[turn["table"]].max()),
                reads=(turn["offset"], turn["count"], turn["table"]),
                folds=excess.sum(axis=(1, 3)).reshape(rows),
            )

    def _pooled_turns(self, walk: Walk, tiles: range) -> Iterator[Turn]:
        """The passes of a pooling."""
        instruction, rows = walk.instruction, len(tiles) * self._p.rows
        window = instruction.taps if instruction.fields["opcode"] == LayerOpcode.SUM else 1
        if window > MAX_WINDOW:
            raise RefusedError(f"command {instruction.index} must pool at most {MAX_WINDOW} values")
        for turn in instruction.passes:
            yield Turn(
                weights=np.ones((rows, 1), dtype=np.int64),
                least=window * LEAST_VALUE,
                largest=window * (-LEAST_VALUE - 1),
                reads=(turn["offset"],),
                folds=np.zeros(rows, dtype=np.int64),
            )

    def _exact(self, walk: Walk, turn: Turn) -> Tensor:
        """Weights as floats in which the sums are exact."""
        largest = abs(turn.weights).sum(axis=1).max() * turn.largest
        if largest >= EXACT_FLOAT64:
            raise RefusedError(f"command {walk.instruction.index} must have sums below 2^53")
        exact = torch.float32 if largest < EXACT_FLOAT32 else torch.float64
        return torch.from_numpy(turn.weights).to(exact)

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

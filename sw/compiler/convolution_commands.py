"""A convolution's commands: runs of output tiles, each as passes over the tensors that it reads."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np

from hdl.console import RefusedError
from hdl.formats import named
from hdl.layouts import LayerOpcode
from hdl.parameters import AcceleratorParameters

from ..graph import Convolution, Integers
from ..requantize import Requantization
from .codebooks import indexed
from .commands import Command, Fields, Part, Table, window
from .digits import Digits, weight_digits
from .placement import Placement, read_words
from .planes import channel_bases, has_planes, plane_count, split
from .shapes import Shape


@dataclass(frozen=True, kw_only=True)
class _Run:
    """Output tiles that one command can do.

    Members
    -------
    tiles : range
    reads : tuple of range
        Of each source the words of a pixel that the first tile reads.
    step : int
        Words from tile to tile.
    """

    tiles: range
    reads: tuple[range, ...]
    step: int

    @property
    def words(self) -> range:
        """Words of a pixel that the first tile reads of any source, and those between them."""
        return range(min(each.start for each in self.reads), max(each.stop for each in self.reads))

    def part(self, start: int, end: int) -> "_Run":
        """Some of the tiles, counted from the first."""
        moved = start * self.step
        reads = tuple(range(each.start + moved, each.stop + moved) for each in self.reads)
        return replace(self, tiles=self.tiles[start:end], reads=reads)


class ConvolutionCommands:
    """The commands that compute a convolution, in order.

    Parameters
    ----------
    node, placement, parameters
    shape, thresholds
        Of what is written.
    targets
        Fields of all that is written, and what is added, from a group of a pixel on.

    Raises
    ------
    RefusedError
        By the iteration, if the array's weights do not make those of the layer.
    """

    def __init__(
        self,
        node: Convolution,
        placement: Placement,
        parameters: AcceleratorParameters,
        *,
        shape: Shape,
        thresholds: tuple[int, ...] | None,
        targets: Callable[[int], Fields],
    ) -> None:
        self._node = node
        self._sources = [placement.codes[name] for name in node.sources]
        self._p = parameters
        self._shape = shape
        self._thresholds = thresholds
        self._targets = targets

    def __iter__(self) -> Iterator[Command]:
        node, p = self._node, self._p
        for run in self._runs():
            channels = slice(run.tiles.start * p.rows, run.tiles.stop * p.rows)
            weights, words = node.weights[channels], run.words
            if node.groups > 1:
                weights = self._diagonal(weights, first=channels.start, step=run.step, words=len(words))
            else:
                weights = weights[:, words.start * p.lanes : words.stop * p.lanes]
            constants = Requantization(node.multipliers[channels], node.bias[channels], node.shift[channels])
            try:
                if has_planes(p.format):
                    yield from self._in_planes(run, weights, constants)
                else:
                    yield self._in_digits(run, weights, constants)
            except ValueError as error:
                raise RefusedError(f"layer {node.name!r}: {error}") from error

    def _command(
        self,
        run: _Run,
        weights: Integers,
        digits: Digits,
        constants: Requantization,
        factors: Integers | None = None,
    ) -> Command:
        """A run of tiles: passes for each source, for each digit of its codes, for each of the weights.

        Parameters
        ----------
        weights
            Of the words that are read of any source.
        constants
            Of multipliers one for each source, (channels, sources).
        factors
            By what these are multiplied for each digit of the weights, (channels, digits); None for 1.
        """
        main, lanes, passes, tables = self._sources[0], self._p.lanes, list[Fields](), list[Table]()
        start = run.reads[0].start - main.first
        origin = main.base + start
        parts, multipliers = [], []
        factors = np.ones((1, len(digits.places)), dtype=np.int64) if factors is None else factors
        for source, words, multiplier in zip(self._sources, run.reads, constants.multiplier.T, strict=True):
            first = source.base + words.start - source.first - origin
            for index, (place, table) in enumerate(source.digits):
                turn = {"offset": first + index * source.words, "count": len(words)}
                passes += [turn | {"shift": place + weight_place} for weight_place in digits.places]
                tables += [table] * len(digits.places)
            own = slice(*((word - run.words.start) * lanes for word in (words.start, words.stop)))
            parts.append(Part(weights=weights[:, own], copies=len(source.digits)))
            multipliers += [multiplier[:, None] * factors] * len(source.digits)
        kernel = weights.shape[2], weights.shape[3]
        walk = {"stride": self._node.stride, "padding": self._node.padding}
        return Command(
            fields=window(main, self._shape, kernel=kernel, first=start, **walk)
            | self._targets(run.tiles.start * self._p.groups)
            | {"opcode": LayerOpcode.CONVOLUTION, "passes": len(passes)}
            | {"tiles": len(run.tiles), "tile_step": run.step},
            passes=passes,
            tables=tables,
            constants=constants._replace(multiplier=np.concatenate(multipliers, axis=1)),
            parts=tuple(parts),
            digits=digits,
            thresholds=self._thresholds,
        )

    def _in_digits(self, run: _Run, weights: Integers, constants: Requantization) -> Command:
        """The same with digits that the array's weights are, or that a codebook holds."""
        node = self._node
        if not self._p.codebooks:
            digits = weight_digits(values=named(node.weight_format), array=self._p.format)
            return self._command(run, weights, digits, constants)
        found = indexed(node.weights, weight_format=node.weight_format, parameters=self._p)
        return replace(self._command(run, weights, found.digits, constants), codebook=found.codebook)

    def _in_planes(self, run: _Run, weights: Integers, constants: Requantization) -> Iterator[Command]:
        """The same on an array of signs: a command for tiles of as many planes that stand side by side."""
        rows = self._p.rows
        bases = channel_bases(weights, constants.multiplier, weight_format=named(self._node.weight_format))
        starts = range(0, len(weights), rows)
        counts = [plane_count(bases[at : at + rows], weights[at : at + rows]) for at in starts]
        start = 0
        for planes, members in groupby(counts):
            end = start + len(list(members))
            channels = slice(start * rows, end * rows)
            own = Requantization(*(values[channels] for values in constants))
            found = split(weights[channels], own, bases[channels], planes=planes)
            part = run.part(start, end)
            command = self._command(part, found.patterns, found.digits, found.constants, found.factors)
            yield command if planes else self._still(command)
            start = end

    def _still(self, command: Command) -> Command:
        """For pruned channels, which only have biases: a single word a pixel, of whatever activations."""
        still = dict.fromkeys(("row_step", "pixel_step", "row_pitch", "pixel_pitch", "padding"), 0)
        still |= {"kernel_height": 1, "kernel_width": 1, "stride": 1, "passes": 1, "tile_step": 0}
        still["origin"] = self._sources[0].base
        constants, first = command.constants, command.parts[0].weights
        return replace(
            command,
            fields=command.fields | still,
            passes=[{"offset": 0, "shift": 0, "count": 1}],
            tables=command.tables[:1],
            constants=constants._replace(multiplier=constants.multiplier[:, :1]),
            parts=(Part(weights=np.ascontiguousarray(first[:, :1, :1, :1]), copies=1),),
        )

    def _runs(self) -> Iterator[_Run]:
        """Output tiles that one command can do.

        A tile of a depthwise convolution needs only the words that hold its own channels, and any other one
        those between the first and the last channel that make a difference.
        """
        node, sources = self._node, self._sources
        tiles = -(-len(node.multiplier) // self._p.rows)
        if node.groups == 1:
            reads = tuple(read_words(node, source.silent, lanes=self._p.lanes) for source in sources)
            yield _Run(tiles=range(tiles), reads=reads, step=0)
            return
        spans = [self._span(tile, words=sources[0].words) for tile in range(tiles)]
        start = 0
        for end in range(1, tiles + 1):
            run = spans[start : end + 1]
            steps = {after.start - before.start for before, after in pairwise(run)}
            if end == tiles or len(steps) > 1 or len({len(span) for span in run}) > 1:
                step = spans[start + 1].start - spans[start].start if end - start > 1 else 0
                yield _Run(tiles=range(start, end), reads=(spans[start],) * len(sources), step=step)
                start = end

    def _span(self, tile: int, *, words: int) -> range:
        """The words that hold channels of an output tile."""
        first = tile * self._p.rows // self._p.lanes
        end = min(-(-(tile + 1) * self._p.rows // self._p.lanes), words)
        return range(first, end)

    def _diagonal(self, weights: Integers, *, first: int, step: int, words: int) -> Integers:
        """Weights of a depthwise convolution, each in the lane of its channel; the others are 0.

        Parameters
        ----------
        first
            Channel of the first row.
        step, words
            Words from tile to tile, and words of a tile.
        """
        rows, lanes = self._p.rows, self._p.lanes
        outputs, _, *kernel = weights.shape
        row = np.arange(outputs)
        start = first // lanes + row // rows * step
        spread = np.zeros((outputs, words * lanes, *kernel), dtype=np.int64)
        spread[row, first + row - start * lanes] = weights[:, 0]
        return spread

"""Node by node, the commands of each node of the graph."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np

from hdl.console import RefusedError
from hdl.formats import named
from hdl.layouts import LayerOpcode
from hdl.parameters import AcceleratorParameters

from ..graph import Convolution, Encoding, Integers, Node, Pooling
from ..requantize import Requantization
from .codebooks import indexed
from .commands import Command, Fields, linear_constants, pooling, window
from .digits import Digits, weight_digits
from .limits import check_command, fit
from .placement import Codes, Placement, Values, direct_encoding, is_wide, kept_values, later_encodings
from .planes import channel_bases, has_planes, plane_count, split
from .shapes import Shape


def commands_of(node: Node, placement: Placement, parameters: AcceleratorParameters) -> list[Command]:
    """The commands of a node, in order.

    Raises
    ------
    RefusedError
        If one cannot be expressed.
    """
    commands = list(_Node(node, placement, parameters).commands())
    for command in commands:
        fit(node.name, "passes", len(command.passes), parameters.passes, "passes")
        check_command(node.name, command.fields, command.passes)
    return commands


def read_words(node: Convolution, silent: frozenset[int], *, lanes: int) -> range:
    """Words of a pixel that a convolution must read if these channels are always 0; at least one."""
    unheard = np.isin(np.arange(node.weights.shape[1]), [*silent])
    channels = np.flatnonzero(node.weights.any(axis=(0, 2, 3)) & ~unheard)
    return range(channels[0] // lanes, channels[-1] // lanes + 1) if len(channels) else range(1)


@dataclass(frozen=True, kw_only=True)
class _Run:
    """Output tiles that one command can do; see `_Node._runs`."""

    tiles: range
    first: int
    step: int
    count: int

    def part(self, start: int, end: int) -> "_Run":
        """Some of the tiles, counted from the first."""
        return replace(self, tiles=self.tiles[start:end], first=self.first + start * self.step)


class _Node:
    """What the commands of one node share."""

    def __init__(self, node: Node, placement: Placement, parameters: AcceleratorParameters) -> None:
        self._node = node
        self._place = placement
        self._p = parameters
        self._constants = Requantization(node.multiplier, node.bias, node.shift)
        kept = kept_values(node, parameters)
        self._kept = placement.values[kept] if kept else None
        self._direct = direct_encoding(node, parameters)
        self._thresholds = self._direct.thresholds if self._direct else None
        self._shape = self._output_shape()

    def commands(self) -> Iterator[Command]:
        if isinstance(self._node, Convolution):
            yield from self._convolutions(self._node)
        elif isinstance(self._node, Pooling):
            yield from self._poolings(self._node)
        for encoding in later_encodings(self._node, self._p):
            assert self._kept is not None
            yield from self._encode(encoding, self._kept)

    def _output_shape(self) -> Shape:
        node = self._node
        return self._place.shapes[node.encodings[0].tensor if node.encodings else node.values or node.name]

    # What is written

    def _targets(self, *, group: int) -> Fields:
        """Every form that the node's own commands write, and what they add, from this group of a pixel on."""
        node, p = self._node, self._p
        if node.is_result:
            _, height, width = self._shape
            if (height, width) != (1, 1):
                raise RefusedError(f"layer {node.name!r}: results must be one pixel, not {height} × {width}")
            tiles = -(-self._shape[0] // p.rows)
            fit(node.name, "result memory", tiles * p.groups, p.result_words, "words")
            return self._residual(group) | {"to_results": 1, "output": group}
        fields = self._residual(group)
        if self._direct is not None:
            fields |= self._codes(self._place.codes[self._direct.tensor], digit=0, group=group)
        if self._kept is not None:
            fields |= {
                "to_values": 1,
                "rectify": int(node.rectified),
                "values": self._kept.base + group,
                "values_pitch": self._kept.pitch,
            }
        return fields

    def _codes(self, codes: Codes, *, digit: int, group: int) -> Fields:
        per_word = self._p.groups_per_word
        return {
            "to_codes": 1,
            "output": (codes.base + digit * codes.words) * per_word + group,
            "output_pitch": codes.pitch * per_word,
        }

    def _residual(self, group: int) -> Fields:
        if self._node.residual is None:
            return {}
        values = self._place.values[self._node.residual]
        return {"add_residual": 1, "residual": values.base + group, "residual_pitch": values.pitch}

    # Convolutions

    def _convolutions(self, node: Convolution) -> Iterator[Command]:
        p, source = self._p, self._place.codes[node.source]
        for tiles, first, step, count in self._runs(node, source):
            channels = slice(tiles.start * p.rows, tiles.stop * p.rows)
            weights = node.weights[channels]
            if node.groups > 1:
                weights = self._diagonal(weights, first=tiles.start * p.rows, step=step, words=count)
            else:
                weights = weights[:, first * p.lanes : (first + count) * p.lanes]
            run = _Run(tiles=tiles, first=first, step=step, count=count)
            constants = Requantization(*(values[channels] for values in self._constants))
            try:
                if has_planes(p.format):
                    yield from self._in_planes(node, run, weights, constants)
                else:
                    yield self._in_digits(node, run, weights, constants)
            except ValueError as error:
                raise RefusedError(f"layer {node.name!r}: {error}") from error

    def _convolution(
        self, node: Convolution, run: "_Run", weights: Integers, constants: Requantization, digits: Digits
    ) -> Command:
        """A run of tiles: passes for each digit of the activations, and for each of the weights."""
        source = self._place.codes[node.source]
        turns = [
            ({"offset": index * source.words, "shift": place + weight_place}, table)
            for index, (place, table) in enumerate(source.digits)
            for weight_place in digits.places
        ]
        kernel = weights.shape[2], weights.shape[3]
        walk = {"stride": node.stride, "padding": node.padding}
        return Command(
            fields=window(source, self._shape, kernel=kernel, first=run.first, **walk)
            | self._targets(group=run.tiles.start * self._p.groups)
            | {"opcode": LayerOpcode.CONVOLUTION, "passes": len(turns)}
            | {"tiles": len(run.tiles), "tile_step": run.step},
            passes=[turn | {"count": run.count} for turn, _ in turns],
            tables=[table for _, table in turns],
            constants=constants,
            weights=weights,
            digits=digits,
            thresholds=self._thresholds,
        )

    def _in_digits(
        self, node: Convolution, run: "_Run", weights: Integers, constants: Requantization
    ) -> Command:
        """The same with digits that the array's weights are, or that a codebook holds."""
        if not self._p.codebooks:
            digits = weight_digits(values=named(node.weight_format), array=self._p.format)
            return self._convolution(node, run, weights, constants, digits)
        found = indexed(node.weights, weight_format=node.weight_format, parameters=self._p)
        command = self._convolution(node, run, weights, constants, found.digits)
        return replace(command, codebook=found.codebook)

    def _in_planes(
        self, node: Convolution, run: "_Run", weights: Integers, constants: Requantization
    ) -> Iterator[Command]:
        """The same on an array of signs: a command for tiles of as many planes that stand side by side."""
        rows = self._p.rows
        bases = channel_bases(weights, constants.multiplier, weight_format=named(node.weight_format))
        starts = range(0, len(weights), rows)
        counts = [plane_count(bases[at : at + rows], weights[at : at + rows]) for at in starts]
        start = 0
        for planes, members in groupby(counts):
            end = start + len(list(members))
            channels = slice(start * rows, end * rows)
            own = Requantization(*(values[channels] for values in constants))
            found = split(weights[channels], own, bases[channels], planes=planes)
            part = run.part(start, end)
            if planes == 0:
                command = self._still(self._convolution(node, part, found.patterns, own, found.digits))
            else:
                command = self._convolution(node, part, found.patterns, found.constants, found.digits)
            yield replace(command, factors=found.factors)
            start = end

    def _still(self, command: Command) -> Command:
        """For pruned channels, which only have biases: a single word a pixel, of whatever activations."""
        assert command.weights is not None
        still = dict.fromkeys(("row_step", "pixel_step", "row_pitch", "pixel_pitch", "padding"), 0)
        still |= {"kernel_height": 1, "kernel_width": 1, "stride": 1, "passes": 1, "tile_step": 0}
        still["origin"] = self._place.codes[self._node.source].base
        return replace(
            command,
            fields=command.fields | still,
            passes=[{"offset": 0, "shift": 0, "count": 1}],
            tables=command.tables[:1],
            weights=np.ascontiguousarray(command.weights[:, :1, :1, :1]),
        )

    def _runs(self, node: Convolution, source: Codes) -> Iterator[tuple[range, int, int, int]]:
        """Output tiles that one command can do: tiles, first word, words from tile to tile, and their number.

        A tile of a depthwise convolution needs only the words that hold its own channels, and any other one
        those between the first and the last channel that make a difference.
        """
        tiles = -(-len(node.multiplier) // self._p.rows)
        if node.groups == 1:
            words = read_words(node, source.silent, lanes=self._p.lanes)
            yield range(tiles), words.start, 0, len(words)
            return
        spans = [self._span(tile, words=source.words) for tile in range(tiles)]
        start = 0
        for end in range(1, tiles + 1):
            run = spans[start : end + 1]
            steps = {after - before for (before, _), (after, _) in pairwise(run)}
            if end == tiles or len(steps) > 1 or len({count for _, count in run}) > 1:
                first, count = spans[start]
                yield range(start, end), first, spans[start + 1][0] - first if end - start > 1 else 0, count
                start = end

    def _span(self, tile: int, *, words: int) -> tuple[int, int]:
        """The first word that holds channels of an output tile, and the number of words."""
        first = tile * self._p.rows // self._p.lanes
        end = min(-(-(tile + 1) * self._p.rows // self._p.lanes), words)
        return first, end - first

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

    # Poolings

    def _poolings(self, node: Pooling) -> Iterator[Command]:
        p, source = self._p, self._place.values[node.source]
        if node.residual is not None:
            raise RefusedError(f"layer {node.name!r}: a pooling must not add a residual")
        before, channels = node.channels_before, source.shape[0]
        if before % p.requantizers:
            raise RefusedError(
                f"layer {node.name!r}: channels_before must be a multiple of the accelerator's "
                f"{p.requantizers} requantizers, not {before}"
            )
        if before or node.channels_after:
            yield self._without_source(source)
        tiles = -(-channels // p.rows)
        # Behind the source's channels the last tile may reach into those without any.
        multiplier, bias, shift = (values[before : before + tiles * p.rows] for values in self._constants)
        multiplier = np.where(np.arange(len(multiplier)) < channels, multiplier, 0)
        yield pooling(
            LayerOpcode.MAXIMUM if node.kind == "maximum" else LayerOpcode.SUM,
            window(source, self._shape, kernel=node.kernel, stride=node.stride, padding=node.padding)
            | self._targets(group=before // p.requantizers)
            | {"tiles": tiles},
            Requantization(multiplier, bias, shift),
            thresholds=self._thresholds,
            parameters=p,
        )

    def _without_source(self, source: Values) -> Command:
        """What accumulators of 0 come to, in every channel: sums of the source's first words, 0 times."""
        still = dict.fromkeys(("row_step", "pixel_step", "row_pitch", "pixel_pitch"), 0)
        command = pooling(
            LayerOpcode.SUM,
            window(source, self._shape)
            | still
            | self._targets(group=0)
            | {"tiles": -(-self._shape[0] // self._p.rows)},
            self._constants._replace(multiplier=np.zeros_like(self._node.multiplier)),
            thresholds=self._thresholds,
            parameters=self._p,
        )
        return replace(command, fields=command.fields | {"tile_step": 0})

    # Encodings of values

    def _encode(self, encoding: Encoding, values: Values) -> Iterator[Command]:
        """Codes of the values that the node has written; of wide codes, a command for each digit."""
        p, codes = self._p, self._place.codes[encoding.tensor]
        fields = window(values, self._shape) | {"tiles": -(-self._shape[0] // p.rows)}
        line, thresholds = (1, 0, 0), None
        if is_wide(encoding, p):
            line = linear_constants(encoding, name=self._node.name)
            fields |= {"linear": 1, "linear_bits": codes.format.code_width}
        else:
            thresholds = encoding.thresholds
        constants = Requantization(*(np.full(self._shape[0], part, dtype=np.int64) for part in line))
        for digit, (place, _) in enumerate(codes.digits):
            place_of = {"linear_place": place} if thresholds is None else {}
            yield pooling(
                LayerOpcode.MAXIMUM,
                fields | place_of | self._codes(codes, digit=digit, group=0),
                constants,
                thresholds=thresholds,
                parameters=p,
            )

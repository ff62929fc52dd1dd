"""Node by node, the commands of each node of the graph."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from hdl.console import RefusedError
from hdl.layouts import LayerOpcode
from hdl.parameters import AcceleratorParameters

from ..graph import Convolution, Encoding, Node, Pooling
from ..requantize import Requantization
from .commands import Command, Fields, linear_constants, pooling, window
from .convolution_commands import ConvolutionCommands
from .limits import check_command, fit
from .placement import Codes, Placement, Values, direct_encoding, is_wide, kept_values, later_encodings
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
            yield from ConvolutionCommands(
                self._node,
                self._place,
                self._p,
                shape=self._shape,
                thresholds=self._thresholds,
                targets=self._targets,
            )
        elif isinstance(self._node, Pooling):
            yield from self._poolings(self._node)
        for encoding in later_encodings(self._node, self._p):
            assert self._kept is not None
            yield from self._encode(encoding, self._kept)

    def _output_shape(self) -> Shape:
        node = self._node
        return self._place.shapes[node.encodings[0].tensor if node.encodings else node.values or node.name]

    # What is written

    def _targets(self, group: int) -> Fields:
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
            "output": (codes.base + digit * codes.words - codes.first) * per_word + group,
            "output_pitch": codes.pitch * per_word,
        }

    def _residual(self, group: int) -> Fields:
        if self._node.residual is None:
            return {}
        values = self._place.values[self._node.residual]
        return {"add_residual": 1, "residual": values.base + group, "residual_pitch": values.pitch}

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
        tiles = self._tiles(range(-(-channels // p.rows)))
        start, end = tiles.start * p.rows, tiles.stop * p.rows
        # Behind the source's channels the last tile may reach into those without any.
        multiplier, bias, shift = (values[before + start : before + end] for values in self._constants)
        multiplier = np.where(np.arange(start, start + len(multiplier)) < channels, multiplier, 0)
        first, walk = tiles.start * p.groups, {"stride": node.stride, "padding": node.padding}
        yield pooling(
            LayerOpcode.MAXIMUM if node.kind == "maximum" else LayerOpcode.SUM,
            window(source, self._shape, kernel=node.kernel, first=first, **walk)
            | self._targets(before // p.requantizers + first)
            | {"tiles": len(tiles)},
            Requantization(multiplier, bias, shift),
            thresholds=self._thresholds,
            parameters=p,
        )

    def _tiles(self, tiles: range) -> range:
        """Those of a pooling's tiles that are written."""
        if len(self._node.encodings) != 1 or self._node.values is not None:
            return tiles
        written = self._place.codes[self._node.encodings[0].tensor].tiles(
            rows=self._p.rows, lanes=self._p.lanes
        )
        return range(max(tiles.start, written.start), min(tiles.stop, written.stop))

    def _without_source(self, source: Values) -> Command:
        """What accumulators of 0 come to, in every channel: sums of the source's first words, 0 times."""
        still = dict.fromkeys(("row_step", "pixel_step", "row_pitch", "pixel_pitch"), 0)
        command = pooling(
            LayerOpcode.SUM,
            window(source, self._shape)
            | still
            | self._targets(0)
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
        tiles = codes.tiles(rows=p.rows, lanes=p.lanes)
        first = tiles.start * p.groups
        fields = window(values, self._shape, first=first) | {"tiles": len(tiles)}
        line, thresholds = (1, 0, 0), None
        if is_wide(encoding, p):
            line = linear_constants(encoding, name=self._node.name)
            fields |= {"linear": 1, "linear_bits": codes.format.code_width}
        else:
            thresholds = encoding.thresholds
        channels = min(self._shape[0], tiles.stop * p.rows) - tiles.start * p.rows
        constants = Requantization(*(np.full(channels, part, dtype=np.int64) for part in line))
        for digit, (place, _) in enumerate(codes.digits):
            place_of = {"linear_place": place} if thresholds is None else {}
            yield pooling(
                LayerOpcode.MAXIMUM,
                fields | place_of | self._codes(codes, digit=digit, group=first),
                constants,
                thresholds=thresholds,
                parameters=p,
            )

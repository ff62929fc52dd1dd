"""Compiler: an integer network becomes the memories' contents for one accelerator."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from amaranth.lib import data
from numpy.typing import NDArray

from hdl.console import RefusedError
from hdl.formats import Format, named
from hdl.layouts import LAYER, PASS, STREAM_WIDTH, LayerOpcode, Section, search_order, section_depth
from hdl.parameters import VALUE_WIDTH, AcceleratorParameters

from .bits import Words, slice_words, struct_bits
from .digits import activation_digits, weight_digits
from .limits import check_command, check_layer, fit
from .network import IntegerLayer, IntegerNetwork
from .schedule import LayerSchedule, layer_cycles
from .weights import channel_words, weight_words


@dataclass(frozen=True, kw_only=True)
class InputLayout:
    """How a host lays an image out in activation memory.

    The image is unfolded into patches of `kernel` × `kernel` pixels (1 leaves it as it is), whose values
    become the channels of one pixel; each value is cut into digits of `digit_width` bits, and a pixel's
    words hold all channels' first digits, then all channels' second digits, and so on.
    """

    shape: tuple[int, int, int]
    kernel: int
    stride: int
    padding: int
    digit_width: int
    digits: int
    words: int


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A tensor in activation memory: `pitch` words per pixel from `base`, `words` of them per digit."""

    base: int
    channels: int
    height: int
    width: int
    pitch: int
    format: Format

    @property
    def size(self) -> int:
        return self.height * self.width * self.pitch


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """Contents of the memories: for each section its words as 32-bit slices, and how to use them."""

    parameters: AcceleratorParameters
    sections: dict[Section, Words]
    input: InputLayout
    results: int
    classes: int
    logit_scale: float
    schedule: tuple[LayerSchedule, ...]


def compile_network(network: IntegerNetwork, parameters: AcceleratorParameters) -> Compiled:
    """Split layers into passes, place tensors, and lay out every memory.

    Raises
    ------
    RefusedError
        If the network does not fit the accelerator; the message names the layer and by how much.
    """
    return _Compiler(network, parameters).run()


class _Compiler:
    """Walks the layers once, appending to each memory."""

    def __init__(self, network: IntegerNetwork, parameters: AcceleratorParameters) -> None:
        self._network = network
        self._p = parameters
        self._program: list[Words] = []
        self._weights: list[Words] = []
        self._channels: list[Words] = []
        self._tables: list[tuple[int, ...]] = []
        self._encodings: list[list[int]] = []
        self._schedule: list[LayerSchedule] = []

    def run(self) -> Compiled:
        layers = list(self._network.layers)
        channels, height, width = self._network.input_shape
        unfolded = _unfold_first(layers[0], (channels, height, width), lanes=self._p.lanes)
        kernel, stride, padding = layers[0].weights.shape[2], layers[0].stride, layers[0].padding
        if unfolded is not None:
            channels *= kernel * kernel
            height, width = (_output_size(size, layers[0]) for size in (height, width))
            layers[0] = unfolded
        else:
            kernel, stride, padding = 1, 1, 0
        tensor = self._place_input(layers[0], channels=channels, height=height, width=width)
        digits = self._activation_digits(layers[0], tensor.format)
        layout = InputLayout(
            shape=self._network.input_shape,
            kernel=kernel,
            stride=stride,
            padding=padding,
            digit_width=(len(digits[0][1]) - 1).bit_length(),
            digits=len(digits),
            words=tensor.size,
        )
        for index, layer in enumerate(layers):
            tensor = self._add_layer(layer, tensor, at_top=index % 2 == 0)
        self._program.append(_struct_words(LAYER, {"opcode": np.array([LayerOpcode.HALT])}))
        return Compiled(
            parameters=self._p,
            sections=self._sections(),
            input=layout,
            results=-(-tensor.channels // self._p.requantizers),
            classes=tensor.channels,
            logit_scale=self._network.logit_scale,
            schedule=tuple(self._schedule),
        )

    def _place_input(self, layer: IntegerLayer, *, channels: int, height: int, width: int) -> Tensor:
        values = named(layer.input_format)
        if values.levels != tuple(range(len(values.levels))):
            raise RefusedError(
                f"layer {layer.name!r}: images must be of a uniform format, not {values.name!r}"
            )
        words = -(-channels // self._p.lanes) * len(self._activation_digits(layer, values))
        tensor = Tensor(base=0, channels=channels, height=height, width=width, pitch=words, format=values)
        fit(layer, "activation memory", tensor.size, self._p.activation_words, "words")
        return tensor

    def _activation_digits(self, layer: IntegerLayer, values: Format) -> list[tuple[int, tuple[int, ...]]]:
        widths = {"code_width": self._p.code_width, "activation_width": self._p.activation_width}
        return _digits(layer, activation_digits, values, **widths)

    def _add_layer(self, layer: IntegerLayer, source: Tensor, *, at_top: bool) -> Tensor:
        p = self._p
        outputs, inputs, kernel_height, kernel_width = layer.weights.shape
        height, width = _output_size(source.height, layer), _output_size(source.width, layer, axis=3)
        if min(height, width) < 1:
            raise RefusedError(f"layer {layer.name!r}: kernel must fit in the padded input")
        tiles, words = -(-outputs // p.rows), -(-inputs // p.lanes)
        target = self._place_output(layer, source, height=height, width=width, tiles=tiles, at_top=at_top)
        check_layer(layer, input_format=source.format, parameters=p)
        weights = _digits(layer, weight_digits, values=named(layer.weight_format), array=p.format)
        places = self._activation_digits(layer, source.format)
        passes = [
            {
                "offset": index * words,
                "count": words,
                "table": self._index(self._tables, table, layer, "activation tables", p.tables),
                "shift": place + weight_place,
            }
            for index, (place, table) in enumerate(places)
            for weight_place in weights.places
        ]
        fit(layer, "passes", len(passes), p.passes, "passes")
        command = {
            "opcode": LayerOpcode.CONVOLUTION,
            "encoding": self._encoding(layer),
            "to_codes": layer.output_format is not None,
            "to_results": layer.output_format is None,
            "passes": len(passes),
            "kernel_height": kernel_height,
            "kernel_width": kernel_width,
            "stride": layer.stride,
            "padding": layer.padding,
            "tiles": tiles,
            "output_height": height,
            "output_width": width,
            "input_height": source.height,
            "input_width": source.width,
            "origin": source.base - layer.padding * (source.width + 1) * source.pitch,
            "row_step": layer.stride * source.width * source.pitch,
            "pixel_step": layer.stride * source.pitch,
            "row_pitch": source.width * source.pitch,
            "pixel_pitch": source.pitch,
            "weights": sum(len(words) for words in self._weights),
            "channels": sum(len(words) for words in self._channels),
            "output": target.base * p.groups_per_word,
            "output_pitch": target.pitch * p.groups_per_word,
        }
        check_command(layer, command, passes)
        self._program.append(_struct_words(LAYER, {key: np.array([v]) for key, v in command.items()}))
        fields = {key: np.array([turn[key] for turn in passes]) for key in passes[0]}
        self._program.append(_struct_words(PASS, fields))
        options = {"digits": weights, "copies": len(places), "parameters": p}
        codes, folds = _digits(layer, weight_words, layer.weights, **options)
        self._weights.append(codes)
        shifts = [turn["shift"] for turn in passes]
        self._channels.append(channel_words(layer, folds=folds, places=shifts, parameters=p))
        steps = [kernel_height * kernel_width * words] * len(passes)
        self._schedule.append(
            LayerSchedule(
                name=layer.name,
                passes=len(passes),
                cycles=layer_cycles(parameters=p, pixels=height * width, tiles=tiles, steps=steps),
                macs=layer.weights.size * height * width,
            )
        )
        return target

    def _place_output(
        self, layer: IntegerLayer, source: Tensor, *, height: int, width: int, tiles: int, at_top: bool
    ) -> Tensor:
        """Opposite end of the memory from the input; results have a memory of their own."""
        p = self._p
        outputs = layer.weights.shape[0]
        if layer.output_format is None:
            if (height, width) != (1, 1):
                raise RefusedError(f"layer {layer.name!r}: results must be one pixel, not {height} × {width}")
            fit(layer, "result memory", tiles * p.groups, p.result_words, "words")
            shape = {"channels": outputs, "height": height, "width": width}
            return Tensor(base=0, pitch=tiles * p.rows // p.lanes, format=source.format, **shape)
        pitch = -(-tiles * p.rows // p.lanes)
        size = height * width * pitch
        fit(layer, "activation memory", source.size + size, p.activation_words, "words")
        return Tensor(
            base=p.activation_words - size if at_top else 0,
            channels=outputs,
            height=height,
            width=width,
            pitch=pitch,
            format=named(layer.output_format),
        )

    def _index(self, known: list, entry: object, layer: IntegerLayer, what: str, limit: int) -> int:
        """Place of an entry that layers share."""
        if entry not in known:
            known.append(entry)
        fit(layer, what, len(known), limit, what)
        return known.index(entry)

    def _encoding(self, layer: IntegerLayer) -> int:
        if layer.output_format is None:
            return 0
        return self._index(self._encodings, list(layer.thresholds), layer, "encodings", self._p.encodings)

    def _sections(self) -> dict[Section, Words]:
        p = self._p
        tables = np.zeros((len(self._tables), 2**p.code_width), dtype=np.uint32)
        for row, levels in zip(tables, self._tables, strict=True):
            row[: len(levels)] = levels
        mask = (1 << VALUE_WIDTH) - 1
        boundaries = [search_order(entry, code_width=p.code_width) for entry in self._encodings]
        sections = {
            Section.PROGRAM: np.concatenate(self._program),
            Section.WEIGHTS: np.concatenate(self._weights),
            Section.CHANNELS: np.concatenate(self._channels),
            Section.TABLES: tables.reshape(-1, 1),
            Section.BOUNDARIES: (np.array(boundaries, dtype=np.int64) & mask)
            .astype(np.uint32)
            .reshape(-1, 1),
        }
        for section, words in sections.items():
            depth = section_depth(p, section)
            if len(words) > depth:
                raise RefusedError(
                    f"network needs {len(words)} words of {section.name.lower()} memory, "
                    f"{len(words) - depth} more than the accelerator's {depth}"
                )
        return sections


def _digits(layer: IntegerLayer, split: Callable[..., Any], *args: object, **options: object) -> Any:
    """A split into digits; where there is none, the layer is named."""
    try:
        return split(*args, **options)
    except ValueError as error:
        raise RefusedError(f"layer {layer.name!r}: {error}") from error


def _output_size(size: int, layer: IntegerLayer, *, axis: int = 2) -> int:
    return (size + 2 * layer.padding - layer.weights.shape[axis]) // layer.stride + 1


def _unfold_first(layer: IntegerLayer, shape: tuple[int, int, int], *, lanes: int) -> IntegerLayer | None:
    """The first layer as a convolution of 1 × 1 over patches, if that fills the lanes better.

    An image has few channels; its patches have as many as the kernel has taps.
    """
    outputs, inputs, height, width = layer.weights.shape
    taps = height * width
    if height != width or -(-inputs * taps // lanes) >= taps * -(-inputs // lanes):
        return None
    if min(_output_size(size, layer) for size in shape[1:]) < 1:
        return None
    flat = np.ascontiguousarray(layer.weights.reshape(outputs, inputs * taps, 1, 1))
    return replace(layer, weights=flat, stride=1, padding=0)


def _struct_words(layout: data.StructLayout, fields: dict[str, NDArray[np.integer]]) -> Words:
    return slice_words(struct_bits(layout, fields), slice_width=STREAM_WIDTH).reshape(-1, 1)

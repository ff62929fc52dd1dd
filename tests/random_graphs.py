"""Random graphs of everything that an integer graph can hold: blocks with residuals, poolings, depthwise."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.random import Generator

from hdl.formats import named
from hdl.parameters import VALUE_WIDTH
from sw.compiler.shapes import read as tensors_read
from sw.graph import IMAGE, Addend, Convolution, IntegerGraph, Node, Pooling
from tests.random_networks import SPREAD, random_constants, random_convolution, random_encoding

Shape = tuple[int, int, int]


def random_graph(
    rng: Generator,
    *,
    weight_formats: tuple[str, ...],
    activation_formats: tuple[str, ...],
    rows: int,
    requantizers: int,
    input_format: str = "uniform_b8u",
    wide_format: str = "uniform_b8u",
    end_format: str = "uniform_b8",
) -> IntegerGraph:
    """A stem on a bordered image, two or three blocks, and an end.

    The last block's encoding is of `wide_format` now and then.  No tensor is without a reader.
    """
    growing = _Growing(
        rng=rng,
        weight_formats=weight_formats,
        activation_formats=activation_formats,
        rows=rows,
        requantizers=requantizers,
    )
    shape = (int(rng.integers(1, 4)), *(int(size) for size in rng.integers(4, 8, 2)))
    border = int(rng.integers(0, 3))
    growing.shape = (shape[0], shape[1] + 2 * border, shape[2] + 2 * border)
    growing.codes = {IMAGE: input_format}
    growing.convolution(length=3 if border else int(rng.integers(1, 4)), weight_format=end_format)
    growing.blocks(int(rng.integers(2, 4)))
    growing.end(wide_format=wide_format, end_format=end_format)
    return IntegerGraph(
        input_shape=shape,
        nodes=_without_unread(growing.nodes),
        logit_scale=1.0,
        input_format=input_format,
        border=border,
        fill=_fill(rng, input_format, channels=shape[0]) if border else (),
    )


@dataclass(kw_only=True)
class _Growing:
    """A graph that grows at its end, where there are tensors of codes and of values, all of one shape."""

    rng: Generator
    weight_formats: tuple[str, ...]
    activation_formats: tuple[str, ...]
    rows: int
    requantizers: int
    nodes: list[Node] = field(default_factory=list)
    shape: Shape = (0, 0, 0)
    codes: dict[str, str] = field(default_factory=dict)
    values: str = ""

    def pick(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def blocks(self, count: int) -> None:
        """So many blocks, none twice."""
        kinds = (
            self.identity,
            self.downsample,
            self.padded,
            self.pool,
            self.depthwise,
            self.parted,
            self.convolution,
        )
        for index in self.rng.permutation(len(kinds))[:count]:
            kinds[index]()

    def channels(self) -> int:
        return int(self.rng.integers(2, 2 * self.rows + 2))

    def source(self) -> dict[str, str]:
        name = self.pick(*self.codes)
        return {"source": name, "input_format": self.codes[name]}

    def add(self, node: Node, shape: Shape) -> None:
        """The node, which writes values and one or two tensors of codes."""
        name, rng = f"node{len(self.nodes)}", self.rng
        formats = [self.pick(*self.activation_formats) for _ in range(self.pick(1, 1, 2))]
        codes = {f"{name}.codes{i}": each for i, each in enumerate(formats)}
        encodings = tuple(random_encoding(rng, tensor, each) for tensor, each in codes.items())
        if self.pick(True, False, False):
            encodings = tuple(replace(each, thresholds=_anywhere(rng, each.thresholds)) for each in encodings)
        # Only one tensor of codes can tell values below 0 apart once they are rectified.
        tellable = sum(each.thresholds[0] < 0 for each in encodings) <= 1
        rectified = tellable and bool(self.pick(True, False))
        values = f"{name}.values"
        self.nodes.append(replace(node, name=name, encodings=encodings, values=values, rectified=rectified))
        self.shape, self.codes, self.values = shape, codes, values

    def convolution(self, *, outputs: int | None = None, length: int | None = None, **members: Any) -> None:
        """To the end of the graph, from its codes unless `members` say otherwise."""
        channels, height, width = self.shape
        outputs = outputs or self.channels()
        length = length or min(self.pick(1, 2, 3), height, width)
        options = {"padding": int(self.rng.integers(0, length)), "stride": self.pick(1, 1, 2)}
        if IMAGE in self.codes:
            options["padding"] = 0
        options |= {"weight_format": self.pick(*self.weight_formats), **self.source(), **members}
        node = random_convolution(
            self.rng,
            name="",
            outputs=outputs,
            inputs=channels,
            kernel=(length, length),
            values="y",
            **options,
        )
        self.add(node, (outputs, *(_sizes((height, width), length, options))))

    def encode_again(self, format_name: str) -> None:
        """The last node writes one more tensor of codes, which is the end's."""
        tensor, last = f"{self.nodes[-1].name}.again", self.nodes[-1]
        encoding = random_encoding(self.rng, tensor, format_name)
        self.nodes[-1] = replace(last, encodings=(*last.encodings, encoding))
        self.codes = {tensor: format_name}

    def identity(self) -> None:
        """Two convolutions, and what was there before."""
        shape, values, same = self.shape, self.values, {"length": 3, "padding": 1, "stride": 1}
        self.convolution(**same)
        self.convolution(outputs=shape[0], residual=values, **same)

    def downsample(self) -> None:
        """Two convolutions, and beside them one of 1 × 1, which reads an encoding of its own."""
        shape, codes, outputs = self.shape, self.codes, self.channels()
        self.encode_again(self.pick(*self.activation_formats))
        self.convolution(outputs=outputs, length=1, padding=0, stride=2)
        self.beside(shape, codes)

    def padded(self) -> None:
        """Two convolutions, and every other pixel with channels added."""
        shape, codes = self.shape, self.codes
        before = self.requantizers * int(self.rng.integers(0, 3))
        after = int(self.rng.integers(0, self.rows))
        self.pooling("maximum", kernel=(1, 1), stride=2, channels_before=before, channels_after=after)
        self.beside(shape, codes)

    def beside(self, shape: Shape, codes: dict[str, str]) -> None:
        """Two convolutions from an earlier tensor, half its size, to which the end's values are added."""
        shortcut, outputs = self.values, self.shape[0]
        self.shape, self.codes = shape, codes
        self.convolution(length=3, padding=1, stride=2)
        self.convolution(outputs=outputs, length=3, padding=1, stride=1, residual=shortcut)

    def pool(self) -> None:
        _, height, width = self.shape
        kernel = (min(self.pick(2, 3), height), min(self.pick(2, 3), width))
        padding = int(self.rng.integers(0, min(kernel)))
        self.pooling(self.pick("maximum", "sum"), kernel=kernel, stride=self.pick(1, 2), padding=padding)

    def pooling(self, kind: str, *, kernel: tuple[int, int], **members: Any) -> None:
        channels, height, width = self.shape
        outputs = channels + members.get("channels_before", 0) + members.get("channels_after", 0)
        typical = SPREAD / 2 * (kernel[0] * kernel[1] if kind == "sum" else 1)
        constants = random_constants(self.rng, typical=typical, outputs=outputs)
        node = Pooling(name="", source=self.values, kind=kind, kernel=kernel, **constants, **members)
        heights = _sizes((height,), kernel[0], members)
        self.add(node, (outputs, *heights, *_sizes((width,), kernel[1], members)))

    def depthwise(self) -> None:
        channels = self.shape[0]
        self.convolution(outputs=channels, groups=channels)

    def parted(self) -> None:
        """A convolution of two or three tensors, each of which holds some of the channels."""
        rng, channels, codes = self.rng, self.shape[0], dict[str, str]()
        count = self.pick(2, 3)
        holder = rng.integers(0, count, channels)
        for index in range(count):
            name, tensor = f"node{len(self.nodes)}", f"node{len(self.nodes)}.codes"
            codes[tensor] = self.pick(*self.activation_formats)
            constants = {"bias": np.zeros_like(holder), "shift": np.zeros_like(holder)}
            pooling = Pooling(
                name=name,
                source=self.values,
                kind="maximum",
                multiplier=(holder == index) * self.pick(1, 2),
                encodings=(random_encoding(rng, tensor, codes[tensor]),),
                **constants,
            )
            self.nodes.append(pooling)
        source, *others = codes
        self.codes = {source: codes[source]}
        self.convolution(**({"outputs": channels, "groups": channels} if self.pick(True, False) else {}))
        node = self.nodes[-1]
        assert isinstance(node, Convolution)
        multipliers = {other: np.roll(node.multiplier, shift) for shift, other in enumerate(others, start=1)}
        addends = tuple(Addend(tensor=name, multiplier=each) for name, each in multipliers.items())
        self.nodes[-1] = replace(node, addends=addends)

    def end(self, *, wide_format: str, end_format: str) -> None:
        """A sum of all pixels in another format, or none; then a linear layer, or no more."""
        classes, (channels, height, width) = int(self.rng.integers(2, 12)), self.shape
        if self.pick(True, False):
            self.pooling("sum", kernel=(height, width))
            channels, height, width = self.shape
            if self.pick(True, False):
                self.encode_again(wide_format)
        elif self.pick(True, False):
            constants = {"multiplier": np.arange(1, 1 + channels), "shift": np.arange(channels) % 5}
            node = Pooling(
                name="end",
                source=self.values,
                kind="sum",
                kernel=(height, width),
                bias=np.arange(channels) * 1001,
                **constants,
            )
            self.nodes.append(node)
            return
        node = random_convolution(
            self.rng,
            name="end",
            outputs=classes,
            inputs=channels,
            kernel=(height, width),
            weight_format=end_format,
            **self.source(),
        )
        self.nodes.append(node)


def _fill(rng: Generator, input_format: str, *, channels: int) -> tuple[int, ...]:
    lowest, *_, highest = named(input_format).grid
    return tuple(rng.integers(lowest, highest + 1, channels).tolist())


def _sizes(sizes: tuple[int, ...], length: int, options: dict[str, Any]) -> tuple[int, ...]:
    stride, padding = options.get("stride", 1), options.get("padding", 0)
    return tuple((size + 2 * padding - length) // stride + 1 for size in sizes)


def _anywhere(rng: Generator, thresholds: tuple[int, ...]) -> tuple[int, ...]:
    """As many, not evenly spaced and also below 0."""
    low, high = -int(SPREAD / 2), thresholds[-1]
    spread = sorted(int(value) for value in rng.integers(low, high, len(thresholds)))
    # The largest value of all is exceeded by none.
    return (*spread[:-1], int(rng.choice([spread[-1], 2 ** (VALUE_WIDTH - 1) - 1])))


def _without_unread(nodes: list[Node]) -> tuple[Node, ...]:
    """Only what somebody reads is written, and only nodes whose output somebody reads stay."""
    read: set[str] = set()
    kept: list[Node] = []
    for node in reversed(nodes):
        encodings = tuple(each for each in node.encodings if each.tensor in read)
        values = node.values if node.values in read else None
        if kept and not encodings and values is None:
            continue
        kept.append(replace(node, encodings=encodings, values=values))
        read |= {*tensors_read(node)}
    return tuple(reversed(kept))

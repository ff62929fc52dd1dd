"""Convolutions of several tensors, the sum of each with multipliers of its own: placed, read and executed."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hdl.console import RefusedError
from hdl.parameters import AcceleratorParameters
from sw.compiler.commands import Command
from sw.compiler.compile import lower
from sw.compiler.fitting import fitting_parameters
from sw.graph import Addend, Convolution, Encoding, IntegerGraph, Pooling
from tests.executor_check import check_executor
from tests.random_networks import random_convolution, thresholds_of

LANES = 4


def pooled(name: str, channels: range, fmt: str, *, of: int) -> Pooling:
    """Values 0 … of some channels as codes, the others as 0."""
    held = np.isin(np.arange(of), channels).astype(np.int64)
    return Pooling(
        name=name,
        source="values",
        kind="maximum",
        multiplier=held,
        bias=0 * held,
        shift=0 * held,
        encodings=(Encoding(tensor=name, format=fmt, thresholds=tuple(np.arange(2 ** int(fmt[9]) - 1))),),
    )


def parted(
    *ends: int,
    weight_format: str = "uniform_b4",
    groups: int = 1,
    formats: tuple[str, ...] = ("uniform_b2u",),
) -> IntegerGraph:
    """A layer that reads as many tensors as there are ends of their channels, and one behind it."""
    rng, channels = np.random.default_rng(1), ends[-1]
    shape: dict[str, Any] = {"kernel": (1, 1), "weight_format": "uniform_b4"}
    stem = random_convolution(
        rng, name="stem", outputs=channels, inputs=2, input_format="uniform_b8u", values="values", **shape
    )
    spans = [range(start, end) for start, end in zip((0, *ends), ends, strict=False)]
    chosen = np.resize(formats, len(spans)).tolist()
    tensors = {f"part{index}": pair for index, pair in enumerate(zip(spans, chosen, strict=True))}
    poolings = [pooled(name, span, fmt, of=channels) for name, (span, fmt) in tensors.items()]
    outputs = channels if groups > 1 else 6
    layer = random_convolution(
        rng,
        name="layer",
        source="part0",
        outputs=outputs,
        inputs=channels,
        kernel=(3, 3),
        padding=1,
        input_format=chosen[0],
        encodings={"codes": "uniform_b2u"},
        weight_format=weight_format,
        groups=groups,
    )
    further = [f"part{index}" for index in range(1, len(ends))]
    addends = tuple(Addend(tensor=name, multiplier=-layer.multiplier // 2) for name in further)
    end = {"outputs": 3, "inputs": outputs, "source": "codes", "input_format": "uniform_b2u"} | shape
    last = random_convolution(rng, name="last", **(end | {"kernel": (4, 3)}))
    return IntegerGraph(
        input_shape=(2, 4, 3),
        nodes=(stem, *poolings, replace(layer, addends=addends), last),
        logit_scale=1.0,
    )


def layer_commands(graph: IntegerGraph, parameters: AcceleratorParameters) -> tuple[Command, ...]:
    return {node.name: commands for node, commands in lower(graph, parameters).nodes}["layer"]


def fitted(graph: IntegerGraph, **array: Any) -> AcceleratorParameters:
    return fitting_parameters(graph, rows=4, lanes=LANES, **array)


@pytest.mark.parametrize("array", ["uniform_b4", "apot_k2n2", "basis_1"])
@pytest.mark.parametrize("ends", [(4, 8), (3, 10), (1, 2, 13), (9, 9, 12)])
@pytest.mark.parametrize("formats", [("uniform_b2u", "uniform_b4u"), ("uniform_b3u",)])
def test_graphs_executed(array: str, ends: tuple[int, ...], formats: tuple[str, ...]) -> None:
    """Channels that fill words or not, one tensor of zeros, and codes of one digit or of two."""
    for groups in (1, ends[-1]):
        graph = parted(*ends, groups=groups, formats=formats)
        for level_width in (4, 2):
            check_executor(graph, fitted(graph, weight_format=array, level_width=level_width))


def test_each_tensor_takes_a_pass_over_its_own_words() -> None:
    """Of 12 channels 4 lie in one tensor, 8 in the other, which has codes of two digits."""
    graph = parted(4, 12, formats=("uniform_b2u", "uniform_b4u"))
    (command,) = layer_commands(graph, fitted(graph, level_width=2))
    assert [turn["count"] for turn in command.passes] == [1, 2, 2]
    assert [turn["offset"] for turn in command.passes] == [0, 1, 3]
    assert [turn["shift"] for turn in command.passes] == [0, 0, 2]
    layer = next(node for node in graph.nodes if isinstance(node, Convolution) and node.addends)
    main, other = layer.multiplier, layer.addends[0].multiplier
    np.testing.assert_array_equal(command.constants.multiplier, np.stack([main, other, other], axis=1))


def test_words_that_nobody_reads_are_neither_written_nor_stored() -> None:
    """5 words of 16 channels side by side: words 0 and 1 of one tensor, 1 to 3 of the other."""
    graph = parted(6, 16)
    placed = lower(graph, fitted(graph))
    codes = placed.placement.codes
    assert [(codes[name].first, codes[name].words) for name in ("part0", "part1")] == [(0, 2), (1, 3)]
    assert codes["part0"].pitch == codes["part1"].pitch == 5
    assert codes["part1"].base == codes["part0"].base + 2
    tiles = {node.name: commands[0].fields["tiles"] for node, commands in placed.nodes}
    assert (tiles["part0"], tiles["part1"]) == (2, 3)


def test_words_are_stored_if_anybody_reads_them() -> None:
    """A depthwise layer reads them all."""
    graph = parted(6, 16, groups=16)
    codes = lower(graph, fitted(graph)).placement.codes
    assert [(codes[name].first, codes[name].words) for name in ("part0", "part1")] == [(0, 4), (0, 4)]


def test_multipliers_of_addends_must_fit() -> None:
    graph = parted(4, 8)
    *before, layer, last = graph.nodes
    assert isinstance(layer, Convolution)
    loud = Addend(tensor="part1", multiplier=np.full(6, 2**17))
    wrong = replace(graph, nodes=(*before, replace(layer, addends=(loud,)), last))
    with pytest.raises(RefusedError, match=r"^layer 'layer': multiplier must lie in -131072 … 131071$"):
        lower(wrong, fitted(graph))


def test_tensors_are_read_together_or_not_at_all() -> None:
    graph = parted(4, 8, 12)
    *before, layer, last = graph.nodes
    assert isinstance(layer, Convolution)
    encoding = Encoding(
        tensor="codes2", format="uniform_b2u", thresholds=thresholds_of("uniform_b2u", fraction=9)
    )
    other = replace(layer, name="other", addends=layer.addends[:1], encodings=(encoding,))
    wrong = replace(graph, nodes=(*before, layer, other, last))
    message = r"^layer 'layer': its sources must be those of 'other', of which it reads some$"
    with pytest.raises(RefusedError, match=message):
        lower(wrong, fitted(graph))


def test_channels_of_all_sources_have_one_order() -> None:
    """Two layers whose channels take one plane and two, in turn, the other one's the other way round."""
    graph = parted(4, 8)
    layer, last = graph.nodes[-2:]
    assert isinstance(layer, Convolution)
    rng, one, two = np.random.default_rng(2), (-1, 1), (-13, -3, 3, 13)
    shape: dict[str, Any] = {"outputs": 8, "inputs": 2, "kernel": (1, 1), "weight_format": "uniform_b5"}
    stems = []
    for index, turns in enumerate(((one, two), (two, one))):
        weights = np.stack([rng.choice(turns[channel % 2], (2, 1, 1)) for channel in range(8)])
        encodings = {f"part{index}": "uniform_b2u"}
        stem = random_convolution(
            rng, name=f"stem{index}", input_format="uniform_b8u", encodings=encodings, **shape
        )
        constants = {name: getattr(stem, name) >> 4 for name in ("multiplier", "bias")}
        stems.append(replace(stem, weights=weights, shift=np.maximum(stem.shift - 4, 0), **constants))
    check_executor(replace(graph, nodes=(*stems, layer, last)), fitted(graph, weight_format="basis_1"))

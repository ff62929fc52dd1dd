"""Which accelerator a network needs, and reading the description of one that was generated."""

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hdl.console import RefusedError
from hdl.formats import Basis, Companded, Format, SignMagnitude, Uniform, named
from hdl.layouts import LAYER_WORDS, Section, section_depth, section_width
from hdl.parameters import MAX_DEPTH, MAX_VALUE_WORDS, AcceleratorParameters, parameters_from

from ..graph import Convolution, IntegerGraph, Pooling
from .commands import Command
from .compile import Lowered, lower
from .planes import channel_bases

BLOCK_WORDS = 512
"""Words of a block memory at its widest, to a multiple of which memories are rounded up."""


def fitting_parameters(
    graph: IntegerGraph,
    *,
    weight_format: str | None = None,
    index_width: int | None = None,
    level_width: int | None = None,
    rows: int = 16,
    lanes: int = 16,
    cores: int = 1,
    narrow: bool = False,
) -> AcceleratorParameters:
    """Default parameters, with the formats, widths and memories that the graph needs.

    The array's weight format is the one most weights have; 8-bit layers then run as digits of it.  Binary
    bases run as planes of ±1.  Where most weights have learned tables, of which every layer has its own,
    they are indices of codebooks, if that takes fewer bits of memory than plain integers, which stand in
    otherwise.
    Codes are as wide as the inner layers' inputs; a wider uniform input of the last layer is cut into digits
    like an image.

    Parameters
    ----------
    weight_format
        Name of another weight format of the array.
    index_width
        Bits of an index of codebooks, 0 for none; as it is best, unless `weight_format` says something.
    level_width
        Bits of an activation level at most, and of a code; None for as many as inner layers have.  Uniform
        codes of more bits are read digit by digit.
    rows, lanes, cores
        As in `AcceleratorParameters`.
    narrow
        Accumulators are no wider than the sums of these weights need.  Otherwise they have the default's
        depth at least, and mostly take the network when it has been trained further.

    Raises
    ------
    RefusedError
        If there is no such accelerator: its codes would be too wide, or its tables or words too many.
    """
    inner = _inner_formats(graph)
    code_width = max((values.code_width for values in inner), default=4)
    activation_width = max(code_width, *(values.level_width for values in inner), 1)
    if level_width is not None:
        code_width, activation_width = min(code_width, level_width), min(activation_width, level_width)
    # Channels that a pooling adds before its own are whole groups of so many.
    added = [node.channels_before for node in graph.nodes if isinstance(node, Pooling)]
    largest = min((before & -before for before in added if before), default=8)
    requantizers = min(
        8, largest, rows & -rows, lanes & -lanes, 1 << (max(1, 32 // code_width).bit_length() - 1)
    )
    try:
        chosen = AcceleratorParameters(
            rows=rows,
            lanes=lanes,
            cores=cores,
            code_width=code_width,
            activation_width=activation_width,
            requantizers=requantizers,
        )
        if weight_format is not None or index_width is not None:
            array = _array(graph, index_width=index_width or 0)
            array |= {"weight_format": weight_format} if weight_format else {}
            return _fitted(graph, replace(chosen, **array), narrow=narrow)[0]
        return _best(graph, chosen, narrow=narrow)
    except ValueError as error:
        raise RefusedError(f"network fits no accelerator: {error}") from error


def _array(graph: IntegerGraph, *, index_width: int) -> dict[str, Any]:
    """Parameters of an array for the graph's weights; how many codebooks it needs is not known yet.

    Tables are learned as signs and magnitudes, which multiply in fewer cells than two's complement.
    """
    learned = _learned_tables(graph) if index_width else []
    weight_format = (
        SignMagnitude(bits=max(table.level_width for table in learned) + 1).name
        if learned
        else _array_format(graph)
    )
    return {"weight_format": weight_format, "index_width": index_width, "codebooks": int(index_width > 0)}


def _best(graph: IntegerGraph, chosen: AcceleratorParameters, *, narrow: bool) -> AcceleratorParameters:
    """An array of the weights' own format; with codebooks for learned tables, if these take fewer bits."""
    plain, bits = _fitted(graph, replace(chosen, **_array(graph, index_width=0)), narrow=narrow)
    learned = _learned_tables(graph)
    if not learned:
        return plain
    array = _array(graph, index_width=max(table.code_width for table in learned))
    try:
        indexed, fewer = _fitted(graph, replace(chosen, **array), narrow=narrow)
    except (ValueError, RefusedError):
        return plain
    return indexed if fewer < bits else plain


def _learned_tables(graph: IntegerGraph) -> list[Format]:
    """The tables that layers have learned, if more than half of the weights have one, 8-bit layers aside."""
    weights = _narrow_weights(graph)
    tables = {name: named(name) for name in weights if isinstance(named(name), Companded)}
    return list(tables.values()) if 2 * sum(weights[name] for name in tables) > weights.total() else []


def _fitted(
    graph: IntegerGraph, chosen: AcceleratorParameters, *, narrow: bool
) -> tuple[AcceleratorParameters, int]:
    """The array with all sizes that the graph needs, and bits that its weights take, codebooks included."""
    lowered = lower(graph, replace(chosen, **_MOST))
    commands = [command for _, commands in lowered.nodes for command in commands]
    needed = _needed(lowered, chosen)
    depth = needed["depth"] if narrow else max(needed["depth"], chosen.depth)
    fitted = replace(chosen, **needed | {"depth": depth})
    words = sum(command.weight_words for command in commands)
    entries = section_depth(fitted, Section.CODEBOOKS) * section_width(fitted, Section.CODEBOOKS)
    return fitted, words * section_width(fitted, Section.WEIGHTS) + entries


def _inner_formats(graph: IntegerGraph) -> list[Format]:
    """Formats of codes that need to fit in one code of the accelerator."""
    formats = {encoding.tensor: named(encoding.format) for node in graph.nodes for encoding in node.encodings}
    last = formats.pop(graph.nodes[-1].source, None)
    inner = list(formats.values())
    return inner if last is None or (isinstance(last, Uniform) and inner) else [*inner, last]


def _array_format(graph: IntegerGraph) -> str:
    """A format whose digits or planes make the levels of all weights, by how many have each."""
    weights = _narrow_weights(graph)
    layers = [node for node in graph.nodes if isinstance(node, Convolution)]
    if 2 * sum(map(_weights_in_planes, layers)) > weights.total():
        return Basis(coordinates=(1,)).name
    most = named(weights.most_common(1)[0][0])
    if 0 in most.codes and not isinstance(most, Companded):
        return most.name
    widest = max(named(name).level_width for name in weights if weights[name])
    return Uniform(bits=widest + 1).name


def _narrow_weights(graph: IntegerGraph) -> Counter[str]:
    """Weights of each format, where layers of 8-bit integers have none."""
    weights: Counter[str] = Counter()
    for layer in graph.nodes:
        if isinstance(layer, Convolution):
            narrow = not (isinstance(named(layer.weight_format), Uniform) and "b8" in layer.weight_format)
            weights[layer.weight_format] += layer.weights.size if narrow else 0
    return weights


def _weights_in_planes(layer: Convolution) -> int:
    """Weights of the output channels that binary bases make; those of integers have some that are 0."""
    channels = np.flatnonzero((layer.weights != 0).all(axis=(1, 2, 3)))
    fmt = named(layer.weight_format)
    bases = channel_bases(layer.weights[channels], layer.multipliers[channels], weight_format=fmt)
    return layer.weights[0].size * sum(basis is not None for basis in bases)


def _needed(lowered: Lowered, chosen: AcceleratorParameters) -> dict[str, Any]:
    """Sizes with which the graph fits, not below the chosen ones, and the least depth."""
    commands = [command for _, commands in lowered.nodes for command in commands]
    words = {
        "activation_words": lowered.placement.activation_words,
        "value_words": lowered.placement.value_words,
        "weight_words": sum(command.weight_words for command in commands),
        "channel_words": _channel_words(commands, chosen),
        "program_words": sum(LAYER_WORDS + len(command.passes) for command in commands) + LAYER_WORDS,
        "result_words": sum(each.fields["tiles"] for each in lowered.nodes[-1][1]) * chosen.groups,
    }
    sizes: dict[str, Any] = {
        "passes": max(len(command.passes) for command in commands),
        "tables": len({table for command in commands for table in command.tables}),
        "encodings": len({command.thresholds for command in commands if command.thresholds}),
        "codebooks": len({command.codebook for command in commands if command.codebook}),
    }
    # A memory that is large enough stays as it is.
    sizes |= {
        name: -(-count // BLOCK_WORDS) * BLOCK_WORDS
        for name, count in words.items()
        if count > getattr(chosen, name)
    }
    sizes = {name: max(count, getattr(chosen, name)) for name, count in sizes.items()}
    sums = [each for sums_of_commands in lowered.sums for each in sums_of_commands]
    depth = narrowest_depth(
        replace(chosen, **sizes),
        sum_bits=max(each.widest for each in sums),
        scaled_bits=max(each.scaled for each in sums),
    )
    return sizes | {"depth": depth}


def narrowest_depth(parameters: AcceleratorParameters, *, sum_bits: int, scaled_bits: int) -> int:
    """The least depth that gives accumulators, and sums of all passes, so many bits (see `LayerSchedule`).

    It is more than `MAX_DEPTH` if none does.
    """

    def is_enough(depth: int) -> bool:
        wide = replace(parameters, depth=depth)
        return wide.accumulator_width >= sum_bits and wide.sum_width >= scaled_bits

    depths = range(parameters.lanes, MAX_DEPTH + 1)
    return depths.start + bisect_left(depths, True, key=is_enough)


def _channel_words(commands: Sequence[Command], parameters: AcceleratorParameters) -> int:
    """Words of channel memory; equal constants of poolings are there once."""
    blocks = {}
    for index, command in enumerate(commands):
        values = tuple(part.tobytes() for part in command.constants)
        key = (*values, index) if command.parts else values
        blocks[key, command.fields["tiles"]] = command.fields["tiles"] * len(command.passes)
    return sum(blocks.values()) * parameters.groups


_MOST: dict[str, Any] = {
    "depth": MAX_DEPTH,
    "passes": 255,
    "activation_words": 2**20,
    "value_words": MAX_VALUE_WORDS,
    "result_words": 2**16,
}
"""The sizes that decide whether a graph can be lowered, at their largest."""


def read_parameters(path: Path) -> AcceleratorParameters:
    """Parameters of a generated accelerator, from the description beside its Verilog.

    Raises
    ------
    RefusedError
        If the file is not such a description, or of an accelerator that this version does not generate.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        parameters = parameters_from(content["parameters"])
        build_id = content["build_id"]
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedError(
            f"{path}: must be the JSON that `python -m gen accelerator` writes beside its Verilog"
        ) from error
    if build_id != f"{parameters.build_id:08x}":
        raise RefusedError(
            f"{path}: build id must be {parameters.build_id:08x}, not {build_id}; generate it anew"
        )
    return parameters


def generator_options(parameters: AcceleratorParameters) -> str:
    """Options of ``python -m gen accelerator`` that differ from its defaults."""
    defaults = AcceleratorParameters()
    return " ".join(
        f"--{name.replace('_', '-')} {value}"
        for name, value in vars(parameters).items()
        if value != getattr(defaults, name)
    )

"""What a layer's command asks for, as plain nested loops: the oracle of walker, sequencer and engine."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Const

from hdl.layouts import LAYER, PASS, STREAM_WIDTH, LayerOpcode, Status
from hdl.parameters import FETCH_LATENCY, AcceleratorParameters

ADDRESSES = 2**24
COORDINATES = 2**16
LAYER_WORDS = LAYER.size // STREAM_WIDTH
DIMENSIONS = (
    "passes",
    "kernel_height",
    "kernel_width",
    "stride",
    "tiles",
    "output_height",
    "output_width",
    "input_height",
    "input_width",
)

Fields = dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step, and the cycle of the layer's walk in which it is taken."""

    cycle: int
    input: int
    inside: bool
    weight: int
    first: bool
    last: bool
    table: int
    opening: bool
    closing: bool
    shift: int
    channels: int
    output: int
    values: int
    residual: int


def walk(layer: Fields, passes: Sequence[Fields], *, groups: int) -> Iterator[Step]:
    """The steps of a layer, in order."""
    kernel = layer["kernel_height"] * layer["kernel_width"]
    pixel_steps = sum(kernel * turn["count"] for turn in passes)
    cycle = 0
    for tile in range(layer["tiles"]):
        for y in range(layer["output_height"]):
            for x in range(layer["output_width"]):
                weight = layer["weights"] + tile * pixel_steps
                pixel = y * layer["output_width"] + x
                for index, turn in enumerate(passes):
                    steps = kernel * turn["count"]
                    taps = _taps(layer, turn, tile=tile, y=y, x=x)
                    for number, (address, inside) in enumerate(taps):
                        last = number == steps - 1
                        cycle += max(0, groups - steps) if last else 0
                        yield Step(
                            cycle=cycle,
                            input=address,
                            inside=inside,
                            weight=(weight + number) % ADDRESSES,
                            first=number == 0,
                            last=last,
                            table=turn["table"],
                            opening=index == 0,
                            closing=last and index == len(passes) - 1,
                            shift=turn["shift"],
                            channels=(layer["channels"] + groups * (tile * len(passes) + index)) % ADDRESSES,
                            **{
                                name: (layer[name] + tile * groups + pixel * layer[f"{name}_pitch"])
                                % ADDRESSES
                                for name in ("output", "values", "residual")
                            },
                        )
                        cycle += 1
                    weight += steps


def _taps(layer: Fields, turn: Fields, *, tile: int, y: int, x: int) -> Iterator[tuple[int, bool]]:
    """Address, and whether it is inside the input, for every tap and word of one pass at one pixel."""
    for ky in range(layer["kernel_height"]):
        for kx in range(layer["kernel_width"]):
            row = (y * layer["stride"] - layer["padding"] + ky) % COORDINATES
            column = (x * layer["stride"] - layer["padding"] + kx) % COORDINATES
            tap = (
                layer["origin"]
                + tile * layer["tile_step"]
                + y * layer["row_step"]
                + x * layer["pixel_step"]
                + ky * layer["row_pitch"]
                + kx * layer["pixel_pitch"]
            )
            for word in range(turn["count"]):
                inside = row < layer["input_height"] and column < layer["input_width"]
                yield (tap + turn["offset"] + word) % ADDRESSES, inside


@dataclass(frozen=True, kw_only=True)
class Fate:
    """How a program ends: one of these, after so many cycles."""

    statuses: frozenset[Status]
    cycles: int


class TooLongError(Exception):
    """A program has more steps than anyone wants to wait for."""


def fate(
    words: Sequence[int], parameters: AcceleratorParameters, *, start: int = 0, longest: int = 10**6
) -> Fate:
    """What must become of any program memory, garbage too.

    Raises
    ------
    TooLongError
        If a layer takes more than `longest` cycles.
    """
    p, pointer, cycles = parameters, start, 0
    codebook = None
    fetch = LAYER_WORDS + FETCH_LATENCY + 1
    while True:
        cycles += fetch
        if pointer + LAYER_WORDS > p.program_words:
            return _stopped(p, cycles, Status.PROGRAM_RANGE)
        layer = unpacked(LAYER, words[pointer : pointer + LAYER_WORDS])
        pointer += LAYER_WORDS
        if pointer + layer["passes"] > p.program_words:
            return _stopped(p, cycles, Status.PROGRAM_RANGE)
        if layer["opcode"] == LayerOpcode.HALT:
            return Fate(statuses=frozenset({Status.DONE}), cycles=cycles)
        pools = layer["opcode"] in (LayerOpcode.MAXIMUM, LayerOpcode.SUM)
        if layer["opcode"] != LayerOpcode.CONVOLUTION and not (pools and p.value_words):
            return _stopped(p, cycles, Status.LAYER_OPCODE)
        if any(layer[name] == 0 for name in DIMENSIONS):
            return _stopped(p, cycles, Status.ZERO_DIMENSION)
        lacking = (
            ("add_residual",) if pools else ("add_residual", "to_values", "linear") * (not p.value_words)
        )
        if (
            layer["passes"] > p.passes
            or layer["encoding"] >= p.encodings
            or layer["codebook"] >= max(1, p.codebooks)
            or any(layer[name] for name in lacking)
        ):
            return _stopped(p, cycles, Status.LAYER_LIMIT)
        passes = [unpacked(PASS, [word]) for word in words[pointer : pointer + layer["passes"]]]
        pointer += layer["passes"]
        cycles += FETCH_LATENCY
        for turn in passes:
            cycles += 1
            if turn["count"] == 0:
                return _stopped(p, cycles, Status.ZERO_DIMENSION)
            if turn["table"] >= p.tables or (pools and turn["count"] != p.groups):
                return _stopped(p, cycles, Status.LAYER_LIMIT)
        if p.codebooks and not pools and layer["codebook"] != codebook:
            codebook = layer["codebook"]
            cycles += 2**p.index_width
        for step in walk(layer, passes, groups=p.groups):
            if step.cycle > longest:
                raise TooLongError
            faults = _faults(step, layer, p)
            if faults:
                # The step is registered, and judged in the cycle after that.
                return _stopped(p, cycles + step.cycle + 2, *faults)
        cycles += step.cycle + 1 + p.drain


def _stopped(p: AcceleratorParameters, cycles: int, *statuses: Status) -> Fate:
    return Fate(statuses=frozenset(statuses), cycles=cycles + p.drain)


def _faults(step: Step, layer: Fields, p: AcceleratorParameters) -> list[Status]:
    outputs = [p.result_words] * layer["to_results"]
    outputs += [p.activation_words * p.lanes // p.requantizers] * layer["to_codes"]
    pools = layer["opcode"] != LayerOpcode.CONVOLUTION
    input_words = p.value_words if pools else p.activation_words
    read = step.inside and step.input >= input_words
    written = step.last and bool(layer["to_values"]) and step.values + p.groups > p.value_words
    limits = {
        Status.ACTIVATION_RANGE: read and not pools,
        Status.WEIGHT_RANGE: step.weight >= p.weight_words and not pools,
        Status.CHANNEL_RANGE: step.last and step.channels + p.groups > p.channel_words,
        Status.OUTPUT_RANGE: step.last and any(step.output + p.groups > words for words in outputs),
        Status.VALUES_RANGE: (read and pools) or written,
        Status.RESIDUAL_RANGE: step.last
        and bool(layer["add_residual"])
        and step.residual + p.groups > p.value_words,
    }
    return [status for status, wrong in limits.items() if wrong]


def unpacked(layout: Any, words: Sequence[int]) -> Fields:
    """The fields of a structure of whole words, as unsigned integers."""
    value = sum(word << STREAM_WIDTH * i for i, word in enumerate(words))
    return {name: value >> field.offset & (1 << field.width) - 1 for name, field in layout}


def packed(layout: Any, fields: Fields) -> list[int]:
    """The words of a structure."""
    value = Const.cast(layout.const(fields).as_value()).value
    return [value >> shift & 2**STREAM_WIDTH - 1 for shift in range(0, layout.size, STREAM_WIDTH)]

"""Bits of sums from actual weights: reached by some activations, carried by the hardware, refused beyond."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator

from hdl.array import array_rows
from hdl.console import RefusedError
from hdl.formats import named, signed_width
from hdl.layouts import LayerOpcode
from hdl.parameters import AcceleratorParameters
from sw.compiler.commands import Command, Part
from sw.compiler.compile import compile_network, lower
from sw.compiler.digits import Digits, weight_digits
from sw.compiler.fitting import narrowest_depth
from sw.compiler.schedule import program_cycles
from sw.compiler.sums import SumBits, accumulated, sum_bits
from sw.executor import Machine
from sw.graph import IMAGE, Addend, Convolution, Encoding, IntegerGraph, Integers, Pooling
from sw.requantize import Requantization
from tests.accelerator_cases import case
from tests.random_networks import random_levels
from tests.simulated import sums
from verif.network import accelerator, classify

ARRAYS: dict[str, tuple[str, ...]] = {
    "apot_k2n1": ("apot_k2n1", "uniform_b5"),
    "apot_k2n1o": ("apot_k2n1o", "uniform_b8"),
    "pot_k2": ("pot_k2", "uniform_b4"),
    "uniform_b3": ("uniform_b3", "uniform_b6"),
    "companded_0_1_3_4": ("companded_0_1_3_4",),
    "basis_5_8": ("basis_5_8",),
    "basis_1": ("basis_1", "basis_1_2", "uniform_b4"),
}
"""Weight formats of arrays, and those of layers on them: in one pass, in digits, and in planes."""

LAYERS = [(array, weights) for array, formats in ARRAYS.items() for weights in formats]


def small(weight_format: str, **changed: Any) -> AcceleratorParameters:
    sizes = {"rows": 4, "lanes": 4, "requantizers": 4, "code_width": 2, "activation_width": 2}
    memories = {"passes": 64, "depth": 64, "weight_words": 4096, "channel_words": 1024}
    return AcceleratorParameters(weight_format=weight_format, **(sizes | memories | changed))


def one_layer(
    rng: Generator, *, weight_format: str, inputs: int, outputs: int, bits: int, **changed: Any
) -> IntegerGraph:
    """Sums over the channels of one pixel, whose values have so many bits, are the results."""
    constants = {
        "multiplier": rng.choice([-7, -1, 1, 3], outputs),
        "bias": rng.integers(-1000, 1000, outputs),
        "shift": rng.integers(0, 3, outputs),
    }
    members: dict[str, Any] = {
        "weights": random_levels(rng, named(weight_format), (outputs, inputs, 1, 1)),
        "weight_format": weight_format,
        **constants,
        **changed,
    }
    node = Convolution(name="only", source=IMAGE, **members)
    return IntegerGraph(
        input_shape=(inputs, 1, 1), nodes=(node,), logit_scale=1.0, input_format=f"uniform_b{bits}u"
    )


def commands_of(graph: IntegerGraph, parameters: AcceleratorParameters) -> tuple[Command, ...]:
    return lower(graph, parameters).nodes[0][1]


def weights_of(command: Command) -> Integers:
    """Of a command that reads one tensor."""
    (part,) = command.parts
    return part.weights


def digit_levels(command: Command, weights: Integers) -> list[Integers]:
    """For each digit the levels of all weights, (channels, inputs)."""
    assert command.digits is not None
    split = [[command.digits.digits[value] for value in row.flat] for row in weights]
    return list(np.array(split).transpose(2, 0, 1))


def tried(command: Command, parameters: AcceleratorParameters) -> SumBits:
    """The bits that the sums of all activation codes take, one after another."""
    read = [part.weights for part in command.parts for _ in range(part.copies)]
    levels = [digit_levels(command, weights) for weights in read]
    inputs, digits = read[0].shape[1], len(levels[0])
    tables = command.tables[::digits]
    codes = np.array(list(product(*(table for table in tables for _ in range(inputs)))))
    halves = np.split(codes, len(read), axis=1)
    multiplier, bias, shift = command.constants
    fold = np.vectorize(parameters.fold)
    widths, total = [], np.tile(bias, (len(codes), 1))
    for index, turn in enumerate(command.passes):
        each = levels[index // digits][index % digits]
        found = halves[index // digits] @ each.T
        counted = (found + fold(each).sum(axis=1))[:, multiplier[:, index] != 0]
        widths.append(width(counted) if counted.size else 1)
        total += (found << turn["shift"]) * multiplier[:, index]
    return SumBits(passes=tuple(widths), scaled=width(total), result=width(total >> shift))


def width(values: Integers) -> int:
    return signed_width(min(0, int(values.min())), max(0, int(values.max())))


@pytest.mark.parametrize(("array", "weight_format"), LAYERS)
@pytest.mark.parametrize("bits", [2, 3])
def test_some_activations_take_all_bits_and_none_take_more(array: str, weight_format: str, bits: int) -> None:
    """Activations of one digit and of two, and every code of each."""
    inputs, channels = 4, 5
    for seed in range(3):
        rng = np.random.default_rng([seed, *weight_format.encode()])
        sizes = {"inputs": inputs, "outputs": channels, "bits": bits}
        graph = one_layer(rng, weight_format=weight_format, **sizes)
        for command in commands_of(graph, small(array)):
            assert sum_bits(command, small(array)) == tried(command, small(array))


@pytest.mark.parametrize(("array", "weight_format"), LAYERS)
def test_sums_of_several_tensors(array: str, weight_format: str) -> None:
    """One of 2 bits, and one of 1 bit, whose multipliers are smaller and of the other sign."""
    for seed in range(3):
        rng = np.random.default_rng([28, seed, *weight_format.encode()])
        graph = two_tensors(rng, weight_format=weight_format, inputs=4, outputs=5)
        parameters = small(array, value_words=64)
        (*_, commands) = (each for _, each in lower(graph, parameters).nodes)
        assert [len(command.parts) for command in commands] == [2] * len(commands)
        for command in commands:
            assert sum_bits(command, parameters) == tried(command, parameters)


def two_tensors(rng: np.random.Generator, *, weight_format: str, inputs: int, outputs: int) -> IntegerGraph:
    """The image's channels as two tensors of codes, and a layer that reads both."""
    first = one_layer(rng, weight_format=weight_format, inputs=1, outputs=inputs, bits=4).nodes[0]
    last = one_layer(rng, weight_format=weight_format, inputs=inputs, outputs=outputs, bits=2).nodes[0]
    assert isinstance(last, Convolution)
    identity = {"multiplier": np.ones(inputs, int)} | dict.fromkeys(("bias", "shift"), np.zeros(inputs, int))
    encodings = (
        Encoding(tensor="plain", format="uniform_b2u", thresholds=(1, 2, 3)),
        Encoding(tensor="other", format="uniform_b1u", thresholds=(2,)),
    )
    poolings = [
        Pooling(name=each.tensor, source="values", kind="maximum", encodings=(each,), **identity)
        for each in encodings
    ]
    addend = Addend(tensor="other", multiplier=-last.multiplier // 3)
    nodes = (
        replace(first, name="first", values="values"),
        *poolings,
        replace(last, source="plain", addends=(addend,)),
    )
    return IntegerGraph(input_shape=(1, 1, 1), nodes=nodes, logit_scale=1.0, input_format="uniform_b4u")


def extreme_images(command: Command, *, largest: int) -> Integers:
    """Images that give each row its greatest and its least sum in each pass, and of whole weights."""
    whole = weights_of(command).reshape(len(weights_of(command)), -1)
    kinds = [*digit_levels(command, weights_of(command)), whole]
    images = [largest * half for levels in kinds for half in (levels > 0, levels < 0)]
    return np.unique(np.concatenate(images), axis=0)[:, :, None, None]


def limited(graph: IntegerGraph, parameters: AcceleratorParameters) -> AcceleratorParameters:
    """Accelerator with the narrowest accumulators that the graph needs."""
    needed = [sum_bits(each, parameters) for each in commands_of(graph, parameters)]
    bits = max(each.widest for each in needed)
    depth = narrowest_depth(parameters, sum_bits=bits, scaled_bits=max(each.scaled for each in needed))
    chosen = replace(parameters, depth=depth)
    assert chosen.accumulator_width == bits
    return chosen


def simulated_layers() -> list[Any]:
    shown = (("apot_k2n1o", "uniform_b8"), ("basis_1", "basis_1_2"))
    return [each if each in shown else pytest.param(*each, marks=pytest.mark.nightly) for each in LAYERS]


@pytest.mark.parametrize(("array", "weight_format"), simulated_layers())
def test_hardware_carries_the_largest_sums(array: str, weight_format: str, tmp_path: Path) -> None:
    """At the very limit; accumulators with a bit less are refused."""
    rng = np.random.default_rng([3, *weight_format.encode()])
    graph = one_layer(rng, weight_format=weight_format, inputs=32, outputs=6, bits=4)
    chosen = limited(graph, small(array, code_width=4, activation_width=4, depth=2**12))
    (command, *_) = commands_of(graph, chosen)
    made = case(graph, chosen, extreme_images(command, largest=15))
    np.testing.assert_array_equal(Machine(made.compiled).run(made.images), made.expected)
    verilog = tmp_path / "accelerator.v"
    accelerator(chosen).write(verilog)
    answers = classify(made.compiled, made.images, verilog=verilog, simulator="icarus")
    np.testing.assert_array_equal(answers.logits, made.expected)
    assert set(answers.cycles.tolist()) == {program_cycles(made.compiled.schedule)}
    needed = chosen.accumulator_width
    with pytest.raises(RefusedError) as caught:
        compile_network(graph, replace(chosen, depth=chosen.depth - 1))
    number = 1 + sum_bits(command, chosen).passes.index(needed)
    assert str(caught.value) == (
        f"layer 'only': sum of pass {number} needs {needed} bits, 1 more than the accelerator's {needed - 1}"
    )


@pytest.mark.parametrize("seed", range(20))
def test_executor_and_compiler_judge_alike(seed: int) -> None:
    """Random networks at their limit run; with a bit less, either refuses the image."""
    rng = np.random.default_rng([4, seed])
    array, weight_format = LAYERS[seed % len(LAYERS)]
    inputs, outputs = 4 * int(rng.integers(6, 12)), int(rng.integers(1, 9))
    graph = one_layer(rng, weight_format=weight_format, inputs=inputs, outputs=outputs, bits=4)
    chosen = limited(graph, small(array, code_width=4, activation_width=4, depth=2**12))
    made = case(graph, chosen, extreme_images(commands_of(graph, chosen)[0], largest=15))
    np.testing.assert_array_equal(Machine(made.compiled).run(made.images), made.expected)
    narrow = replace(chosen, depth=chosen.depth - 1)
    needed = chosen.accumulator_width
    with pytest.raises(
        RefusedError, match=f"needs {needed} bits, 1 more than the accelerator's {needed - 1}"
    ):
        compile_network(graph, narrow)
    message = rf"^command \d must have sums of at most {needed - 1} bits, not {needed} in pass \d+$"
    with pytest.raises(RefusedError, match=message):
        Machine(replace(made.compiled, parameters=narrow)).run(made.images)


def test_small_weights_may_be_more_than_the_depth() -> None:
    """64 products are as many as of weights ±1 as 9 of the largest, 7."""
    weights = np.where(np.arange(64) % 2, 1, -1).reshape(1, -1, 1, 1)
    rng = np.random.default_rng(0)
    graph = one_layer(rng, weight_format="uniform_b4", inputs=64, outputs=1, bits=2, weights=weights)
    parameters = small("uniform_b4", depth=4)
    assert limited(graph, parameters).depth == 4
    compile_network(graph, parameters)


def test_rows_that_do_not_count_may_hold_anything() -> None:
    rng = np.random.default_rng(0)
    sizes = {"weight_format": "uniform_b4", "inputs": 64, "outputs": 2, "bits": 2}
    weights = np.stack([np.full((64, 1, 1), 7), np.eye(64, 1)[:, :, None]]).astype(np.int64)
    counting, still = (
        one_layer(rng, **sizes, weights=weights, multiplier=np.array([factor, 3])) for factor in (1, 0)
    )
    assert limited(counting, small("uniform_b4")).accumulator_width == signed_width(0, 64 * 7 * 3)
    (left,) = commands_of(still, small("uniform_b4"))
    assert sum_bits(left, small("uniform_b4")).passes == (signed_width(0, 3),)


def command(opcode: LayerOpcode, **changed: Any) -> Command:
    """One row: 3 · sum - 5, shifted by 1."""
    fields = {"opcode": opcode, "kernel_height": 2, "kernel_width": 5}
    members: dict[str, Any] = {"fields": fields, "passes": [{"shift": 0}], "tables": []} | changed
    multiplier = np.full((1, len(members["passes"])), 3)
    constants = Requantization(multiplier, np.array([-5]), np.array([1]))
    return Command(**({"constants": constants} | members))


@pytest.mark.parametrize(
    ("opcode", "residual", "low", "high"),
    [
        (LayerOpcode.SUM, 0, -10 * 2**17, 10 * (2**17 - 1)),
        (LayerOpcode.MAXIMUM, 0, -(2**17), 2**17 - 1),
        (LayerOpcode.MAXIMUM, 1, -(2**17), 2**17 - 1),
    ],
)
def test_pooled_sums(opcode: LayerOpcode, residual: int, low: int, high: int) -> None:
    made = command(opcode)
    found = sum_bits(replace(made, fields=made.fields | {"add_residual": residual}), small("uniform_b4"))
    ends = [(3 * each - 5) // 2 + residual * each // abs(each) * 2**17 for each in (low, high)]
    assert found == SumBits(
        passes=(), scaled=signed_width(3 * low - 5, 3 * high - 5), result=signed_width(*ends)
    )
    assert found.widest == 0


def test_digits_that_cancel_are_judged_together() -> None:
    """Weights 1 = 16 - 15: sums of 240 after a pass, and of 15 after both."""
    digits = Digits(places=(0, 4), digits={0: (0, 0), 1: (-15, 1)})
    made = command(
        LayerOpcode.CONVOLUTION,
        passes=[{"shift": 0}, {"shift": 4}],
        tables=[(0, 15)] * 2,
        parts=(Part(weights=np.ones((1, 4, 1, 1), dtype=np.int64), copies=1),),
        digits=digits,
    )
    found = sum_bits(made, small("uniform_b5", activation_width=4))
    assert found.passes == (signed_width(-4 * 15 * 15, 0), signed_width(0, 4 * 15))
    assert found.scaled == signed_width(-5, 3 * 4 * 15 - 5)


def test_planes_that_a_channel_lacks_do_not_count() -> None:
    """Channels of one plane and of two: in the second pass the first one's signs are all -."""
    digits = Digits(places=(0, 0), digits={0: (-1, -1), 1: (1, -1), 2: (-1, 1), 3: (1, 1)})
    zeros = np.zeros(2, dtype=np.int64)
    made = command(
        LayerOpcode.CONVOLUTION,
        passes=[{"shift": 0}] * 2,
        tables=[(0, 3)] * 2,
        parts=(Part(weights=np.array([[0, 1] * 4, [0, 3] * 4])[:, :, None, None], copies=1),),
        digits=digits,
        constants=Requantization(np.array([[5, 0], [5, 8]]), zeros, zeros),
    )
    found = sum_bits(made, small("basis_1"))
    assert found.passes == (signed_width(-4 * 3, 4 * 3),) * 2
    assert found.scaled == signed_width(-4 * 3 * 13, 4 * 3 * 13)


def test_ends_of_folded_rows() -> None:
    """Levels -3 and 5 and activations up to 2: 0 instead of -6, and 10; both with 3 · 3 more."""
    sums_of = {"below": np.array([-3]), "above": np.array([5]), "largest": 2}
    folded, exact = small("apot_k2n1"), small("uniform_b4")
    assert [each.tolist() for each in accumulated(**sums_of, parameters=folded)] == [[3], [19]]
    assert [each.tolist() for each in accumulated(**sums_of, parameters=exact)] == [[-6], [10]]


@pytest.mark.parametrize("weight_format", ["uniform_b4", "basis_5_8", "basis_1", "companded_0_1_3_4"])
def test_accumulators_that_leave_their_range_come_back(weight_format: str) -> None:
    """Additions wrap around, so that only the last sum has to fit."""
    p = small(weight_format, depth=4)
    rows, top, bottom = array_rows(p), p.format.grid[-1], p.format.grid[0]
    largest = 2**p.activation_width - 1
    limit = 1 << (p.accumulator_width - 1)
    codes = [[[p.format.codes[level]] * p.lanes] * p.rows for level in (top, bottom)]
    up, down = ({"enable": 1, "clear": 0, "weights": each, "activations": [largest] * 4} for each in codes)
    cycles = [up | {"clear": 1}, *[up] * 3, *[down] * 3]
    expected = np.cumsum([4 * largest * level for level in (*[top] * 4, *[bottom] * 3)])
    assert expected.max() >= limit > expected[-1] >= -limit
    found = sums(rows, cycles)
    assert found[-1] == [expected[-1]] * p.rows
    assert found[3] != [expected[3]] * p.rows


@pytest.mark.parametrize("weight_format", [*ARRAYS, "apot_k2n2", "uniform_b16", "basis_1_65535"])
@pytest.mark.parametrize("depth", [4, 5, 1000])
def test_accumulators_are_as_wide_as_is_said(weight_format: str, depth: int) -> None:
    p = small(weight_format, depth=depth)
    shape = array_rows(p).accumulator_shape
    assert p.accumulator_width == shape.width + (not shape.signed)


def test_weights_without_digits_are_refused() -> None:
    digits = weight_digits(values=named("uniform_b3"), array=named("uniform_b3"))
    parts = (Part(weights=np.full((1, 4, 1, 1), 9), copies=1),)
    made = command(LayerOpcode.CONVOLUTION, tables=[(0, 3)], parts=parts, digits=digits)
    with pytest.raises(ValueError, match="weights must be levels that the array's digits make, not 9"):
        sum_bits(made, small("uniform_b3"))

"""The compiler: every refusal, equal output on every run, and images laid out as a plain loop says."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from hdl.console import RefusedError
from hdl.layouts import Section, slice_width
from hdl.parameters import AcceleratorParameters
from sw.compiler.compile import compile_network
from sw.compiler.input_layout import InputLayout
from sw.driver import encode_images
from sw.graph import Convolution, IntegerGraph
from tests.random_networks import random_convolution, random_images, random_network, thresholds_of

SMALL = AcceleratorParameters(
    rows=4,
    lanes=4,
    requantizers=2,
    activation_words=512,
    weight_words=1024,
    channel_words=128,
    depth=1024,
)


def convolution(name: str, outputs: int, inputs: int, *kernel: int, **changed: Any) -> Convolution:
    """A layer that writes codes of its own name."""
    values: dict[str, Any] = {
        "weight_format": "apot_k2n1o",
        "input_format": "apot_k2n2u",
        "encodings": {name: "apot_k2n2u"},
    }
    values |= {"name": name, "outputs": outputs, "inputs": inputs, "kernel": kernel}
    return random_convolution(np.random.default_rng(outputs), **(values | changed))


def network() -> IntegerGraph:
    """Two convolutions over 5 × 4 pixels, and a classifier of 3 classes over the 4 × 3 pixels left."""
    ends = {"weight_format": "uniform_b8"}
    first = convolution("first", 3, 1, 3, 3, padding=1, input_format="uniform_b8u", **ends)
    middle = convolution("middle", 5, 3, 2, 2, source="first")
    last = convolution("last", 3, 5, 4, 3, source="middle", encodings=None, **ends)
    return IntegerGraph(input_shape=(1, 5, 4), nodes=(first, middle, last), logit_scale=0.5)


def altered(index: int, **changed: Any) -> IntegerGraph:
    """The network with members of a layer replaced; callables are given what was there."""
    base = network()
    layers = list(base.nodes)
    values = {
        name: value(getattr(layers[index], name)) if callable(value) else value
        for name, value in changed.items()
    }
    layers[index] = replace(layers[index], **values)
    return replace(base, nodes=tuple(layers))


def encoded(format_name: str, *, fraction: int = 3) -> Callable[[Any], Any]:
    """The same tensor in another format, halfway between its levels."""
    limits = thresholds_of(format_name, fraction=fraction)
    return lambda old: (replace(old[0], format=format_name, thresholds=limits),)


def constant(value: int) -> Callable[[Any], Any]:
    return lambda array: np.full_like(array, value)


def refusal(found: IntegerGraph, **changed: int | str) -> str:
    with pytest.raises(RefusedError) as caught:
        compile_network(found, replace(SMALL, **changed))
    return str(caught.value)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        # 20 pixels of 9 taps in 3 words, each in 2 digits; then 20 pixels of 1 word.
        ({"activation_words": 119}, "layer 'first': activation memory needs 140 words, 21 more than the"),
        ({"activation_words": 130}, "layer 'first': activation memory needs 140 words, 10 more than the"),
        # First: 6 passes of 3 words; middle: 2 tiles of 4 taps; last: 3 passes of 12 taps of 2 words.
        ({"weight_words": 97}, "network needs 98 words of weights memory, 1 more than the accelerator's 97"),
        # Two groups for each tile and pass: 6, 2 and 3 of them.
        (
            {"channel_words": 20},
            "network needs 22 words of channels memory, 2 more than the accelerator's 20",
        ),
        # Four commands of 16 words, and 10 passes.
        ({"program_words": 73}, "network needs 74 words of program memory, 1 more than the accelerator's 73"),
        ({"result_words": 1}, "layer 'last': result memory needs 2 words, 1 more than the accelerator's 1"),
        ({"tables": 1}, "layer 'middle': activation tables needs 2 activation tables, 1 more than the"),
        ({"passes": 5}, "layer 'first': passes needs 6 passes, 1 more than the accelerator's 5"),
        # 13 products of 10 and 63 are 8190, and 14 of them 8820.
        ({"depth": 13}, "layer 'last': sum of pass 1 needs 15 bits, 1 more than the accelerator's 14"),
        (
            {"code_width": 3},
            "layer 'first': format 'apot_k2n2u' must have codes of at most 3 bits and levels of at most 6",
        ),
        (
            {"activation_width": 5},
            "layer 'first': format 'apot_k2n2u' must have codes of at most 4 bits and levels of at most 5",
        ),
    ],
)
def test_a_network_too_large_says_by_how_much(changed: dict[str, int], message: str) -> None:
    assert compile_network(network(), SMALL).classes == 3
    assert refusal(network(), **changed).startswith(message)


def test_memories_of_exactly_the_size_are_enough() -> None:
    compile_network(
        network(),
        replace(
            SMALL,
            activation_words=140,
            weight_words=98,
            channel_words=22,
            program_words=74,
            result_words=2,
            passes=6,
            depth=14,
            encodings=2,
        ),
    )


def test_every_encoding_needs_a_place() -> None:
    first = network().nodes[0].encodings[0]
    other = altered(1, encodings=encoded(first.format, fraction=5))
    assert refusal(other, encodings=1) == (
        "layer 'middle': encodings needs 2 encodings, 1 more than the accelerator's 1"
    )
    same = altered(1, encodings=lambda old: (replace(old[0], thresholds=first.thresholds),))
    compile_network(same, replace(SMALL, encodings=1))


@pytest.mark.parametrize(
    ("index", "changed", "message"),
    [
        (1, {"multiplier": constant(2**17)}, "multiplier must lie in -131072 … 131071"),
        (1, {"multiplier": constant(-(2**17) - 1)}, "multiplier must lie in -131072 … 131071"),
        (1, {"bias": constant(2**47)}, "bias must lie in -140737488355328 … 140737488355327"),
        (1, {"bias": constant(-(2**47) - 1)}, "bias must lie in -140737488355328 … 140737488355327"),
        (
            1,
            {"bias": constant(2**47 - 1), "weights": constant(-10), "multiplier": constant(-1)},
            "bias of a pass must fit in 48 bits",
        ),
        (1, {"shift": constant(48)}, "shift must lie in 0 … 47"),
        (1, {"shift": constant(-1)}, "shift must lie in 0 … 47"),
        (
            1,
            {"encodings": encoded("apot_k2n2u", fraction=12)},
            "thresholds must lie in -131072 … 131071, not 2048 … 172032",
        ),
        (2, {"bias": constant(2**34), "shift": constant(3)}, "result needs 33 bits, 1 more than the"),
        (1, {"weights": constant(5)}, "weights must be levels that the array's digits make, not 5"),
        (1, {"weights": constant(12)}, "weights must be levels that the array's digits make, not 12"),
        (2, {"weights": constant(-129)}, "weights must be levels that the array's digits make, not -129"),
        (2, {"stride": 256}, "stride must be at most 255, not 256"),
        (2, {"weights": lambda old: old[:, :, 1:]}, "results must be one pixel, not 2 × 1"),
        (2, {"weights": lambda old: np.repeat(old, 2, axis=2)}, "kernel must fit in the padded input"),
        (
            0,
            {"encodings": encoded("uniform_b5u")},
            "values memory needs 40 words, 40 more than the accelerator's 0",
        ),
    ],
)  # fmt: skip
def test_a_layer_that_does_not_fit_is_named(index: int, changed: dict[str, Any], message: str) -> None:
    name = network().nodes[index].name
    assert refusal(altered(index, **changed)).startswith(f"layer {name!r}: {message}")


@pytest.mark.parametrize(
    ("input_format", "message"),
    [
        ("apot_k2n2u", "images must be of a uniform format, not 'apot_k2n2u'"),
        ("uniform_b16u", "shift must be at most 15, not 16"),
    ],
)
def test_images_that_cannot_be_laid_out_are_refused(input_format: str, message: str) -> None:
    assert refusal(replace(network(), input_format=input_format)) == f"layer 'first': {message}"


def test_fields_that_are_too_narrow_are_named() -> None:
    wide = replace(SMALL, activation_words=2**20, depth=2**14)
    layer = convolution("row", 3, 1, 1, 256, input_format="uniform_b4u", encodings=None)
    found = IntegerGraph(input_shape=(1, 1, 256), nodes=(layer,), logit_scale=1.0, input_format="uniform_b4u")
    with pytest.raises(RefusedError, match="layer 'row': kernel_width must be at most 255, not 256"):
        compile_network(found, wide)


def test_the_most_negative_weight_needs_digits_that_make_it() -> None:
    """Two's complement has one more negative level than positive ones; ternary digits do not reach it."""
    found = altered(2, weights=constant(-128))
    compile_network(found, SMALL)
    ternary = altered(1, weight_format="apot_k1n1", weights=constant(1))
    many = {"weight_format": "apot_k1n1", "passes": 32}
    compile_network(ternary, replace(SMALL, **many))
    nodes = (*ternary.nodes[:2], found.nodes[2])
    assert refusal(replace(ternary, nodes=nodes), **many) == (
        "layer 'last': weights must be levels that the array's digits make, not -128"
    )


@pytest.mark.parametrize("weight_format", ["apot_k2n1o", "uniform_b4", "pot_k3"])
def test_equal_networks_compile_to_equal_words(weight_format: str) -> None:
    first, second = (
        compile_network(
            random_network(
                np.random.default_rng(4),
                weight_format=weight_format,
                activation_format="apot_k2n2u",
                input_shape=(2, 5, 6),
            ),
            replace(SMALL, weight_format=weight_format, activation_width=7, passes=32),
        )
        for _ in range(2)
    )
    assert replace(first, sections={}) == replace(second, sections={})
    assert [words.tobytes() for words in first.sections.values()] == [
        words.tobytes() for words in second.sections.values()
    ]


def laid_out(
    image: np.ndarray, fill: tuple[int, ...], layout: InputLayout, parameters: AcceleratorParameters
) -> list[int]:
    """Words of an image, by the definition of `InputLayout`, as a plain loop."""
    channels, height, width = image.shape
    steps = [
        range(0, size + 2 * layout.padding - layout.kernel + 1, layout.stride) for size in (height, width)
    ]
    words = []
    for y, x in product(*steps):
        values = []
        for c, dy, dx in product(range(channels), range(layout.kernel), range(layout.kernel)):
            row, column = y + dy - layout.padding, x + dx - layout.padding
            inside = 0 <= row < height and 0 <= column < width
            values.append(int(image[c, row, column]) if inside else fill[c])
        for digit in range(layout.digits):
            codes = [value >> digit * layout.digit_width & (1 << layout.digit_width) - 1 for value in values]
            for start in range(0, len(codes), parameters.lanes):
                lanes = codes[start : start + parameters.lanes]
                words.append(sum(code << i * parameters.code_width for i, code in enumerate(lanes)))
    return words


@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "padding", "changed", "unfolded"),
    [
        ((1, 5, 4), 3, 1, 1, {}, True),
        ((1, 7, 5), 3, 2, 0, {"lanes": 16}, True),
        ((3, 6, 6), 2, 2, 1, {"lanes": 8}, True),
        ((3, 6, 5), 2, 1, 0, {"lanes": 2, "rows": 4}, True),
        ((4, 6, 5), 3, 1, 1, {}, False),
        ((1, 6, 5), 1, 1, 0, {}, False),
        ((1, 5, 4), 3, 1, 1, {"activation_width": 2, "passes": 12, "tables": 2}, True),
        ((1, 5, 4), 3, 1, 1, {"code_width": 8, "activation_width": 8, "requantizers": 2}, True),
    ],
)
@pytest.mark.parametrize("bordered", [False, True])
def test_images_are_laid_out_and_unfolded_where_it_fills_lanes(
    shape: Any,
    kernel: int,
    stride: int,
    padding: int,
    changed: dict[str, int],
    unfolded: bool,
    bordered: bool,
) -> None:
    """The host adds a border that is filled, or where it unfolds, the padding."""
    options = {"weight_format": "uniform_b8", "input_format": "uniform_b8u"}
    options |= {"encodings": {"first": "uniform_b2u"}, "stride": stride}
    size = [(length + 2 * padding - kernel) // stride + 1 for length in shape[1:]]
    last = convolution("last", 3, 3, *size, source="first", input_format="uniform_b2u", encodings=None)
    layer = convolution("first", 3, shape[0], kernel, kernel, padding=0 if bordered else padding, **options)
    fill = tuple(range(30, 30 + shape[0])) if bordered else ()
    found = IntegerGraph(
        input_shape=shape,
        nodes=(layer, last),
        logit_scale=1.0,
        border=padding if bordered else 0,
        fill=fill,
    )
    parameters = replace(SMALL, **({"activation_words": 2048} | changed))
    layout = compile_network(found, parameters).input
    taken = (kernel, stride, padding) if unfolded else (1, 1, padding if bordered else 0)
    assert (layout.kernel, layout.stride, layout.padding) == taken
    assert layout.digits * layout.digit_width == 8
    assert layout.digit_width <= min(parameters.code_width, parameters.activation_width)
    images = random_images(np.random.default_rng(0), shape, count=2)
    images[0] = 255
    width = slice_width(parameters, Section.ACTIVATIONS)
    encoded = encode_images(images, layout=layout, parameters=parameters)
    assert encoded.shape[:2] == (2, layout.words)
    for image, words in zip(images, encoded, strict=True):
        joined = [sum(int(part) << i * width for i, part in enumerate(word)) for word in words]
        assert joined == laid_out(image, fill or (0,) * shape[0], layout, parameters)


def test_images_that_do_not_fit_are_refused() -> None:
    layout = compile_network(network(), SMALL).input
    for image in (np.full((1, 1, 5, 4), 256), np.full((1, 1, 5, 4), -1)):
        with pytest.raises(ValueError, match="images must hold integers from 0 to 255"):
            encode_images(image, layout=layout, parameters=SMALL)
    with pytest.raises(ValueError, match=r"images must have shape \(N, 1, 5, 4\), not \(1, 5, 4\)"):
        encode_images(np.zeros((1, 5, 4), dtype=int), layout=layout, parameters=SMALL)
    assert encode_images(np.zeros((0, 1, 5, 4), dtype=int), layout=layout, parameters=SMALL).shape[0] == 0

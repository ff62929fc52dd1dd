"""Memory with reuse: buffers in use at once never overlap; what the engine cannot do is refused by name."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from hdl.console import RefusedError
from hdl.layouts import LAYER, STREAM_WIDTH, LayerOpcode
from hdl.parameters import AcceleratorParameters
from sw.compiler.commands import linear_constants
from sw.compiler.compile import compile_network, lower
from sw.compiler.live_ranges import Buffer, allocate
from sw.executor import Machine
from sw.graph import IMAGE, Convolution, Encoding, IntegerGraph, Node, Pooling
from tests.random_networks import thresholds_of
from verif.reference import run

SMALL = AcceleratorParameters(
    weight_format="uniform_b4", rows=4, lanes=4, requantizers=2, activation_words=512, value_words=512
)


@pytest.mark.parametrize("seed", range(30))
def test_buffers_that_are_in_use_at_once_do_not_overlap(seed: int) -> None:
    rng = np.random.default_rng(seed)
    buffers = []
    for _ in range(int(rng.integers(1, 12))):
        first = int(rng.integers(0, 8))
        buffers.append(Buffer(first=first, last=int(rng.integers(first, 9)), size=int(rng.integers(1, 50))))
    names = [f"node{i}" for i in range(9)]
    words = allocate(buffers, nodes=names, what="memory", limit=1000, pinned=buffers[0])
    assert buffers[0].base == 0
    assert words == max(each.end for each in buffers)
    for node in range(9):
        live = sorted((each.base, each.end) for each in buffers if each.first <= node <= each.last)
        assert all(end <= start for (_, end), (start, _) in pairwise(live))
    demand = max(sum(each.size for each in buffers if each.first <= n <= each.last) for n in range(9))
    assert demand <= words <= 1.5 * demand


def test_words_are_used_again() -> None:
    """A chain needs no more than its two largest neighbours."""
    chain = [Buffer(first=i, last=i + 1, size=size) for i, size in enumerate((10, 5, 12, 3, 14))]
    assert allocate(chain, nodes=["node"] * 6, what="memory", limit=17, pinned=chain[0]) == 17


def test_what_does_not_fit_is_named() -> None:
    def chain() -> list[Buffer]:
        return [Buffer(first=i, last=i + 1, size=4 + i) for i in range(3)]

    with pytest.raises(RefusedError) as caught:
        allocate(chain(), nodes=["a", "b", "c", "d"], what="memory", limit=10)
    assert str(caught.value) == "layer 'c': memory needs 11 words, 1 more than the accelerator's 10"


def constants(channels: int, **changed: Any) -> dict[str, Any]:
    values = {"multiplier": 1, "bias": 0, "shift": 0} | changed
    return {name: np.full(channels, value, dtype=np.int64) for name, value in values.items()}


def convolution(name: str, source: str = IMAGE, *, outputs: int = 4, **members: Any) -> Convolution:
    weights = np.ones((outputs, 4, 1, 1), dtype=np.int64)
    members = constants(outputs) | {"weights": weights, "weight_format": "uniform_b4"} | members
    return Convolution(name=name, source=source, **members)


def pooling(name: str, source: str, *, channels: int = 4, **members: Any) -> Pooling:
    return Pooling(name=name, source=source, **(constants(channels) | {"kind": "maximum"} | members))


def graph(*nodes: Node) -> IntegerGraph:
    return IntegerGraph(input_shape=(4, 5, 5), nodes=nodes, logit_scale=1.0, input_format="uniform_b4u")


def encoding(tensor: str, format_name: str = "uniform_b4u", *, fraction: int = 4) -> Encoding:
    limits = thresholds_of(format_name, fraction=fraction)
    return Encoding(tensor=tensor, format=format_name, thresholds=limits)


def last(source: str, **members: Any) -> Pooling:
    return pooling("last", source, kind="sum", kernel=(5, 5), **members)


def refusal(*nodes: Node, **changed: int) -> str:
    with pytest.raises(RefusedError) as caught:
        compile_network(graph(*nodes), replace(SMALL, **changed))
    return str(caught.value)


def test_a_residual_that_nobody_reads_later_is_written_over() -> None:
    first = convolution("first", encodings=(encoding("codes"),), values="kept")
    second = convolution("second", "codes", residual="kept", values="sum")
    placed = lower(graph(first, second, last("sum")), SMALL).placement
    assert placed.values["sum"].base == placed.values["kept"].base
    assert placed.value_words == 25 * 2
    again = convolution("again", "codes", residual="kept", values="other")
    both = pooling("both", "sum", values="pooled")
    add = convolution("add", "codes", residual="other", values="end")
    placed = lower(graph(first, second, again, both, add, last("end")), SMALL).placement
    assert placed.values["sum"].base != placed.values["kept"].base
    assert placed.values["other"].base == placed.values["kept"].base


def test_a_pooling_does_not_write_over_its_source() -> None:
    first = convolution("first", values="values")
    middle = pooling("middle", "values", kernel=(2, 2), values="pooled")
    end = pooling("last", "pooled", kind="sum", kernel=(4, 4))
    placed = lower(graph(first, middle, end), SMALL).placement
    assert placed.values["pooled"].base >= placed.values["values"].base + 25 * 2
    assert placed.value_words == (25 + 16) * 2


def test_further_encodings_are_made_of_values() -> None:
    """The first with the layer, the second from values that are kept for it alone, digits one by one."""
    first = convolution(
        "first", encodings=(encoding("a"), encoding("b", fraction=3), encoding("c", "uniform_b8u"))
    )
    readers = [
        convolution("x", "a", values="sum"),
        convolution("y", "b", residual="sum", values="sum2"),
        convolution("z", "c", residual="sum2", values="sum3"),
    ]
    lowered = lower(graph(first, *readers, last("sum3")), SMALL)
    commands = [command.fields for command in lowered.nodes[0][1]]
    assert [fields["opcode"] for fields in commands] == [LayerOpcode.CONVOLUTION, *[LayerOpcode.MAXIMUM] * 3]
    assert [fields.get("linear", 0) for fields in commands] == [0, 0, 1, 1]
    assert [fields.get("linear_place") for fields in commands] == [None, None, 0, 4]
    assert [len(command.passes) for command in lowered.nodes[3][1]] == [2]


def test_what_rectified_values_cannot_tell_is_encoded_first() -> None:
    below = replace(encoding("below"), thresholds=tuple(range(-5, 10)))
    first = convolution("first", encodings=(encoding("above"), below), values="values", rectified=True)
    readers = (convolution("x", "above", residual="values", values="sum"),)
    readers += (convolution("y", "below", residual="sum", values="sum2"),)
    lowered = lower(graph(first, *readers, last("sum2")), SMALL)
    assert [command.thresholds for command in lowered.nodes[0][1]] == [
        below.thresholds,
        encoding("above").thresholds,
    ]


@pytest.mark.parametrize("weights", ["uniform_b4", "basis_1"])
@pytest.mark.parametrize(("before", "channels", "after"), [(2, 5, 1), (0, 3, 4), (4, 4, 0), (2, 6, 5)])
def test_channels_beside_those_of_the_source_are_constants(
    before: int, channels: int, after: int, weights: str
) -> None:
    """Also where the last tile of the source's channels reaches into those behind them.

    Without a weight 0, what lies there is not 0.
    """
    total = before + channels + after
    rng = np.random.default_rng(total)
    formats = {"weight_format": weights, "outputs": channels}
    first = convolution("first", values="values", **formats, **constants(channels, bias=9))
    numbers = {name: rng.integers(1, 50, total) for name in ("multiplier", "bias")}
    middle = pooling(
        "middle",
        "values",
        channels=total,
        channels_before=before,
        channels_after=after,
        values="more",
        **numbers,
    )
    made = graph(first, middle, last("more", **constants(total)))
    images = rng.integers(0, 16, (2, 4, 5, 5))
    expected = run(made, torch.from_numpy(images)).logits.numpy()
    found = Machine(compile_network(made, replace(SMALL, weight_format=weights))).run(images)
    np.testing.assert_array_equal(found[:, :total], expected)


@pytest.mark.parametrize("bits", [5, 8])
@pytest.mark.parametrize("fraction", [1, 4, 7])
@pytest.mark.parametrize("offset", [0, -300])
def test_wide_codes_are_shifted_values(bits: int, fraction: int, offset: int) -> None:
    """Every value near every threshold."""
    plain = thresholds_of(f"uniform_b{bits}u", fraction=fraction)
    limits = tuple(limit + offset for limit in plain)
    assert linear_constants(replace(encoding("codes"), thresholds=limits), name="layer")[::2] == (1, fraction)
    check_line(limits, bits=bits)


def check_line(limits: tuple[int, ...], *, bits: int) -> None:
    """Codes of values that are next to a threshold, or as far from all as any is."""
    multiplier, bias, shift = linear_constants(replace(encoding("codes"), thresholds=limits), name="layer")
    near = {limit + delta for limit in limits for delta in (-1, 0, 1, 2)}
    for value in {*near, -(2**17), 2**17 - 1}:
        code = min(max(value * multiplier + bias >> shift, 0), 2**bits - 1)
        assert code == sum(limit < value for limit in limits)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("step", [1.0, 2.5, np.pi, 9.99, 31.9])
@pytest.mark.parametrize("offset", [0.5, 0.123, -77.7])
def test_wide_codes_of_any_step_are_a_line(bits: int, step: float, offset: float) -> None:
    """Thresholds are rounded down, as those of values in a unit that others share are."""
    check_line(tuple(np.floor((np.arange(2**bits - 1) + offset) * step).astype(int).tolist()), bits=bits)


SOURCE = convolution("first", values="values")
WIDE = replace(encoding("codes", "uniform_b8u"), thresholds=tuple(each * each for each in range(255)))
BELOW = tuple(replace(encoding(name), thresholds=tuple(range(-1, 14))) for name in "ab")


@pytest.mark.parametrize(
    ("nodes", "changed", "message"),
    [
        (
            (SOURCE, last("values")),
            {"value_words": 0},
            "layer 'first': values memory needs 50 words, 50 more than the accelerator's 0",
        ),
        (
            (SOURCE, pooling("last", "values", kind="sum", kernel=(65, 65), padding=30)),
            {},
            "layer 'last': pooled sum needs 4225 values, 129 more than the accelerator's 4096",
        ),
        (
            (SOURCE, pooling("last", "values", kernel=(5, 5), padding=5)),
            {},
            "layer 'last': padding must be less than the kernel, not 5",
        ),
        (
            (SOURCE, last("values", residual="values")),
            {},
            "layer 'last': a pooling must not add a residual",
        ),
        (
            (
                SOURCE,
                pooling("middle", "values", channels=7, channels_before=3, values="more"),
                last("more", **constants(7)),
            ),
            {},
            "layer 'middle': channels_before must be a multiple of the accelerator's 2 requantizers, not 3",
        ),
        (
            (
                convolution("first", encodings=(WIDE,)),
                convolution("last", "codes", weights=np.ones((4, 4, 5, 5), dtype=np.int64)),
            ),
            {},
            "layer 'first': thresholds of 'codes', whose codes take several digits, must be evenly spaced",
        ),
        (
            (convolution("first", values="values", rectified=True, encodings=BELOW), last("values")),
            {},
            "layer 'first': thresholds of 'b' must not be negative, since they are compared with rectified "
            "values",
        ),
    ],
)
def test_what_the_engine_cannot_do_is_named(
    nodes: tuple[Node, ...], changed: dict[str, int], message: str
) -> None:
    assert refusal(*nodes, **changed) == message


def test_results_include_their_residual() -> None:
    """2^17 · 2^14 is 2^31; a sum of 32 bits has room for one less."""
    weights = np.ones((1, 4, 5, 5), dtype=np.int64)
    first = convolution("first", outputs=1, encodings=(encoding("codes"),), weights=weights, values="values")
    end = {"outputs": 1, "source": "codes", "weights": np.ones((1, 1, 1, 1), dtype=np.int64)}
    end |= constants(1, bias=2**31 - 2**17 - 15)
    compile_network(graph(first, convolution("last", **end)), SMALL)
    found = refusal(first, convolution("last", **(end | {"residual": "values"})))
    assert found == "layer 'last': result needs 33 bits, 1 more than the accelerator's 32"


def test_programs_end_with_halt() -> None:
    first = convolution("first", values="values")
    program = compile_network(graph(first, last("values")), SMALL).sections[0]
    assert len(program) == 3 * LAYER.size // STREAM_WIDTH + 2
    assert program[-LAYER.size // STREAM_WIDTH] == LayerOpcode.HALT

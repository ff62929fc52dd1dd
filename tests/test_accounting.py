"""Layer shapes, FixOPs and bytes: known totals of the networks, and closed forms."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from hdl.formats import Table, Uniform, apot, named
from sw.accounting.fixops import APOT_PRINTED, APOT_TEXT, POT_PRINTED, REAL, UNIFORM, network_fixops, terms
from sw.accounting.rendering import usage_page
from sw.accounting.sizes import (
    APOT_OTHERS,
    APOT_OWN,
    DMBQ,
    DMBQ_STARRED,
    LCQ,
    lookup_bytes,
    model_bytes,
    real_bytes,
)
from sw.accounting.usage import counted_bits, network_usage
from sw.architectures import ARCHITECTURES, Architecture, Layer, architecture
from sw.graph import IMAGE, Convolution, Encoding, IntegerGraph, Pooling

# parameters, MACs, inner weights, inner MACs, first MACs, last MACs, normalized channels, inner layers
KNOWN = {
    "resnet18": (11689512, 1814073344, 11157504, 1695547392, 118013952, 512000, 4800, 19),
    "resnet34": (21797672, 3663761408, 21258240, 3545235456, 118013952, 512000, 8512, 35),
    "resnet50": (25557032, 4089184256, 23445504, 3969122304, 118013952, 2048000, 26560, 52),
    "mobilenet_v2": (3504872, 300774272, 2188896, 288656256, 10838016, 1280000, 17056, 51),
    "resnet20": (269722, 40551040, 267264, 40108032, 442368, 640, 688, 18),
    "resnet56": (853018, 125485696, 847872, 125042688, 442368, 640, 2032, 54),
    "vgg_small": (4660106, 607600640, 4571136, 603979776, 3538944, 81920, 1792, 5),
}

# One layer each at the ends, 3 × 3 from 2 to 4 channels on 5 × 5 and a depthwise one between, a shortcut.
TINY = Architecture(
    name="tiny",
    layers=(
        Layer(name="first", inputs=1, outputs=2, kernel=3, size=5),
        Layer(name="inner", inputs=2, outputs=4, kernel=3, size=5),
        Layer(name="depthwise", inputs=4, outputs=4, kernel=3, size=5, groups=4),
        Layer(name="shortcut", inputs=2, outputs=4, size=5, shortcut=True),
        Layer(name="last", inputs=4, outputs=10),
    ),
)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_known_totals(name):
    each = architecture(name)
    assert (
        each.parameters,
        each.macs,
        sum(layer.weights for layer in each.inner),
        sum(layer.macs for layer in each.inner),
        each.first.macs,
        each.last.macs,
        each.normalized,
        len(each.inner),
    ) == KNOWN[name]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_layers_have_names_of_their_own_and_fit_one_another(name):
    layers = architecture(name).layers
    assert len({layer.name for layer in layers}) == len(layers)
    channels, size = layers[0].outputs, layers[0].size
    for layer in layers[1:-1]:
        assert layer.shortcut or layer.inputs == channels
        assert size % layer.size == 0
        assert layer.inputs % layer.groups == layer.outputs % layer.groups == 0
        channels, size = layer.outputs, layer.size


def test_shortcuts():
    shapes = {
        name: [(each.inputs, each.outputs, each.size) for each in architecture(name).inner if each.shortcut]
        for name in ARCHITECTURES
    }
    downsampling = [(64, 128, 28), (128, 256, 14), (256, 512, 7)]
    assert shapes["resnet18"] == shapes["resnet34"] == downsampling
    assert shapes["resnet50"] == [(64, 256, 56), (256, 512, 28), (512, 1024, 14), (1024, 2048, 7)]
    assert not any(shapes[name] for name in ("mobilenet_v2", "resnet20", "resnet56", "vgg_small"))


def test_refuses_an_unknown_architecture():
    with pytest.raises(
        ValueError, match=r"^architecture must be one of resnet18, .*vgg_small, not 'alexnet'$"
    ):
        architecture("alexnet")


def test_totals_by_hand():
    assert [layer.weights for layer in TINY.layers] == [18, 72, 36, 8, 40]
    assert [layer.macs for layer in TINY.layers] == [450, 1800, 900, 200, 40]
    assert TINY.normalized == 2 + 4 + 4 + 4
    assert TINY.parameters == 174 + 10 + 28
    assert TINY.macs == 3390


@pytest.mark.parametrize(
    ("rule", "weight_bits", "activation_bits", "cost"),
    [
        (UNIFORM, 8, 8, Fraction(1)),
        (UNIFORM, 3, 5, Fraction(15, 64)),
        (APOT_PRINTED, 4, 4, Fraction(12, 64)),
        (POT_PRINTED, 5, 5, Fraction("17.5") / 64),
        (APOT_TEXT, 5, 5, Fraction(10, 64)),
        (APOT_TEXT, 4, 4, Fraction(6, 64)),
        (APOT_TEXT, 3, 3, Fraction(3, 64)),
        (APOT_TEXT, 2, 2, Fraction(2, 64)),
        (REAL, 32, 32, Fraction(1)),
    ],
)
def test_cost_of_a_multiply_accumulate(rule, weight_bits, activation_bits, cost):
    assert rule.cost(weight_bits, activation_bits) == cost
    total = network_fixops(TINY, rule, weight_bits, activation_bits)
    assert total == 490 + 2900 * cost
    beside = network_fixops(TINY, rule, weight_bits, activation_bits, real_shortcuts=True)
    assert beside == 490 + 200 + 2700 * cost


def test_terms():
    assert [terms(bits) for bits in (2, 3, 4, 5)] == [1, 1, Fraction(3, 2), 2]
    assert [terms(bits, k=bits - 1) for bits in (2, 3, 4, 5)] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("count", "outer", "normalization"),
    [
        (APOT_OTHERS, (58 + 10) * 4, 14 * 16),
        (APOT_OWN, 58 + 10, 14 * 16),
        (LCQ, 58, 14 * 8),
        (DMBQ, 58 + 10, 14 * 8),
        (DMBQ_STARRED, (58 + 10) * 4, 14 * 8),
    ],
)
def test_bytes_of_a_model(count, outer, normalization):
    assert model_bytes(TINY, count, 2) == outer + normalization + Fraction(116 * 2, 8)
    assert model_bytes(TINY, count, 2, real_shortcuts=True) == outer + normalization + 27 + 8 * 4
    assert model_bytes(TINY, count, Fraction(7, 10)) == outer + normalization + Fraction(116 * 7, 80)


def test_bytes_in_real_numbers_and_of_tables():
    assert real_bytes(TINY) == 4 * 212
    assert [lookup_bytes(TINY, bits, bits) for bits in (2, 3, 4)] == [3 * 3 * 2, 3 * 21 * 2, 3 * 105 * 2]
    assert lookup_bytes(TINY, 4, 2) == 3 * 7 * 3 * 2


@pytest.mark.parametrize(
    ("fmt", "bits"),
    [
        (Uniform(bits=8), 8),
        (Uniform(bits=8, signed=False), 8),
        (apot(bits=5), 5),
        (apot(bits=5, signed=False), 5),
        (named("pot_k3"), 4),
        (named("basis_5_8"), 2),
        (Table(table=(0, 17, 60, 127, 0, -17, -60, -127)), 8),
        (Table(table=(0, 17, 60, 255), signed=False), 8),
    ],
)
def test_bits_a_multiplication_is_counted_with(fmt, bits):
    assert counted_bits(fmt) == bits


def layer(name, weight_format, source, *, shape, output_format=None, **walk):
    constants = np.zeros(shape[0], dtype=np.int64)
    count = len(named(output_format).grid) - 1 if output_format else 0
    encoding = Encoding(tensor=name, format=output_format, thresholds=(0,) * count)
    return Convolution(
        name=name,
        source=source,
        weights=np.zeros(shape, dtype=np.int64),
        weight_format=weight_format,
        encodings=(encoding,) if output_format else (),
        multiplier=constants,
        bias=constants,
        shift=constants,
        **walk,
    )


def test_usage_of_a_network_by_hand():
    activations = "apot_k2n2u"
    network = IntegerGraph(
        input_shape=(1, 9, 7),
        nodes=(
            layer("a", "uniform_b8", IMAGE, shape=(4, 1, 3, 3), output_format=activations, padding=1),
            layer("b", "apot_k2n2", "a", shape=(6, 4, 3, 3), output_format=activations, stride=2),
            layer("c", "pot_k3", "b", shape=(5, 6, 1, 1), output_format=activations),
            layer("d", "basis_5_8", "c", shape=(3, 5, 4, 3)),
        ),
        logit_scale=1.0,
    )
    a, b, c, d = network_usage(network)
    assert [each.macs for each in (a, b, c, d)] == [36 * 63, 216 * 4 * 3, 30 * 4 * 3, 180]
    assert (a.fixops, a.text_fixops) == (36 * 63, 36 * 63)
    assert (b.fixops, b.text_fixops) == (2592 * Fraction(15, 64), 2592 * Fraction(8, 64))
    assert (c.fixops, c.text_fixops) == (360 * Fraction("11.2") / 64, 360 * Fraction(4, 64))
    assert (d.fixops, d.text_fixops) == (180 * Fraction(8, 64), 180 * Fraction(8, 64))
    assert [each.weights for each in (a, b, c, d)] == [36, 216, 30, 180]
    assert [each.weight_bytes for each in (a, b, c, d)] == [36, 216 * 5 // 8, 15, 45]
    assert [each.channel_bytes for each in (a, b, c, d)] == [36, 54, 45, 27]
    assert [each.lookup_bytes for each in (a, b, c, d)] == [0, 0, 0, 0]


def test_companded_layers_have_product_tables():
    weights, three, four = (
        "companded_0_3_9_127",
        "companded_0_1_5_7_20_60_90_255u",
        "companded_o12_0_3_40_4000u",
    )
    network = IntegerGraph(
        input_shape=(1, 4, 4),
        nodes=(
            layer("a", "uniform_b8", IMAGE, shape=(4, 1, 1, 1), output_format=three),
            layer("b", weights, "a", shape=(4, 4, 1, 1), output_format=four),
            layer("c", weights, "b", shape=(4, 4, 1, 1), output_format="uniform_b4u"),
            layer("d", weights, "c", shape=(3, 4, 4, 4)),
        ),
        logit_scale=1.0,
    )
    usages = network_usage(network)
    assert [each.lookup_bytes for each in usages] == [0, 3 * 7 * 2, 3 * 3 * 3, 0]
    assert "companded 3 bits × companded 3 bits" in usage_page(usages, source="net").rows[1]


def test_depthwise_layers_multiply_once_an_output_and_pooling_not_at_all():
    one = np.zeros(4, dtype=np.int64)
    pooling = Pooling(
        name="pool",
        source="b:values",
        kind="sum",
        kernel=(2, 2),
        stride=2,
        multiplier=one,
        bias=one,
        shift=one,
        encodings=(Encoding(tensor="pool", format="uniform_b4u", thresholds=(0,) * 15),),
    )
    first = layer("a", "uniform_b8", IMAGE, shape=(4, 1, 1, 1), output_format="uniform_b4u")
    depthwise = layer("b", "apot_k2n1o", "a", shape=(4, 1, 3, 3), groups=4, padding=1)
    network = IntegerGraph(
        input_shape=(1, 4, 4),
        nodes=(
            first,
            replace(depthwise, values="b:values"),
            pooling,
            layer("c", "uniform_b8", "pool", shape=(3, 4, 2, 2)),
        ),
        logit_scale=1.0,
    )
    assert [(each.name, each.macs) for each in network_usage(network)] == [
        ("a", 4 * 16), ("b", 4 * 9 * 16), ("c", 3 * 16),
    ]  # fmt: skip
    assert network_usage(network)[2].input_format == "uniform_b4u"

"""The accelerator chosen for a network takes it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from hdl.console import RefusedError
from hdl.layouts import Section, section_width
from hdl.parameters import MAX_DEPTH, AcceleratorParameters
from sw.allocation import mixed
from sw.compiler.compile import compile_network
from sw.compiler.fitting import fitting_parameters, narrowest_depth
from sw.executor import Machine
from sw.export import integer_network
from sw.graph import IMAGE, Convolution, IntegerGraph
from sw.models import build
from sw.precision import Precision
from sw.quantizers.mixed import MixedDMBQWeight
from tests.random_networks import random_images, random_network
from verif.reference import run


@pytest.mark.parametrize("bits", [2, 3, 4, 5])
@pytest.mark.parametrize("scheme", ["apot", "uniform", "pot"])
def test_a_network_compiles_for_what_fits_it(scheme: str, bits: int) -> None:
    precision = Precision(scheme=scheme, weight_bits=bits, activation_bits=min(bits, 4))
    model = build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=precision)
    network = integer_network(model.eval())
    parameters = fitting_parameters(network)
    compiled = compile_network(network, parameters)
    assert parameters.weight_format == network.nodes[1].weight_format
    assert max(layer.passes for layer in compiled.schedule) <= parameters.passes


@pytest.mark.parametrize(
    ("scheme", "bits", "weight_format", "index_width", "tables"),
    [
        ("dmbq", 2, "basis_1", 0, 2),
        ("dmbq", 4, "basis_1", 0, 2),
        ("dmbq_gauss", 3, "basis_1", 0, 2),
        ("lcq", 2, "signmag_b8", 2, 5),
        ("lcq", 4, "signmag_b8", 4, 5),
        ("lloyd", 3, "signmag_b8", 3, 2),
    ],
)
def test_planes_run_bases_and_codebooks_learned_tables(
    scheme, bits, weight_format, index_width, tables
) -> None:
    """One table for each activation, and the pixels' digits."""
    precision = Precision(scheme=scheme, weight_bits=bits, activation_bits=bits)
    model = build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=precision)
    with torch.no_grad():
        for index, block in enumerate(model.chain()):
            if scheme == "lcq":
                block.activation.theta[0] = 0.3 * index
    network = integer_network(model.eval())
    parameters = fitting_parameters(network)
    compile_network(network, parameters)
    assert (parameters.weight_format, parameters.index_width) == (weight_format, index_width)
    assert parameters.tables == tables
    assert parameters.encodings == max(tables - 1, 2)


@pytest.mark.parametrize(("bits", "weight_format"), [(2, "uniform_b5"), (3, "uniform_b8"), (4, "uniform_b9")])
def test_channels_of_different_bases_run_as_planes_too(bits: int, weight_format: str) -> None:
    """Largest levels 13, 90 and 133 of the bases make their integers that wide."""
    precision = Precision(scheme="dmbq", weight_bits=bits, activation_bits=4)
    model = mixed(build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=precision))
    for quantizer in model.modules():
        if isinstance(quantizer, MixedDMBQWeight):
            quantizer.bits[::3] = 1
            quantizer.bits[1] = 0
    network = integer_network(model.eval())
    assert network.nodes[1].weight_format == weight_format
    assert fitting_parameters(network).weight_format == "basis_1"


def learned(seed: int = 0) -> IntegerGraph:
    """Two layers with tables of their own between layers of 8-bit integers."""
    rng = np.random.default_rng(seed)
    network = random_network(
        rng, weight_format="companded_0_3_40_127", activation_format="uniform_b4u", channels=(6, 24, 24)
    )
    *nodes, middle, last = network.nodes
    levels = {3: 4, 40: 41, 127: 110}
    moved = np.vectorize(lambda level: int(np.sign(level)) * levels.get(abs(level), 0))(middle.weights)
    middle = replace(middle, weights=moved, weight_format="companded_0_4_41_110")
    return replace(network, nodes=(*nodes, middle, last))


@pytest.mark.parametrize(
    ("options", "array", "codebooks"),
    [
        ({}, ("signmag_b8", 3), 3),
        ({"index_width": 0}, ("uniform_b8", 0), 0),
        ({"index_width": 4}, ("signmag_b8", 4), 3),
        ({"weight_format": "uniform_b9", "index_width": 5}, ("uniform_b9", 5), 3),
        ({"weight_format": "uniform_b8"}, ("uniform_b8", 0), 0),
    ],
)
def test_learned_tables_run_on_arrays_with_and_without_codebooks(
    options: dict[str, Any], array: tuple[str, int], codebooks: int
) -> None:
    """Two tables and the digits of 8-bit layers, if there are codebooks; the results are the same."""
    network = learned()
    chosen = fitting_parameters(network, rows=8, lanes=8, **options)
    assert ((chosen.weight_format, chosen.index_width), chosen.codebooks) == (array, codebooks)
    images = random_images(np.random.default_rng(1), network.input_shape, count=2)
    found = Machine(compile_network(network, chosen)).run(images)
    np.testing.assert_array_equal(found, run(network, torch.from_numpy(images)).logits.numpy())


def test_codebooks_are_chosen_where_they_take_fewer_bits() -> None:
    """Most weights of narrow layers have a table, but most weights are a classifier's, whose are digits."""

    def bits(**options: Any) -> int:
        chosen = fitting_parameters(network, **options)
        sections = compile_network(network, chosen).sections
        entries = len(sections.get(Section.CODEBOOKS, ())) * section_width(chosen, Section.CODEBOOKS)
        return len(sections[Section.WEIGHTS]) * section_width(chosen, Section.WEIGHTS) + entries

    network = learned()
    assert bits() == bits(index_width=3) < bits(index_width=0)
    last = network.nodes[-1]
    parts = ("weights", "multiplier", "bias", "shift")
    repeated = {part: np.concatenate([getattr(last, part)] * 12) for part in parts}
    network = replace(network, nodes=(*network.nodes[:-1], replace(last, **repeated)))
    assert bits() == bits(index_width=0) < bits(index_width=3)


def test_too_many_codebooks_are_not_chosen() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hdl.parameters.MAX_CODEBOOKS", 2)
        assert fitting_parameters(learned()).codebooks == 0
        message = "network fits no accelerator: codebooks must be an integer from 0 to 2, not 3"
        with pytest.raises(RefusedError, match=message):
            fitting_parameters(learned(), index_width=3)


@pytest.mark.parametrize("weight_format", ["basis_1", "uniform_b8", "uniform_b3"])
def test_another_array_is_as_good(weight_format: str) -> None:
    precision = Precision(scheme="uniform", weight_bits=3, activation_bits=3)
    model = build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=precision)
    network = integer_network(model.eval())
    chosen = fitting_parameters(network, weight_format=weight_format, rows=8, lanes=4, cores=2)
    assert (chosen.weight_format, chosen.rows, chosen.lanes, chosen.cores) == (weight_format, 8, 4, 2)
    images = torch.randint(17, (4, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    found = Machine(compile_network(network, chosen)).run(images.numpy())
    np.testing.assert_array_equal(found, run(network, images).logits.numpy())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 300}, "rows must be an integer from 1 to 256, not 300"),
        ({"lanes": 3}, "lanes must be a power of two"),
        ({"index_width": 5}, "index_width must be at most 4, the bits of a code of 'uniform_b4', not 5"),
        ({"weight_format": "uniform_b4u"}, "weight_format must be a signed format, not 'uniform_b4u'"),
        ({"weight_format": "apot"}, "format must be a name like .* not 'apot'"),
    ],
)
def test_arrays_that_there_are_not_are_refused(options: dict[str, object], message: str) -> None:
    precision = Precision(scheme="uniform")
    model = build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=precision)
    with pytest.raises(RefusedError, match=message):
        fitting_parameters(integer_network(model.eval()), **options)


def test_too_many_tables_fit_no_accelerator() -> None:
    precision = Precision(scheme="lcq")
    model = build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=precision)
    network = integer_network(model.eval())
    first, middle, *rest = network.nodes
    layers = [first]
    for index in range(17):
        levels = [*range(15), 20 + index]
        name = "_".join(map(str, ("companded", *levels))) + "u"
        encoding = replace(first.encodings[0], tensor=f"codes{index}", format=name)
        layers[-1] = replace(layers[-1], encodings=(encoding,))
        part = {part: getattr(middle, part)[:16] for part in ("weights", "multiplier", "bias", "shift")}
        layers.append(replace(middle, name=f"deep{index}", source=f"codes{index}", stride=1, **part))
    layers[-1] = replace(middle, source="codes16")
    # One table each, that of the other layers, and the pixels' digits.
    deep = replace(network, nodes=(*layers, *rest))
    with pytest.raises(RefusedError) as caught:
        fitting_parameters(deep)
    message = "network fits no accelerator: tables must be an integer from 1 to 16, not 19"
    assert str(caught.value) == message


def long_sum(weight: int) -> IntegerGraph:
    """One sum of 16384 products, which is more than the default's depth."""
    constants = {part: np.array([1]) for part in ("multiplier", "bias", "shift")}
    weights = np.full((1, 2**14, 1, 1), weight)
    node = Convolution(name="long", source=IMAGE, weights=weights, weight_format="uniform_b4", **constants)
    return IntegerGraph(input_shape=(2**14, 1, 1), nodes=(node,), logit_scale=1.0, input_format="uniform_b4u")


def test_accumulators_are_as_wide_as_the_weights_need() -> None:
    """With a sign, 4608 products of -8 and 15 take 21 bits, 2^14 of 1 and 15 take 19, of 7 and 15 take 22."""
    small, large = long_sum(1), long_sum(7)
    array = {"weight_format": "uniform_b4"}
    assert fitting_parameters(small, **array).depth == AcceleratorParameters().depth
    assert fitting_parameters(small, **array).accumulator_width == 21
    assert fitting_parameters(large, **array) == fitting_parameters(large, **array, narrow=True)
    for graph, bits in ((small, 19), (large, 22)):
        narrow = fitting_parameters(graph, **array, narrow=True)
        compiled = compile_network(graph, narrow)
        assert narrow.accumulator_width == compiled.schedule[0].sum_bits == bits
        assert replace(narrow, depth=narrow.depth - 1).accumulator_width == bits - 1
        with pytest.raises(RefusedError, match=f"'long': sum of pass 1 needs {bits} bits, 1 more than the"):
            compile_network(graph, replace(narrow, depth=narrow.depth - 1))


def test_sums_over_passes_fit_too() -> None:
    p = AcceleratorParameters(weight_format="uniform_b4", lanes=8)
    assert narrowest_depth(p, sum_bits=2, scaled_bits=2) == 8
    for needed in (50, 53):
        depth = narrowest_depth(p, sum_bits=2, scaled_bits=needed)
        assert replace(p, depth=depth - 1).sum_width < needed <= replace(p, depth=depth).sum_width
    assert narrowest_depth(p, sum_bits=99, scaled_bits=2) == MAX_DEPTH + 1

"""The accelerator chosen for a network takes it."""

from dataclasses import replace

import pytest
import torch

from hdl.console import RefusedError
from sw.compiler.compile import compile_network
from sw.compiler.fitting import fitting_parameters
from sw.export import integer_network
from sw.models import build
from sw.precision import Precision


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
    ("scheme", "bits", "weight_format", "tables"),
    [
        ("dmbq", 2, "uniform_b5", 2),
        ("dmbq", 3, "uniform_b8", 2),
        ("dmbq", 4, "uniform_b9", 2),
        ("lcq", 2, "uniform_b8", 5),
        ("lcq", 4, "uniform_b8", 5),
    ],
)
def test_integers_stand_in_for_bases_and_learned_tables(scheme, bits, weight_format, tables) -> None:
    """Largest levels 13, 90 and 133 of the bases; one table for each activation, and the pixels' digits."""
    precision = Precision(scheme=scheme, weight_bits=bits, activation_bits=bits)
    model = build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=precision)
    with torch.no_grad():
        for index, block in enumerate(model.chain()):
            if scheme == "lcq":
                block.activation.theta[0] = 0.3 * index
    network = integer_network(model.eval())
    parameters = fitting_parameters(network)
    compile_network(network, parameters)
    assert parameters.weight_format == weight_format
    assert parameters.tables == tables
    assert parameters.encodings == max(tables - 1, 2)


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

"""The accelerator chosen for a network takes it."""

import pytest

from sw.compiler import compile_network
from sw.export import integer_network
from sw.fitting import fitting_parameters
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
    assert parameters.weight_format == network.layers[1].weight_format
    assert max(layer.passes for layer in compiled.schedule) <= parameters.passes

"""Networks of schemes that have no array of their own: packed, simulated, equal to the integer reference."""

from pathlib import Path

import numpy as np
import pytest

from sw import training
from sw.compiler.compile import compile_network
from sw.compiler.fitting import fitting_parameters
from sw.data import digits
from sw.export import integer_network
from sw.recipe import Recipe
from tests.random_networks import thresholds_of
from verif import reference
from verif.network import accelerator, classify

MIXED = Recipe(scheme="dmbq", epochs=2, lba="cp", average_bits=(2.0, 4.0), lba_ratio=1.0)


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(Recipe(scheme="lcq", weight_bits=3, activation_bits=3, epochs=1), id="lcq"),
        pytest.param(Recipe(scheme="lloyd", weight_bits=4, epochs=1), id="lloyd", marks=pytest.mark.nightly),
        pytest.param(Recipe(scheme="dmbq", epochs=1), id="dmbq", marks=pytest.mark.nightly),
        pytest.param(MIXED, id="dmbq-mixed", marks=pytest.mark.nightly),
    ],
)
def test_the_accelerator_computes_what_was_exported(recipe: Recipe, tmp_path: Path) -> None:
    """Boundaries that are not halfway, a table for each layer, and a scale for each channel."""
    data = digits()
    network = integer_network(training.train(recipe, data, tmp_path / "net.pt"))
    parameters = fitting_parameters(network, rows=4, lanes=4)
    compiled = compile_network(network, parameters)
    verilog = tmp_path / "accelerator.v"
    verilog.write_text(accelerator(parameters).verilog)
    images = data.test_images[:1]
    answers = classify(compiled, images.numpy(), verilog=verilog, simulator="icarus")
    np.testing.assert_array_equal(answers.logits, reference.run(network, images).logits.numpy())
    encodings = [encoding for node in network.nodes for encoding in node.encodings]
    halfway = [
        any(thresholds_of(encoding.format, fraction=bits) == encoding.thresholds for bits in range(17))
        for encoding in encodings
    ]
    assert not any(halfway) if recipe.scheme == "lcq" else all(halfway)

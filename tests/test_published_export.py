"""Checkpoints of APoT's authors become graphs of integers without training, awkward values and all."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from sw.__main__ import main
from sw.apot_layout import convert
from sw.export import integer_network
from sw.interchange import integers, load_network
from sw.lowering import lower
from tests.float_oracle import calibrated, random_images, watched
from tests.test_published import Authors
from verif.reference import run as run_graph

CASES = [
    ("resnet10", 4, "weight_alpha", (33,), 13),
    ("resnet20", 3, "weight_quant.wgt_alpha", (125, 123, 114), 24),
    ("resnet56", 2, "weight_quant.wgt_alpha", (125, 123, 114), 60),
]


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors here are too small for threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("name", "bits", "alpha", "fill", "convolutions"), CASES)
def test_imported_networks_are_exported(name, bits, alpha, fill, convolutions):
    """Statistics are measured: the checkpoints' own are no network's, and values pass every bound."""
    imported = convert(Authors(name, bits=bits, alpha=alpha).state, name=name, bits=bits).checkpoint
    graph = integer_network(imported)
    assert (graph.border, graph.fill) == (3 if name == "resnet10" else 1, fill)
    weights = [node for node in graph.nodes if hasattr(node, "weights")]
    assert len(weights) == convolutions
    assert min(node.weights.min() for node in weights if node.name.startswith("conv1")) == -130
    assert (graph.nodes[-1].weights.min(), graph.nodes[-1].weight_format) == (-145, "uniform_b9")

    shape = imported.input_shape
    model = calibrated(imported.network(), shape, seed=4)
    lowering = lower(model, shape)
    images = random_images(shape, count=2)
    seen = watched(model, lowering, images)
    run = run_graph(integers(lowering.content), images, given=seen.codes)
    for tensor, expected in seen.codes.items():
        found = run.codes[tensor].flatten() - expected.flatten()
        assert found.abs().max() <= 1, tensor
        # Around a normalized image lies a whole number that is nearest to its mean, not the mean.
        assert (found == 0).double().mean() > (0.98 if tensor in ("conv1", "maxpool") else 0.995), tensor


def test_from_the_authors_file_to_the_interchange_file(tmp_path):
    source = Authors("resnet20", bits=2, alpha="weight_quant.wgt_alpha").write(tmp_path / "a.pth.tar")
    net, out = tmp_path / "net.pt", tmp_path / "net.safetensors"
    for arguments in (
        ["import", source, "--model", "resnet20", "--bits", 2, "-o", net],
        ["export", net, "-o", out],
    ):
        result = CliRunner().invoke(main, [str(each) for each in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    assert result.output == f"{out}: 24 layers, 271760 weights\n"
    graph = load_network(out)
    whole = sum(node.weights for node in graph.nodes if node.name.startswith("conv1"))
    codes = convert(
        Authors("resnet20", bits=2, alpha="weight_quant.wgt_alpha").state, name="resnet20", bits=2
    )
    assert np.array_equal(whole, codes.outer["conv1"].codes.numpy())

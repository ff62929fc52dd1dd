"""Models as graphs of integers: each node against the float model, in float64, to within its roundings."""

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hdl.console import RefusedError
from hdl.formats import named
from sw.graph import IMAGE, Convolution, IntegerGraph, Pooling
from sw.interchange import integers
from sw.layers import Quantized
from sw.lowering import Lowering, lower
from sw.models import FLOAT_MODELS, Pixels
from sw.precision import LayerRule, Precision
from sw.quantize import quantize
from tests.float_oracle import Seen, calibrated, random_images, random_model, watched
from tests.graph_executor import execute

SMALL = (3, 16, 16)

NETWORKS = [
    ("small_cnn", (1, 8, 8), "apot"),
    ("resnet10", (1, 28, 28), "apot"),
    ("resnet20", (3, 32, 32), "apot"),
    ("resnet20", SMALL, "dmbq"),
    ("resnet20_projection", SMALL, "lsq"),
    ("resnet56", (3, 8, 8), "apot"),
    ("vgg_small", (3, 8, 8), "uniform"),
    ("resnet18", (3, 32, 32), "lcq"),
    pytest.param("resnet34", (3, 32, 32), "pot", marks=pytest.mark.nightly),
    ("resnet50", (3, 32, 32), "apot"),
    ("mobilenet_v2", (3, 32, 32), "apot"),
    ("mobilenet_v2", (3, 32, 32), "lcq"),
    ("mobilenet_v2", (3, 32, 32), "lsq"),
]


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors here are too small for threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Comparison:
    """A model, its graph, and what both make of the same images."""

    def __init__(self, model: nn.Module, shape: tuple[int, int, int], *, count: int = 4) -> None:
        self.lowering = lower(model, shape)
        self.graph = integers(self.lowering.content)
        images = random_images(shape, count=count)
        self.seen = watched(model, self.lowering, images)
        self.run = execute(self.graph, images, given=self.seen.codes)
        entries = self.lowering.content.header["nodes"]
        self.encodings = {each["tensor"]: each for entry in entries for each in entry["encodings"]}
        self.edges = {tensor: self._edges(model, tensor) for tensor in self.encodings}

    def _edges(self, model: nn.Module, tensor: str) -> Tensor:
        """The real values at which codes step up, from the format's levels or from the quantizer's curve."""
        encoding = self.encodings[tensor]
        levels = torch.tensor(named(encoding["format"]).levels, dtype=torch.float64) - encoding["zero"]
        learned = model.get_submodule(self.lowering.quantizers[tensor]).edges()
        edges = (levels[1:] + levels[:-1]) / 2 if learned is None else learned.double()
        unreached = int((self.thresholds(tensor) == 2**17 - 1).sum())
        return edges[: len(levels) - 1 - unreached] * encoding["scale"]

    def thresholds(self, tensor: str) -> np.ndarray:
        return self.lowering.content.tensors[f"{tensor}.thresholds"]

    def allowed(self) -> dict[str, float]:
        """How far from the real value each tensor may be: half a unit, what rounding the multiplier costs, and
        what was rounded before and is added."""
        found, units = {}, {}
        for node, entry in zip(self.graph.nodes, self.lowering.content.header["nodes"], strict=True):
            if node.is_result:
                continue
            unit = entry["values"]["scale"] if entry["values"] else units.get(node.residual)
            unit = unit or self.own_unit(node.encodings[0].tensor)
            planes = isinstance(node, Convolution) and node.weight_format.startswith("basis")
            error = (65 if planes else 2) * unit + found.get(node.residual, 0.0)
            error += found[node.source] if isinstance(node, Pooling) else 0.0
            found |= {each.tensor: error for each in node.encodings}
            if node.values:
                found[node.values], units[node.values] = error, unit
        return found

    def own_unit(self, tensor: str) -> float:
        """From the distance of the first and the last threshold that is reached."""
        edges, steps = self.edges[tensor], self.thresholds(tensor)
        return float((edges[-1] - edges[0]) / (steps[len(edges) - 1] - steps[0]))

    def check(self, *, share: float = 0.995) -> None:
        """So many codes equal the float model's; the others are a rank off and lie next to a boundary."""
        assert set(self.encodings) == set(self.seen.codes)
        allowed = self.allowed()
        for tensor, edges in self.edges.items():
            expected, found = self.seen.codes[tensor].flatten(), self.run.codes[tensor].flatten()
            wrong = found != expected
            assert wrong.double().mean() <= 1 - share, tensor
            assert (found - expected).abs().max() <= 1, tensor
            reals = self.seen.reals[tensor].flatten()[wrong]
            distance = (reals[:, None] - edges[None, :]).abs().amin(1)
            assert (distance <= allowed[tensor]).all(), (tensor, distance.max(), allowed[tensor])
        logits = self.run.result * self.graph.logit_scale
        assert (logits - self.seen.logits).abs().max() < 1e-4 * self.seen.logits.abs().max()


@pytest.mark.parametrize(("name", "shape", "scheme"), NETWORKS)
def test_networks_equal_the_float_model_but_next_to_boundaries(name, shape, scheme):
    bits = 3 if scheme in ("pot", "dmbq") else 4
    model = random_model(name, shape, Precision(scheme=scheme, weight_bits=bits))
    compared = Comparison(model, shape)
    # The mean of ResNet-56 has 8 bits, and 28 blocks' roundings go into it.
    compared.check(share=0.96 if name == "resnet56" else 0.985 if scheme == "dmbq" else 0.995)
    layers = [layer for layer in model.modules() if isinstance(layer, Quantized)]
    assert len([node for node in compared.graph.nodes if isinstance(node, Convolution)]) == len(layers)

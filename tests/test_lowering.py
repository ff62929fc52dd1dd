"""Models as graphs of integers: each node against the float model, in float64, to within its roundings."""

from math import lcm

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hdl.formats import named
from sw.allocation import mixed
from sw.graph import IMAGE, Convolution, Pooling
from sw.interchange import integers
from sw.layers import Quantized
from sw.lowering import lower
from sw.lowering.codes import codes_of, grids_of
from sw.models import Pixels
from sw.precision import LayerRule, Precision
from sw.quantize import quantize
from sw.quantizers import MixedActivation, MixedDMBQWeight, RCFActivation
from tests.float_oracle import calibrated, random_images, random_model, watched
from verif.reference import run as run_graph

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

    def __init__(
        self,
        model: nn.Module,
        shape: tuple[int, int, int],
        *,
        count: int = 4,
        images: Tensor | None = None,
        **options,
    ) -> None:
        self.lowering = lower(model, shape, **options)
        self.graph = integers(self.lowering.content)
        images = random_images(shape, count=count) if images is None else images
        self.seen = watched(model, self.lowering, images)
        self.run = run_graph(self.graph, images, given=self.seen.codes)
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
        """How far from the real value each tensor may be: half a unit, what rounding the multiplier costs,
        and what was rounded before and is added."""
        found, units = {}, {}
        for node, entry in zip(self.graph.nodes, self.lowering.content.header["nodes"], strict=True):
            if node.is_result:
                continue
            unit = entry["values"]["scale"] if entry["values"] else units.get(node.residual)
            unit = unit or self.own_unit(node.encodings[0].tensor)
            mixed = f"{node.name}.bits" in self.lowering.content.tensors
            planes = isinstance(node, Convolution) and (mixed or node.weight_format.startswith("basis"))
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
        """So many codes of 4 bits equal the float model's; the others are a rank off, next to a boundary.

        Codes of more bits have more boundaries to be next to.
        """
        assert set(self.encodings) == set(self.seen.codes)
        allowed = self.allowed()
        for tensor, edges in self.edges.items():
            expected, found = self.seen.codes[tensor].flatten(), self.run.codes[tensor].flatten()
            wrong = found != expected
            denser = len(edges) / 15 if len(edges) > 15 else 1
            assert wrong.double().mean() <= (1 - share) * denser, tensor
            assert (found - expected).abs().max() <= 1, tensor
            reals = self.seen.reals[tensor].flatten()[wrong]
            distance = (reals[:, None] - edges[None, :]).abs().amin(1)
            assert (distance <= allowed[tensor]).all(), (tensor, distance.max(), allowed[tensor])
        logits = self.run.logits * self.graph.logit_scale
        assert (logits - self.seen.logits).abs().max() < 1e-4 * self.seen.logits.abs().max()


@pytest.mark.parametrize(("name", "shape", "scheme"), NETWORKS)
def test_networks_equal_the_float_model_but_next_to_boundaries(name, shape, scheme):
    bits = 3 if scheme in ("pot", "dmbq") else 4
    model = random_model(name, shape, Precision(scheme=scheme, weight_bits=bits))
    compared = Comparison(model, shape)
    compared.check()
    layers = [layer for layer in model.modules() if isinstance(layer, Quantized)]
    assert len([node for node in compared.graph.nodes if isinstance(node, Convolution)]) == len(layers)


def test_exported_weights_are_the_fake_quantized_ones_bit_for_bit():
    model = random_model("resnet20", SMALL, Precision(scheme="dmbq", weight_bits=2))
    content = lower(model, SMALL).content
    for node in integers(content).nodes:
        if isinstance(node, Convolution):
            layer = model.get_submodule(node.name)
            with torch.no_grad():
                expected = layer.quantizer(layer.weight).view(node.weights.shape)
            assert torch.equal(torch.from_numpy(content.tensors[f"{node.name}.weight"]), expected)
            scale = content.tensors[f"{node.name}.scale"].reshape(-1, 1, 1, 1)
            assert np.array_equal(node.weights.astype(np.float32) * scale, expected.numpy())


def unit(inputs: int, outputs: int, *, kernel: int = 3, **options) -> nn.Sequential:
    """A convolution and batch normalization."""
    options = {"padding": kernel // 2, "bias": False} | options
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, **options), nn.BatchNorm2d(outputs))


class Chain(nn.Module):
    """Parts one after another, the mean of the map, and three classes; the image is -0.5 … 0.5."""

    def __init__(self, *parts: nn.Module, channels: int = 8) -> None:
        super().__init__()
        self.first, self.parts = unit(2, 8, padding=0), nn.Sequential(*parts)
        self.fc = nn.Linear(channels, 3)

    def forward(self, images: Tensor) -> Tensor:
        values = self.parts(functional.relu(self.first(images / 255 - 0.5)))
        return self.fc(values.mean((2, 3)))


class PreActivation(nn.Module):
    """Normalized and rectified before each convolution; the sum goes on as it is (He et al., ECCV 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding="same")

    def forward(self, values: Tensor) -> Tensor:
        inner = self.conv1(self.norm1(values).relu())
        return values + self.conv2(self.norm2(inner).relu())


class TwoReaders(nn.Module):
    """A sum that is read as it is and rectified, by codes, sums and pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.pool = unit(8, 8), unit(8, 8, kernel=1), nn.AvgPool2d(3, 1, 1)
        self.last, self.again = unit(8, 8), unit(8, 8, kernel=1)

    def forward(self, values: Tensor) -> Tensor:
        both = self.left(values) + self.right(values)
        pooled = self.pool(functional.relu(both))
        return torch.add(self.last(both.relu()), both) + self.again(pooled)


class Inverted(nn.Module):
    """Linear end, depthwise middle, ReLU6, pooled after the cut."""

    def __init__(self) -> None:
        super().__init__()
        self.widen, self.narrow = unit(8, 16, kernel=1), unit(16, 8, kernel=1)
        self.depthwise, self.pool = unit(16, 16, groups=16), nn.AvgPool2d(2)

    def forward(self, values: Tensor) -> Tensor:
        values = self.narrow(values)
        inner = functional.relu6(self.widen(values))
        return values + self.narrow(self.pool(functional.hardtanh(self.depthwise(inner), 0.0, 6.0)))


class Block(nn.Module):
    """Two convolutions and an identity."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = unit(8, 8), unit(8, 8)

    def forward(self, values: Tensor) -> Tensor:
        inner = self.two(self.one(values).relu())
        inner += values
        return inner.relu_()


RELU = nn.ReLU()
CHAINS = {
    "pre-activation": lambda: (PreActivation(), PreActivation()),
    "readers": lambda: (unit(8, 8), RELU, TwoReaders()),
    "biases and pools": lambda: (
        nn.Conv2d(8, 8, 3, stride=2), nn.ReLU6(), nn.AvgPool2d(3, 2, 1), nn.Dropout(), nn.Conv2d(8, 8, 1),
        nn.BatchNorm2d(8, affine=False), RELU, nn.MaxPool2d((2, 1), 1), nn.Identity(),
    ),
    "normalized after the activation": lambda: (
        nn.Conv2d(8, 8, 3), RELU, nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1), nn.ReLU6(), nn.BatchNorm2d(8), RELU,
    ),
    "depthwise": lambda: (unit(8, 16, kernel=1), nn.ReLU6(), unit(16, 16, groups=16, stride=2), nn.ReLU6(),
                          unit(16, 8, kernel=1)),
    "residual": lambda: (Block(), Block()),
}  # fmt: skip


def made(name: str, precision: Precision, *, seed: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return calibrated(quantize(Chain(*CHAINS[name]()), precision), (2, 13, 12), seed=seed)


@pytest.mark.parametrize("scheme", ["apot", "lsq"])
@pytest.mark.parametrize("name", CHAINS)
def test_modules_of_ones_own(name, scheme):
    Comparison(made(name, Precision(scheme=scheme)), (2, 13, 12), count=8).check(share=0.99)


def test_codes_above_the_cut_of_relu6_never_occur():
    """Of what is cut at 6, a quantizer that clips at 9 rounds all to the levels up to 6."""
    for name in ("biases and pools", "depthwise"):
        model = made(name, Precision(scheme="uniform"))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d) and module.affine:
                module.bias.data += 3
            if isinstance(module, RCFActivation):
                module.alpha.data.fill_(9.0)
        compared = Comparison(model, (2, 13, 12), count=8)
        compared.check(share=0.99)
        cut = [step for node in compared.graph.nodes for each in node.encodings for step in each.thresholds]
        assert (2**17 - 1 in cut) == (name == "depthwise")


def test_wide_codes_have_a_unit_of_their_own():
    """Hardware of narrower codes writes them digit by digit, which takes thresholds exactly halfway."""
    wide = LayerRule(pattern="parts.*", activation_bits=6)
    for scheme, name in (("uniform", "residual"), ("uniform", "pre-activation"), ("lsq", "depthwise")):
        compared = Comparison(made(name, Precision(scheme=scheme, rules=(wide,))), (2, 13, 12), count=8)
        compared.check(share=0.98)
        found = [each for node in compared.graph.nodes for each in node.encodings if "b6u" in each.format]
        assert found
        for each in found:
            half = each.thresholds[0]
            reached = [step for step in each.thresholds if step < 2**17 - 1]
            assert half & (half - 1) == 0
            assert reached == [(2 * index + 1) * half for index in range(len(reached))]


def test_wide_codes_of_both_signs_count_from_the_lowest_level():
    signed = LayerRule(pattern="parts.2.0", activation_bits=8)
    torch.manual_seed(0)
    model = Chain(unit(8, 8, kernel=1), nn.Identity(), unit(8, 8, kernel=1))
    model = calibrated(quantize(model, Precision(scheme="lsq", rules=(signed,))), (2, 9, 9))
    compared = Comparison(model, (2, 9, 9), count=8)
    compared.check()
    (encoding,) = compared.graph.nodes[1].encodings
    assert (encoding.format, encoding.thresholds) == (
        "uniform_b8u",
        tuple((2 * i + 1) * 128 for i in range(255)),
    )
    assert compared.encodings[encoding.tensor]["zero"] == 128


def test_readers_with_equal_quantizers_share_codes():
    torch.manual_seed(0)
    model = calibrated(quantize(Chain(TwoReaders()), Precision(scheme="apot")), (2, 9, 9))
    names = ["parts.0.left.0", "parts.0.right.0"]
    with torch.no_grad():
        for name in names:
            model.get_submodule(name).input_quantizer.alpha.fill_(2.5)
    first, *others = integers(lower(model, (2, 9, 9)).content).nodes
    assert len(first.encodings) == 1
    assert [node.source for node in others if node.name in names] == [first.encodings[0].tensor] * 2
    with torch.no_grad():
        model.get_submodule(names[1]).input_quantizer.alpha.fill_(2.25)
    assert len(integers(lower(model, (2, 9, 9)).content).nodes[0].encodings) == 2


class Images(nn.Module):
    """One convolution of normalized pixels, and the mean."""

    def __init__(self, pixels: nn.Module, *, outputs: int = 6, groups: int = 1) -> None:
        super().__init__()
        self.pixels, self.conv = pixels, unit(3, outputs, groups=groups)
        self.fc = nn.Linear(outputs, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.conv(self.pixels(images)).relu().mean((2, 3)))


def normalized_images(pixels: Pixels, **options) -> nn.Module:
    torch.manual_seed(0)
    return calibrated(quantize(Images(pixels, **options), Precision(scheme="apot")), (3, 8, 8))


def test_the_border_of_a_normalized_image_holds_its_mean():
    pixels = Pixels(3, mean=(20 / 255, 0.0, 131 / 255), deviation=(0.25,))
    compared = Comparison(normalized_images(pixels), (3, 8, 8))
    compared.check()
    assert (compared.graph.border, compared.graph.fill) == (1, (20, 0, 131))
    assert compared.graph.nodes[0].padding == 0
    header = compared.lowering.content.header
    assert header["input_scale"] == [pytest.approx(4 / 255)] * 3
    assert header["input_offset"][0] == pytest.approx(-80 / 255)


def test_an_image_that_is_only_scaled_is_padded_with_zeros():
    compared = Comparison(normalized_images(Pixels(3, deviation=(0.25,))), (3, 8, 8))
    compared.check()
    assert (compared.graph.border, compared.graph.fill, compared.graph.nodes[0].padding) == (0, (), 1)


def test_channels_of_an_image_may_have_deviations_of_their_own():
    """As many convolutions as there are scales; each adds the values of the one before."""
    pixels = Pixels(3, mean=(10 / 255, 20 / 255, 30 / 255), deviation=(0.25, 0.3, 0.25))
    compared = Comparison(normalized_images(pixels), (3, 8, 8), count=8)
    compared.check()
    first, second, *_ = compared.graph.nodes
    assert (first.name, first.source, second.name, second.source) == ("conv.0.0", IMAGE, "conv.0", IMAGE)
    assert second.residual == first.values
    assert not first.weights[:, 1].any()
    assert not second.weights[:, [0, 2]].any()
    whole = normalized_images(pixels).conv[0]
    with torch.no_grad():
        assert np.array_equal(first.weights + second.weights, whole.quantizer.levels(whole.weight).numpy())


def test_depthwise_convolutions_of_an_image_keep_its_scales():
    pixels = Pixels(3, mean=(10 / 255, 20 / 255, 30 / 255), deviation=(0.25, 0.3, 0.35))
    compared = Comparison(normalized_images(pixels, outputs=3, groups=3), (3, 8, 8), count=8)
    compared.check()
    assert [node.name for node in compared.graph.nodes] == ["conv.0", "mean", "fc"]


def test_a_linear_layer_reads_what_nobody_quantized_in_many_bits():
    rule = LayerRule(pattern="fc", activation_bits=32)
    torch.manual_seed(0)
    model = calibrated(quantize(Chain(Block()), Precision(scheme="apot", rules=(rule,))), (2, 9, 9))
    lowering = lower(model, (2, 9, 9))
    graph = integers(lowering.content)
    images = random_images((2, 9, 9), count=8)
    seen = watched(model, lowering, images)
    logits = run_graph(graph, images, given=seen.codes).logits * graph.logit_scale
    assert graph.nodes[-2].encodings[0].format == "uniform_b12u"
    assert (logits - seen.logits).abs().max() < 0.01 * seen.logits.abs().max()


def allocated(name: str, *, seed: int = 5) -> nn.Module:
    """A network whose channels have been given bits of their own by `sw.allocation`."""
    model = random_model(name, SMALL, Precision(scheme="dmbq", weight_bits=3), seed=seed)
    return calibrated(mixed(model), SMALL, seed=seed)


def test_pruned_channels_are_0_for_the_layers_that_prune_them_alone():
    """A layer's input and the identity beside it read the same sum."""
    model = allocated("resnet20")
    for name in ("layer1.1.conv1", "layer1.1.conv2", "layer2.0.conv1", "fc"):
        if isinstance(model.get_submodule(name).input_quantizer, MixedActivation):
            model.get_submodule(name).input_quantizer.bits[2::5] = 0
    for name in ("layer1.1.conv1", "layer2.0.conv2"):
        model.get_submodule(name).quantizer.bits[::4] = 1
        model.get_submodule(name).quantizer.bits[3] = 0
    compared = Comparison(model, SMALL)
    compared.check(share=0.99)
    node = next(node for node in compared.graph.nodes if node.name == "layer1.1.conv1")
    assert node.source == "layer1.0.conv2.copy"
    assert not compared.run.codes[node.source][:, 2::5].any()
    assert compared.run.values["layer1.0.conv2:values"][:, 2::5].any()
    assert not node.weights[3].any()
    bits = compared.lowering.content.tensors["layer1.1.conv1.bits"]
    assert bits.tolist() == [1, 3, 3, 0, *[1, 3, 3, 3] * 3]


@pytest.mark.parametrize("level_width", [None, 4, 2])
@pytest.mark.parametrize(
    ("name", "shape", "bits"),
    [
        ("resnet20", SMALL, (0, 1, 2, 3, 4)),
        ("vgg_small", (3, 8, 8), (2, 0, 3, 1)),
        ("mobilenet_v2", (3, 32, 32), (4, 2, 1)),
    ],
)
def test_channels_of_different_bits(name, shape, bits, level_width):
    """Each channel's code is that of its own step: the float model's, or the next one beside a boundary."""
    model = calibrated(mixed(random_model(name, shape, Precision(scheme="dmbq"), seed=5)), shape, seed=5)
    check_mixed(model, shape, bits, level_width=level_width)


@pytest.mark.parametrize(
    ("bits", "level_width", "tensors"),
    [
        ((0, 1, 2, 3, 4), None, {105: (1, 2, 3, 4)}),
        ((0, 1, 2, 3, 4), 7, {105: (1, 2, 3, 4)}),
        ((0, 1, 2, 3, 4), 6, {7: (3,), 15: (1, 2, 4)}),
        ((0, 1, 2, 3, 4), 2, {3: (1, 2), 7: (3,), 15: (4,)}),
        ((1, 2, 3, 4), 1, {1: (1,), 3: (2,), 7: (3,), 15: (4,)}),
        ((1, 2, 4), 4, {15: (1, 2, 4)}),
        ((1, 2, 4), 3, {3: (1, 2), 15: (4,)}),
        ((3, 1, 0), 3, {7: (1, 3)}),
        ((2, 1, 3), 3, {3: (2,), 7: (1, 3)}),
        ((0, 3), 2, None),
    ],
)
def test_tensors_for_channels_of_different_bits(bits, level_width, tensors):
    """By the highest level of each the bits of its channels, in steps of whole levels."""
    quantizer = MixedActivation(channels=2 * len(bits), alpha=2.0)
    quantizer.bits.copy_(torch.tensor(bits * 2))
    codes = codes_of(quantizer, name="input", dtype=torch.float32)
    grids = grids_of(quantizer, codes, level_width=level_width)
    if tensors is None:
        assert grids is None
        return
    assert [grid.codes.format.grid[len(grid.codes.edges)] for grid in grids] == list(tensors)
    for grid, (highest, held) in zip(grids, tensors.items(), strict=True):
        assert grid.codes.scale == pytest.approx(2.0 / highest)
        steps = [highest // (2**each - 1) if each in held else 0 for each in bits * 2]
        assert grid.steps.tolist() == steps
        whole = lcm(*(2**each - 1 for each in bits if each))
        if len(grids) > 1:
            assert grid.parts.tolist() == [whole // highest if each in held else 0 for each in bits * 2]
        else:
            assert grid.parts is None


@pytest.mark.parametrize("level_width", [None, 4])
@pytest.mark.parametrize("alpha", [2.5, 9.0])
@pytest.mark.parametrize("name", CHAINS)
def test_modules_of_ones_own_have_channels_of_different_bits(name, alpha, level_width):
    """Also of what is cut at 6, below where its quantizer clips, and of what others read or add too."""
    model = mixed(made(name, Precision(scheme="dmbq")))
    for module in model.modules():
        if isinstance(module, MixedActivation):
            module.alpha.data.fill_(alpha)
    check_mixed(model, (2, 13, 12), (4, 3, 0, 2), level_width=level_width)


def check_mixed(
    model: nn.Module, shape: tuple[int, int, int], bits: tuple[int, ...], *, level_width: int | None
) -> None:
    """Codes and logits of the model, whose channels are given these bits in random order."""
    rng = np.random.default_rng(3)
    for module in model.modules():
        if isinstance(module, MixedActivation | MixedDMBQWeight):
            module.bits.copy_(torch.from_numpy(rng.permutation(np.resize(bits, len(module.bits)))))
    lowering = lower(model, shape, level_width=level_width)
    graph = integers(lowering.content)
    images = random_images(shape, count=4)
    seen = watched(model, lowering, images)
    run = run_graph(graph, images, given=seen.codes)
    assert set(run.codes) == set(seen.codes)
    assert {named(each.format).level_width for node in graph.nodes[:-2] for each in node.encodings} <= {
        *range(1, 1 + max(4, level_width or 7))
    }
    layers = [node.name for node in graph.nodes if isinstance(node, Convolution)]
    quantized = [name for name, module in model.named_modules() if isinstance(module, Quantized)]
    assert sorted(layers) == sorted(quantized)
    for tensor, codes in seen.codes.items():
        quantizer = model.get_submodule(lowering.quantizers[tensor])
        if isinstance(quantizer, MixedActivation):
            grid, parts = torch.tensor(quantizer.format.grid), torch.tensor(1)
            if tensor in lowering.parts:
                # Its codes are levels, some of the quantizer's; what it does not hold is 0.
                parts = torch.from_numpy(lowering.parts[tensor]).view(1, -1, 1, 1)
                grid = torch.arange(1 + int(codes.max()))
            levels, expected = grid[run.codes[tensor].clamp(max=len(grid) - 1)] * parts, grid[codes] * parts
            check_steps(quantizer, levels, expected, seen.reals[tensor], held=parts > 0)
    logits = run.logits * graph.logit_scale
    assert (logits - seen.logits).abs().max() < 1e-4 * seen.logits.abs().max()


def check_steps(
    quantizer: MixedActivation, found: Tensor, expected: Tensor, reals: Tensor, *, held: Tensor
) -> None:
    """Levels are whole steps of the channels' own bits, the nearest ones to the real values."""
    steps = 2**quantizer.bits - 1
    highest = lcm(*(step for step in steps.tolist() if step))
    steps = steps.view(1, -1, 1, 1) * held
    assert not (found * steps % highest).any()
    assert not found[(steps == 0).expand_as(found)].any()
    counts = (reals / quantizer.alpha.detach().double()).clamp(0, 1) * steps
    assert (found * steps / highest - counts).abs().max() < 0.52
    assert (found != expected).double().mean() < 0.005

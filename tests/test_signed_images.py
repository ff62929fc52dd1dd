"""Images of both signs: the host counts from the lowest level, and everything else stays as it is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.random import Generator
from torch import Tensor, nn

from hdl.console import RefusedError
from hdl.formats import Uniform, named
from hdl.parameters import AcceleratorParameters
from sw.__main__ import main
from sw.agreement import agreement
from sw.compiler.compile import compile_network
from sw.compiler.fitting import fitting_parameters
from sw.compiler.input_layout import counted
from sw.data import digits
from sw.driver import encode_images, rounded_images
from sw.executor import Machine
from sw.export import integer_network
from sw.graph import IMAGE, ImageRounding, IntegerGraph, Integers
from sw.image import read_image, write_image
from sw.lowering import lower
from sw.models import Pixels
from sw.precision import LayerRule, Precision
from sw.quantize import quantize
from sw.quantizers import MixedActivation
from sw.quantizers.catalog import LSQSignedActivation
from tests.float_oracle import calibrated
from tests.random_networks import random_convolution, random_images
from tests.test_lowering import Comparison, Images
from verif.reference import run as run_reference

SHAPE = (2, 6, 5)
WIDE = AcceleratorParameters(
    rows=4, lanes=4, requantizers=2, passes=32, activation_words=2**12, weight_words=2**13,
    channel_words=2**10, value_words=2**10,
)  # fmt: skip
FORMATS = ["uniform_b2", "uniform_b4", "uniform_b8", "uniform_b9"]


def graph_of(rng: Generator, input_format: str, *, border: int = 0, groups: int = 1) -> IntegerGraph:
    """Two layers that read the image, one of them padded, and a layer over their sum."""
    outputs, stride = (2, 1) if groups > 1 else (int(rng.integers(3, 7)), int(rng.integers(1, 3)))
    shape = {"inputs": 2, "outputs": outputs, "groups": groups, "stride": stride}
    shape |= {"weight_format": "uniform_b8", "input_format": input_format}
    left = random_convolution(
        rng, name="left", kernel=(3, 3), padding=0 if border else 1, values="left:values", **shape
    )
    right = {"encodings": {"right": "apot_k2n2u"}, "residual": "left:values"}
    kernel = (3, 3) if border else (1, 1)
    middle = random_convolution(rng, name="right", kernel=kernel, **right, **shape)
    size = [-(-(length + 2 * border - 2 * bool(border)) // stride) for length in SHAPE[1:]]
    last = random_convolution(
        rng, name="last", source="right", outputs=3, inputs=outputs, kernel=(size[0], size[1]),
        weight_format="uniform_b8", input_format="apot_k2n2u",
    )  # fmt: skip
    return IntegerGraph(
        input_shape=SHAPE,
        nodes=(left, middle, last),
        logit_scale=1.0,
        input_format=input_format,
        border=border,
        fill=(named(input_format).grid[0], 1) if border else (),
    )


def images_of(rng: Generator, graph: IntegerGraph, *, count: int = 3) -> Integers:
    """Random ones, of which the first two hold nothing but the lowest and the highest level."""
    images = random_images(rng, graph.input_shape, count=count, input_format=graph.input_format)
    images[:2] = np.array([named(graph.input_format).grid[0], named(graph.input_format).max_level]).reshape(
        2, 1, 1, 1
    )
    return images


@pytest.mark.parametrize("options", [{}, {"border": 1}, {"border": 2}, {"groups": 2}])
@pytest.mark.parametrize("input_format", FORMATS)
def test_an_image_counted_from_its_lowest_level_is_the_same(
    input_format: str, options: dict[str, int]
) -> None:
    rng = np.random.default_rng(len(options) + 1)
    graph = graph_of(rng, input_format, **options)
    images, lowest = images_of(rng, graph), named(input_format).grid[0]
    seen = counted(graph)
    assert (seen.input_format, lowest) == (f"{input_format}u", -(2 ** (int(input_format[9:]) - 1)))
    expected = run_reference(graph, torch.from_numpy(images))
    found = run_reference(seen, torch.from_numpy(images - lowest))
    for kind in ("codes", "values"):
        for tensor, numbers in getattr(expected, kind).items():
            assert torch.equal(getattr(found, kind)[tensor], numbers)
    assert torch.equal(found.logits, expected.logits)
    assert len(expected.logits.unique()) > 3


def test_other_images_stay_as_they_are() -> None:
    graph = graph_of(np.random.default_rng(0), "uniform_b8u")
    assert counted(graph) is graph


@pytest.mark.parametrize(
    ("array", "options"),
    [
        ("apot_k2n1o", {}),
        ("apot_k2n1o", {"border": 1}),
        ("apot_k2n1o", {"groups": 2}),
        ("basis_1", {"border": 1}),
    ],
)
@pytest.mark.parametrize("input_format", FORMATS)
def test_packed_images_of_both_signs_equal_the_reference(
    input_format: str, array: str, options: dict[str, int]
) -> None:
    """The accelerator has the very program of unsigned images; only what the host sends is moved."""
    rng, parameters = np.random.default_rng(len(options) + 7), replace(WIDE, weight_format=array)
    graph = graph_of(rng, input_format, **options)
    images, lowest = images_of(rng, graph), named(input_format).grid[0]
    compiled, unsigned = compile_network(graph, parameters), compile_network(counted(graph), parameters)
    np.testing.assert_array_equal(
        Machine(compiled).run(images), run_reference(graph, torch.from_numpy(images)).logits.numpy()
    )
    for section, words in unsigned.sections.items():
        np.testing.assert_array_equal(compiled.sections[section], words)
    np.testing.assert_array_equal(
        encode_images(images, layout=compiled.input, parameters=parameters),
        encode_images(images - lowest, layout=unsigned.input, parameters=parameters),
    )


@pytest.mark.parametrize(
    ("input_format", "low", "high"),
    [("uniform_b8", -128, 127), ("uniform_b3", -4, 3), ("uniform_b6u", 0, 63)],
)
def test_values_beyond_the_format_are_refused(input_format: str, low: int, high: int) -> None:
    """Also those that its digits could hold."""
    layout = compile_network(graph_of(np.random.default_rng(0), input_format), WIDE).input
    for value in (low - 1, high + 1):
        with pytest.raises(ValueError, match=f"images must hold integers from {low} to {high}$"):
            encode_images(np.full((1, *SHAPE), value), layout=layout, parameters=WIDE)


def test_a_bias_that_no_longer_fits_is_refused() -> None:
    graph = graph_of(np.random.default_rng(0), "uniform_b8")
    left = replace(
        graph.nodes[0],
        weights=np.full_like(graph.nodes[0].weights, -1),
        bias=np.full_like(graph.nodes[0].bias, 2**47 - 1),
        multiplier=np.ones_like(graph.nodes[0].bias),
    )
    with pytest.raises(RefusedError, match=f"layer 'left': bias must lie in {-(2**47)} … {2**47 - 1}$"):
        compile_network(replace(graph, nodes=(left, *graph.nodes[1:])), WIDE)
    # What comes to 0 modulo 2^64 has weights that are no levels.
    large = replace(left, weights=left.weights * 0, bias=left.bias * 0, multiplier=left.multiplier << 10)
    large.weights[:, 0, 0, 0] = 2**47
    with pytest.raises(RefusedError, match="layer 'left': weights must be levels that the array's"):
        compile_network(replace(graph, nodes=(large, *graph.nodes[1:])), WIDE)


def test_padding_beyond_a_border_must_be_alike() -> None:
    """The host has one border, which the padding joins if both are 0."""
    rng = np.random.default_rng(4)
    graph = graph_of(rng, "uniform_b8")
    (height, width), images = SHAPE[1:], images_of(rng, graph)
    inner = replace(graph, input_shape=(2, height - 2, width - 2), border=1)
    np.testing.assert_array_equal(
        Machine(compile_network(inner, WIDE)).run(images[:, :, 1:-1, 1:-1]),
        run_reference(inner, torch.from_numpy(images[:, :, 1:-1, 1:-1])).logits.numpy(),
    )
    with pytest.raises(RefusedError, match="'left': a signed image must not be padded beyond a border that"):
        compile_network(replace(inner, fill=(0, 1)), WIDE)


# From a model


def signals(*, seed: int = 1, count: int = 8) -> Tensor:
    """Real numbers of both signs."""
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def quantized(rule: dict[str, Any], *, pixels: nn.Module | None = None) -> nn.Module:
    """A model that quantizes what it takes, by a rule for its first layer."""
    torch.manual_seed(0)
    precision = Precision(scheme="apot", rules=(LayerRule(pattern="conv.0", **rule),))
    model = quantize(Images(pixels or nn.Identity()), precision)
    return calibrated(model, (3, 8, 8), images=signals(seed=0, count=16))


SIGNED = [
    ({"activation_bits": 8}, "uniform_b8"),
    ({"activation_bits": 4}, "uniform_b4"),
    ({"scheme": "uniform", "activation_bits": 6}, "uniform_b6"),
    ({"scheme": "lsq", "weight_bits": 4, "activation_bits": 8}, "uniform_b8"),
    ({"scheme": "lsq", "weight_bits": 4, "activation_bits": 3}, "uniform_b3"),
]


@pytest.mark.parametrize(("rule", "input_format"), SIGNED)
def test_an_image_is_the_levels_of_the_models_quantizer(rule: dict[str, Any], input_format: str) -> None:
    model, reals = quantized(rule), signals()
    quantizer = model.conv[0].input_quantizer
    images = quantizer.levels(reals)
    assert images.min() < 0 < images.max()
    compared = Comparison(model, (3, 8, 8), images=images)
    compared.check()
    graph, header = compared.graph, compared.lowering.content.header
    assert (graph.input_format, graph.border, graph.nodes[0].padding) == (input_format, 0, 1)
    (scale, *others), offset = header["input_scale"], header["input_offset"]
    assert (others, offset) == ([scale] * 2, [0.0] * 3)
    with torch.no_grad():
        assert torch.equal(quantizer(reals), images * torch.tensor(scale))
    assert graph.rounding is not None
    np.testing.assert_array_equal(rounded_images(reals.numpy(), graph.rounding), images.numpy())
    run = run_reference(graph, images)
    found = agreement(model, images, codes=run.codes, logits=run.logits)
    assert list(found.codes) == list(run.codes)
    assert min(found.codes.values()) > 0.995
    assert found.top1 == 1
    machine = Machine(compile_network(graph, fitting_parameters(graph)))
    np.testing.assert_array_equal(machine.run(images.numpy()), run.logits.numpy())


def test_a_quantizer_before_the_layers_counts_like_theirs() -> None:
    model = quantized({"activation_bits": 32})
    model.pixels = LSQSignedActivation(Uniform(bits=5))
    model.pixels.step.data.fill_(0.25)
    images = model.pixels.levels(signals())
    compared = Comparison(model, (3, 8, 8), images=images)
    compared.check()
    assert compared.graph.input_format == "uniform_b5"
    assert compared.graph.rounding == ImageRounding(
        scale=(4.0,) * 3, offset=(0.0,) * 3, lowest=-16, highest=15
    )


def test_unsigned_images_may_have_few_bits() -> None:
    """What a recipe calls unsigned is: here the image has a quarter of the digits of 8-bit pixels."""
    torch.manual_seed(0)
    rule = LayerRule(pattern="conv.0", activation_bits=2)
    model = quantize(Images(nn.Identity()), Precision(scheme="apot", signed=(), rules=(rule,)))
    model = calibrated(model, (3, 8, 8), images=signals(seed=0).relu())
    compared = Comparison(model, (3, 8, 8), images=model.conv[0].input_quantizer.levels(signals()))
    compared.check()
    assert compared.graph.input_format == "uniform_b2u"


def test_images_that_a_model_takes_as_they_are_may_have_a_sign() -> None:
    """Normalized like pixels, with a border of what stands for 0."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(-128, 128, (8, 3, 8, 8), dtype=torch.int8, generator=generator)
    torch.manual_seed(0)
    model = quantize(Images(Pixels(3, mean=(-20 / 255, 0.0, 100 / 255))), Precision(scheme="apot"))
    model = calibrated(model, (3, 8, 8), images=images)
    compared = Comparison(model, (3, 8, 8), images=images, image_format=Uniform(bits=8))
    compared.check()
    graph = integer_network(model, (3, 8, 8), image_format=Uniform(bits=8))
    assert (graph.input_format, graph.border, graph.fill) == ("uniform_b8", 1, (-20, 0, 100))
    assert graph.rounding is None
    machine = Machine(compile_network(graph, fitting_parameters(graph)))
    np.testing.assert_array_equal(machine.run(images.numpy()), run_reference(graph, images).logits.numpy())


def test_normalized_pixels_may_be_rounded_to_few_bits() -> None:
    """By the host, so that the first layer has fewer digits to go through than with all 8 bits."""
    pixels = Pixels(3, mean=(0.2, 0.5, 0.7), deviation=(0.3, 0.2, 0.4))
    taken = torch.arange(256, dtype=torch.uint8).reshape(4, 1, 8, 8).repeat(2, 3, 1, 1)
    torch.manual_seed(0)
    precision = Precision(scheme="apot", rules=(LayerRule(pattern="conv.0", activation_bits=4),))
    model = calibrated(quantize(Images(pixels), precision), (3, 8, 8), images=taken)
    images = model.conv[0].input_quantizer.levels(pixels(taken))
    compared = Comparison(model, (3, 8, 8), images=images)
    compared.check()
    graph = compared.graph
    assert (graph.input_format, graph.border, len(graph.nodes)) == ("uniform_b4", 0, 3)
    assert graph.rounding is not None
    np.testing.assert_array_equal(rounded_images(taken.numpy(), graph.rounding), images.numpy())
    compiled = compile_network(graph, fitting_parameters(graph))
    np.testing.assert_array_equal(Machine(compiled).run(images.numpy()), compared.run.logits.numpy())
    assert compiled.input.digits == 1
    found = agreement(model, images, codes=compared.run.codes, logits=compared.run.logits)
    assert found.top1 == 1


def test_rounding_takes_the_nearest_level_and_the_lower_of_two() -> None:
    rounding = ImageRounding(scale=(2.0, -1.0), offset=(0.0, 0.5), lowest=-3, highest=2)
    numbers = np.array([[-9.0, -1.25, -0.75, 0.0, 0.25, 0.26, 9.0]] * 2).reshape(1, 2, 1, 7)
    found = rounded_images(numbers, rounding)
    assert found.reshape(2, 7).tolist() == [[-3, -3, -2, 0, 0, 1, 2], [2, 2, 1, 0, 0, 0, -3]]
    with pytest.raises(ValueError, match="images must hold finite numbers"):
        rounded_images(np.full((1, 2, 1, 1), np.nan), rounding)


class TwoReaders(nn.Module):
    """Two convolutions of the image, added."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.fc = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc((self.left(images) + self.right(images)).relu().mean((2, 3)))


def two_readers(*, left: int, right: int) -> nn.Module:
    torch.manual_seed(0)
    rules = (
        LayerRule(pattern="left", activation_bits=left),
        LayerRule(pattern="right", activation_bits=right),
    )
    precision = Precision(scheme="apot", outer=("left", "right", "fc"), rules=rules)
    return quantize(TwoReaders(), precision).eval()


def test_layers_may_read_one_quantized_image_with_other_padding() -> None:
    model = calibrated(two_readers(left=8, right=8), (3, 8, 8), images=signals())
    with torch.no_grad():
        model.left.input_quantizer.alpha.copy_(model.right.input_quantizer.alpha)
    images = model.left.input_quantizer.levels(signals())
    compared = Comparison(model, (3, 8, 8), images=images)
    compared.check()
    paddings = {node.name: node.padding for node in compared.graph.nodes if node.source == IMAGE}
    assert paddings == {"left": 1, "right": 0}
    machine = Machine(compile_network(compared.graph, fitting_parameters(compared.graph)))
    np.testing.assert_array_equal(machine.run(images.numpy()), compared.run.logits.numpy())


def refusal(model: nn.Module, **options: Any) -> str:
    with pytest.raises(RefusedError) as caught:
        lower(model.eval(), (3, 8, 8), **options)
    return str(caught.value)


class Doubled(nn.Module):
    """Arithmetic on an image that is quantized already."""

    def __init__(self) -> None:
        super().__init__()
        self.quantizer = LSQSignedActivation(Uniform(bits=5))
        self.quantizer.step.data.fill_(0.25)

    def forward(self, images: Tensor) -> Tensor:
        return self.quantizer(images) * 2


def test_images_that_cannot_be_exported_are_refused() -> None:
    assert "the image must be quantized to uniform levels, not to apot_k2n1o" in refusal(
        quantized({"scheme": "apot", "activation_bits": 4})
    )
    assert "the image must not be multiplied by 0 before it is quantized" in refusal(
        quantized({"activation_bits": 4}, pixels=Pixels(3, deviation=(float("inf"), 1.0, 1.0)))
    )
    real = {"activation_bits": 32}
    for pixels in (Doubled(), nn.MaxPool2d(2)):
        model = quantized(real)
        model.pixels = pixels
        assert "the image must be read by convolutions or linear layers" in refusal(model)
    model = quantized({"activation_bits": 4})
    model.conv[0].input_quantizer = MixedActivation(channels=3, bits=4)
    assert "the image must be quantized to the same bits in all channels" in refusal(model)
    model = quantized({"scheme": "lsq", "activation_bits": 4})
    with torch.no_grad():
        model.conv[0].input_quantizer.step.zero_()
    assert "conv.0.input_quantizer: the activations' step must have been measured" in refusal(model)
    for bits in (32, 7):
        found = refusal(two_readers(left=8, right=bits))
        assert found == "left: the image must be quantized as for right"
    model = two_readers(left=8, right=8)
    with torch.no_grad():
        model.left.input_quantizer.alpha.fill_(2.5)
    assert refusal(model) == "left: the image must be quantized as for right"
    assert refusal(quantized(real), image_format=named("apot_k2n2")) == (
        "image_format must be a uniform format, not 'apot_k2n2'"
    )


# At the command line


def test_run_takes_signed_integers(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    graph = graph_of(rng, "uniform_b8")
    path, images = tmp_path / "net.bin", images_of(rng, graph)
    write_image(path, compile_network(graph, WIDE))
    assert (read_image(path).input.lowest, read_image(path).input.highest) == (-128, 127)
    arrays = {"signed": images.astype(np.int8), "wide": images.astype(np.int32), "beyond": images + 1}
    arrays["pixels"] = (images + 128).astype(np.uint8)
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)

    def run(name: str) -> Any:
        arguments = ["run", str(path), "--input", str(tmp_path / f"{name}.npy")]
        return CliRunner().invoke(main, [*arguments, "-o", str(tmp_path / "logits.npy")])

    for name in ("signed", "wide"):
        (tmp_path / "logits.npy").unlink(missing_ok=True)
        result = run(name)
        assert result.exit_code == 0, result.output
        expected = run_reference(graph, torch.from_numpy(images)).logits.numpy()
        np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), expected)
    for name in ("beyond", "pixels"):
        result = run(name)
        assert result.exit_code == 1
        assert result.stderr.strip().endswith("net.bin: images must hold integers from -128 to 127")
        assert result.stderr.strip().count("\n") == 0


def test_run_rounds_what_the_model_takes(tmp_path: Path) -> None:
    """A data set's pixels and real numbers are rounded; integers are levels already."""
    rounding = ImageRounding(scale=(0.1,), offset=(-12.5,), lowest=-7, highest=7)
    rng = np.random.default_rng(5)
    layer = random_convolution(
        rng, name="layer", outputs=3, inputs=1, kernel=(8, 8), weight_format="uniform_b8",
        input_format="uniform_b4",
    )  # fmt: skip
    graph = IntegerGraph(
        input_shape=(1, 8, 8), nodes=(layer,), logit_scale=1.0, input_format="uniform_b4", rounding=rounding
    )
    path = tmp_path / "net.bin"
    write_image(path, compile_network(graph, WIDE))
    assert read_image(path).input.rounding == rounding
    pixels = digits().test_images[:9].numpy()
    levels = rounded_images(pixels, rounding)
    assert (levels.min(), levels.max()) == (-7, 7)
    broken = np.where(levels == 0, np.inf, pixels)
    for name, array in {"floats": pixels / np.float32(1), "levels": levels, "broken": broken}.items():
        np.save(tmp_path / f"{name}.npy", array)

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(main, ["run", str(path), *arguments, "-o", str(tmp_path / "logits.npy")])

    expected = run_reference(graph, torch.from_numpy(levels)).logits.numpy()
    sources = (["--input", str(tmp_path / f"{name}.npy")] for name in ("floats", "levels"))
    for source in (*sources, ["--dataset", "digits", "--images", "9"]):
        (tmp_path / "logits.npy").unlink(missing_ok=True)
        result = run(*source)
        assert result.exit_code == 0, result.output
        np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), expected)
    result = run("--input", str(tmp_path / "broken.npy"))
    assert result.exit_code == 1
    assert result.stderr.strip().endswith("broken.npy: images must hold finite numbers")

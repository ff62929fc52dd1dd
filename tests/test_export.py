"""Export: folding and grids against closed forms, integers against the float model, and every refusal."""

import json
from fractions import Fraction
from math import ceil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file
from torch.nn.functional import conv2d

from hdl.console import RefusedError
from hdl.formats import PoT, Uniform, apot, named
from sw import training
from sw.__main__ import main
from sw.agreement import agreement, float_codes
from sw.data import digits
from sw.export import integer_network
from sw.folding import interchange
from sw.grid import grid_levels
from sw.interchange import Interchange, integers, load_network, save
from sw.models import build
from sw.network import IntegerLayer, IntegerNetwork
from sw.precision import Precision
from sw.recipe import Recipe
from sw.requantize import fraction_of, requantization

DATA = digits()


def evaluate_layer(layer: IntegerLayer, levels: torch.Tensor) -> torch.Tensor:
    """The definition in `sw.network`, word by word: codes, or results after the last layer."""
    weights = torch.from_numpy(layer.weights).double()
    sums = conv2d(levels.double(), weights, stride=layer.stride, padding=layer.padding).long()
    multiplier, bias, shift = (
        torch.from_numpy(values).view(1, -1, 1, 1) for values in (layer.multiplier, layer.bias, layer.shift)
    )
    y = (sums * multiplier + bias) >> shift
    if layer.output_format is None:
        return y.flatten(1)
    boundaries = named(layer.output_format).boundaries
    return sum((boundary * 2 ** (layer.fraction - 1) < y).long() for boundary in boundaries)


def evaluate(network: IntegerNetwork, images: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Codes after every layer but the last, and results."""
    levels, codes = images.long(), []
    for layer in network.layers[:-1]:
        codes.append(evaluate_layer(layer, levels))
        levels = torch.tensor(named(layer.output_format).levels)[codes[-1]]
    return codes, evaluate_layer(network.layers[-1], levels)


TRAINED = [("apot", 4, 4), ("apot", 2, 3), ("uniform", 4, 4), ("pot", 4, 4), ("lsq", 3, 4)]


@pytest.fixture(scope="module", params=TRAINED)
def trained(request, tmp_path_factory):
    """A briefly trained checkpoint and its path."""
    scheme, weight_bits, activation_bits = request.param
    path = tmp_path_factory.mktemp(scheme) / "net.pt"
    recipe = Recipe(scheme=scheme, weight_bits=weight_bits, activation_bits=activation_bits, epochs=2)
    return training.train(recipe, DATA, path), path


@pytest.fixture(scope="module")
def content():
    """Interchange contents of an untrained network, with statistics that are not trivial."""
    torch.manual_seed(0)
    model = build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=Precision(scheme="apot"))
    model(DATA.train_images[:100])
    return interchange(model.eval())


def test_integers_agree_with_the_float_model(trained):
    model, network = trained[0].network(), integer_network(trained[0])
    codes, logits = evaluate(network, DATA.test_images)
    result = agreement(model, DATA.test_images, codes=codes, logits=logits)
    assert list(result.codes) == ["blocks.0", "blocks.1", "blocks.2", "blocks.3"]
    assert min(result.codes.values()) > 0.999
    assert result.top1 > 0.99
    _, float_logits = float_codes(model, DATA.test_images)
    error = (logits * network.logit_scale - float_logits).abs().median()
    assert error < 1e-3 * float_logits.abs().max()


def test_each_layer_agrees_when_given_the_float_models_codes(trained):
    """Without the layers before it, a layer differs only where y lies next to a boundary."""
    model, network = trained[0].network(), integer_network(trained[0])
    expected, _ = float_codes(model, DATA.test_images)
    for layer, before, after in zip(network.layers[1:-1], expected, expected[1:], strict=False):
        levels = torch.tensor(named(layer.input_format).levels)[before]
        assert (evaluate_layer(layer, levels) == after).double().mean() > 0.9995


def test_agreement_notices_differences(trained):
    model = trained[0].network()
    codes, logits = float_codes(model, DATA.test_images[:4])
    wrong = [code.clone() for code in codes]
    wrong[2][0] ^= 1
    swapped = logits.clone()
    swapped[0] = -swapped[0]
    result = agreement(model, DATA.test_images[:4], codes=wrong, logits=swapped)
    assert result.codes == {"blocks.0": 1.0, "blocks.1": 1.0, "blocks.2": 0.75, "blocks.3": 1.0}
    assert result.top1 == 0.75
    with pytest.raises(ValueError, match="codes must have shapes"):
        agreement(model, DATA.test_images[:4], codes=wrong[:-1], logits=logits)


def test_float_codes_rebuild_what_the_model_computes(trained):
    model = trained[0].network()
    codes, _ = float_codes(model, DATA.test_images[:7])
    block = next(model.chain())
    values = block(DATA.test_images[:7] / 255)
    scale, fmt = block.activation.scale(values), block.activation.format
    torch.testing.assert_close(torch.tensor(fmt.levels)[codes[0]] * scale, values, rtol=0, atol=1e-3)


def test_file_holds_the_same_network(trained, tmp_path):
    path = tmp_path / "net.safetensors"
    model, network = trained[0].network(), integer_network(trained[0])
    save(interchange(model), path)
    loaded = load_network(path)
    assert loaded.input_shape == network.input_shape
    assert loaded.logit_scale == network.logit_scale
    for ours, theirs in zip(loaded.layers, network.layers, strict=True):
        for member in ours.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(ours, member), getattr(theirs, member))
    again = tmp_path / "again.safetensors"
    save(interchange(model), again)
    assert again.read_bytes() == path.read_bytes()


def test_file_holds_fake_quantized_weights(trained, tmp_path):
    path = tmp_path / "net.safetensors"
    model = trained[0].network()
    save(interchange(model), path)
    tensors = load_file(path)
    convolution = list(model.chain())[1].convolution
    with torch.no_grad():
        expected = convolution.quantizer(convolution.weight)
    assert torch.equal(torch.from_numpy(tensors["blocks.1.weight"]), expected)
    levels = convolution.quantizer.levels(convolution.weight).numpy()
    np.testing.assert_array_equal(
        levels.astype(np.float32) * tensors["blocks.1.scale"], tensors["blocks.1.weight"]
    )


def test_exported_shapes_and_formats(content):
    network = integers(content)
    assert [layer.weights.shape for layer in network.layers] == [
        (16, 1, 3, 3), (32, 16, 3, 3), (32, 32, 3, 3), (64, 32, 3, 3), (10, 64, 2, 2),
    ]  # fmt: skip
    assert [layer.input_format for layer in network.layers] == ["uniform_b8u"] + ["apot_k2n2u"] * 4
    assert [layer.output_format for layer in network.layers] == ["apot_k2n2u"] * 4 + [None]
    assert {layer.weight_format for layer in network.layers[1:-1]} == {"apot_k2n1o"}
    assert {network.layers[0].weight_format, network.layers[-1].weight_format} == {"uniform_b8"}
    last = network.layers[-1]
    assert (last.multiplier.tolist(), last.shift.tolist(), last.fraction) == ([1] * 10, [0] * 10, 0)
    assert [layer.fraction for layer in network.layers[:-1]] == [10] * 4


def test_fraction_fills_the_value():
    assert [fraction_of(fmt) for fmt in (apot(bits=4, signed=False), Uniform(bits=8, signed=False))] == [
        10,
        8,
    ]
    assert fraction_of(PoT(k=4, signed=False)) == 1
    with pytest.raises(RefusedError, match="pot_k5u: activation levels must have at most 15 bits"):
        fraction_of(PoT(k=5, signed=False))


def requantized(gain, offset):
    numbers = requantization(np.array([float(gain)]), np.array([float(offset)]), name="layer")
    return tuple(int(values[0]) for values in numbers)


@pytest.mark.parametrize(
    ("gain", "offset"), [(3 / 64, -7 / 32), (-5 / 1024, 100.5), (1.0, 0.0), (77.0, -1.0)]
)
def test_requantization_of_dyadic_constants_is_the_exact_ceiling(gain, offset):
    multiplier, bias, shift = requantized(gain, offset)
    for accumulator in [*range(-2000, 2000), 2**22, -(2**22)]:
        y = (accumulator * multiplier + bias) >> shift
        assert y == ceil(accumulator * Fraction(gain) + Fraction(offset))


def test_requantization_uses_the_widths():
    generator = np.random.default_rng(0)
    gain = np.exp(generator.uniform(-25, 11, 500)) * generator.choice([-1, 1], 500)
    offset = generator.normal(0, 1e5, 500)
    multiplier, bias, shift = requantization(gain, offset, name="layer")
    assert (abs(multiplier) < 2**17).all()
    assert (abs(bias) < 2**47).all()
    assert ((shift >= 0) & (shift <= 47)).all()
    wider = np.maximum(abs(multiplier) * 2, abs(gain) * 2.0 ** (shift + 1) + 0.5) >= 2**17
    longer = abs(offset) * 2.0 ** (shift + 1) + 2.0 ** (shift + 1) >= 2**46
    assert (wider | longer | (shift == 47)).all()
    np.testing.assert_allclose(multiplier / 2.0**shift, gain, rtol=0, atol=2.0 ** -(shift + 1.0).min())
    assert (abs(multiplier / 2.0**shift - gain) <= 2.0 ** -(shift + 1)).all()


def test_requantization_of_zero_gain_and_large_offsets():
    multiplier, bias, shift = requantized(0.0, -3.25)
    assert multiplier == 0
    assert bias >> shift == -3
    multiplier, bias, shift = requantized(1e-6, 3e9)
    assert abs(bias) < 2**47
    assert bias >> shift == 3_000_000_000
    assert requantized(2.0**17 - 1, 0.0) == (2**17 - 1, 0, 0)


@pytest.mark.parametrize(
    ("gain", "offset", "message"),
    [
        (float("nan"), 0, "layer: gain and offset of channel 0 must be finite, not nan, 0.0"),
        (1, float("inf"), "layer: gain and offset of channel 0 must be finite, not 1.0, inf"),
        (2**17, 0, "gain 131072 and offset 0 of channel 0 must fit in 18 and 48 signed bits"),
        (1, 2**48, "gain 1 and offset 2.81475e+14 of channel 0 must fit in 18 and 48 signed bits"),
    ],
)
def test_requantization_refusals(gain, offset, message):
    with pytest.raises(RefusedError) as caught:
        requantized(gain, offset)
    assert message in str(caught.value)


def test_dead_channels_export():
    torch.manual_seed(0)
    model = build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=Precision(scheme="apot"))
    first, second, *_ = model.chain()
    with torch.no_grad():
        first.norm.weight[3] = 0
        first.norm.bias[3] = 1.7
        second.convolution.weight[5] = second.convolution.weight.mean()
        second.norm.running_var[5] = 0
        second.norm.bias[5] = -2.0
    network = integer_network(model.eval())
    assert network.layers[0].multiplier[3] == 0
    codes, _ = evaluate(network, DATA.test_images[:50])
    expected, _ = float_codes(model, DATA.test_images[:50])
    assert len(expected[0][:, 3].unique()) == 1
    assert torch.equal(codes[0][:, 3], expected[0][:, 3])
    assert codes[1][:, 5].unique().tolist() == [0]


def test_a_float_model_is_refused():
    model = build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=Precision(scheme="float"))
    with pytest.raises(RefusedError, match="model must be quantized, not float"):
        integer_network(model)


GRIDS = [apot(bits=4), apot(bits=5), apot(bits=9), Uniform(bits=8), Uniform(bits=2), PoT(k=4), PoT(k=5)]


@pytest.mark.parametrize("fmt", GRIDS, ids=lambda fmt: fmt.name)
def test_grid_levels_are_found_exactly(fmt):
    generator = np.random.default_rng(1)
    levels = generator.choice(np.array(fmt.grid), size=(70, 1000))
    for scale in generator.lognormal(-3, 2, 20).astype(np.float32):
        weights = levels.astype(np.float32) * scale
        found = grid_levels(weights, float(scale), fmt, name="w")
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, levels)


@pytest.mark.parametrize("fmt", GRIDS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("place", [(0, 0), (69, 999), (65, 600)])
def test_one_weight_off_the_grid_is_refused(fmt, place):
    scale, weights = 0.125, np.zeros((70, 1000), dtype=np.float32)
    top = fmt.grid[-1]
    wrong = {
        0.001: 0,
        0.5: 0,
        2.0 * top + 1: top,
        -3.0 * top - 9: fmt.grid[0],
        np.inf: top,
    }
    for units, nearest in wrong.items():
        weights[place] = units * scale
        with pytest.raises(RefusedError) as caught:
            grid_levels(weights, scale, fmt, name="conv.weight")
        message = str(caught.value)
        assert message.startswith(
            f"conv.weight[{place[0]}, {place[1]}]: must be a level of {fmt.name} times the scale 0.125, "
            f"not {weights[place]:.9g} (nearest level {nearest},"
        )
    weights[place] = np.nan
    with pytest.raises(RefusedError, match="not nan"):
        grid_levels(weights, scale, fmt, name="conv.weight")


def test_grid_integers_between_levels_and_tolerance():
    fmt = apot(bits=4)
    assert 5 not in fmt.grid
    with pytest.raises(
        RefusedError, match=r"w\[1\]: must be a level of apot_k2n1o .* not 5 \(nearest level 4, 4\)"
    ):
        grid_levels(np.array([4.0, 5.0]), 1.0, fmt, name="w")
    assert grid_levels(np.array([4.00009, -9.99991]), 1.0, fmt, name="w").tolist() == [4, -10]
    with pytest.raises(RefusedError, match="nearest level 4"):
        grid_levels(np.array([4.00011]), 1.0, fmt, name="w")


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_grid_scale_is_refused(scale):
    with pytest.raises(RefusedError, match=r"w: scale must be a positive number, not "):
        grid_levels(np.zeros(3), scale, apot(bits=4), name="w")


def changed(content: Interchange, *, header=None, layer=None, tensors=None) -> Interchange:
    """A copy with entries of the header, of layer 1 or of the tensors replaced; None removes a tensor."""
    new = json.loads(json.dumps(content.header))
    new |= header or {}
    if layer:
        new["layers"][1] |= layer
    arrays = content.tensors | (tensors or {})
    return Interchange(header=new, tensors={key: value for key, value in arrays.items() if value is not None})


def with_value(array: np.ndarray, value: float) -> np.ndarray:
    array = array.copy()
    array.flat[7] = value
    return array


REFUSALS = [
    ({"header": {"kind": "theirs"}}, "header: kind must be 'nonuniform-hdl network'"),
    ({"header": {"version": 2}}, "header: version must be 1, not 2"),
    ({"header": {"input_shape": [1, 8]}}, "header: input_shape must be three positive integers, not [1, 8]"),
    ({"header": {"input_shape": "8x8"}}, "header: input_shape must be a JSON array, not '8x8'"),
    ({"header": {"input_shape": [3, 8, 8]}}, "blocks.0.weight: must have 3 input channels, not 1"),
    ({"header": {"input_shape": [1, 4, 4]}}, "classifier.weight: kernel 2×2 must fit in its padded input"),
    ({"header": {"logit_scale": -1.0}}, "header: logit_scale must be a positive number, not -1.0"),
    ({"header": {"logit_scale": None}}, "header: logit_scale must be a JSON real number, not None"),
    ({"header": {"layers": []}}, "header: layers must hold at least one layer"),
    ({"header": {"layers": [3]}}, "header: a layer must be an object, not 3"),
    ({"layer": {"name": None}}, "layer: name must be a JSON string, not None"),
    (
        {"layer": {"name": "blocks.0"}},
        "header: layer names must differ, not ['blocks.0', 'blocks.0', 'blocks.2'",
    ),
    (
        {"layer": {"weight_format": "apot_k9n9"}},
        "blocks.1: weight_format: k must be an integer from 1 to 5, not 9",
    ),
    ({"layer": {"weight_format": "log_b4"}}, "blocks.1: weight_format: format must be a name like"),
    (
        {"layer": {"weight_format": "apot_k2n2u"}},
        "blocks.1: weight_format must be a signed format, not 'apot_k2n2u'",
    ),
    (
        {"layer": {"input_format": "uniform_b4"}},
        "blocks.1: input_format must be an unsigned format, not 'uniform_b4'",
    ),
    (
        {"layer": {"input_format": "uniform_b4u"}},
        "blocks.1: input_format must be 'apot_k2n2u', the output_format of blocks.0, not 'uniform_b4u'",
    ),
    ({"layer": {"output_format": None}}, "blocks.1: output_format must be given before the last layer"),
    ({"layer": {"stride": 0}}, "blocks.1: stride must be an integer of at least 1, not 0"),
    ({"layer": {"padding": -1}}, "blocks.1: padding must be an integer of at least 0, not -1"),
    ({"layer": {"fraction": 0}}, "blocks.1: fraction must be an integer from 1 to 16, not 0"),
    ({"tensors": {"blocks.1.weight": None}}, "blocks.1.weight: tensor must be present"),
    ({"tensors": {"blocks.1.scale": None}}, "blocks.1.scale: tensor must be present"),
    ({"tensors": {"blocks.1.bias": None}}, "blocks.1.bias: tensor must be present"),
    (
        {"tensors": {"blocks.1.weight": np.zeros((32, 144), np.float32)}},
        "blocks.1.weight: must have 4 dimensions, none of them 0, not shape (32, 144)",
    ),
    (
        {"tensors": {"blocks.1.weight": np.zeros((32, 16, 3, 3), np.int64)}},
        "blocks.1.weight: must be real, not int64",
    ),
    (
        {"tensors": {"blocks.1.shift": np.zeros(32, np.float32)}},
        "blocks.1.shift: must be integer, not float32",
    ),
    (
        {"tensors": {"blocks.1.bias": np.zeros(31, np.int64)}},
        "blocks.1.bias: must have 32 values, one an output channel, not 31",
    ),
    ({"tensors": {"blocks.1.shift": np.full(32, 48)}}, "blocks.1.shift: must be 0 … 47, not 48"),
    (
        {"tensors": {"blocks.1.multiplier": np.full(32, 2**17)}},
        "blocks.1.multiplier: must be -131072 … 131071, not 131072",
    ),
    (
        {"tensors": {"blocks.1.bias": np.full(32, 2**47)}},
        "blocks.1.bias: must be -140737488355328 … 140737488355327, not 140737488355328",
    ),
    (
        {"tensors": {"blocks.1.scale": np.array(0, np.float32)}},
        "blocks.1.weight: scale must be a positive number",
    ),
]


@pytest.mark.parametrize(("change", "message"), REFUSALS)
def test_wrong_contents_are_refused_by_name(content, tmp_path, change, message):
    path = tmp_path / "net.safetensors"
    save(changed(content, **change), path)
    with pytest.raises(RefusedError) as caught:
        load_network(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_off_grid_weight_in_a_file_is_refused(content, tmp_path):
    path = tmp_path / "net.safetensors"
    weights = content.tensors["blocks.1.weight"]
    scale = float(content.tensors["blocks.1.scale"])
    save(changed(content, tensors={"blocks.1.weight": with_value(weights, 5 * scale)}), path)
    with pytest.raises(RefusedError) as caught:
        load_network(path)
    assert f"{path}: blocks.1.weight[0, 0, 2, 1]: must be a level of apot_k2n1o times the scale" in str(
        caught.value
    )
    assert "(nearest level 4, " in str(caught.value)


def test_unreadable_files_are_refused(content, tmp_path):
    path = tmp_path / "net.safetensors"
    save(content, path)
    whole = path.read_bytes()
    for wrong in (b"", b"not safetensors", whole[:-50], whole[:200]):
        path.write_bytes(wrong)
        with pytest.raises(RefusedError) as caught:
            load_network(path)
        assert str(caught.value).startswith(f"{path}: must be a safetensors file written by 'export' (")
    save_file(content.tensors, path)
    with pytest.raises(RefusedError, match="metadata 'network' must be the JSON header that 'export' writes"):
        load_network(path)
    save_file(content.tensors, path, metadata={"network": "[1]"})
    with pytest.raises(RefusedError, match="header: kind must be"):
        load_network(path)
    with pytest.raises(FileNotFoundError):
        load_network(tmp_path / "missing.safetensors")


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="python -m sw")
    return result.exit_code, result.output


def test_export_command(trained, tmp_path):
    out = tmp_path / "sub" / "net.safetensors"
    code, output = invoke("export", trained[1], "-o", out)
    assert (code, output) == (0, f"{out}: 5 layers, 34960 weights\n")
    weights = integer_network(trained[0]).layers[3].weights
    np.testing.assert_array_equal(load_network(out).layers[3].weights, weights)


def test_export_command_refuses_in_one_line_and_writes_nothing(tmp_path):
    out, plain = tmp_path / "net.safetensors", tmp_path / "float.pt"
    training.train(Recipe(scheme="float", epochs=1), DATA, plain)
    (tmp_path / "text.pt").write_text("hello")
    for source, message in (
        (
            plain,
            f"python -m sw: {plain}: model must be quantized, not float "
            "(train with --scheme apot, pot, uniform or lsq)\n",
        ),
        (
            tmp_path / "text.pt",
            f"python -m sw: {tmp_path / 'text.pt'}: must be a checkpoint written by 'train'",
        ),
        (tmp_path / "none.pt", f"python -m sw: {tmp_path / 'none.pt'}: no such file or directory\n"),
    ):
        code, output = invoke("export", source, "-o", out)
        assert code == 1
        assert output.startswith(message)
        assert output.count("\n") == 1
        assert not out.exists()

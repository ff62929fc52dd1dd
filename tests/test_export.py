"""Export of every scheme: integers against the float model, and what is refused."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.numpy import load_file

from hdl.console import RefusedError
from hdl.formats import named
from sw import training
from sw.__main__ import main
from sw.agreement import agreement, float_codes
from sw.data import digits
from sw.export import integer_network
from sw.interchange import integers, load_network, save
from sw.lowering import interchange
from sw.models import build
from sw.precision import Precision
from sw.recipe import Recipe
from tests.few_digits import few_digits
from verif.reference import run as run_graph

DATA = digits()


TRAINED = [
    ("apot", 4, 4), ("apot", 2, 3), ("uniform", 4, 4), ("pot", 4, 4), ("lsq", 3, 4),
    ("dmbq", 3, 4), ("dmbq_gauss", 2, 4), ("lcq", 3, 3), ("lcq", 2, 4), ("lloyd", 3, 4),
]  # fmt: skip


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
    run = run_graph(network, DATA.test_images)
    result = agreement(model, DATA.test_images, codes=run.codes, logits=run.logits)
    assert list(result.codes) == [f"blocks.{index}.convolution" for index in range(4)]
    # A code that differs changes all those that are computed from it; multipliers of planes are coarser.
    assert min(result.codes.values()) > (0.995 if trained[0].recipe.scheme.startswith("dmbq") else 0.998)
    assert result.top1 > 0.99
    _, float_logits = float_codes(model, DATA.test_images)
    error = (run.logits * network.logit_scale - float_logits).abs().median()
    assert error < 1e-3 * float_logits.abs().max()


def test_each_layer_agrees_when_given_the_float_models_codes(trained):
    """Without the layers before it, a layer differs only where y lies next to a boundary."""
    model, network = trained[0].network(), integer_network(trained[0])
    expected, _ = float_codes(model, DATA.test_images)
    run = run_graph(network, DATA.test_images, given=expected)
    for tensor, codes in expected.items():
        assert (run.codes[tensor] == codes).double().mean() > 0.9995


def test_agreement_notices_differences(trained):
    model = trained[0].network()
    codes, logits = float_codes(model, DATA.test_images[:4])
    wrong = {name: code.clone() for name, code in codes.items()}
    wrong["blocks.2.convolution"][0] ^= 1
    swapped = logits.clone()
    swapped[0] = -swapped[0]
    result = agreement(model, DATA.test_images[:4], codes=wrong, logits=swapped)
    assert list(result.codes.values()) == [1.0, 1.0, 0.75, 1.0]
    assert result.top1 == 0.75
    missing = {name: code for name, code in codes.items() if name != "blocks.1.convolution"}
    with pytest.raises(ValueError, match=r"codes of 'blocks.1.convolution' must have shape .*, not none"):
        agreement(model, DATA.test_images[:4], codes=missing, logits=logits)
    cut = codes | {"blocks.1.convolution": codes["blocks.1.convolution"][:3]}
    with pytest.raises(ValueError, match=r"must have shape \(4, 32, 4, 4\), not \(3, 32, 4, 4\)"):
        agreement(model, DATA.test_images[:4], codes=cut, logits=logits)


def test_float_codes_rebuild_what_the_model_computes(trained):
    model = trained[0].network()
    codes, _ = float_codes(model, DATA.test_images[:7])
    block = next(model.chain())
    values = block(DATA.test_images[:7] / 255)
    scale, fmt = block.activation.scale(values), block.activation.format
    rebuilt = torch.tensor(fmt.levels)[codes["blocks.0.convolution"]] * scale
    torch.testing.assert_close(rebuilt, values, rtol=0, atol=1e-3)


def test_file_holds_the_same_network(trained, tmp_path):
    path = tmp_path / "net.safetensors"
    model, network = trained[0].network(), integer_network(trained[0])
    save(interchange(model), path)
    loaded = load_network(path)
    assert loaded.input_shape == network.input_shape
    assert loaded.logit_scale == network.logit_scale
    for ours, theirs in zip(loaded.nodes, network.nodes, strict=True):
        for member in ours.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(ours, member), getattr(theirs, member))
    again = tmp_path / "again.safetensors"
    save(interchange(model), again)
    assert again.read_bytes() == path.read_bytes()


def test_codes_times_scale_are_the_fake_quantized_weights(trained, tmp_path):
    """Bit for bit, in the file and in integers, whether a layer has one scale or one for each channel."""
    path = tmp_path / "net.safetensors"
    model = trained[0].network()
    save(interchange(model), path)
    tensors, network = load_file(path), load_network(path)
    layers = [*(block.convolution for block in model.chain()), model.classifier]
    for layer, integer in zip(layers, network.nodes, strict=True):
        with torch.no_grad():
            expected = layer.quantizer(layer.weight).reshape(integer.weights.shape)
        assert torch.equal(torch.from_numpy(tensors[f"{integer.name}.weight"]), expected)
        scale = tensors[f"{integer.name}.scale"].reshape(-1, 1, 1, 1)
        assert np.array_equal(integer.weights.astype(np.float32) * scale, expected.numpy())
        fmt = named(integer.weight_format)
        codes = np.vectorize(fmt.codes.get)(integer.weights)
        assert np.array_equal(np.array(fmt.levels)[codes], integer.weights)
    assert network.nodes[1].weights.any()


def test_exported_shapes_and_formats(content):
    network = integers(content)
    assert [node.weights.shape for node in network.nodes] == [
        (16, 1, 3, 3), (32, 16, 3, 3), (32, 32, 3, 3), (64, 32, 3, 3), (10, 64, 2, 2),
    ]  # fmt: skip
    assert [node.source for node in network.nodes] == [
        "image", *(f"blocks.{index}.convolution" for index in range(4))
    ]  # fmt: skip
    assert [[each.format for each in node.encodings] for node in network.nodes] == [["apot_k2n2u"]] * 4 + [[]]
    assert {node.weight_format for node in network.nodes[1:-1]} == {"apot_k2n1o"}
    assert {network.nodes[0].weight_format, network.nodes[-1].weight_format} == {"uniform_b8"}
    last = network.nodes[-1]
    assert (last.multiplier.tolist(), last.shift.tolist()) == ([1] * 10, [0] * 10)
    # Ten binary places: the largest level, 48, has six bits, and 2 to the 16 is not reached.
    halves = named("apot_k2n2u").boundaries
    for node in network.nodes[:-1]:
        assert node.encodings[0].thresholds == tuple(half * 2**9 for half in halves)


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
    assert network.nodes[0].multiplier[3] == 0
    codes = run_graph(network, DATA.test_images[:50]).codes
    expected, _ = float_codes(model, DATA.test_images[:50])
    name = "blocks.0.convolution"
    assert len(expected[name][:, 3].unique()) == 1
    assert torch.equal(codes[name][:, 3], expected[name][:, 3])
    assert codes["blocks.1.convolution"][:, 5].unique().tolist() == [0]


def test_a_float_model_is_refused():
    model = build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=Precision(scheme="float"))
    with pytest.raises(RefusedError, match="model must be quantized, not float"):
        integer_network(model)


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="python -m sw")
    return result.exit_code, result.output


def test_export_command(trained, tmp_path):
    out = tmp_path / "sub" / "net.safetensors"
    code, output = invoke("export", trained[1], "-o", out)
    assert (code, output) == (0, f"{out}: 5 layers, 34960 weights\n")
    weights = integer_network(trained[0]).nodes[3].weights
    np.testing.assert_array_equal(load_network(out).nodes[3].weights, weights)


def test_export_command_refuses_in_one_line_and_writes_nothing(tmp_path):
    out, plain = tmp_path / "net.safetensors", tmp_path / "float.pt"
    training.train(Recipe(scheme="float", epochs=1), DATA, plain)
    (tmp_path / "text.pt").write_text("hello")
    for source, message in (
        (
            plain,
            f"python -m sw: {plain}: model must be quantized, not float (train with another --scheme)\n",
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


@pytest.mark.parametrize("model", ["resnet20", "mobilenet_v2"])
def test_residual_networks_go_from_training_to_the_file(tmp_path, model):
    checkpoint, out = tmp_path / "net.pt", tmp_path / "net.safetensors"
    trained = training.train(Recipe(model=model, epochs=1), few_digits(), checkpoint)
    code, output = invoke("export", checkpoint, "-o", out)
    assert (code, output.count("\n")) == (0, 1)
    network, again = load_network(out), integer_network(trained)
    assert [node.name for node in network.nodes] == [node.name for node in again.nodes]
    assert any(node.residual for node in network.nodes)
    images = DATA.test_images[:8]
    run = run_graph(network, images)
    result = agreement(trained.network(), images, codes=run.codes, logits=run.logits)
    assert list(result.codes) == [each.tensor for node in network.nodes for each in node.encodings]
    assert result.codes[next(iter(result.codes))] > 0.995

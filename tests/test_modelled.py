"""The accounting of torch models: the papers' totals, the exported integers' costs, mixed bits."""

import re
from fractions import Fraction

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from hdl.formats import apot
from sw.__main__ import main
from sw.accounting.fixops import APOT_PRINTED, APOT_TEXT, UNIFORM, network_fixops
from sw.accounting.modelled import model_usage
from sw.accounting.usage import LayerUsage, network_usage
from sw.allocation import mixed
from sw.architectures import architecture
from sw.checkpoint import Checkpoint, save
from sw.data import CLASSES
from sw.export import integer_network
from sw.models import build
from sw.precision import LayerRule, Precision
from sw.recipe import Recipe
from sw.training import Trainer
from tests.few_digits import few_digits

SHAPE = (1, 28, 28)


def made(model: str, scheme: str, *, weight_bits: int = 3, shape: tuple[int, int, int] = SHAPE) -> nn.Module:
    torch.manual_seed(0)
    precision = Precision(scheme=scheme, weight_bits=weight_bits, activation_bits=3)
    return build(model, input_shape=shape, classes=CLASSES, precision=precision)


def total(usages: list[LayerUsage], member: str) -> int | Fraction:
    return sum(getattr(usage, member) for usage in usages)


@pytest.mark.parametrize(
    ("name", "scheme", "rule"),
    [
        ("resnet18", "apot", APOT_PRINTED),
        ("resnet50", "uniform", UNIFORM),
        ("resnet50", "dmbq", UNIFORM),
        ("mobilenet_v2", "uniform", UNIFORM),
    ],
)
def test_fixops_are_those_that_reproduce_the_papers(name, scheme, rule):
    shape = (3, 224, 224)
    precision = Precision(scheme=scheme, weight_bits=3, activation_bits=3)
    with torch.device("meta"):
        model = build(name, input_shape=shape, classes=1000, precision=precision)
    usages = model_usage(model, input_shape=shape)
    assert total(usages, "fixops") == network_fixops(architecture(name), rule, 3, 3)
    if scheme == "apot":
        assert total(usages, "text_fixops") == network_fixops(architecture(name), APOT_TEXT, 3, 3)
    inner = architecture(name).inner
    outer = architecture(name).first.weights + architecture(name).last.weights
    assert total(usages, "weight_bytes") == outer + sum(layer.weights * 3 for layer in inner) // 8


@pytest.mark.parametrize("scheme", ["uniform", "pot", "apot", "lsq", "dmbq", "lloyd", "lcq"])
@pytest.mark.parametrize("name", ["small_cnn", "resnet20_small"])
def test_models_cost_what_their_integers_do(name, scheme):
    model = made(name, scheme)
    model(torch.randint(0, 256, (8, *SHAPE), dtype=torch.uint8))
    model.eval()
    assert model_usage(model, input_shape=SHAPE) == network_usage(integer_network(model, SHAPE))


def test_float_models():
    usages = model_usage(made("small_cnn", "float"), input_shape=SHAPE)
    assert total(usages, "fixops") == total(usages, "macs")
    assert total(usages, "weight_bytes") == 4 * total(usages, "weights")
    assert {(each.formula, each.weight_format, each.input_format) for each in usages} == {
        ("1", "real 32 bits", "real 32 bits")
    }


def test_real_inputs_count_1_and_weights_keep_their_codes():
    precision = Precision(scheme="apot", rules=(LayerRule(pattern="layer1.0.conv1", activation_bits=32),))
    model = build("resnet20_small", input_shape=SHAPE, classes=CLASSES, precision=precision)
    usage = model_usage(model, input_shape=SHAPE)[1]
    assert (usage.name, usage.formula, usage.input_format) == ("layer1.0.conv1", "1", "real 32 bits")
    assert usage.fixops == usage.macs == 49 * usage.weights
    assert usage.weight_bytes * 2 == usage.weights == 576
    assert usage.weight_format == apot(bits=4).name


def test_mixed_bits_by_hand():
    """Every output channel meets every input channel: Σ w·a over pairs, for 9 weights at 7 × 7 places."""
    model = mixed(made("resnet20_small", "dmbq"))
    layer = model.get_submodule("layer1.0.conv1")
    layer.quantizer.bits.copy_(torch.tensor([0, 1, 2, 3, 3, 3, 1, 1]))
    layer.input_quantizer.bits.copy_(torch.tensor([4, 0, 2, 3, 3, 3, 3, 3]))
    first, usage, *others = model_usage(model, input_shape=SHAPE)
    pairs = sum(w * a for w in (0, 1, 2, 3, 3, 3, 1, 1) for a in (4, 0, 2, 3, 3, 3, 3, 3))
    assert usage.fixops == Fraction(pairs * 9 * 49, 64)
    assert usage.weight_bytes == -(-14 * 8 * 9 // 8)
    assert (usage.weight_format, usage.input_format) == ("mixed 1.75 bits", "mixed 2.62 bits")
    assert (first.weight_format, first.input_format) == ("uniform_b8", "uniform_b8u")
    plain = model_usage(made("resnet20_small", "dmbq"), input_shape=SHAPE)
    assert [each.fixops for each in others] == [each.fixops for each in plain[2:]]


def test_mixed_bits_of_depthwise_layers_meet_their_own_channel():
    model = mixed(made("mobilenet_v2", "dmbq"))
    name = next(
        name for name, module in model.named_modules() if isinstance(module, nn.Conv2d) and module.groups > 1
    )
    layer = model.get_submodule(name)
    layer.quantizer.bits[:2] = torch.tensor([1, 0])
    layer.input_quantizer.bits[:2] = torch.tensor([0, 2])
    usage = next(each for each in model_usage(model, input_shape=SHAPE) if each.name == name)
    places = usage.macs // usage.weights
    assert usage.fixops == Fraction((layer.groups - 2) * 9 * 9 * places, 64)


# --- The command -------------------------------------------------------------------------------------------


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["tables", *map(str, arguments)], prog_name="python -m sw")


def totals(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return next(line.split() for line in result.output.splitlines() if line.startswith("total"))


def test_a_named_model_costs_what_the_paper_prints():
    """APoT, Table 1 and the text's formula: 298 M and 198 M FixOPs of ResNet-18 at 3/3."""
    options = ("--model", "resnet18", "--bits", "3/3", "--input", "3x224x224", "--classes", "1000")
    result = run(*options)
    assert totals(result)[1:4] == ["1,814,073,344", "297,353,216", "198,004,736"]
    assert "resnet18 at apot 3/3 for 3 × 224 × 224, 1000 classes" in result.output
    assert any(line.startswith("layer1.0.conv1 ") and " × " in line for line in result.output.splitlines())


def test_a_recipe_and_options_over_it(tmp_path):
    recipe = tmp_path / "r.toml"
    recipe.write_text('model = "resnet20_small"\nscheme = "uniform"\nweight_bits = 2\nactivation_bits = 2\n')
    usages = model_usage(made("resnet20_small", "uniform"), input_shape=SHAPE)
    assert totals(run("--recipe", recipe, "--bits", "3/3"))[2] == f"{float(total(usages, 'fixops')):,.0f}"
    assert totals(run("--recipe", recipe))[2] != totals(run("--recipe", recipe, "--bits", "3/3"))[2]


def test_an_allocation_to_come_counts_its_averages(tmp_path):
    recipe = tmp_path / "r.toml"
    text = 'model = "resnet20_small"\nscheme = "dmbq"\nweight_bits = 3\nactivation_bits = 3\n'
    recipe.write_text(f'{text}lba = "cp"\naverage_bits = [2.0, 1.5]\n')
    result = run("--recipe", recipe)
    shapes = model_usage(made("resnet20_small", "dmbq"), input_shape=SHAPE)
    inner = sum(each.macs for each in shapes[1:-1])
    expected = shapes[0].macs + shapes[-1].fixops + Fraction(3 * inner, 64)
    assert totals(result)[2] == f"{float(expected):,.0f}"
    assert "average bits 2/1.5" in result.output
    assert "mixed 2.00 bits × mixed 1.50 bits" in result.output


def test_checkpoints_of_networks_that_no_export_takes(tmp_path):
    """Bits of channels stand in the checkpoint; the exported integers are as wide as the widest."""
    recipe = Recipe(
        scheme="dmbq",
        lba="cp",
        average_bits=(1.0, 2.0),
        lba_ratio=1.0,
        epochs=1,
        batch_size=48,
        weight_bits=3,
    )
    trainer = Trainer(recipe, few_digits(), stage=0)
    trainer.run_epoch(lambda *_: None)
    checkpoint: Checkpoint = trainer.checkpoint([])
    save(checkpoint, tmp_path / "net.pt")
    result = run("--network", tmp_path / "net.pt")
    usages = model_usage(checkpoint.network(), input_shape=(1, 8, 8))
    assert totals(result)[2] == f"{float(total(usages, 'fixops')):,.0f}"
    assert "mixed 2.00 bits × mixed 3.00 bits" in result.output


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("lcq-sizes", "--model", "resnet18"), 2, "NAME must not be given with --recipe, --model, --scheme"),
        (("--network", "n.pt", "--bits", "3/3"), 2, "--network must not be given with NAME, --recipe, "),
        (("--network", "n.pt", "lcq-sizes"), 2, "--network must not be given with NAME"),
        (
            ("--model", "resnet18", "--input", "3x32"),
            2,
            "must be three integers CxHxW like 3x32x32, not '3x32'",
        ),
        (("--model", "resnet18", "--input", "3x0x32"), 2, "must be positive, not '3x0x32'"),
        (("--scheme", "pot", "--bits", "8/8"), 2, "k must be an integer from 1 to 5"),
        (("--recipe", "none.toml"), 1, "none.toml: no such file or directory"),
        (("--network", "none.pt"), 1, "none.pt: no such file or directory"),
    ],
)
def test_refusals(arguments, status, message):
    result = run(*arguments)
    assert result.exit_code == status
    assert result.stderr.count("\n") == 1
    assert re.search(message, result.stderr), result.stderr

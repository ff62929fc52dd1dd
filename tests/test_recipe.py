"""Recipes: files, stages, which layer gets what, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from hdl.console import RefusedError
from sw.precision import LayerRule, Precision
from sw.quantizers.catalog import CATALOG, activation_quantizer, weight_quantizer
from sw.recipe import Recipe
from sw.schemes import REAL, SCHEMES, LayerPrecision

EXAMPLES = sorted((Path(__file__).parents[1] / "sw" / "recipes").glob("*.toml"))

RULES = (
    LayerRule(pattern="layer3.*", weight_bits=4, activation_bits=5),
    LayerRule(pattern="*.conv2", weight_bits=6),
    LayerRule(pattern="fc", scheme="lsq", weight_bits=9, activation_bits=REAL),
)


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_load_and_fit_their_models(path):
    import torch

    from sw.models import build

    recipe = Recipe.from_toml(path)
    for stage in recipe.stages:
        with torch.device("meta"):
            build(recipe.model, input_shape=(1, 28, 28), classes=10, precision=stage)


def test_there_are_examples():
    assert len(EXAMPLES) >= 4


def test_a_file_of_every_field(tmp_path):
    text = """
        dataset = "fashion_mnist"
        model = "resnet56"
        scheme = "lcq"
        weight_bits = 3
        activation_bits = 2
        progressive = true
        images = 500
        epochs = 7
        batch_size = 32
        lr = 1
        seed = 5
        threads = 2
        amp = "bf16"
        outer = ["conv1"]
        outer_bits = 6
        signed = []

        [[rules]]
        pattern = "layer1.*"
        scheme = "apot"
        weight_bits = 5
    """
    recipe = Recipe.from_toml(written(tmp_path, text))
    expected = Recipe(
        dataset="fashion_mnist",
        model="resnet56",
        scheme="lcq",
        weight_bits=3,
        activation_bits=2,
        progressive=True,
        images=500,
        epochs=7,
        batch_size=32,
        lr=1.0,
        seed=5,
        threads=2,
        amp="bf16",
        outer=("conv1",),
        outer_bits=6,
        signed=(),
        rules=(LayerRule(pattern="layer1.*", scheme="apot", weight_bits=5),),
    )
    assert recipe == expected
    assert Recipe.from_dict(recipe.as_dict()) == recipe
    assert recipe.precision == Precision(
        scheme="lcq",
        weight_bits=3,
        activation_bits=2,
        outer=("conv1",),
        outer_bits=6,
        signed=(),
        rules=expected.rules,
    )
    assert Recipe.from_toml(written(tmp_path, "")) == Recipe()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs = ", "must be TOML (Invalid value (at end of document))"),
        ("epoch = 3", "key must be one of dataset, model, scheme, "),
        ("epochs = 0", "epochs must be an integer of at least 1, not 0"),
        ("epochs = '3'", "epochs must be an integer of at least 1, not '3'"),
        ("scheme = 'int'", "scheme must be one of float, uniform, "),
        ("weight_bits = 9", "weight_bits must be an integer from 2 to 8, not 9"),
        ("outer_bits = 1", "outer_bits must be an integer from 2 to 16, not 1"),
        ("outer = 'conv1'", "outer must be a tuple of layer names or None, not 'conv1'"),
        ("signed = [1]", "signed must be a tuple of layer names or None, not (1,)"),
        ("rules = 3", "rules must be a tuple of LayerRule, not 3"),
        ("rules = ['a']", "rule must be a table of pattern, scheme, weight_bits, activation_bits, not 'a'"),
        ("[[rules]]\nbits = 3", "key of a rule must be one of pattern, scheme, weight_bits, activation_bits"),
        ("[[rules]]\nweight_bits = 3", "rule must have a pattern"),
        ("[[rules]]\npattern = 3", "pattern must be a string, not 3"),
        (
            "[[rules]]\npattern = 'a'",
            "rule 'a' must give scheme, weight_bits or activation_bits",
        ),
        (
            "[[rules]]\npattern = 'a'\nweight_bits = 17",
            "weight_bits must be an integer from 1 to 16, not 17",
        ),
        ("[[rules]]\npattern = 'a'\nscheme = 'int'", "scheme must be one of float, uniform, "),
        (
            "scheme = 'float'\n[[rules]]\npattern = 'a'\nweight_bits = 3",
            "rules must be empty if the scheme is float",
        ),
    ],
)
def test_file_refusals(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(RefusedError) as caught:
        Recipe.from_toml(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RefusedError, match=r"recipe.toml: must be TOML \('utf-8' codec"):
        Recipe.from_toml(path)
    with pytest.raises(FileNotFoundError):
        Recipe.from_toml(tmp_path / "none.toml")


def test_later_rules_go_over_earlier_ones_and_over_outer_layers():
    precision = Precision(scheme="apot", weight_bits=3, activation_bits=2, rules=RULES, outer_bits=7)

    def layer(name, image="conv1"):
        each = precision.layer(name, outer=("conv1", "fc"), image=image)
        return each.scheme, each.weight_bits, each.activation_bits

    assert layer("layer1.0.conv1") == ("apot", 3, 2)
    assert layer("layer1.0.conv2") == ("apot", 6, 2)
    assert layer("layer3.0.conv1") == ("apot", 4, 5)
    assert layer("layer3.0.conv2") == ("apot", 6, 5)
    assert layer("conv1") == ("absmax", 7, REAL)
    assert layer("conv1", image=None) == ("absmax", 7, 7)
    assert layer("fc") == ("lsq", 9, REAL)
    assert replace(precision, scheme="float", rules=()).layer("fc", outer=("fc",)).scheme == "float"


def test_a_rule_of_bits_that_the_scheme_does_not_have():
    precision = Precision(scheme="pot", rules=(LayerRule(pattern="a", weight_bits=8),))
    with pytest.raises(RefusedError, match=r"^layer a: k must be an integer from 1 to 5, not 7$"):
        precision.layer("a")
    assert precision.layer("b").weight_bits == 4


def test_names_that_no_layer_has():
    names = ["conv1", "layer1.conv", "fc"]
    precision = Precision(
        scheme="apot",
        outer=("conv1",),
        signed=("layer1.*",),
        rules=(LayerRule(pattern="f?", weight_bits=3),),
    )
    precision.check_names(names)
    for changes, wrong in (
        ({"outer": ("conv1", "conv?")}, "conv?"),
        ({"signed": ("layer2.*",)}, "layer2.*"),
        ({"rules": (LayerRule(pattern="f", weight_bits=3),)}, "f"),
    ):
        with pytest.raises(RefusedError) as caught:
            replace(precision, **changes).check_names(names)
        assert str(caught.value) == (
            f"layer {wrong!r} must be one of conv1, layer1.conv, fc or a pattern of them"
        )


def test_stages_widen_rules_too():
    recipe = Recipe(weight_bits=2, activation_bits=3, progressive=True, rules=RULES)
    stages = recipe.stages
    assert [str(stage) for stage in stages] == ["float", "apot 5/5", "apot 4/4", "apot 3/3", "apot 2/3"]
    assert stages[-1] == recipe.precision
    assert [stage.rules[0] for stage in stages[1:]] == [
        LayerRule(pattern="layer3.*", weight_bits=max(bits, 4), activation_bits=5) for bits in (5, 4, 3, 2)
    ]
    assert all(stage.rules[1:] == RULES[1:] for stage in stages[1:])


def test_stages_stop_at_the_widest_format():
    recipe = Recipe(
        scheme="dmbq",
        weight_bits=2,
        activation_bits=2,
        progressive=True,
        rules=(LayerRule(pattern="a", weight_bits=3), LayerRule(pattern="b", scheme="apot", weight_bits=2)),
    )
    widths = [(stage.weight_bits, *(rule.weight_bits for rule in stage.rules)) for stage in recipe.stages[1:]]
    assert widths == [(4, 4, 5), (4, 4, 4), (3, 3, 3), (2, 3, 2)]


def test_catalog_has_every_scheme_and_its_formats():
    assert {"float", *CATALOG} == set(SCHEMES)
    for scheme in CATALOG:
        layer = LayerPrecision(scheme=scheme, weight_bits=3, activation_bits=2)
        for signed in (False, True):
            formats = layer.formats(signed=signed)
            made = weight_quantizer(layer), activation_quantizer(layer, signed=signed)
            for quantizer, fmt, width in zip(made, formats, (3, 2), strict=True):
                assert fmt is None or quantizer.format == fmt
                assert quantizer.format.code_width == width
            assert made[0].format.signed
            assert made[1].format.signed == signed
        real = LayerPrecision(scheme=scheme, weight_bits=REAL, activation_bits=REAL)
        assert weight_quantizer(real) is activation_quantizer(real) is None
    floating = LayerPrecision(scheme="float")
    assert weight_quantizer(floating) is activation_quantizer(floating) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "lcq", "weight_bits": 1}, "weight_bits must be an integer from 2 to 8, not 1"),
        ({"scheme": "dmbq", "weight_bits": 5}, "planes must be an integer from 1 to 4, not 5"),
        ({"scheme": "dmbq", "weight_bits": 0}, "weight_bits must be an integer from 1 to 8, not 0"),
        ({"scheme": "apot", "activation_bits": 0}, "activation_bits must be an integer from 1 to 8, not 0"),
    ],
)
def test_precision_refusals(options, message):
    with pytest.raises(ValueError, match="must be") as caught:
        Precision(**options)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "lcq", "weight_bits": 9}, "bits must be an integer from 2 to 8, not 9"),
        ({"scheme": "lcq", "activation_bits": 9}, "bits must be an integer from 1 to 8, not 9"),
        ({"scheme": "lloyd", "weight_bits": 1}, "bits must be an integer from 2 to 8, not 1"),
        ({"scheme": "apot", "weight_bits": 33}, "weight_bits must be an integer from 1 to 16, not 33"),
        ({"scheme": "x"}, f"scheme must be one of {', '.join(SCHEMES)}, not 'x'"),
    ],
)
def test_layer_refusals(options, message):
    with pytest.raises(ValueError, match="must be") as caught:
        LayerPrecision(**options)
    assert str(caught.value) == message

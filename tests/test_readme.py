"""README's numbers: those that can be computed without training must be today's."""

from pathlib import Path

import pytest

from hdl.formats import apot
from sw.compiler.compile import compile_network
from sw.compiler.fitting import fitting_parameters
from sw.data import CLASSES, digits
from sw.export import integer_network
from sw.models import build
from sw.precision import Precision
from verif.demo import costs

README = Path(__file__).parents[1] / "README.md"


def shown() -> dict[str, str]:
    """The rows of the demo's table in README."""
    text = README.read_text(encoding="utf-8")
    block = text.split("<!-- demo -->")[1].split("<!-- /demo -->")[0]
    rows = [line.strip().split("  ", maxsplit=1) for line in block.splitlines() if "  " in line.strip()]
    return {name: value.strip() for name, value in rows}


@pytest.mark.parametrize("name", ["cycles per image", "share of peak MACs", "weight bytes"])
def test_demo_costs_are_todays(name: str) -> None:
    precision = Precision(scheme="apot", weight_bits=4, activation_bits=4)
    model = build("small_cnn", input_shape=digits().input_shape, classes=CLASSES, precision=precision)
    network = integer_network(model.eval())
    compiled = compile_network(network, fitting_parameters(network))
    assert apot(bits=4).name == compiled.parameters.weight_format
    assert shown()[name] == costs(compiled, network)[name]


def test_demo_shows_no_mismatch() -> None:
    assert shown()["mismatching outputs"].startswith("0 of ")

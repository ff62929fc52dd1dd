"""The engine's pipeline is as long as the parameters, which software reads, say."""

import pytest

from hdl.engine import Engine
from hdl.parameters import AcceleratorParameters


@pytest.mark.parametrize(("rows", "lanes"), [(1, 4), (4, 4), (12, 4), (2, 16), (16, 16)])
@pytest.mark.parametrize("code_width", [1, 3])
@pytest.mark.parametrize(
    "weight_format", ["apot_k1n1", "uniform_b4", "basis_1", "basis_18_31_41", "companded_0_1_3_4"]
)
@pytest.mark.parametrize("value_words", [0, 40])
def test_drain(rows: int, lanes: int, code_width: int, weight_format: str, value_words: int) -> None:
    if rows % lanes and weight_format.startswith("basis"):
        pytest.skip("a basis has no 0 to pad words with")
    parameters = AcceleratorParameters(
        rows=rows,
        lanes=lanes,
        requantizers=min(4, rows),
        code_width=code_width,
        weight_format=weight_format,
        value_words=value_words,
    )
    assert Engine(parameters=parameters).drain == parameters.drain

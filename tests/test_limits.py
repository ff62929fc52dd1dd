"""Limits judged in exact integers: what overflows 64 bits is refused like what overflows the hardware."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from hdl.console import RefusedError
from hdl.formats import named
from hdl.parameters import AcceleratorParameters
from sw.__main__ import main
from sw.compiler.commands import Command, Part
from sw.compiler.digits import weight_digits
from sw.compiler.fitting import fitting_parameters
from sw.compiler.limits import check_command
from sw.compiler.sums import check_sums
from sw.compiler.weights import channel_words
from sw.graph import IMAGE, Convolution, Encoding, IntegerGraph
from sw.interchange import KIND, VERSION, Interchange, save
from sw.requantize import Requantization

WIDE = AcceleratorParameters(weight_format="uniform_b16", activation_width=16, depth=2**17)
LARGEST = 2**17 - 1


def layer(weights: Any, **changed: Any) -> Convolution:
    """One output; 16-bit weights unless said otherwise."""
    values: dict[str, Any] = {
        "name": "wide",
        "weights": np.asarray(weights).reshape(1, -1, 1, 1),
        "source": IMAGE,
        "weight_format": "uniform_b16",
        "multiplier": np.array([LARGEST]),
        "bias": np.array([0]),
        "shift": np.array([0]),
    }
    return Convolution(**(values | changed))


def summed(convolution: Convolution, *, parameters: AcceleratorParameters, place: int = 0) -> Command:
    """A convolution of one pixel, of activations of 16 bits in this place."""
    formats = {"values": named(convolution.weight_format), "array": parameters.format}
    return Command(
        fields={"to_results": 1},
        passes=[{"shift": place}],
        tables=[(0, 2**16 - 1)],
        constants=Requantization(convolution.multipliers, convolution.bias, convolution.shift),
        parts=(Part(weights=convolution.weights, copies=1),),
        digits=weight_digits(**formats),
    )


def test_sums_beyond_64_bits_are_not_lost() -> None:
    """2^17 products of 2^15 and 2^16 times 2^17 wrap to few bits in int64."""
    huge = layer(np.full(2**17, 32767))
    assert 2**17 * 32767 * 65535 * LARGEST >= 2**64
    with pytest.raises(RefusedError, match=r"^layer 'wide': result needs 66 bits, 34 more than the acc"):
        check_sums("wide", summed(huge, parameters=WIDE), WIDE)
    small = replace(huge, shift=np.array([34]))
    assert check_sums("wide", summed(small, parameters=WIDE), WIDE).result == 32


def test_scaled_sums_beyond_the_datapath_are_refused() -> None:
    """2^10 · 127 · (2^16 - 1) · (2^17 - 1) · 2^15 < 2^65, and a sign."""
    chosen = AcceleratorParameters(weight_format="uniform_b8", activation_width=16, depth=2**10)
    loud = layer(np.full(2**10, 127), weight_format="uniform_b8")
    with pytest.raises(RefusedError, match=r"^layer 'wide': scaled sum needs 66 bits, 9 more than the acc"):
        check_sums("wide", summed(loud, parameters=chosen, place=15), chosen)


def test_corrections_beyond_64_bits_are_not_lost() -> None:
    """2^17 weights of -2^30 are corrected by 2^47; times -2^17 that is 0 in int64."""
    chosen = AcceleratorParameters(
        weight_format="pot_k5", rows=1, lanes=1, requantizers=1, activation_width=1, depth=2**17
    )
    wrong = Requantization(np.array([[-(2**17)]]), np.array([0]), np.array([0]))
    with pytest.raises(RefusedError, match=r"^layer 'wide': bias of a pass must fit in 48 bits$"):
        channel_words(wrong, folds=[np.array([[2**47]])], places=[0], name="wide", parameters=chosen)


def network(**changed: Any) -> IntegerGraph:
    """Three layers with the same weights, the first of which is changed."""
    encoding = Encoding(tensor="codes", format="uniform_b1u", thresholds=(0,))
    first = layer([1], **({"encodings": (encoding,)} | changed))
    weights = {"weight_format": first.weight_format}
    encodings = (replace(encoding, tensor="last codes"),)
    middle = layer([1], source="codes", name="middle", encodings=encodings, **weights)
    last = layer([1], source="last codes", name="last", **weights)
    return IntegerGraph(input_shape=(1, 1, 1), nodes=(first, middle, last), logit_scale=1.0)


def encoded(format_name: str) -> dict[str, Any]:
    count = len(named(format_name).grid) - 1
    return {
        "encodings": (Encoding(tensor="codes", format=format_name, thresholds=tuple(range(count))),),
    }


@pytest.mark.parametrize("name", ["input_height", "input_width"])
def test_coordinates_do_not_wrap_into_the_input(name: str) -> None:
    """The walker's coordinates have 16 bits: -4 is 65532, the first place outside 65532 pixels."""
    command = {"input_height": 1, "input_width": 1, "padding": 4, "origin": -4}
    check_command("wide", command | {name: 65532}, [])
    with pytest.raises(RefusedError, match=r"^layer 'wide': padded coordinates needs 65537 values, 1 more"):
        check_command("wide", command | {name: 65533}, [])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (encoded("uniform_b9u"), "code_width must be an integer from 1 to 8, not 9"),
        (encoded("uniform_b12u"), "code_width must be an integer from 1 to 8, not 12"),
        (encoded("pot_k5u"), "activation_width must be an integer from 1 to 16, not 31"),
        ({"weight_format": "basis_1_65535"}, "bits must be an integer from 2 to 16, not 18"),
    ],
)
def test_networks_that_fit_no_accelerator_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError) as caught:
        fitting_parameters(network(**changed))
    assert str(caught.value) == f"network fits no accelerator: {message}"


def test_packing_such_a_network_says_so_in_one_line(tmp_path: Path) -> None:
    tensors = {"only.weight": np.array([65536, -65536, 65534, -65534], dtype=np.float32).reshape(2, 2, 1, 1)}
    tensors |= {"only.scale": np.array(1, dtype=np.float32)}
    tensors |= {f"only.{part}": np.full(2, 4) for part in ("multiplier", "bias", "shift")}
    entry = {"op": "convolution", "name": "only", "source": IMAGE, "weight_format": "basis_1_65535"}
    entry |= {"encodings": [], "values": None, "rectified": False, "residual": None}
    entry |= {"stride": 1, "padding": 0, "groups": 1}
    header = {"kind": KIND, "version": VERSION, "input_shape": [2, 1, 1], "logit_scale": 1.0}
    header |= {"input_format": "uniform_b8u", "border": 0, "fill": []}
    header |= {"input_scale": [1.0, 1.0], "input_offset": [0.0, 0.0], "nodes": [entry]}
    path = tmp_path / "net.safetensors"
    save(Interchange(header=header, tensors=tensors), path)
    result = CliRunner().invoke(main, ["pack", str(path), "-o", str(tmp_path / "net.bin")])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert f"{path}: network fits no accelerator: bits must be an integer from 2 to 16" in result.stderr
    assert list(tmp_path.iterdir()) == [path]

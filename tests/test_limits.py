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
from sw.fitting import fitting_parameters
from sw.interchange import KIND, VERSION, Interchange, save
from sw.limits import check_command, check_layer
from sw.network import IntegerLayer, IntegerNetwork
from sw.weights import channel_words

WIDE = AcceleratorParameters(weight_format="uniform_b16", activation_width=16, depth=2**17)
LARGEST = 2**17 - 1


def layer(weights: Any, **changed: Any) -> IntegerLayer:
    """One output; 16-bit weights and activations unless said otherwise."""
    values: dict[str, Any] = {
        "name": "wide",
        "weights": np.asarray(weights).reshape(1, -1, 1, 1),
        "weight_format": "uniform_b16",
        "input_format": "uniform_b16u",
        "output_format": None,
        "stride": 1,
        "padding": 0,
        "multiplier": np.array([LARGEST]),
        "bias": np.array([0]),
        "shift": np.array([0]),
        "fraction": 0,
    }
    return IntegerLayer(**(values | changed))


def test_sums_beyond_64_bits_are_not_lost() -> None:
    """2^17 products of 2^15 and 2^16 times 2^17 wrap to few bits in int64."""
    huge = layer(np.full(2**17, 32767))
    assert 2**17 * 32767 * 65535 * LARGEST >= 2**64
    with pytest.raises(RefusedError, match=r"^layer 'wide': result needs 66 bits, 34 more than the acc"):
        check_layer(huge, input_format=named("uniform_b16u"), parameters=WIDE)
    check_layer(replace(huge, shift=np.array([34])), input_format=named("uniform_b16u"), parameters=WIDE)


def test_corrections_beyond_64_bits_are_not_lost() -> None:
    """2^17 weights of -2^30 are corrected by 2^47; times -2^17 that is 0 in int64."""
    chosen = AcceleratorParameters(
        weight_format="pot_k5", rows=1, lanes=1, requantizers=1, activation_width=1, depth=2**17
    )
    wrong = layer([0], multiplier=np.array([-(2**17)]))
    with pytest.raises(RefusedError, match=r"^layer 'wide': bias of a pass must fit in 48 bits$"):
        channel_words(wrong, folds=[np.array([[2**47]])], places=[0], parameters=chosen)


def network(**changed: Any) -> IntegerNetwork:
    return IntegerNetwork(input_shape=(1, 1, 40000), layers=(layer([1], **changed),), logit_scale=1.0)


@pytest.mark.parametrize("name", ["input_height", "input_width"])
def test_coordinates_do_not_wrap_into_the_input(name: str) -> None:
    """The walker's coordinates have 16 bits: -4 is 65532, the first place outside 65532 pixels."""
    command = {"input_height": 1, "input_width": 1, "padding": 4, "origin": -4}
    check_command(layer([1]), command | {name: 65532}, [])
    with pytest.raises(RefusedError, match=r"^layer 'wide': padded coordinates needs 65537 values, 1 more"):
        check_command(layer([1]), command | {name: 65533}, [])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"output_format": "uniform_b9u"}, "code_width must be an integer from 1 to 8, not 9"),
        ({"output_format": "uniform_b12u"}, "code_width must be an integer from 1 to 8, not 12"),
        ({"output_format": "pot_k5u"}, "activation_width must be an integer from 1 to 16, not 31"),
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
    tensors |= {f"only.{part}": np.zeros(2, dtype=np.int64) for part in ("multiplier", "bias", "shift")}
    formats = {"weight_format": "basis_1_65535", "input_format": "uniform_b8u", "output_format": None}
    entry = {"name": "only", **formats, "stride": 1, "padding": 0, "fraction": 0}
    header = {"kind": KIND, "version": VERSION, "input_shape": [2, 1, 1], "logit_scale": 1.0}
    path = tmp_path / "net.safetensors"
    save(Interchange(header=header | {"layers": [entry]}, tensors=tensors), path)
    result = CliRunner().invoke(main, ["pack", str(path), "-o", str(tmp_path / "net.bin")])
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert f"{path}: network fits no accelerator: bits must be an integer from 2 to 16" in result.stderr
    assert list(tmp_path.iterdir()) == [path]

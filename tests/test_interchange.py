"""The interchange file: every wrong content is refused by name."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from hdl.console import RefusedError
from sw.data import digits
from sw.folding import interchange
from sw.interchange import Interchange, load_network, save
from sw.models import build
from sw.precision import Precision

DATA = digits()


@pytest.fixture(scope="module")
def content():
    """Interchange contents of an untrained network, with statistics that are not trivial."""
    torch.manual_seed(0)
    model = build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=Precision(scheme="apot"))
    model(DATA.train_images[:100])
    return interchange(model.eval())


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
        {"tensors": {"blocks.1.scale": np.ones((32, 1), np.float32)}},
        "blocks.1.scale: must have 0 or 1 dimensions, none of them 0, not shape (32, 1)",
    ),
    (
        {"tensors": {"blocks.1.scale": np.ones(31, np.float32)}},
        "blocks.1.scale: must have 32 values or be one number, not 31",
    ),
    (
        {"tensors": {"blocks.1.scale": np.full(32, 77, np.float32)}},
        "blocks.1.weight[0][0, 0, 0]: must be a level of apot_k2n1o times the scale 77, not ",
    ),
    (
        {"tensors": {"blocks.1.boundaries": np.arange(14)}},
        "blocks.1.boundaries: must have 15 values, one between levels, not 14",
    ),
    (
        {"tensors": {"blocks.1.boundaries": np.arange(15)[::-1].copy()}},
        "blocks.1.boundaries: must not descend",
    ),
    (
        {"tensors": {"blocks.1.boundaries": np.arange(15) - 1}},
        "blocks.1.boundaries: must be 0 … 131071, not -1",
    ),
    (
        {"tensors": {"classifier.boundaries": np.arange(15)}},
        "classifier.boundaries: must not be given for the last layer",
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

"""The interchange file: every wrong content is refused by name."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn

from hdl.console import RefusedError
from sw.interchange import Interchange, integers, load_network, save
from sw.lowering import interchange
from sw.precision import Precision
from sw.quantize import quantize
from tests.float_oracle import calibrated

SHAPE = (1, 8, 8)


class Residual(nn.Module):
    """One block beside an identity, and the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.norm2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        first = self.norm1(self.conv1(images / 255)).relu()
        second = (self.norm2(self.conv2(first)) + first).relu()
        return self.fc(self.pool(second).flatten(1))


@pytest.fixture(scope="module")
def content():
    """Contents with every kind of node: conv1 writes codes and values, conv2 adds and writes values, pool."""
    torch.manual_seed(0)
    return interchange(calibrated(quantize(Residual(), Precision(scheme="apot")), SHAPE), SHAPE)


def changed(content: Interchange, *, header=None, nodes=None, tensors=None) -> Interchange:
    """A copy with entries of the header, of nodes by name, or tensors replaced; None removes a tensor."""
    new = json.loads(json.dumps(content.header))
    new |= header or {}
    for name, entries in (nodes or {}).items():
        next(node for node in new["nodes"] if node["name"] == name).update(entries)
    arrays = content.tensors | (tensors or {})
    return Interchange(header=new, tensors={key: value for key, value in arrays.items() if value is not None})


def encoding(**changes) -> list[dict]:
    """conv1's one, changed."""
    return [{"tensor": "conv1", "format": "apot_k2n2u", "scale": 0.1, "zero": 0} | changes]


VALUES = {"tensor": "new", "scale": 0.5}

ROUNDING = {"scale": [0.5], "offset": [1.5], "lowest": 3, "highest": 255}

HEADER = [
    ({"kind": "theirs"}, "header: kind must be 'nonuniform-hdl network'"),
    ({"version": 1}, "header: version must be 3, not 1: export again"),
    ({"input_shape": [1, 8]}, "header: input_shape must be 3 integers of at least 1, not [1, 8]"),
    ({"input_shape": [1, 8, 0]}, "header: input_shape must be 3 integers of at least 1, not [1, 8, 0]"),
    ({"input_shape": "8x8"}, "header: input_shape must be a JSON array, not '8x8'"),
    ({"input_shape": [3, 8, 8]}, "header: input_scale must be 3 JSON real numbers"),
    ({"input_format": "log_b8"}, "header: input_format: format must be a name like"),
    (
        {"input_format": "uniform_b8", "fill": [-129]},
        "header: fill must be 1 integers from -128 to 127, not [-129]",
    ),
    ({"input_scale": [1]}, "header: input_scale must be 1 JSON real numbers, not [1]"),
    ({"input_offset": [0.5, 0.5]}, "header: input_offset must be 1 JSON real numbers, not [0.5, 0.5]"),
    ({"border": -1}, "header: border must be an integer of at least 0, not -1"),
    ({"fill": [256]}, "header: fill must be 1 integers from 0 to 255, not [256]"),
    ({"fill": [0, 0]}, "header: fill must be 1 integers from 0 to 255, not [0, 0]"),
    ({"fill": None}, "header: fill must be a JSON array, not None"),
    ({"rounding": 3}, "header: rounding must be a JSON object, not 3"),
    ({"rounding": ROUNDING | {"scale": [1]}}, "header: rounding: scale must be 1 JSON real numbers, not [1]"),
    ({"rounding": ROUNDING | {"scale": [0.0]}}, "header: rounding: scale must not be 0, not [0.0]"),
    ({"rounding": ROUNDING | {"offset": [float("inf")]}}, "header: rounding: offset must be 1 JSON real"),
    (
        {"rounding": ROUNDING | {"lowest": -1}},
        "header: rounding: lowest must be an integer from 0 to 255, not -1",
    ),
    (
        {"rounding": ROUNDING | {"highest": 2}},
        "header: rounding: highest must be an integer from 3 to 255, not 2",
    ),
    ({"logit_scale": -1.0}, "header: logit_scale must be a positive number, not -1.0"),
    ({"logit_scale": None}, "header: logit_scale must be a JSON real number, not None"),
    ({"nodes": []}, "header: nodes must hold at least one node"),
    ({"nodes": [3]}, "header: nodes must hold JSON objects, not 3"),
]

NODES = [
    ("conv1", {"name": None}, "node: name must be a JSON string, not None"),
    ("conv1", {"name": "conv2"}, "header: node names must differ, not ['conv2', 'conv2', 'pool', 'fc']"),
    ("conv1", {"op": "dance"}, "conv1: op must be convolution or pooling, not 'dance'"),
    ("conv1", {"source": 3}, "conv1: source must be a JSON string, not 3"),
    ("conv1", {"rectified": 1}, "conv1: rectified must be a JSON true or false, not 1"),
    ("conv1", {"values": "conv1"}, "conv1: values must be a JSON object, not 'conv1'"),
    ("conv1", {"values": {"tensor": 3, "scale": 0.5}}, "conv1: values: tensor must be a JSON string, not 3"),
    ("conv1", {"values": {"tensor": "a", "scale": 0.0}}, "conv1: values: scale must be a positive number"),
    ("conv1", {"encodings": [3]}, "conv1: encodings must hold JSON objects, not 3"),
    (
        "conv1",
        {"encodings": encoding(tensor=None)},
        "conv1: encoding: tensor must be a JSON string, not None",
    ),
    ("conv1", {"encodings": encoding(format="uniform_b4")}, "conv1: format must be an unsigned format"),
    ("conv1", {"encodings": encoding(format="log_b4")}, "conv1: format: format must be a name like"),
    (
        "conv1",
        {"encodings": encoding(format="uniform_b3u")},
        "conv1.thresholds: must have 7 values, one between",
    ),
    ("conv1", {"encodings": encoding(scale=-1.0)}, "conv1: scale must be a positive number, not -1.0"),
    ("conv1", {"encodings": encoding(zero=-1)}, "conv1: zero must be an integer from 0 to 48, not -1"),
    ("conv1", {"encodings": encoding(tensor="other")}, "other.thresholds: tensor must be present"),
    ("conv1", {"encodings": encoding() * 2}, "conv1: tensor 'conv1' must not be written twice"),
    ("conv1", {"encodings": encoding(tensor="image")}, "image.thresholds: tensor must be present"),
    (
        "conv1",
        {"weight_format": "apot_k9n9"},
        "conv1: weight_format: k must be an integer from 1 to 5, not 9",
    ),
    ("conv1", {"weight_format": "apot_k2n2u"}, "conv1: weight_format must be a signed format"),
    ("conv1", {"stride": 0}, "conv1: stride must be an integer of at least 1, not 0"),
    ("conv1", {"padding": -1}, "conv1: padding must be an integer of at least 0, not -1"),
    ("conv1", {"groups": 2}, "conv1: groups must be 1 or the number of channels, 1, not 2"),
    ("conv1", {"source": "conv2"}, "conv1: source 'conv2' must be a tensor that an earlier node writes"),
    (
        "conv1",
        {"residual": "conv2:values"},
        "conv1: residual 'conv2:values' must be a tensor that an earlier",
    ),
    (
        "conv1",
        {"values": None},
        "conv2: residual 'conv1:values' must be a tensor that an earlier node writes",
    ),
    ("conv1", {"encodings": []}, "conv2: source 'conv1' must be a tensor that an earlier node writes"),
    (
        "conv1",
        {"encodings": [], "values": None},
        "conv1: must write codes or values, since it is not the last node",
    ),
    ("conv2", {"groups": 4}, "conv2.weight: must have 1 input channels, not 4"),
    ("conv2", {"source": "image"}, "conv2.weight: must have 1 input channels, not 4"),
    (
        "conv2",
        {"source": "conv1:values"},
        "conv2: source 'conv1:values' must be a tensor of codes, not of values",
    ),
    ("conv2", {"residual": "conv1"}, "conv2: residual 'conv1' must be a tensor of values, not of codes"),
    ("conv2", {"stride": 2}, "conv2: residual 'conv1:values' must have shape 4 × 4 × 4, not 4 × 8 × 8"),
    (
        "conv2",
        {"values": {"tensor": "conv1", "scale": 0.5}},
        "conv2: tensor 'conv1' must not be written twice",
    ),
    ("conv2", {"residual": None}, "conv1: tensor 'conv1:values' must be read by a later node"),
    ("conv2", {"addends": 3}, "conv2: addends must be a JSON array, not 3"),
    ("conv2", {"addends": [3]}, "conv2: addends must hold names of tensors, not 3"),
    ("conv2", {"addends": ["conv1"]}, "conv2.addend0.multiplier: tensor must be present"),
    ("pool", {"source": "conv1"}, "pool: source 'conv1' must be a tensor of values, not of codes"),
    ("pool", {"kind": "median"}, "pool: kind must be maximum or sum, not 'median'"),
    ("pool", {"kernel": [8]}, "pool: kernel must be 2 integers of at least 1, not [8]"),
    ("pool", {"kernel": [9, 9]}, "layer 'pool': kernel must fit in the padded input"),
    ("pool", {"kernel": [2, 3], "padding": 2}, "pool: padding must be less than the kernel, not 2"),
    ("pool", {"channels_before": -1}, "pool: channels_before must be an integer of at least 0, not -1"),
    ("pool", {"channels_after": 2}, "pool.multiplier: must have 6 values, one an output channel, not 4"),
    ("fc", {"values": VALUES}, "fc: must write nothing, since it is the last node, whose y is the result"),
]

TENSORS = [
    ("conv2.weight", None, "tensor must be present"),
    ("conv2.scale", None, "tensor must be present"),
    ("conv2.bias", None, "tensor must be present"),
    ("pool.shift", None, "tensor must be present"),
    ("conv1.thresholds", None, "tensor must be present"),
    (
        "conv2.weight",
        np.zeros((4, 36), np.float32),
        "must have 4 dimensions, none of them 0, not shape (4, 36)",
    ),
    ("conv2.weight", np.zeros((4, 4, 3, 3), np.int64), "must be real, not int64"),
    ("conv2.shift", np.zeros(4, np.float32), "must be integer, not float32"),
    ("conv2.multiplier", np.zeros(3, np.int64), "must have 4 values, one an output channel, not 3"),
    ("pool.bias", np.zeros(3, np.int64), "must have 4 values, one an output channel, not 3"),
    ("conv2.shift", np.full(4, 48), "must be 0 … 47, not 48"),
    ("conv2.multiplier", np.full(4, 2**17), "must be -131072 … 131071, not 131072"),
    ("conv2.bias", np.full(4, 2**47), "must be -140737488355328 … 140737488355327, not 140737488355328"),
    (
        "conv2.scale",
        np.ones((4, 1), np.float32),
        "must have 0 or 1 dimensions, none of them 0, not shape (4, 1)",
    ),
    ("conv2.scale", np.ones(3, np.float32), "must have 4 values or be one number, not 3"),
    ("conv1.thresholds", np.arange(14), "must have 15 values, one between levels, not 14"),
    ("conv1.thresholds", np.arange(15)[::-1].copy(), "must not descend"),
    ("conv1.thresholds", np.arange(15) + 2**17 - 14, "must be -131072 … 131071, not 131072"),
    ("conv1.thresholds", np.arange(15) - 2**17 - 1, "must be -131072 … 131071, not -131073"),
]


def refusal(content: Interchange, path) -> str:
    save(content, path)
    with pytest.raises(RefusedError) as caught:
        load_network(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


@pytest.mark.parametrize(("change", "message"), HEADER)
def test_wrong_headers_are_refused(content, tmp_path, change, message):
    assert refusal(changed(content, header=change), tmp_path / "a").startswith(message)


@pytest.mark.parametrize(("name", "change", "message"), NODES)
def test_wrong_nodes_are_refused_by_name(content, tmp_path, name, change, message):
    assert refusal(changed(content, nodes={name: change}), tmp_path / "a").startswith(message)


@pytest.mark.parametrize(("name", "tensor", "message"), TENSORS)
def test_wrong_tensors_are_refused_by_name(content, tmp_path, name, tensor, message):
    found = refusal(changed(content, tensors={name: tensor}), tmp_path / "a")
    assert found.startswith(f"{name}: {message}")


@pytest.mark.parametrize(
    ("node", "addend", "message"),
    [
        ("conv2", "conv3", "conv2: addend 'conv3' must be a tensor that an earlier node writes"),
        ("conv2", "conv1:values", "conv2: addend 'conv1:values' must be a tensor of codes, not of values"),
        ("conv2", "image", "conv2: addend 'image' must have shape 4 × 8 × 8, not 1 × 8 × 8"),
        (
            "conv1",
            "image",
            "conv1: source and addends must be different tensors, and none of them the image, "
            "not 'image', 'image'",
        ),
        (
            "conv2",
            "conv1",
            "conv2: source and addends must be different tensors, and none of them the image, "
            "not 'conv1', 'conv1'",
        ),
    ],
)
def test_wrong_addends_are_refused(content, tmp_path, node, addend, message):
    tensors = {f"{node}.addend0.multiplier": np.ones(4, np.int64)}
    wrong = changed(content, nodes={node: {"addends": [addend]}}, tensors=tensors)
    assert refusal(wrong, tmp_path / "a") == message


def test_addends_have_multipliers_of_18_bits(content, tmp_path):
    for multiplier, message in (
        (np.ones(3, np.int64), "must have 4 values, one an output channel, not 3"),
        (np.full(4, 2**17), "must be -131072 … 131071, not 131072"),
    ):
        tensors = {"conv2.addend0.multiplier": multiplier}
        wrong = changed(content, nodes={"conv2": {"addends": ["conv1"]}}, tensors=tensors)
        assert refusal(wrong, tmp_path / "a") == f"conv2.addend0.multiplier: {message}"


def test_kernels_must_fit(content, tmp_path):
    change = {"input_shape": [1, 2, 2]}
    message = "layer 'pool': kernel must fit in the padded input"
    assert refusal(changed(content, header=change), tmp_path / "a") == message


def test_a_number_that_is_no_scale_is_refused(content, tmp_path):
    tensors = {"conv2.scale": np.array(0, np.float32)}
    found = refusal(changed(content, tensors=tensors), tmp_path / "a")
    assert found.startswith("conv2.weight: scale must be a positive number")


def test_off_grid_weights_are_refused(content, tmp_path):
    weights, scale = content.tensors["conv2.weight"].copy(), content.tensors["conv2.scale"]
    weights.flat[7] = 5 * scale
    found = refusal(changed(content, tensors={"conv2.weight": weights}), tmp_path / "a")
    assert found.startswith("conv2.weight[0, 0, 2, 1]: must be a level of apot_k2n1o times the scale")
    assert "(nearest level 4, " in found
    scales = np.full(4, 77, np.float32)
    found = refusal(changed(content, tensors={"conv2.scale": scales}), tmp_path / "a")
    assert found.startswith(
        "conv2.weight[0][0, 0, 0]: must be a level of apot_k2n1o times the scale 77, not "
    )


def test_depthwise_layers_have_one_output_a_channel(content):
    tensors = {f"conv2.{part}": np.zeros(8, np.int64) for part in ("multiplier", "bias", "shift")}
    tensors["conv2.weight"] = np.zeros((8, 1, 3, 3), np.float32)
    wrong = changed(content, nodes={"conv2": {"groups": 4}}, tensors=tensors)
    with pytest.raises(RefusedError, match="must have 4 output channels, not 8"):
        integers(wrong)


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

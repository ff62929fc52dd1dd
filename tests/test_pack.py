"""``python -m sw pack``: the image it writes, and every refusal, which leaves no half files."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from hdl.parameters import AcceleratorParameters
from sw.__main__ import main
from sw.compiler.compile import compile_network
from sw.compiler.fitting import fitting_parameters
from sw.image import read_image
from sw.interchange import Interchange, integers, save
from sw.lowering import interchange
from sw.models import build
from sw.precision import Precision


@pytest.fixture(scope="module")
def exported() -> Interchange:
    torch.manual_seed(0)
    precision = Precision(scheme="apot")
    return interchange(build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=precision).eval())


def describe(path: Path, fitted: AcceleratorParameters, **changed: Any) -> Path:
    """The JSON that the generator writes beside an accelerator."""
    content = {"parameters": asdict(fitted), "build_id": f"{fitted.build_id:08x}"}
    path.write_text(json.dumps(content | changed))
    return path


def pack(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["pack", *map(str, arguments)])


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_pack(exported: Interchange, tmp_path: Path) -> None:
    save(exported, tmp_path / "net.safetensors")
    network = integers(exported)
    parameters = fitting_parameters(network)
    result = pack(tmp_path / "net.safetensors", "--hex", "-o", tmp_path / "net.bin")
    assert result.exit_code == 0, result.output
    assert "python -m gen accelerator" in result.stdout
    assert [node.name for node in network.nodes if node.name in result.stdout] == [
        node.name for node in network.nodes
    ]
    assert len([name for name in files(tmp_path) if name.endswith(".hex")]) == 5
    accelerator = describe(tmp_path / "accelerator.json", parameters)
    again = tmp_path / "again.bin"
    assert pack(tmp_path / "net.safetensors", "--accelerator", accelerator, "-o", again).exit_code == 0
    assert again.read_bytes() == (tmp_path / "net.bin").read_bytes()
    expected = compile_network(network, parameters)
    for section, words in read_image(again, parameters=parameters).sections.items():
        np.testing.assert_array_equal(words, expected.sections[section])


def off_grid(folder: Path, exported: Interchange) -> list[Any]:
    weight = exported.tensors["blocks.1.convolution.weight"].copy()
    weight[3, 2, 1, 0] += 0.3 * exported.tensors["blocks.1.convolution.scale"]
    path = folder / "net.safetensors"
    save(
        Interchange(
            header=exported.header, tensors=exported.tensors | {"blocks.1.convolution.weight": weight}
        ),
        path,
    )
    return [path]


def unreadable(folder: Path, _: Interchange) -> list[Any]:
    (folder / "net.pt").write_bytes(b"not a checkpoint")
    return [folder / "net.pt"]


def fitted(folder: Path, exported: Interchange, **changed: Any) -> list[Any]:
    save(exported, folder / "net.safetensors")
    parameters = replace(fitting_parameters(integers(exported)), **changed)
    return [folder / "net.safetensors", "--accelerator", describe(folder / "small.json", parameters)]


def described(folder: Path, exported: Interchange, **changed: Any) -> list[Any]:
    arguments = fitted(folder, exported)
    describe(arguments[-1], fitting_parameters(integers(exported)), **changed)
    return arguments


@pytest.mark.parametrize(
    ("prepare", "status", "message"),
    [
        (
            off_grid,
            1,
            "net.safetensors: blocks.1.convolution.weight[3, 2, 1, 0]: must be a level of apot_k2n1o",
        ),
        (unreadable, 1, "net.pt: must be a checkpoint written by 'train' (unreadable or truncated)"),
        (lambda folder, _: [folder / "none.pt"], 1, "none.pt: no such file or directory"),
        (lambda folder, _: [folder / "none.safetensors"], 1, "none.safetensors: no such file or directory"),
        (lambda *a: fitted(*a, weight_words=9), 1, "net.safetensors: network needs "),
        (
            lambda *a: fitted(*a, activation_words=9),
            1,
            "net.safetensors: layer 'blocks.0.convolution': activation mem",
        ),
        (lambda *a: fitted(*a, code_width=3), 1, "must have codes of at most 3 bits and levels of"),
        (lambda *a: [*fitted(*a)[:-1], "none.json"], 1, "none.json: no such file or directory"),
        (lambda *a: described(*a, build_id="0badcafe"), 1, "not 0badcafe; generate it anew"),
        (lambda *a: described(*a, parameters={}), 1, "must be the JSON that `python -m gen accelerator`"),
        (
            lambda *a: [*fitted(*a), "--rows", "8"],
            2,
            "--rows must not be given with --accelerator, which has",
        ),
        (lambda *a: [*fitted(*a)[:1], "--lanes", "3"], 1, "net.safetensors: network fits no accelerator: l"),
        (
            lambda *a: [*fitted(*a)[:1], "--weight-format", "apot"],
            1,
            "network fits no accelerator: format must be",
        ),
        (lambda *a: [*fitted(*a), "--hex", "-o", "net.hex"], 2, "-o must not end in .hex when --hex writes"),
        (lambda *_: [], 2, "Missing argument 'NETWORK'"),
    ],
)
def test_refused_packing_leaves_the_folder_alone(
    exported: Interchange, tmp_path: Path, prepare: Callable[..., list[Any]], status: int, message: str
) -> None:
    arguments = prepare(tmp_path, exported)
    output = tmp_path / "net.bin"
    output.write_bytes(b"before")
    before = files(tmp_path)
    result = pack("-o", output, *arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert files(tmp_path) == before
    assert output.read_bytes() == b"before"

"""``python -m sw run``: classes and exact results, and every refusal in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from hdl.layouts import Section
from sw.__main__ import main
from sw.compiler.compile import compile_network
from sw.compiler.fitting import fitting_parameters
from sw.data import digits
from sw.image import read_image, write_image
from tests.engine_bench import layer, program
from tests.random_networks import random_network
from verif.reference import run as run_reference

SHAPE = (1, 8, 8)
COUNT = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image, pictures for it, and what must come of them."""
    path = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(2)
    graph = random_network(rng, weight_format="apot_k2n1o", activation_format="apot_k2n2u", input_shape=SHAPE)
    write_image(path / "net.bin", compile_network(graph, fitting_parameters(graph)))
    pictures = rng.integers(0, 256, (COUNT, *SHAPE), dtype=np.uint8)
    np.save(path / "pictures.npy", pictures)
    np.save(path / "expected.npy", run_reference(graph, torch.from_numpy(pictures)).logits.numpy())
    np.save(path / "floats.npy", pictures / 255)
    np.save(path / "wide.npy", pictures.astype(np.int32) + 256)
    np.save(path / "small.npy", pictures[:, :, 1:])
    np.save(path / "none.npy", pictures[:0])
    np.save(path / "objects.npy", np.array([{}]), allow_pickle=True)
    (path / "text.npy").write_text("no array")
    (path / "cut.bin").write_bytes((path / "net.bin").read_bytes()[:-1])
    wrong = read_image(path / "net.bin")
    words = np.array(program([layer(opcode=7)]), dtype=np.uint32).reshape(-1, 1)
    wrong.sections[Section.PROGRAM] = words
    write_image(path / "wrong.bin", wrong)
    return path


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["run", *map(str, arguments)])


def test_results_go_to_a_file(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "logits.npy"
    result = run(folder / "net.bin", "--input", folder / "pictures.npy", "-o", output)
    assert result.exit_code == 0, result.output
    expected = np.load(folder / "expected.npy")
    np.testing.assert_array_equal(np.load(output), expected)
    lines = [line.split() for line in result.stdout.splitlines()[1:11]]
    assert [line[1] for line in lines] == [str(best) for best in expected.argmax(axis=1)[:10]]
    assert f"and {COUNT - 10} more images" in result.stdout
    assert "top-1" not in result.stdout


def test_a_data_set_has_labels(folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "logits.json"
    result = run(folder / "net.bin", "--dataset", "digits", "--images", 7, "-o", output)
    assert result.exit_code == 0, result.output
    content = json.loads(output.read_text())
    classes = np.array(content["logits"]).argmax(axis=1)
    assert content["labels"] == digits().test_labels[:7].tolist()
    assert content["classes"] == classes.tolist()
    assert content["top1"] == np.mean(classes == np.array(content["labels"]))
    assert content["logit_scale"] == read_image(folder / "net.bin").logit_scale
    assert f"top-1: {content['top1']:.2%} of 7 images" in result.stdout


REFUSALS: list[tuple[int, str, Callable[[Path], list[Any]]]] = [
    (2, "either --input or --dataset must be given", lambda at: [at / "net.bin"]),
    (
        2,
        "either --input or --dataset must be given",
        lambda at: [at / "net.bin", "--dataset", "digits", "--input", at / "pictures.npy"],
    ),
    (
        2,
        "-o must end in .npy or .json",
        lambda at: [at / "net.bin", "--dataset", "digits", "-o", at / "results.csv"],
    ),
    (1, "must be a memory image", lambda at: [at / "text.npy", "--dataset", "digits"]),
    (1, "cut.bin: image is truncated in section", lambda at: [at / "cut.bin", "--dataset", "digits"]),
    (
        1,
        "wrong.bin: command 0 of the program must be legal, but ends with LAYER_OPCODE",
        lambda at: [at / "wrong.bin", "--dataset", "digits"],
    ),
    (1, "no such file", lambda at: [at / "net.bin", "--input", at / "absent.npy"]),
    (
        1,
        "text.npy: must be a NumPy file (.npy) of integers (",
        lambda at: [at / "net.bin", "--input", at / "text.npy"],
    ),
    (
        1,
        "objects.npy: must be a NumPy file (.npy) of integers (",
        lambda at: [at / "net.bin", "--input", at / "objects.npy"],
    ),
    (
        1,
        "floats.npy: must be a NumPy file (.npy) of integers, not float64",
        lambda at: [at / "net.bin", "--input", at / "floats.npy"],
    ),
    (
        1,
        "small.npy: images must have shape (N, 1, 8, 8), not (12, 1, 7, 8)",
        lambda at: [at / "net.bin", "--input", at / "small.npy"],
    ),
    (1, "none.npy: must hold an image", lambda at: [at / "net.bin", "--input", at / "none.npy"]),
    (
        1,
        "images must hold integers from 0 to 255",
        lambda at: [at / "net.bin", "--input", at / "wide.npy"],
    ),
    (
        1,
        "pictures.npy: --images must be at most 12, not 13",
        lambda at: [at / "net.bin", "--input", at / "pictures.npy", "--images", 13],
    ),
]


@pytest.mark.parametrize("number", range(len(REFUSALS)))
def test_refusals(number: int, folder: Path) -> None:
    status, message, arguments = REFUSALS[number]
    before = sorted(folder.iterdir())
    result = run(*arguments(folder))
    assert result.exit_code == status, result.output
    assert message in result.stderr
    assert result.stderr.strip().count("\n") == 0
    assert "Traceback" not in result.output
    assert sorted(folder.iterdir()) == before

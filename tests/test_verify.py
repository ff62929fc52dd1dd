"""``python -m sw verify``: floats against integers, and the simulation that it has done."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from hdl.layouts import Section
from sw import checkpoint, training
from sw.__main__ import main
from sw.agreement import agreement, equal_shares, float_codes
from sw.compiler.compile import compile_network
from sw.compiler.fitting import fitting_parameters
from sw.data import digits
from sw.export import integer_network
from sw.image import read_image, write_image
from sw.interchange import save
from sw.lowering import interchange
from sw.recipe import Recipe
from sw.verify import agreement_with
from verif.reference import run as run_reference

IMAGES = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained a little, as checkpoint, interchange file and image."""
    path = tmp_path_factory.mktemp("verify")
    trained = training.train(Recipe(epochs=1), digits().first(256), path / "net.pt")
    save(interchange(trained.network()), path / "net.safetensors")
    graph = integer_network(trained)
    write_image(path / "net.bin", compile_network(graph, fitting_parameters(graph)))
    np.save(path / "images.npy", digits().test_images[:IMAGES].numpy())
    return path


@pytest.fixture
def simulations(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that would simulate; all of them succeed but those with Icarus."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        pictures = np.load(command[command.index("--input") + 1])
        commands.append([*command, str(len(pictures))])
        return SimpleNamespace(returncode=1 if "icarus" in command else 0)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def verify(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["verify", *map(str, arguments)])


def test_a_checkpoint_is_shown_its_own_data_set(folder: Path, simulations: list[list[str]]) -> None:
    own = verify(folder / "net.pt", folder / "net.bin")
    assert own.exit_code == 0, own.output
    named = verify(folder / "net.pt", folder / "net.bin", "--dataset", "digits")
    assert own.stdout == named.stdout
    result = verify(folder / "net.safetensors", folder / "net.bin")
    assert (result.exit_code, len(simulations)) == (2, 2)
    assert "either --input or --dataset must be given" in result.stderr


def test_a_checkpoint(folder: Path, simulations: list[list[str]]) -> None:
    """The shares are those of the reference, which may read the float model's codes; images are simulated."""
    result = verify(
        *(folder / "net.pt", folder / "net.bin", "--input", folder / "images.npy"),
        *("--rtl-images", 3, "--waves", folder / "first.fst"),
    )
    assert result.exit_code == 0, result.output
    loaded = checkpoint.load(folder / "net.pt")
    images = digits().test_images[:IMAGES]
    graph, model = integer_network(loaded), loaded.network().eval()
    trace = run_reference(graph, images)
    expected = agreement(model, images, codes=trace.codes, logits=trace.logits)
    floats, _ = float_codes(model, images)
    alone = equal_shares(floats, run_reference(graph, images, given=floats).codes)
    _, *rows, last = result.stdout.splitlines()
    assert [row.split() for row in rows] == [
        [name, f"{alone[name]:.3%}", f"{share:.3%}"] for name, share in expected.codes.items()
    ]
    assert last == f"class: the same for {expected.top1:.2%} of {IMAGES} images"
    ((*command, count),) = simulations
    assert command[:5] == [sys.executable, "-m", "verif", "check", str(folder / "net.bin")]
    assert command[7:] == ["--simulator", "verilator", "--waves", str(folder / "first.fst")]
    assert count == "3"


def test_the_simulations_status_counts(folder: Path, simulations: list[list[str]]) -> None:
    arguments = [folder / "net.safetensors", folder / "net.bin", "--dataset", "digits", "--images", 5]
    result = verify(*arguments)
    assert result.exit_code == 0
    assert "holds no float model: only integers are compared" in result.stdout
    assert verify(*arguments, "--simulator", "icarus").exit_code == 1
    assert verify(*arguments, "--simulator", "icarus", "--rtl-images", 0).exit_code == 0
    assert len(simulations) == 2


def test_too_little_agreement(
    folder: Path, simulations: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hardware is simulated all the same, but the status tells."""

    def worse(*arguments: Any) -> Any:
        found = agreement_with(*arguments)
        return replace(found, alone=found.alone | {"blocks.1.convolution": 0.9})

    monkeypatch.setattr("sw.verify.agreement_with", worse)
    arguments = [folder / "net.pt", folder / "net.bin", "--dataset", "digits", "--images", 5]
    result = verify(*arguments)
    assert result.exit_code == 1
    assert "net.bin: codes 'blocks.1.convolution' must agree to 95.0%" in result.stderr
    assert verify(*arguments, "--least", 0.5).exit_code == 0
    assert len(simulations) == 2


@pytest.mark.parametrize("section", [Section.WEIGHTS, Section.BOUNDARIES, Section.PROGRAM])
def test_an_image_of_something_else_is_refused(
    section: Section, folder: Path, simulations: list[list[str]]
) -> None:
    other = read_image(folder / "net.bin")
    words = other.sections[section].copy()
    words[3, 0] ^= 2
    write_image(folder / "other.bin", replace(other, sections=other.sections | {section: words}))
    result = verify(folder / "net.pt", folder / "other.bin", "--dataset", "digits")
    assert result.exit_code == 1
    assert f"word 3 of section {section.name} differs" in result.stderr
    short = replace(other, sections=other.sections | {section: words[:-1]})
    write_image(folder / "other.bin", short)
    result = verify(folder / "net.pt", folder / "other.bin", "--dataset", "digits")
    assert f"section {section.name} must have {len(words)} words, not {len(words) - 1}" in result.stderr
    assert not simulations


@pytest.mark.nightly
def test_verify_simulates(folder: Path) -> None:
    """The whole command, in a process of its own."""
    arguments = [folder / "net.pt", folder / "net.bin", "--dataset", "digits", "--images", "50"]
    result = subprocess.run(
        [sys.executable, "-m", "sw", "verify", *map(str, arguments), "--rtl-images", "2"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "0 of 2" in result.stdout

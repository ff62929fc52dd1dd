"""The training commands of the documentation, one for each scheme, on few images; what comes out packs."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from sw.__main__ import main
from sw.schemes import FLOAT, SCHEMES

ROOT = Path(__file__).parents[1]
FASHION = ROOT.parent / "shared" / "data" / "fashion_mnist"
COMMANDS = {
    match[1]: shlex.split(match[0])[3:]
    for match in re.finditer(
        r"^python -m sw train --dataset fashion_mnist .*-o build/(\w+)\.pt$",
        (ROOT / "docs" / "tools.md").read_text(),
        re.MULTILINE,
    )
}
QUICK = ("lcq",)

needs_images = pytest.mark.skipif(not FASHION.is_dir(), reason="Fashion-MNIST is not beside this checkout")


def run(*arguments: object) -> None:
    done = CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="python -m sw")
    assert done.exit_code == 0, done.output


def train_and_pack(name: str, folder: Path) -> None:
    checkpoint, image = folder / f"{name}.pt", folder / f"{name}.bin"
    command = [*COMMANDS[name][:-1], checkpoint]
    command[command.index("--data-dir") + 1] = FASHION
    run(*command, "--images", 192, "--epochs", 1)
    run("pack", checkpoint, "-o", image)
    assert image.stat().st_size > 1000


def test_every_scheme_has_a_command():
    schemes = {command[command.index("--scheme") + 1] for command in COMMANDS.values()}
    assert schemes == set(SCHEMES) - {FLOAT}
    assert COMMANDS.keys() >= {*QUICK, "br", "lba"}


@needs_images
@pytest.mark.parametrize("name", QUICK)
def test_documented_command_trains_and_packs(name, tmp_path):
    train_and_pack(name, tmp_path)


@pytest.mark.nightly
@needs_images
@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - set(QUICK)))
def test_other_documented_commands_train_and_pack(name, tmp_path):
    train_and_pack(name, tmp_path)

"""Set-up on machines that lack something, with stand-ins for every tool it calls."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "bootstrap.sh"
BORROWED = ("bash", "sh", "dirname", "env", "flock", "sed", "mkdir", "cp", "mv", "rm", "touch")
PRESENT = ("iverilog", "g++", "make", "perl", "ccache")
PYTHON = """
case "$*" in
    *sys.version_info*) exec {real} -c "import sys; sys.version_info = {version}; ${{2#import sys; }}" ;;
    --version) echo Python 3.10.2 ;;
    *ctypes*) exit {no_library} ;;
    *ensurepip*) exit {no_venv} ;;
    *"-m venv"*) mkdir -p .venv/bin && rm -f .venv/unfinished && cp "$0" .venv/bin/python ;;
    "-m pip --version") exit {no_pip} ;;
    *--group*) exit {pip} ;;
esac
"""
SUDO = """[ "$1" = -n ] && shift && "$@" """


class Machine:
    """A folder with a copy of the script, and a PATH that holds only what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.project = folder / "project"
        self.programs = folder / "bin"
        self._calls = folder / "calls"
        self.project.mkdir()
        self.programs.mkdir()
        shutil.copy(SCRIPT, self.project)
        for name in BORROWED:
            found = shutil.which(name)
            assert found, f"{name} must be installed to run this test"
            (self.programs / name).symlink_to(found)
        self.put("id", "echo 1000")
        for name in PRESENT:
            self.put(name)
        self.put_python()

    def put(self, name: str, body: str = "") -> None:
        """A program that notes how it was called, then does `body`."""
        program = self.programs / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {self._calls}\n{body}\n')
        program.chmod(0o755)

    def put_python(self, *, version: tuple[int, int] = (3, 11), **failures: int) -> None:
        """A Python that fails at what is named (no_library, no_venv, no_pip, pip) with that exit status."""
        statuses = {"no_library": 0, "no_venv": 0, "no_pip": 0, "pip": 0} | failures
        self.put("python3", PYTHON.format(real=sys.executable, version=version, **statuses))

    def remove(self, *names: str) -> None:
        for name in names:
            (self.programs / name).unlink()

    def run(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.programs / "bash", self.project / "bootstrap.sh"],
            env={"PATH": str(self.programs)},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=30,
            check=False,
        )

    def calls(self, start: str) -> list[str]:
        return [call for call in self._calls.read_text().splitlines() if call.startswith(start)]

    @property
    def ready(self) -> bool:
        return (self.project / ".venv/ready").exists()

    @property
    def unfinished(self) -> bool:
        return (self.project / ".venv/unfinished").exists()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def _refused(machine: Machine, message: str) -> None:
    result = machine.run()
    assert result.returncode == 1
    assert result.stderr == f"bootstrap: {message}\n"
    assert not (machine.project / ".venv").exists()


def test_nothing_missing(machine: Machine) -> None:
    result = machine.run()
    assert (result.returncode, result.stderr) == (0, "")
    assert machine.ready
    assert not machine.unfinished


def test_missing_packages_without_root(machine: Machine) -> None:
    machine.remove("iverilog", "g++")
    _refused(machine, "system packages are missing; run: sudo apt-get install iverilog g++")


def test_missing_packages_where_sudo_asks_for_a_password(machine: Machine) -> None:
    machine.remove("ccache")
    machine.put("apt-get")
    machine.put("sudo", "echo 'sudo: a password is required' >&2; exit 1")
    _refused(machine, "system packages are missing; run: sudo apt-get install ccache")
    assert not machine.calls("apt-get")


def test_missing_packages_as_root_without_apt(machine: Machine) -> None:
    machine.put("id", "echo 0")
    machine.remove("make")
    _refused(machine, "system packages are missing; run: apt-get install make")


def test_perl_and_python_without_what_debian_packs_apart(machine: Machine) -> None:
    machine.put("perl", "exit 2")
    machine.put_python(no_library=1, no_venv=1)
    _refused(
        machine,
        "system packages are missing; run: sudo apt-get install perl python3.11-venv libpython3.11",
    )


@pytest.mark.parametrize("user", [0, 1000])
def test_only_missing_packages_are_installed(machine: Machine, user: int) -> None:
    machine.put("id", f"echo {user}")
    machine.put("apt-get")
    if user:
        machine.put("sudo", SUDO)
    machine.remove("iverilog", "ccache")
    assert machine.run().returncode == 0
    update, install = machine.calls("apt-get")
    assert update.startswith("apt-get update")
    assert install.startswith("apt-get install ")
    assert install.endswith(" iverilog ccache")
    assert machine.ready


def test_failing_apt(machine: Machine) -> None:
    machine.put("id", "echo 0")
    machine.put("apt-get", "exit 100")
    machine.remove("perl")
    _refused(machine, "system packages are missing; run: apt-get install perl")


def test_old_python(machine: Machine) -> None:
    machine.put_python(version=(3, 10))
    _refused(machine, "Python 3.11 or later is needed; python3 is: Python 3.10.2")


def test_no_python(machine: Machine) -> None:
    machine.remove("python3")
    _refused(machine, "Python 3.11 or later is needed; python3 is: missing")


def test_old_python_beside_a_new_one(machine: Machine) -> None:
    (machine.programs / "python3").rename(machine.programs / "python3.11")
    machine.put_python(version=(3, 10))
    assert machine.run().returncode == 0
    assert machine.ready


def test_failing_pip_leaves_no_stamp_and_the_next_run_starts_afresh(machine: Machine) -> None:
    machine.put_python(pip=1)
    assert machine.run().returncode != 0
    assert machine.unfinished
    assert not machine.ready
    machine.put_python()
    assert machine.run().returncode == 0
    assert machine.ready
    assert len(machine.calls("python3 -m venv --clear")) == 2


def test_failing_update_takes_the_stamp_away(machine: Machine) -> None:
    assert machine.run().returncode == 0
    machine.put_python(pip=1)
    shutil.copy(machine.programs / "python3", machine.project / ".venv/bin/python")
    assert machine.run().returncode != 0
    assert not machine.ready


def test_environment_is_kept(machine: Machine) -> None:
    for _ in range(2):
        assert machine.run().returncode == 0
    assert machine.ready
    assert len(machine.calls("python3 -m venv --clear")) == 1


@pytest.mark.parametrize("failures", [{"version": (3, 10)}, {"no_pip": 1}], ids=["old Python", "no pip"])
def test_environment_that_cannot_be_used_is_made_anew(machine: Machine, failures: dict[str, Any]) -> None:
    assert machine.run().returncode == 0
    machine.put_python(**failures)
    (machine.programs / "python3").rename(machine.project / ".venv/bin/python")
    machine.put_python()
    assert machine.run().returncode == 0
    assert machine.ready
    assert len(machine.calls("python3 -m venv --clear")) == 2

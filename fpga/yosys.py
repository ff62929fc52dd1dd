"""Yosys in a child process: it prints thousands of lines, and a failing pass ends the process it runs in."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from hdl.console import RefusedError
from hdl.files import write_text

CHILD = Path(__file__).with_name("child.py")
DESIGN = "design.v"
STATISTICS = "statistics.json"


class YosysError(RefusedError):
    """A pass failed; the message is Yosys' own."""


def cells(verilog: str, commands: Sequence[str]) -> dict[str, int]:
    """Cells by type, of the whole design, after `commands` have run on it.

    Parameters
    ----------
    verilog
        Text of the design.
    commands
        Yosys commands; they end with the design flat, or with one module.

    Raises
    ------
    RefusedError
        If pyosys is not installed.
    YosysError
        If a command fails.
    """
    if not find_spec("pyosys"):
        raise RefusedError("synthesis needs the Python package pyosys: run `make setup`")
    script = [f"read_verilog {DESIGN}", *commands, f"tee -q -o {STATISTICS} stat -json"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_text(folder / DESIGN, verilog)
        child = subprocess.run(
            [sys.executable, CHILD, *script], cwd=folder, capture_output=True, text=True, check=False
        )
        if child.returncode or not (folder / STATISTICS).exists():
            raise YosysError(_error(child.stdout + child.stderr))
        design = json.loads((folder / STATISTICS).read_text(encoding="utf-8"))["design"]
    return dict(sorted(design["num_cells_by_type"].items()))


def _error(log: str) -> str:
    lines = [line for line in log.splitlines() if line.startswith("ERROR")]
    return lines[0] if lines else f"Yosys ended early: {log.strip().splitlines()[-1:]}"

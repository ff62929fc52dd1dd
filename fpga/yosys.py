"""Yosys in a child process: it prints thousands of lines, and a failing pass ends the process it runs in."""

import json
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hdl.console import RefusedError
from hdl.files import write_text

from .processes import Processes

PACKAGE = "pyosys"
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
    statistics = run(verilog, [*commands, f"tee -q -o {STATISTICS} stat -json"])[STATISTICS]
    return dict(sorted(statistics["design"]["num_cells_by_type"].items()))


def run(verilog: str, commands: Sequence[str], *, processes: Processes | None = None) -> dict[str, Any]:
    """Run `commands` on a design; the contents of every JSON file that they write, by file name.

    Raises
    ------
    RefusedError, YosysError
        As above.
    StoppedError
        If `processes` was stopped.
    """
    if not find_spec("pyosys"):
        raise RefusedError("synthesis needs the Python package pyosys: run `make setup`")
    script = [f"read_verilog {DESIGN}", *commands]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_text(folder / DESIGN, verilog)
        status, log = (processes or Processes()).run([sys.executable, CHILD, *script], cwd=folder)
        written = {path.name: path for path in folder.glob("*.json")}
        if status or not written:
            raise YosysError(_error(log))
        return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in written.items()}


def _error(log: str) -> str:
    lines = [line for line in log.splitlines() if line.startswith("ERROR")]
    return lines[0] if lines else f"Yosys ended early: {log.strip().splitlines()[-1:]}"

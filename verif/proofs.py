"""Formal proofs that generated blocks equal their level tables, by temporal induction in yosys."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.exceptions import UsageError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fpga.yosys import CHILD
from gen.verilog import Design, generate
from hdl.console import RefusedError
from hdl.files import write_text

from .simulators import SimulationError
from .specification import Specification

TIMEOUT = 600
PROVEN = "Induction step proven: SUCCESS!"
REFUTED = "model found for base case: FAIL!"

FAMILIES: dict[str, tuple[dict[str, Any], ...]] = {
    "apot": (
        {"k": 1, "n": 1},
        {"k": 2, "n": 1},
        {"k": 2, "n": 1, "odd": True},
        {"k": 2, "n": 2},
        {"k": 2, "n": 2, "odd": True},
    ),
    "pot": ({"k": 2}, {"k": 3}),
    "uniform": ({"bits": 2}, {"bits": 4}),
    "table": ({"format": "apot_k2n2"}, {"format": "uniform_b4"}),
}
FOLDABLE = ("apot", "pot")
SMALL = {"activation_width": 2, "lanes": 2, "depth": 16}
"""Size of the dot products: a solver's work grows fast with lanes, and lanes differ in nothing."""


class ProofError(SimulationError):
    """A claim does not hold, or could not be proven."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A block whose accumulator must equal its specification for all inputs and all time.

    Parameters
    ----------
    block
        A processing element or dot product of the generator's catalog.
    parameters
        The block's parameters.
    """

    block: str
    parameters: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        values = " ".join(
            f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}")
            for name, value in self.parameters.items()
        )
        return f"{self.block} {values}"


def claims() -> Iterator[Claim]:
    """What `make prove` proves: every processing element, and every dot product at two lanes."""
    for family, choices in FAMILIES.items():
        for choice in choices:
            yield Claim(block=f"{family}_pe", parameters={**choice, "activation_width": 8})
    for family, choices in FAMILIES.items():
        for choice in choices:
            yield Claim(block=f"{family}_dot", parameters={**choice, **SMALL})
            if family in FOLDABLE:
                yield Claim(block=f"{family}_dot", parameters={**choice, **SMALL, "folded": True})


def prove(claim: Claim) -> float:
    """Prove a claim about the generated Verilog; returns the seconds it took.

    Raises
    ------
    ProofError
        If there is a counterexample, or no proof within the time limit.
    """
    return prove_design(generate(claim.block, **claim.parameters), name=str(claim))


def prove_design(design: Design, *, name: str) -> float:
    """Prove that a design keeps to the specification that its description implies."""
    from amaranth.back import rtlil

    description = dict(design.description)
    levels = tuple(description["levels"])
    specification = rtlil.convert(
        Specification(description, levels=levels), name="specification", emit_src=False
    )
    latency = description["latency"]
    script = [
        "read_verilog design.v",
        "read_rtlil specification.il",
        "hierarchy -check -top specification",
        "proc -norom",
        "flatten",
        "chformal -lower",
        "opt -full",
        "async2sync",
        "dffunmap",
        "opt_clean",
        f"sat -tempinduct -prove-asserts -set-assumes -initsteps {latency} -maxsteps {latency + 2}",
    ]
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        write_text(Path(folder) / "design.v", design.verilog)
        write_text(Path(folder) / "specification.il", specification)
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
    if REFUTED in child.stdout:
        raise ProofError(f"{name}: must equal its level table, but a counterexample was found")
    if PROVEN not in child.stdout:
        last = (child.stdout + child.stderr).strip().splitlines()[-1:]
        raise ProofError(f"{name}: not proven ({' '.join(last)})")
    return time.monotonic() - start


def report(blocks: Sequence[str]) -> None:
    """Prove the claims about these blocks (all, if none is named) and print a table.

    Raises
    ------
    UsageError
        If there is no claim about a block.
    RefusedError
        If a claim is not proven.
    """
    everything = list(claims())
    unknown = set(blocks) - {claim.block for claim in everything}
    if unknown:
        known = ", ".join(dict.fromkeys(claim.block for claim in everything))
        raise UsageError(f"BLOCKS must be among {known}, not {min(unknown)!r}")
    chosen = [claim for claim in everything if not blocks or claim.block in blocks]
    table = Table("claim", "proof", "seconds", box=None)
    failures = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(chosen))
        for claim in chosen:
            progress.update(task, description=claim.block)
            try:
                table.add_row(str(claim), "holds", f"{prove(claim):.1f}")
            except ProofError as error:
                failures.append(str(error))
                table.add_row(str(claim), "[bold]fails[/bold]", "")
            progress.advance(task)
    Console().print(table)
    if failures:
        raise RefusedError("; ".join(failures))

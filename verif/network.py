"""Whole networks on simulated hardware: packets through the harness, answers as arrays."""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gen.verilog import Design, generate
from hdl.files import write_text
from hdl.layouts import Status
from hdl.parameters import AcceleratorParameters
from sw.bits import Words
from sw.compiler.compile import Compiled
from sw.compiler.schedule import program_cycles
from sw.driver import answered_results, encode_images, load_packets, response_length, run_packets, stream

from .simulators import ROOT, Bench, run

CAPACITIES = (1 << 14, 1 << 20, 1 << 23)
"""Words that the harness holds in each direction: few if they suffice, since simulators start faster then."""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What is put beside the accelerator in the harness.

    Members
    -------
    sources : sequence of Path
        Verilog files.
    defines : mapping
        Macros.
    plusargs : mapping
        Of the run.
    """

    sources: Sequence[Path] = ()
    defines: Mapping[str, str | int] = field(default_factory=dict)
    plusargs: Mapping[str, str | int | Path] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """What came back from a simulation.

    Members
    -------
    words : array of uint32
        All response words in a row.
    last : array of bool
        Which of them ended a response.
    cycles, busy_cycles : int
        Simulated cycles after reset, and those in which the engine ran.
    seconds : float
        Wall time of the simulation, without building it.
    """

    words: Words
    last: NDArray[np.bool_]
    cycles: int
    busy_cycles: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Answers to a batch of images.

    Members
    -------
    logits : int64 array (N, classes)
    cycles : int array (N,)
        As the accelerator counted them.
    exchange : Exchange
    """

    logits: NDArray[np.int64]
    cycles: NDArray[np.int64]
    exchange: Exchange


def accelerator(parameters: AcceleratorParameters) -> Design:
    """The generated accelerator."""
    return generate("accelerator", **vars(parameters))


def exchange(
    verilog: Path,
    packets: Sequence[Words],
    *,
    answers: int,
    simulator: str,
    cycle_limit: int,
    source_gaps: int = 0,
    sink_gaps: int = 0,
    waves: Path | None = None,
    beside: Beside | None = None,
) -> Exchange:
    """Stream packets into a simulated accelerator until it has answered with so many words.

    Raises
    ------
    SimulationError
        If it does not answer within `cycle_limit` cycles, or withdraws an offer.
    """
    words, last = stream(packets)
    needed = max(len(words), answers)
    capacity = next((size for size in CAPACITIES if size >= needed), None)
    if capacity is None:
        raise ValueError(f"packets and answers must be at most {CAPACITIES[-1]} words, not {needed}")
    beside = beside or Beside()
    bench = Bench(
        module="verif.benches.accelerator",
        toplevel="harness",
        sources=[ROOT / "verif" / "harness.v", verilog, *beside.sources],
        parameters={"SOURCE_WORDS": capacity, "SINK_WORDS": capacity},
        defines=beside.defines,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "source.hex"
        entries = words.astype(np.uint64) | (last.astype(np.uint64) << np.uint64(32))
        write_text(source, "".join(f"{entry:09x}\n" for entry in entries.tolist()))
        config = {
            "source_count": len(words),
            "sink_count": answers,
            "source_gaps": source_gaps,
            "sink_gaps": sink_gaps,
            "cycle_limit": cycle_limit,
            "words": str(folder / "words.npy"),
            "counts": str(folder / "counts.json"),
        }
        start = time.monotonic()
        run(
            bench,
            simulator=simulator,
            config=config,
            plusargs={"source": source, **beside.plusargs},
            waves=waves,
        )
        seconds = time.monotonic() - start
        received = np.load(folder / "words.npy")
        counts = json.loads((folder / "counts.json").read_text(encoding="utf-8"))
    return Exchange(
        words=(received & np.uint64(0xFFFFFFFF)).astype(np.uint32),
        last=received >> np.uint64(32) != 0,
        seconds=seconds,
        **counts,
    )


def classify(
    compiled: Compiled,
    images: NDArray[np.integer],
    *,
    verilog: Path,
    simulator: str,
    source_gaps: int = 0,
    sink_gaps: int = 0,
    waves: Path | None = None,
) -> Answers:
    """Load a compiled network and run images (N, C, H, W) through it.

    Raises
    ------
    SimulationError
        If the accelerator reports an error, or does not answer in time.
    """
    parameters = compiled.parameters
    encoded = encode_images(images, layout=compiled.input, parameters=parameters)
    packets = [
        *load_packets(compiled.sections, parameters=parameters),
        *run_packets(encoded, results=compiled.results, parameters=parameters),
    ]
    length = response_length(results=compiled.results, parameters=parameters)
    batches = -(-len(images) // parameters.cores)
    busy = batches * program_cycles(compiled.schedule)
    streamed = sum(len(packet) for packet in packets) + batches * length
    exchanged = exchange(
        verilog,
        packets,
        answers=batches * length,
        simulator=simulator,
        cycle_limit=2 * (busy + 40 * streamed),
        source_gaps=source_gaps,
        sink_gaps=sink_gaps,
        waves=waves,
    )
    rows = exchanged.words.reshape(batches, length)
    for index, status in enumerate(rows[:, 0].tolist()):
        if status != Status.DONE:
            raise RuntimeError(f"batch {index} must end with DONE, not {Status(status).name}")
    results = answered_results(rows, images=len(images), parameters=parameters)
    return Answers(
        logits=results[:, : compiled.classes],
        cycles=np.repeat(rows[:, 1].astype(np.int64), parameters.cores)[: len(images)],
        exchange=exchanged,
    )

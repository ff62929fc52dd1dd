"""One network through the whole path: export, pack, generate, execute, simulate, compare."""

import hashlib
import json
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hdl.console import RefusedError
from hdl.files import write_text
from hdl.layouts import Section
from sw.compiler.compile import Compiled, compile_network
from sw.compiler.fitting import fitting_parameters
from sw.compiler.schedule import program_cycles
from sw.executor import Machine
from sw.graph import Convolution, IntegerGraph
from sw.image import read_image, write_image

from .. import network, reference
from ..simulators import ROOT, SimulationError

SIMULATOR = "verilator"
REFERENCE_IMAGES = 10
"""Images that the reference takes at once."""

Facts = dict[str, Any]
Step = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What a simulated accelerator answered.

    Members
    -------
    logits : list
        Of each image.
    cycles : list of int
        Of each image's run.
    simulated_cycles : int
        All of them, with those in which packets are loaded.
    seconds, processor_seconds : float
        Wall time and processor time of building the simulator and running it.
    """

    logits: list[list[int]]
    cycles: list[int]
    simulated_cycles: int
    seconds: float
    processor_seconds: float


class Simulations:
    """Simulations by the hash of accelerator, image and pictures, kept in a folder.

    Parameters
    ----------
    folder
        Made when the first one is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def simulated(self, compiled: Compiled, image: bytes, pictures: NDArray[np.uint8]) -> Simulation:
        """What is kept, or a simulation that then is.

        Raises
        ------
        SimulationError
            If the accelerator does not answer.
        """
        text = network.accelerator(compiled.parameters).verilog
        path = self._folder / f"{_key(text, image, pictures)}.json"
        try:
            return Simulation(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            found = _simulated(compiled, text, pictures)
        write_text(path, json.dumps(asdict(found)) + "\n")
        return found


def _key(verilog: str, image: bytes, pictures: NDArray[np.uint8]) -> str:
    harness = (ROOT / "verif" / "harness.v").read_bytes()
    parts = [verilog.encode(), image, pictures.tobytes(), harness, version("verilator").encode()]
    digests = [hashlib.sha256(part).hexdigest() for part in parts]
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:32]


def _simulated(compiled: Compiled, verilog: str, pictures: NDArray[np.uint8]) -> Simulation:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "accelerator.v"
        path.write_text(verilog, encoding="utf-8")
        start, before = time.monotonic(), _processor_seconds()
        try:
            answers = network.classify(compiled, pictures, verilog=path, simulator=SIMULATOR)
        except RuntimeError as error:
            raise SimulationError(str(error)) from error
        seconds, processor_seconds = time.monotonic() - start, _processor_seconds() - before
    return Simulation(
        logits=answers.logits.tolist(),
        cycles=answers.cycles.tolist(),
        simulated_cycles=answers.exchange.cycles,
        seconds=round(seconds, 1),
        processor_seconds=round(processor_seconds, 1),
    )


def _processor_seconds() -> float:
    """Of all programs that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(
    graph: IntegerGraph,
    pictures: NDArray[np.uint8],
    *,
    simulations: Simulations,
    weight_format: str | None = None,
    level_width: int | None = None,
    cores: int = 1,
    step: Step = lambda _: None,
) -> Facts:
    """Compare hardware with reference and executor, number by number.

    Parameters
    ----------
    graph
        The network.
    pictures
        Images (N, C, H, W).
    weight_format, level_width, cores
        Of the accelerator; see `fitting_parameters`.
    step
        Called with what is done next.

    Returns
    -------
    dict
        What it takes of its accelerator, and how many logits differ in how many images.

    Raises
    ------
    RefusedError
        If the network fits no accelerator, or a logit or a cycle is not what it must be.
    SimulationError
        If the accelerator does not answer.
    """
    step("packing")
    parameters = fitting_parameters(graph, weight_format=weight_format, level_width=level_width, cores=cores)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.bin"
        write_image(path, compile_network(graph, parameters))
        compiled, image = read_image(path, parameters=parameters), path.read_bytes()
    step("running the reference")
    expected = np.concatenate(
        [
            reference.run(graph, torch.from_numpy(part)).logits.numpy()
            for part in np.split(pictures, range(REFERENCE_IMAGES, len(pictures), REFERENCE_IMAGES))
        ]
    )
    step("running the executor")
    machine = Machine(compiled)
    batch = machine.images_at_once
    executed = np.concatenate(
        [machine.run(part) for part in np.split(pictures, range(batch, len(pictures), batch))]
    )
    _check_equal("logits of the executor", executed, "the reference's", expected)
    step(f"simulating {len(pictures)} image{'s'[: len(pictures) > 1]}")
    simulation = simulations.simulated(compiled, image, pictures)
    _check_equal("logits of the hardware", np.array(simulation.logits), "the executor's", executed)
    planned = program_cycles(compiled.schedule)
    _check_equal("cycles", np.array(simulation.cycles), "as planned", np.full(len(pictures), planned))
    return costs(graph, compiled) | {
        "images": len(pictures),
        "mismatches": 0,
        "simulated_cycles": simulation.simulated_cycles,
        "seconds": simulation.seconds,
        "processor_seconds": simulation.processor_seconds,
    }


def _check_equal(what: str, found: NDArray[np.integer], those: str, expected: NDArray[np.integer]) -> None:
    wrong = np.argwhere(found != expected)
    if len(wrong):
        place, index = tuple(wrong[0].tolist()), int(wrong[0][0])
        raise RefusedError(
            f"{what} must be {those}: image {index} has {found[place]} for {expected[place]}, "
            f"and {len(wrong)} of {found.size} differ"
        )


def costs(graph: IntegerGraph, compiled: Compiled) -> Facts:
    """What a network takes of its accelerator; known before it runs."""
    p = compiled.parameters
    cycles, macs = program_cycles(compiled.schedule), sum(layer.macs for layer in compiled.schedule)
    layers = [node for node in graph.nodes if isinstance(node, Convolution)]
    return {
        "layers": len(layers),
        "macs": macs,
        "cycles": cycles,
        "share_of_peak": round(macs / (cycles * p.rows * p.lanes), 6),
        "weight_bytes": compiled.sections[Section.WEIGHTS].nbytes,
        "float_bytes": 4 * sum(layer.weights.size for layer in layers),
        "parameters": asdict(p),
    }

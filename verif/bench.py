"""How fast the tools are: generating, packing, simulating, training.  Figures of one machine, not tests."""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from gen.version import version
from hdl.files import write_text
from hdl.formats import named
from hdl.parameters import AcceleratorParameters
from sw.bench import TIMED, training_step_ratio
from sw.compiler.compile import compile_network
from sw.compiler.fitting import fitting_parameters
from sw.data import CLASSES, digits
from sw.executor import Machine
from sw.export import integer_network
from sw.graph import IMAGE, IntegerGraph
from sw.image import write_image
from sw.interchange import KIND, VERSION, Interchange, integers
from sw.models import build
from sw.precision import Precision

from .network import accelerator, classify
from .simulators import ROOT

RUNS = 5
CHANNELS, LAYERS = 512, 4
BATCHES = {"icarus": (1, 4), "verilator": (20, 320)}

Figures = dict[str, dict[str, Any]]


def run(output: Path) -> None:
    """Measure everything, write JSON to `output`, and print the table."""
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "generate apot_pe": generator_seconds,
        "pack": packing_rate,
        "simulate, Icarus": lambda: simulation_rate("icarus"),
        "simulate, Verilator": lambda: simulation_rate("verilator"),
        "simulate ResNet-20": product_rate,
        "pack ResNet-18": packing_seconds,
        "execute ResNet-18": execution_rate,
        **{f"train, {scheme}": partial(training_step_ratio, scheme=scheme) for scheme in TIMED},
    }
    figures: Figures = {}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(measures))
        for name, measure in measures.items():
            progress.update(task, description=name)
            figures[name] = measure()
            progress.advance(task)
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "machine": platform.machine()}
    content = {"version": version(), "machine": machine, "figures": figures}
    write_text(output, json.dumps(content, indent=2) + "\n")
    Console().print(report(figures))
    Console().print(f"written to {output}")


def report(figures: Figures) -> Table:
    """The figures beside what they aim at."""
    pe, pack = figures["generate apot_pe"], figures["pack"]
    table = Table("measure", "median", "spread", "aim", box=None)
    table.add_row("generate apot_pe, cold", f"{pe['seconds']:.2f} s", _spread(pe, "s"), "≤ 1.5 s")
    table.add_row("pack, float weights", f"{pack['rate']:.0f} MB/s", _spread(pack, "MB/s"), "≥ 100 MB/s")
    for name in ("simulate, Icarus", "simulate, Verilator"):
        rate = figures[name]
        table.add_row(name, f"{rate['rate']:,.0f} cycles/s", _spread(rate, ""), "")
    products = figures["simulate ResNet-20"]
    table.add_row(
        "simulate ResNet-20, Verilator", f"{products['rate']:.1f} MMAC/s", _spread(products, "MMAC/s"), ""
    )
    whole = figures["pack ResNet-18"]
    table.add_row("compile and pack ResNet-18", f"{whole['seconds']:.1f} s", _spread(whole, "s"), "")
    execute = figures["execute ResNet-18"]
    table.add_row(
        "execute ResNet-18 at 224²", f"{execute['rate']:.2f} images/s", _spread(execute, "images/s"), ""
    )
    for scheme in TIMED:
        step = figures[f"train, {scheme}"]
        spread = f"{step['ratio_low']:.2f} … {step['ratio_high']:.2f} (quartiles)"
        table.add_row(f"training step over float, {scheme}", f"{step['ratio']:.2f} ×", spread, "≤ 1.15 ×")
    return table


def _spread(figure: dict[str, Any], unit: str) -> str:
    digits = 2 if figure["high"] < 10 else 0
    return f"{figure['low']:,.{digits}f} … {figure['high']:,.{digits}f} {unit}".strip()


def _summary(values: list[float], name: str) -> dict[str, Any]:
    return {name: median(values), "low": min(values), "high": max(values), "runs": len(values)}


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def generator_seconds() -> dict[str, Any]:
    """Wall time of the whole command in a fresh process."""
    command = [sys.executable, "-m", "gen", "apot_pe", "--k", "2", "--n", "2", "-o", "-"]

    def generate() -> None:
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)

    return _summary([_seconds(generate) for _ in range(RUNS)], "seconds")


def packing_rate() -> dict[str, Any]:
    """Float weights on their grid to a memory image on disk, in megabytes of float32 a second."""
    content = _large_network()
    size = sum(tensor.nbytes for name, tensor in content.tensors.items() if name.endswith(".weight"))
    parameters = AcceleratorParameters(
        depth=16 * CHANNELS, weight_words=2**19, channel_words=2**12, activation_words=2**14, result_words=64
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.bin"

        def pack() -> None:
            write_image(path, compile_network(integers(content), parameters))

        rates = [size / 1e6 / _seconds(pack) for _ in range(RUNS)]
    return _summary(rates, "rate") | {"megabytes": size / 1e6}


def _large_network() -> Interchange:
    """Convolutions of 512 × 512 channels with random APoT weights, as an export would give them."""
    rng = np.random.default_rng(1)
    weight_format, activations = named("apot_k2n1o"), named("apot_k2n2u")
    grid = np.array(weight_format.grid, dtype=np.float32)
    nodes: list[dict[str, Any]] = []
    tensors: dict[str, NDArray[Any]] = {}
    for index in range(LAYERS):
        last, name = index == LAYERS - 1, f"layer{index}"
        encoding = {"tensor": name, "format": activations.name, "scale": 1.0, "zero": 0}
        nodes.append(
            {
                "op": "convolution",
                "name": name,
                "source": f"layer{index - 1}" if index else IMAGE,
                "weight_format": weight_format.name,
                "encodings": [] if last else [encoding],
                "values": None,
                "rectified": False,
                "residual": None,
                "stride": 1,
                "padding": 0 if last else 1,
                "groups": 1,
            }
        )
        scale = np.float32(0.0123)
        tensors[f"{name}.weight"] = scale * rng.choice(grid, (CHANNELS, CHANNELS, 3, 3))
        tensors[f"{name}.scale"] = np.array(scale)
        tensors[f"{name}.multiplier"] = np.full(CHANNELS, 1 if last else 100)
        tensors[f"{name}.bias"] = np.zeros(CHANNELS, dtype=np.int64)
        tensors[f"{name}.shift"] = np.full(CHANNELS, 0 if last else 10)
        if not last:
            tensors[f"{name}.thresholds"] = np.array(activations.boundaries) << 7
    header = {
        "kind": KIND,
        "version": VERSION,
        "input_shape": [CHANNELS, 3, 3],
        "input_format": "uniform_b4u",
        "input_scale": [1.0] * CHANNELS,
        "input_offset": [0.0] * CHANNELS,
        "border": 0,
        "fill": [],
        "logit_scale": 1.0,
        "nodes": nodes,
    }
    return Interchange(header=header, tensors=tensors)


def simulation_rate(simulator: str) -> dict[str, Any]:
    """Simulated cycles a second of the default array running images, start-up and loading taken off.

    Each rate is the difference of a long and a short run.
    """
    data = digits()
    precision = Precision(scheme="apot", weight_bits=4, activation_bits=4)
    model = build("small_cnn", input_shape=data.input_shape, classes=CLASSES, precision=precision)
    network = integer_network(model.eval())
    parameters = fitting_parameters(network)
    compiled = compile_network(network, parameters)
    short, long = BATCHES[simulator]
    images = np.tile(data.test_images.numpy(), (2, 1, 1, 1))
    with tempfile.TemporaryDirectory() as folder:
        verilog = Path(folder) / "accelerator.v"
        accelerator(parameters).write(verilog)

        def measured(count: int) -> tuple[int, float]:
            answers = classify(compiled, images[:count], verilog=verilog, simulator=simulator)
            return answers.exchange.cycles, answers.exchange.seconds

        measured(short)  # builds
        rates = []
        for _ in range(3):
            (cycles, seconds), (more_cycles, more_seconds) = measured(short), measured(long)
            rates.append((more_cycles - cycles) / (more_seconds - seconds))
    return _summary(rates, "rate")


def product_rate() -> dict[str, Any]:
    """Millions of ResNet-20's multiply-accumulates that Verilator simulates a second on the default array,
    start-up and loading taken off: the difference of runs of one and of four images.
    """
    graph = _apot_graph("resnet20", (3, 32, 32), classes=CLASSES)
    parameters = fitting_parameters(graph)
    compiled = compile_network(graph, parameters)
    macs = sum(layer.macs for layer in compiled.schedule) / 1e6
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32))
    with tempfile.TemporaryDirectory() as folder:
        verilog = Path(folder) / "accelerator.v"
        accelerator(parameters).write(verilog)

        def seconds(count: int) -> float:
            return classify(compiled, images[:count], verilog=verilog, simulator="verilator").exchange.seconds

        seconds(1)  # builds
        rates = []
        for _ in range(3):
            short, long = seconds(1), seconds(len(images))
            rates.append((len(images) - 1) * macs / (long - short))
    return _summary(rates, "rate")


def packing_seconds() -> dict[str, Any]:
    """Compiling ResNet-18 at 224 × 224 for an accelerator that is chosen, to an image on disk."""
    graph = _apot_graph("resnet18", (3, 224, 224), classes=1000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.bin"

        def pack() -> None:
            write_image(path, compile_network(graph, fitting_parameters(graph)))

        return _summary([_seconds(pack) for _ in range(RUNS)], "seconds")


def execution_rate() -> dict[str, Any]:
    """Images of 224 × 224 pixels a second that the executor takes through ResNet-18, one at a time."""
    shape = (3, 224, 224)
    graph = _apot_graph("resnet18", shape, classes=1000)
    machine = Machine(compile_network(graph, fitting_parameters(graph)))
    image = np.random.default_rng(0).integers(0, 256, (1, *shape))
    machine.run(image)  # unpacks the weights
    return _summary([1 / _seconds(lambda: machine.run(image)) for _ in range(RUNS)], "rate")


def _apot_graph(name: str, shape: tuple[int, int, int], *, classes: int) -> IntegerGraph:
    """A network with random weights at APoT 4/4."""
    precision = Precision(scheme="apot", weight_bits=4, activation_bits=4)
    torch.manual_seed(0)
    return integer_network(build(name, input_shape=shape, classes=classes, precision=precision).eval(), shape)

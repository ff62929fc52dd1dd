"""The whole path on real digits: train, pack, generate, simulate, compare."""

from dataclasses import dataclass
from pathlib import Path

from click.exceptions import UsageError
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from hdl.console import RefusedError
from hdl.layouts import Section
from sw import checkpoint, data
from sw.agreement import agreement
from sw.compiler.compile import Compiled
from sw.compiler.fitting import fitting_parameters
from sw.compiler.schedule import program_cycles
from sw.export import integer_network
from sw.graph import Convolution, IntegerGraph
from sw.image import read_image, write_hex, write_image
from sw.pack import compile_named
from sw.progress import Bar
from sw.recipe import Recipe
from sw.training import train

from .network import Answers, accelerator, classify
from .reference import run as run_reference

MOST_IMAGES = 1000
WAVE_IMAGES = 1


@dataclass(frozen=True, kw_only=True)
class Files:
    """What the demo leaves behind."""

    network: Path
    image: Path
    verilog: Path
    waves: Path


def run(
    *,
    dataset: str,
    data_dir: Path,
    bits: tuple[int, int],
    epochs: int,
    seed: int,
    images: int | None,
    folder: Path,
) -> None:
    """Run the demo and print its table.

    Raises
    ------
    RefusedError
        If an output of the accelerator differs from the reference.
    """
    try:
        recipe = Recipe(
            dataset=dataset,
            weight_bits=bits[0],
            activation_bits=bits[1],
            progressive=True,
            epochs=epochs,
            seed=seed,
        )
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error
    files = Files(
        network=folder / "network.pt",
        image=folder / "network.bin",
        verilog=folder / "accelerator.v",
        waves=folder / "waves.fst",
    )
    held_out = data.load(dataset, folder=data_dir)
    trained = _trained(recipe, held_out, files.network)
    count = min(images or MOST_IMAGES, len(held_out.test_images))
    pictures, labels = held_out.test_images[:count], held_out.test_labels[:count]

    steps = (SpinnerColumn(finished_text="✓"), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*steps, console=Console(stderr=True)) as progress:

        def finish() -> None:
            for task in progress.tasks:
                progress.update(task.id, total=1, completed=1)

        def step(text: str) -> None:
            finish()
            progress.add_task(text, total=None)

        step("packing")
        network = integer_network(trained)
        parameters = fitting_parameters(network)
        write_image(files.image, compile_named(network, parameters, name=str(files.network)))
        compiled = read_image(files.image, parameters=parameters)
        write_hex(files.image, compiled)
        step("generating the accelerator")
        accelerator(parameters).write(files.verilog)
        step(f"simulating {count} images with Verilator")
        answers = classify(compiled, pictures.numpy(), verilog=files.verilog, simulator="verilator")
        step(f"recording a waveform of {WAVE_IMAGES} image with Icarus")
        first = classify(
            compiled,
            pictures[:WAVE_IMAGES].numpy(),
            verilog=files.verilog,
            simulator="icarus",
            waves=files.waves,
        )
        step("comparing with the reference")
        reference = run_reference(network, pictures)
        expected = reference.logits.numpy()
        agreed = agreement(trained.network().eval(), pictures, codes=reference.codes, logits=reference.logits)
        wrong = int((answers.logits != expected).sum() + (first.logits != expected[:WAVE_IMAGES]).sum())
        finish()
    floating, quantized = (
        [row["test_accuracy"] for row in trained.history if row["stage"] == str(stage)][-1]
        for stage in (recipe.stages[0], recipe.stages[-1])
    )
    table = Table(f"APoT {bits[0]}/{bits[1]} on {dataset}", "", box=None, show_header=True)
    table.add_row("float accuracy", f"{floating:.2%}")
    table.add_row("quantized accuracy", f"{quantized:.2%}")
    hits = (answers.logits.argmax(axis=1) == labels.numpy()).mean()
    table.add_row("accelerator accuracy", f"{hits:.2%} ({count} held-out images)")
    table.add_row("mismatching outputs", f"{wrong} of {expected.size + first.logits.size}")
    equal = sum(agreed.codes.values()) / len(agreed.codes)
    table.add_row(
        "equal to the float model", f"{equal:.3%} of activation codes, {agreed.top1:.2%} of classes"
    )
    _check_cycles(compiled, answers)
    for name, value in costs(compiled, network).items():
        table.add_row(name, value)
    for name, path in vars(files).items():
        table.add_row(name, str(path))
    Console().print(table)
    if wrong:
        raise RefusedError(f"accelerator's outputs must equal the reference, but {wrong} differ")


def _trained(recipe: Recipe, held_out: data.Dataset, path: Path) -> checkpoint.Checkpoint:
    """The finished network of this recipe: as it is there, resumed, or trained."""
    resumed = None
    if path.exists():
        found = checkpoint.load(path)
        if not found.recipe.differences(recipe):
            resumed = found
    with Bar(recipe, resumed) as bar:
        return train(recipe, held_out, path, resumed=resumed, report=bar)


def costs(compiled: Compiled, network: IntegerGraph) -> dict[str, str]:
    """What a network takes of its accelerator; known before it runs."""
    parameters = compiled.parameters
    cycles = program_cycles(compiled.schedule)
    macs = sum(layer.macs for layer in compiled.schedule)
    peak = parameters.rows * parameters.lanes
    weights = sum(layer.weights.size for layer in network.nodes if isinstance(layer, Convolution))
    packed = compiled.sections[Section.WEIGHTS].nbytes
    return {
        "cycles per image": f"{cycles:,}",
        "share of peak MACs": f"{macs / (cycles * peak):.1%} of {peak} a cycle",
        "weight bytes": f"{packed:,} in the image, {4 * weights:,} as float32",
    }


def _check_cycles(compiled: Compiled, answers: Answers) -> None:
    planned, taken = program_cycles(compiled.schedule), set(answers.cycles.tolist())
    if taken != {planned}:
        raise RefusedError(f"runs must take {planned} cycles as planned, but took {sorted(taken)}")

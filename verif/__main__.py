"""Command line of the verification side: ``python -m verif --help``."""

from pathlib import Path
from typing import Any

import click

from hdl.console import Tool
from sw.inputs import input_options
from sw.options import Bits, data_dir_option

SIMULATORS = ("verilator", "icarus")
NETWORKS = Path(__file__).resolve().parents[1] / "sw" / "protocols" / "networks.toml"

EXAMPLES = """
\b
Examples:
  python -m verif demo
  python -m verif check build/net.bin --dataset digits --images 10
  python -m verif networks --data-dir data/mnist
  python -m verif bench -o build/bench.json
  python -m verif prove apot_pe
"""


@click.group(cls=Tool, epilog=EXAMPLES)
def main() -> None:
    """Run networks on simulated hardware, prove blocks, and measure the tools."""


@main.command(
    epilog="""
\b
Examples:
  python -m verif demo
  python -m verif demo --bits 3/3 --folder build/three-bit
  python -m verif demo --dataset mnist --data-dir data/mnist --images 100
"""
)
@click.option("--dataset", default="digits", show_default=True, help="digits, mnist or fashion_mnist.")
@data_dir_option
@click.option(
    "--bits", default="4/4", show_default=True, type=Bits(), help="Bits of a weight / of an activation."
)
@click.option("--epochs", default=12, show_default=True, help="Epochs of each training stage.")
@click.option("--seed", default=0, show_default=True, help="Of the training.")
@click.option(
    "--images", type=click.IntRange(1), help="Held-out images to simulate.  [default: all, up to 1000]"
)
@click.option(
    "--folder",
    default="build/demo",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where everything is kept; a network trained there with the same options is not trained again.",
)
def demo(
    dataset: str,
    data_dir: Path,
    bits: tuple[int, int],
    epochs: int,
    seed: int,
    images: int | None,
    folder: Path,
) -> None:
    """Train an APoT network, pack it, generate its accelerator, compare all outputs with the reference."""
    from .demo import run

    run(
        dataset=dataset,
        data_dir=data_dir,
        bits=bits,
        epochs=epochs,
        seed=seed,
        images=images,
        folder=folder,
    )


@main.command(
    epilog="""
\b
Examples:
  python -m verif check build/net.bin --dataset digits --images 10
  python -m verif check build/net.bin --input images.npy --waves build/difference.fst
  python -m verif check build/net.bin --dataset digits --images 1 --verilog build/accelerator.v
"""
)
@click.argument("image", type=click.Path(dir_okay=False, path_type=Path))
@input_options
@click.option(
    "--verilog",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="The accelerator, as `python -m gen accelerator` wrote it.  [default: the one the image is for]",
)
@click.option("--simulator", type=click.Choice(SIMULATORS), default="verilator", show_default=True)
@click.option(
    "--waves",
    type=click.Path(dir_okay=False, path_type=Path),
    help="If anything differs, a waveform of that pixel goes here (.fst, from Icarus).",
)
def check(image: Path, **options: Any) -> None:
    """Run images through IMAGE on its simulated accelerator, and compare every number with the executor's:
    results, cycles, and what lies in the memories after each command.  The first difference is located.
    """
    from .verdict import run

    run(image, **options)


@main.command(
    epilog="""
\b
Examples:
  python -m verif networks --data-dir data/mnist
  python -m verif networks --only "ResNet-18 APoT 4/4"
  python -m verif networks --data-dir data/mnist --publish
"""
)
@click.argument(
    "protocol_path",
    metavar="[PROTOCOL]",
    default=NETWORKS,
    type=click.Path(dir_okay=False, path_type=Path),
)
@data_dir_option
@click.option("--only", multiple=True, metavar="NAME", help="Only the network of this name; may be repeated.")
@click.option(
    "-o",
    "--output",
    default="build/networks",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for networks.json and networks.md, and of what is trained and simulated already.",
)
@click.option("--publish", is_flag=True, help="Also renew docs/networks.* and the table in README.")
def networks(protocol_path: Path, data_dir: Path, only: tuple[str, ...], output: Path, publish: bool) -> None:
    """Run whole networks on simulated hardware, all logits and cycles equal, and tabulate what they take.

    PROTOCOL is a TOML file; without one it is sw/protocols/networks.toml. Interrupted, the same command
    goes on with what is missing.
    """
    from .networks.command import run

    if publish and only:
        raise click.UsageError("--publish must come without --only", click.get_current_context())
    run(protocol_path, data_dir=data_dir, only=only, output=output, publish=publish)


@main.command(epilog="\b\nExamples:\n  python -m verif bench\n  python -m verif bench -o build/bench.json")
@click.option(
    "-o",
    "--output",
    default="build/bench.json",
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the figures go, as JSON.",
)
def bench(output: Path) -> None:
    """Measure how fast the tools are: generating, packing, simulating and training."""
    from .bench import run

    run(output)


@main.command(
    epilog="""
\b
Examples:
  python -m verif prove
  python -m verif prove apot_pe apot_dot
  python -m verif prove --all basis_dot
"""
)
@click.option("--all", "slow", is_flag=True, help="The slow claims too, which take minutes each.")
@click.argument("blocks", nargs=-1)
def prove(blocks: tuple[str, ...], slow: bool) -> None:
    """Prove that blocks keep to their specifications, for all inputs and all time; all BLOCKS by default."""
    from .proofs import report

    report(blocks, slow=slow)


if __name__ == "__main__":
    main(prog_name="python -m verif")

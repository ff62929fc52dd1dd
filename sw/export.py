"""Export: from a checkpoint to exact integers, or to the interchange file that the packer reads."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hdl.console import RefusedError

from .options import level_width_option

if TYPE_CHECKING:
    from torch import nn

    from hdl.formats import Format

    from .checkpoint import Checkpoint
    from .graph import IntegerGraph


def integer_network(
    source: "Checkpoint | nn.Module",
    input_shape: tuple[int, int, int] | None = None,
    *,
    image_format: "Format | None" = None,
    level_width: int | None = None,
) -> "IntegerGraph":
    """The integer graph of a quantized model: the very contents of its interchange file.

    Parameters
    ----------
    source
        A checkpoint, or a model that `sw.quantize.quantize` returned.
    input_shape
        Channels, height, width of an image; a checkpoint and a `Network` know it.
    image_format
        The uniform format whose levels a model takes, None for 0 … 255; see `sw.lowering.lower`.
    level_width
        Bits of an activation level that channels of different bits may need; see there.

    Raises
    ------
    RefusedError
        If the model is a float one, has an operation that the accelerator does not have, or its constants
        do not fit the hardware's widths.
    """
    from .checkpoint import Checkpoint
    from .interchange import integers
    from .lowering import interchange
    from .models import IMAGE_FORMAT

    if isinstance(source, Checkpoint):
        return integers(interchange(source.network(), source.input_shape, level_width=level_width))
    image_format = image_format or IMAGE_FORMAT
    return integers(interchange(source, input_shape, image_format=image_format, level_width=level_width))


@click.command(
    epilog="""\b
    Examples:
      python -m sw export build/net.pt -o build/net.safetensors
      python -m sw export build/lba.pt --level-width 4 -o build/lba.safetensors
    """
)
@click.argument("checkpoint", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write.",
)
@level_width_option
def export(checkpoint: Path, output: Path, level_width: int | None) -> None:
    """Write a trained CHECKPOINT as an interchange file (safetensors): weights on their grids, scales,
    requantization constants and the graph of layers.
    """
    from .checkpoint import load
    from .graph import Convolution
    from .interchange import integers, save
    from .lowering import interchange

    try:
        loaded = load(checkpoint)
        content = interchange(loaded.network(), loaded.input_shape, level_width=level_width)
        network = integers(content)
    except RefusedError as error:
        text = str(error)
        raise RefusedError(text if text.startswith(str(checkpoint)) else f"{checkpoint}: {text}") from error
    save(content, output)
    layers = [node for node in network.nodes if isinstance(node, Convolution)]
    weights = sum(layer.weights.size for layer in layers)
    click.echo(f"{output}: {len(layers)} layers, {weights} weights")

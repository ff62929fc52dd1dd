"""Images that a command runs: options that name them, and reading them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import numpy as np
from numpy.typing import NDArray

from hdl.console import RefusedError

from .options import data_dir_option
from .recipe import DATASETS

if TYPE_CHECKING:
    from .compiler.input_layout import InputLayout
    from .graph import ImageRounding

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Images, and what is in them if that is known.

    Members
    -------
    images : integer array (N, C, H, W)
        As the network takes them.
    labels : int64 array (N,) or None
    """

    images: NDArray[np.integer]
    labels: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.images)


def input_options(command: Command) -> Command:
    """Options ``--input``, ``--dataset``, ``--data-dir`` and ``--images`` of a command."""
    options = (
        click.option(
            "--input",
            "path",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Images as a NumPy file of integers (N, C, H, W): 0 … 255, or what the network takes; "
            "of real numbers if the network rounds them.",
        ),
        click.option("--dataset", type=click.Choice(DATASETS), help="Or the test images of a data set."),
        data_dir_option,
        click.option("--images", type=click.IntRange(min=1), help="Only the first ones.  [default: all]"),
    )
    for option in reversed(options):
        command = option(command)
    return command


def read_inputs(
    *,
    path: Path | None,
    dataset: str | None,
    data_dir: Path,
    images: int | None,
    layout: "InputLayout",
) -> Inputs:
    """The images that the options of `input_options` name.

    Parameters
    ----------
    path, dataset, data_dir, images
        The options.
    layout
        Of the network: their shape, and how it rounds those of a data set, or real numbers.

    Raises
    ------
    UsageError
        If not exactly one source is named.
    RefusedError
        If there are no such images.
    """
    if (path is None) == (dataset is None):
        raise click.UsageError("either --input or --dataset must be given", click.get_current_context())
    if path is not None:
        array = _array(path, kinds="iu" if layout.rounding is None else "iuf")
        found, name = Inputs(images=array), str(path)
    else:
        from .data import load

        data = load(str(dataset), folder=data_dir)
        found, name = Inputs(images=data.test_images.numpy(), labels=data.test_labels.numpy()), str(dataset)
    if found.images.shape[1:] != layout.shape:
        shape = ", ".join(map(str, layout.shape))
        raise RefusedError(f"{name}: images must have shape (N, {shape}), not {found.images.shape}")
    if not len(found):
        raise RefusedError(f"{name}: must hold an image")
    if images is not None and images > len(found):
        raise RefusedError(f"{name}: --images must be at most {len(found)}, not {images}")
    labels = None if found.labels is None else found.labels[:images]
    chosen = found.images[:images]
    if layout.rounding is not None and (dataset is not None or chosen.dtype.kind == "f"):
        chosen = _rounded(chosen, layout.rounding, name=name)
    return Inputs(images=chosen, labels=labels)


def _rounded(images: NDArray[np.number], rounding: "ImageRounding", *, name: str) -> NDArray[np.int64]:
    from .driver import rounded_images

    try:
        return rounded_images(images, rounding)
    except ValueError as error:
        raise RefusedError(f"{name}: {error}") from error


def _array(path: Path, *, kinds: str) -> NDArray[Any]:
    """Integers in a NumPy file, or whatever kinds of numbers may be there."""
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise RefusedError(f"{path}: must be a NumPy file (.npy) of integers ({error})") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
        found = array.dtype if isinstance(array, np.ndarray) else "an archive"
        raise RefusedError(f"{path}: must be a NumPy file (.npy) of integers, not {found}")
    return array

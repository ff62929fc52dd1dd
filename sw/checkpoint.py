"""Checkpoints: one file that holds all that resuming or exporting a training run needs."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hdl.console import RefusedError
from hdl.files import replacing

from .allocation import mixed
from .models import build, classes_of
from .quantizers import Quantizer
from .recipe import Recipe

KIND = "nonuniform-hdl checkpoint"
VERSION = 1


@dataclass(kw_only=True)
class Checkpoint:
    """The state of a training run after an epoch.

    Members
    -------
    recipe : Recipe
        What is being trained.
    input_shape : tuple of int
        Channels, height, width of an image.
    stage, epoch : int
        The stage (an index of ``recipe.stages``) and how many of its epochs are done.
    model, optimizer, scheduler, scaler : dict
        State dictionaries; the scaler's is empty but in fp16.
    rng : Tensor
        State of torch's global generator.
    history : list of dict
        One row for each epoch done, of all stages: what the log beside the checkpoint shows.
    """

    recipe: Recipe
    input_shape: tuple[int, int, int]
    stage: int
    epoch: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    rng: Tensor
    scaler: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        return self.stage == len(self.recipe.stages) - 1 and self.epoch == self.recipe.epochs

    def network(self) -> nn.Module:
        """The model as trained so far, in evaluation mode."""
        model = fresh_model(
            self.recipe, stage=self.stage, input_shape=self.input_shape, classes=classes_of(self.model)
        )
        model.load_state_dict(self.model)
        return model.eval()


def fresh_model(recipe: Recipe, *, stage: int, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The model of one stage of a recipe, with weights from torch's global generator."""
    model = build(recipe.model, input_shape=input_shape, classes=classes, precision=recipe.stages[stage])
    return mixed(model) if recipe.allocates(stage) else model


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Replace the file, whole or not at all."""
    content = {name: getattr(checkpoint, name) for name in checkpoint.__dataclass_fields__}
    content |= {"kind": KIND, "version": VERSION, "recipe": checkpoint.recipe.as_dict()}
    with replacing(path) as temporary:
        torch.save(content, temporary)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing in it is executed.

    Raises
    ------
    RefusedError
        If the file is not a checkpoint of this program and version, or damaged.
    """
    try:
        with warnings.catch_warnings():
            # A foreign pickle is refused below; torch's remarks on it would be a second message.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # what torch's unpickler raises on arbitrary bytes is anything
        raise RefusedError(
            f"{path}: must be a checkpoint written by 'train' (unreadable or truncated)"
        ) from error
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise RefusedError(f"{path}: must be a checkpoint written by 'train', not another torch file")
    if content.get("version") != VERSION:
        raise RefusedError(
            f"{path}: checkpoint version must be {VERSION}, not {content.get('version')!r}: train again"
        )
    try:
        # Mixed precision came later: older files have no scaler.
        content.setdefault("scaler", {})
        members = {name: content[name] for name in Checkpoint.__dataclass_fields__}
        members["recipe"] = Recipe.from_dict(members["recipe"])
        checkpoint = Checkpoint(**members)
        checkpoint.network()
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError, AttributeError) as error:
        raise RefusedError(f"{path}: damaged checkpoint ({_first_line(error)})") from error
    return checkpoint


def initialize(model: nn.Module, source: Checkpoint, *, name: str) -> None:
    """Copy weights, batch normalization and what quantizers learned from a float or other-precision network.

    Clipping values and curves that the source does not have (it was float) keep their initial value, and so
    do centroids of another number.  Steps belong to a number of bits, so they are measured anew, from the
    first batch.

    Raises
    ------
    RefusedError
        If the source is another model or for other images.
    """
    state = model.state_dict()
    learned = {
        f"{prefix}.{key}"
        for prefix, module in model.named_modules()
        if isinstance(module, Quantizer)
        for key in module.state_dict()
    }
    for key, value in state.items():
        fits = key in source.model and source.model[key].shape == value.shape
        if key in learned and (not fits or key.endswith(".step")):
            continue
        if not fits:
            found = tuple(source.model[key].shape) if key in source.model else "nothing"
            raise RefusedError(
                f"{name}: must hold the same model for the same images: "
                f"{key} must have shape {tuple(value.shape)}, not {found}"
            )
        state[key] = source.model[key]
    model.load_state_dict(state)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"

"""The training loop: stages of falling precision, a checkpoint each epoch, resumable bit for bit."""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hdl.console import RefusedError
from hdl.files import write_text

from .allocation import Allocation, Allocator
from .checkpoint import Checkpoint, fresh_model, initialize, save
from .data import CLASSES, Dataset
from .models import predictions
from .recipe import Recipe
from .regularizers import regularizer
from .schemes import REAL

MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4

# Called with the trainer and the epoch's mean loss after each step, and with the log's row after each epoch.
Report = Callable[["Trainer", float, dict[str, Any] | None], None]


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images classified correctly, 0 … 1."""
    return (predictions(model, images) == labels).double().mean().item()


def log_path(checkpoint: Path) -> Path:
    """The log beside a checkpoint: one line an epoch, comma-separated."""
    return checkpoint.with_suffix(".csv")


def optimizer(model: nn.Module, *, lr: float) -> torch.optim.SGD:
    """Stochastic gradient descent over weights and clipping values alike."""
    return torch.optim.SGD(
        model.parameters(), lr=lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, fused=True
    )


class Trainer:
    """Trains one stage of a recipe on a data set.

    Parameters
    ----------
    recipe, dataset
        What to train and on what.
    stage
        Index into ``recipe.stages``.
    """

    def __init__(self, recipe: Recipe, dataset: Dataset, *, stage: int) -> None:
        self.recipe, self.stage = recipe, stage
        self.dataset = dataset = dataset if recipe.images is None else dataset.first(recipe.images)
        self.precision = recipe.stages[stage]
        self.epoch = 0
        torch.manual_seed(recipe.seed)
        self.model = fresh_model(recipe, stage=stage, input_shape=dataset.input_shape, classes=CLASSES)
        self.regularizer = regularizer(recipe)
        self.allocator = allocator(recipe, self.model) if recipe.allocates(stage) else None
        self.optimizer = optimizer(self.model, lr=recipe.lr)
        self.steps = len(dataset.train_images) // recipe.batch_size
        if self.steps == 0:
            raise RefusedError(
                f"--batch-size must be at most the {len(dataset.train_images)} training images, "
                f"not {recipe.batch_size}"
            )
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.optimizer, T_max=self.steps * recipe.epochs
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on where a checkpoint of the same stage was written."""
        self.model.load_state_dict(checkpoint.model)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.scheduler.load_state_dict(checkpoint.scheduler)
        torch.set_rng_state(checkpoint.rng)
        self.epoch = checkpoint.epoch

    def checkpoint(self, history: list[dict[str, Any]]) -> Checkpoint:
        """The state after the epochs done so far."""
        return Checkpoint(
            recipe=self.recipe,
            input_shape=self.dataset.input_shape,
            stage=self.stage,
            epoch=self.epoch,
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scheduler=self.scheduler.state_dict(),
            rng=torch.get_rng_state(),
            history=history,
        )

    def run_epoch(self, report: Report) -> dict[str, Any]:
        """One pass over the training images in an order given by seed, stage and epoch; the log's row."""
        self.model.train()
        total = 0.0
        for step, (images, labels) in enumerate(self.batches(), start=1):
            self.optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self.model(images), labels)
            if self.regularizer is not None:
                loss = loss + self.regularizer(self.model, self.epoch)
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            total += loss.item()
            if not total < float("inf"):
                raise RefusedError(
                    f"loss became {loss.item()} in epoch {self.epoch + 1} at {self.precision}: "
                    f"--lr must be less than {self.recipe.lr}"
                )
            report(self, total / step, None)
        self.epoch += 1
        if self.allocator is not None:
            self.allocator.step(self.epoch)
        data = self.dataset
        weight_bits, activation_bits = self.average_bits()
        return {
            "stage": str(self.precision),
            "epoch": self.epoch,
            "loss": round(total / self.steps, 6),
            "train_accuracy": round(accuracy(self.model, data.train_images, data.train_labels), 6),
            "test_accuracy": round(accuracy(self.model, data.test_images, data.test_labels), 6),
            "weight_bits": round(weight_bits, 4),
            "activation_bits": round(activation_bits, 4),
        }

    def average_bits(self) -> tuple[float, float]:
        """Of a weight and of an activation of the inner layers; 32 in float."""
        if self.allocator is not None:
            return self.allocator.weights.average, self.allocator.activations.average
        if not self.precision.quantized:
            return REAL, REAL
        return self.precision.weight_bits, self.precision.activation_bits

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of this epoch's steps, shuffled; images short of a batch are left out."""
        generator = torch.Generator().manual_seed(
            (self.recipe.seed * 101 + self.stage) * 100_003 + self.epoch
        )
        images, labels = self.dataset.train_images, self.dataset.train_labels
        order = torch.randperm(len(images), generator=generator)
        size = self.recipe.batch_size
        for step in range(self.steps):
            picked = order[step * size : (step + 1) * size]
            yield images[picked], labels[picked]


def allocator(recipe: Recipe, model: nn.Module) -> Allocator:
    """What takes bits from a network with mixed quantizers, as a recipe says."""
    assert recipe.lba is not None
    weight_bits, activation_bits = recipe.average_bits
    end = max(recipe.lba_start, recipe.epochs * 2 // 3) if recipe.lba_end is None else recipe.lba_end
    allocation = Allocation(
        granularity=recipe.lba,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        start=recipe.lba_start,
        end=end,
        ratio=recipe.lba_ratio,
    )
    return Allocator(model, allocation)


def train(
    recipe: Recipe,
    dataset: Dataset,
    out: Path,
    *,
    initial: tuple[str, Checkpoint] | None = None,
    resumed: Checkpoint | None = None,
    report: Report = lambda *_: None,
) -> Checkpoint:
    """Train all stages, writing `out` and its log after every epoch.

    Parameters
    ----------
    initial
        Name and contents of a checkpoint to copy the first stage's weights from.
    resumed
        A checkpoint of the same recipe to go on from.
    report
        Called after every step and every epoch; see `Report`.

    Raises
    ------
    RefusedError
        If the loss is not finite any more (`out` keeps the last good epoch), or `initial` does not fit.
    """
    torch.set_num_threads(recipe.threads)
    history = list(resumed.history) if resumed else []
    last = resumed
    for stage in range(resumed.stage if resumed else 0, len(recipe.stages)):
        trainer = Trainer(recipe, dataset, stage=stage)
        if last is not None and last.stage == stage:
            trainer.restore(last)
        elif last is not None:
            initialize(trainer.model, last, name=str(out))
        elif initial is not None:
            initialize(trainer.model, initial[1], name=initial[0])
        while trainer.epoch < recipe.epochs:
            row = trainer.run_epoch(report)
            history.append(row)
            last = trainer.checkpoint(history)
            save(last, out)
            write_text(log_path(out), _table(history))
            report(trainer, row["loss"], row)
    assert last is not None
    return last


def _table(history: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    # Rows of an older run that was resumed may have fewer columns.
    writer = csv.DictWriter(text, fieldnames=list(history[-1]), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()

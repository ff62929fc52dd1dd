"""The training loop: stages of falling precision, a checkpoint each epoch, resumable bit for bit."""

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hdl.console import RefusedError

from .allocation import Allocation, Allocator
from .checkpoint import Checkpoint, fresh_model, initialize, save
from .data import CLASSES, Dataset
from .execution import Execution
from .logs import write_logs
from .models import predictions
from .recipe import Recipe
from .regularizers import regularizer
from .schemes import REAL

MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4

# Called with the trainer and the epoch's mean loss after each step, and with the log's row after each epoch.
Report = Callable[["Trainer", float, dict[str, Any] | None], None]


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
    execution
        Where; of several processes each trains on its share of every batch.

    Members
    -------
    model : Module
        The network, on its device.
    epoch, steps : int
        Epochs done, and steps in one.
    running : tuple of float
        Mean loss and accuracy of the epoch's batches so far, as they were trained on.

    Raises
    ------
    RefusedError
        If there are too few images for a batch, images are too small for the network, or a batch cannot be
        shared evenly.
    """

    def __init__(
        self, recipe: Recipe, dataset: Dataset, *, stage: int, execution: Execution | None = None
    ) -> None:
        self.recipe, self.stage, self.execution = recipe, stage, execution or Execution()
        dataset = dataset if recipe.images is None else dataset.first(recipe.images)
        self.precision = recipe.stages[stage]
        self.steps = _steps(recipe, dataset, processes=self.execution.size)
        self.epoch, self.running = 0, (0.0, 0.0)
        device = self.execution.device
        self.dataset = dataset.to(device)
        torch.manual_seed(recipe.seed)
        model = fresh_model(recipe, stage=stage, input_shape=dataset.input_shape, classes=CLASSES)
        _check_images(model, recipe, dataset)
        self.model = model.to(device)
        self.regularizer = regularizer(recipe)
        self.allocator = allocator(recipe, self.model) if recipe.allocates(stage) else None
        self.optimizer = optimizer(self.model, lr=recipe.lr)
        self.scaler = self.execution.scaler(recipe.amp)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.optimizer, T_max=self.steps * recipe.epochs
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on where a checkpoint of the same stage was written."""
        self.model.load_state_dict(checkpoint.model)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.scheduler.load_state_dict(checkpoint.scheduler)
        self.scaler.load_state_dict(checkpoint.scaler)
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
            scaler=self.scaler.state_dict(),
            rng=torch.get_rng_state(),
            history=history,
        )

    def run_epoch(self, report: Report) -> dict[str, Any]:
        """One pass over the training images in an order given by seed, stage and epoch; the log's row."""
        self.model.train()
        lr = float(self.scheduler.get_last_lr()[0])
        loss = accuracy = 0.0
        for step, (images, labels) in enumerate(self.batches(), start=1):
            try:
                result = self.execution.mean(self.train_step(images, labels)).tolist()
            except torch.OutOfMemoryError as error:
                raise RefusedError(
                    f"--batch-size must be less than {self.recipe.batch_size}: the GPU's memory is full"
                ) from error
            if not abs(result[0]) < float("inf"):
                raise RefusedError(
                    f"loss became {result[0]} in epoch {self.epoch + 1} at {self.precision}: "
                    f"--lr must be less than {self.recipe.lr}"
                )
            loss, accuracy = loss + result[0], accuracy + result[1]
            self.running = loss / step, accuracy / step
            report(self, self.running[0], None)
        self.epoch += 1
        self.execution.settle(self.model)
        if self.allocator is not None:
            self.allocator.step(self.epoch)
        weight_bits, activation_bits = self.average_bits()
        return {
            "stage": str(self.precision),
            "epoch": self.epoch,
            "lr": round(lr, 6),
            "loss": round(self.running[0], 6),
            "train_accuracy": round(self.running[1], 6),
            "test_accuracy": round(self.test_accuracy(), 6),
            "weight_bits": round(weight_bits, 4),
            "activation_bits": round(activation_bits, 4),
        }

    def train_step(self, images: Tensor, labels: Tensor) -> Tensor:
        """Learn from this process's share of a batch; its loss and accuracy, before."""
        self.optimizer.zero_grad()
        with self.execution.autocast(self.recipe.amp):
            logits = self.called(images)
        loss = nn.functional.cross_entropy(logits.float(), labels)
        if self.regularizer is not None:
            loss = loss + self.regularizer(self.model, self.epoch)
        self.scaler.scale(loss).backward()
        if self.allocator is not None:
            self.allocator.observe(self.execution, scale=self.scaler.get_scale())
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        with torch.no_grad():
            return torch.stack([loss, (logits.argmax(1) == labels).float().mean()])

    @cached_property
    def called(self) -> Callable[[Tensor], Tensor]:
        """What is called in training.

        Made when the model has the weights that it starts from, which processes then agree on.  Steps that
        quantizers measure by the first batch are measured by the whole of it, as in a single process.
        """
        if self.execution.size > 1 and self.epoch == 0:
            before = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
            images = self.dataset.train_images[self.order()[: self.recipe.batch_size]]
            with torch.no_grad(), self.execution.autocast(self.recipe.amp):
                self.model(images)
            for name, buffer in self.model.named_buffers():
                buffer.copy_(before[name])
        return self.execution.wrap(self.model)

    def test_accuracy(self) -> float:
        """Of the network as it is exported: without mixed precision."""
        images, labels = map(self.execution.every, (self.dataset.test_images, self.dataset.test_labels))
        correct = (predictions(self.model, images) == labels).sum()
        return self.execution.total(correct).item() / len(self.dataset.test_labels)

    def average_bits(self) -> tuple[float, float]:
        """Of a weight and of an activation of the inner layers; 32 in float."""
        if self.allocator is not None:
            return self.allocator.weights.average, self.allocator.activations.average
        if not self.precision.quantized:
            return REAL, REAL
        return self.precision.weight_bits, self.precision.activation_bits

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of this process, a step each; images short of a batch are left out."""
        order = self.order()
        for batch in order[: self.steps * self.recipe.batch_size].split(self.recipe.batch_size):
            picked = self.execution.share(batch)
            yield self.dataset.train_images[picked], self.dataset.train_labels[picked]

    def order(self) -> Tensor:
        """Indices of the training images, shuffled for this epoch, alike in all processes."""
        generator = torch.Generator().manual_seed(
            (self.recipe.seed * 101 + self.stage) * 100_003 + self.epoch
        )
        count = len(self.dataset.train_images)
        return torch.randperm(count, generator=generator).to(self.execution.device)


def _steps(recipe: Recipe, dataset: Dataset, *, processes: int) -> int:
    """Batches in an epoch."""
    count, size = len(dataset.train_images), recipe.batch_size
    if size > count:
        raise RefusedError(f"--batch-size must be at most the {count} training images, not {size}")
    if size % processes or size == processes:
        raise RefusedError(
            f"--batch-size must be a multiple of the {processes} processes, and larger, not {size}"
        )
    return count // size


def _check_images(model: nn.Module, recipe: Recipe, dataset: Dataset) -> None:
    try:
        predictions(model, dataset.train_images[:1])
    except RuntimeError as error:
        raise RefusedError(
            f"--model {recipe.model} must have larger images than {dataset.input_shape}: {error}"
        ) from error


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
    execution: Execution | None = None,
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
    execution
        Where; of several processes the first one writes files.

    Raises
    ------
    RefusedError
        If the loss is not finite any more (`out` keeps the last good epoch), or `initial`, `resumed` or the
        data do not fit.
    """
    execution = execution or Execution()
    torch.set_num_threads(recipe.threads)
    if resumed is not None and resumed.input_shape != dataset.input_shape:
        raise RefusedError(
            f"{out}: images must have shape {resumed.input_shape} as before, not {dataset.input_shape}"
        )
    history = list(resumed.history) if resumed else []
    last = resumed
    for stage in range(resumed.stage if resumed else 0, len(recipe.stages)):
        trainer = Trainer(recipe, dataset, stage=stage, execution=execution)
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
            if execution.leads:
                save(last, out)
                write_logs(history, out)
            report(trainer, row["loss"], row)
    assert last is not None
    return last

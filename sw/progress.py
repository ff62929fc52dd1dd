"""What a user sees of a training run while it goes on."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from .checkpoint import Checkpoint
from .logs import Board
from .recipe import Recipe
from .training import Trainer


class Bar:
    """A progress bar over all stages' steps, a line for each epoch, and TensorBoard's log if asked for.

    Parameters
    ----------
    recipe
        What is trained.
    resumed
        The checkpoint that training goes on from.
    board
        Folder of TensorBoard's log.

    Members
    -------
    saved : str
        The last epoch that is in the checkpoint, in words; empty before the first.
    """

    def __init__(
        self, recipe: Recipe, resumed: Checkpoint | None = None, *, board: Path | None = None
    ) -> None:
        columns = (
            TextColumn("{task.description:>12}"),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        console = Console(stderr=True)
        self.progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self.saved = f"{resumed.epoch} of {resumed.recipe.stages[resumed.stage]}" if resumed else ""
        total, done = len(recipe.stages) * recipe.epochs, len(resumed.history) if resumed else 0
        self.task = self.progress.add_task("starting", total=total, completed=done, note="")
        self.board = Board(board, done=done) if board else None

    def __enter__(self) -> "Bar":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
        if self.board:
            self.board.close()

    def __call__(self, trainer: Trainer, loss: float, row: dict[str, Any] | None) -> None:
        if row is None:
            note = f"loss {loss:.4f}  train {trainer.running[1]:.2%}  bits {_bits(trainer.average_bits())}"
            self.progress.advance(self.task, 1 / trainer.steps)
            self.progress.update(self.task, description=str(trainer.precision), note=note)
            return
        self.saved = f"{row['epoch']} of {row['stage']}"
        if self.board:
            self.board.write(row)
        bits = _bits((row["weight_bits"], row["activation_bits"]))
        self.progress.console.print(
            f"{row['stage']:>12}  epoch {row['epoch']:>3}  loss {row['loss']:.4f}  "
            f"train {row['train_accuracy']:.2%}  test {row['test_accuracy']:.2%}  bits {bits}",
            soft_wrap=True,
        )


def _bits(average: tuple[float, float]) -> str:
    weight, activation = average
    return f"{round(weight, 2):g}/{round(activation, 2):g}"

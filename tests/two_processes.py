"""What each of two processes does that torchrun started: ``FOLDER RUNS``, the latter as JSON."""

import copy
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from hdl.console import RefusedError
from sw import checkpoint as checkpoints
from sw import training
from sw.execution import Execution, execution
from sw.recipe import Recipe
from tests.few_digits import few_digits


class Fixed(nn.BatchNorm2d):
    """A constant: never in training mode, in which half a batch has other statistics than the whole."""

    def train(self, _mode: bool = True) -> "Fixed":
        return super().train(False)


def fix(model: nn.Module, images: Tensor) -> None:
    """Make batch normalization the constant that it would be for these images; all else stays as it is."""
    before = copy.deepcopy(model.state_dict())
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model(images)
    after = {key: value for key, value in model.state_dict().items() if ".running_" in key}
    model.load_state_dict(before | after)
    for norm in norms:
        norm.__class__ = Fixed


def run(options: dict[str, Any], place: Execution, *, fixed: bool) -> dict[str, Any]:
    """Train a stage; the log's rows and the weights after them, or why it was refused."""
    torch.set_num_threads(1)
    recipe = Recipe.from_dict(options)
    trainer = training.Trainer(recipe, few_digits(), stage=0, execution=place)
    if fixed:
        fix(trainer.model, trainer.dataset.train_images)
    try:
        rows = [trainer.run_epoch(lambda *_: None) for _ in range(recipe.epochs)]
    except RefusedError as error:
        return {"refused": str(error)}
    return {"rows": rows, "model": trainer.model.state_dict()}


def run_stages(options: dict[str, Any], path: Path, place: Execution, *, stop: int) -> dict[str, Any]:
    """Train all stages, interrupted after an epoch, if there are so many, and resumed from the file."""
    recipe, data = Recipe.from_dict(options), few_digits()
    rows = []

    def interrupt(_trainer: training.Trainer, _loss: float, row: dict[str, Any] | None) -> None:
        if row is not None:
            rows.append(row)
            if len(rows) == stop:
                raise KeyboardInterrupt

    try:
        done = training.train(recipe, data, path, report=interrupt, execution=place)
    except KeyboardInterrupt:
        distributed.barrier()
        done = training.train(recipe, data, path, resumed=checkpoints.load(path), execution=place)
    return {"rows": done.history, "model": done.model, "kept": len(rows)}


def main(folder: Path, runs: dict[str, dict[str, Any]]) -> None:
    """Do all runs and leave what came of each, and the threads that outlive them."""
    with execution("cpu") as place:
        for name, options in runs.items():
            how = options.pop("how")
            if how in ("straight", "in parts"):
                result = run_stages(
                    options, folder / f"{name}.pt", place, stop=3 if how == "in parts" else 99
                )
            else:
                result = run(options, place, fixed=how == "fixed")
            torch.save(result, folder / f"{name}.{place.rank}.pt")
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    torch.save(threads, folder / f"threads.{place.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))

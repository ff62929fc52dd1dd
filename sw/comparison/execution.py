"""One run of a comparison, wherever it is executed."""

import hashlib
import json
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import torch

from hdl.console import RefusedError

from ..checkpoint import Checkpoint, initialize
from ..data import Dataset
from ..models import predictions
from ..training import Trainer
from .contender import Run
from .measures import weight_facts
from .protocol import Protocol

# Raised when training or measuring gives other numbers for the same run, so that kept ones are not used.
VERSION = 1

# Threads and random numbers belong to the process: a worker with more threads trains one run at a time.
_ALONE = Lock()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a run.

    Members
    -------
    facts : dict
        What was measured; empty if it failed.
    failed : str
        Why there is none; empty otherwise.
    checkpoint : Checkpoint or None
        The trained network, where it is not only kept in a file.
    """

    facts: dict[str, Any]
    failed: str = ""
    checkpoint: Checkpoint | None = None


def select(dataset: Dataset, protocol: Protocol) -> Dataset:
    """The images that a protocol uses.

    Raises
    ------
    RefusedError
        If there are fewer.
    """
    found = (len(dataset.train_images), len(dataset.test_images))
    for name, wanted, there in zip(
        ("images", "test_images"), (protocol.images, protocol.test_images), found, strict=True
    ):
        if wanted is not None and wanted > there:
            raise RefusedError(f"{name} of the protocol must be at most the {there} there are, not {wanted}")
    return replace(
        dataset,
        train_images=dataset.train_images[: protocol.images],
        train_labels=dataset.train_labels[: protocol.images],
        test_images=dataset.test_images[: protocol.test_images],
        test_labels=dataset.test_labels[: protocol.test_images],
    )


def fingerprint(dataset: Dataset) -> str:
    """A hash of all images and labels."""
    digest = hashlib.sha256()
    for name in Dataset.__dataclass_fields__:
        array = getattr(dataset, name).contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def key(run: Run, data: str) -> str:
    """What a run's outcome depends on, as a hash: its recipe, that of all runs before it, data and programs.

    Parameters
    ----------
    data
        `fingerprint` of the data set.
    """
    start = None if run.start is None else key(run.start, data)
    content = {
        "version": VERSION,
        "torch": torch.__version__,
        "recipe": run.recipe.as_dict(),
        "start": start,
        "data": data,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def execute(run: Run, dataset: Dataset, start: Outcome | None) -> Outcome:
    """Train and measure; a run that fails says why, and so do those that would start from it."""
    if start is not None and start.failed:
        return Outcome(facts={}, failed=f"its start failed: {start.failed}")
    source = None if start is None else start.checkpoint
    with _ALONE:
        torch.set_num_threads(run.recipe.threads)
        try:
            return _trained(run, dataset, source)
        except RefusedError as error:
            return Outcome(facts={}, failed=str(error))


def _trained(run: Run, dataset: Dataset, start: Checkpoint | None) -> Outcome:
    # Tested once, at the end: the trainer, which would test after every epoch, gets a single image for that.
    trained_on = replace(dataset, test_images=dataset.test_images[:1], test_labels=dataset.test_labels[:1])
    trainer = Trainer(run.recipe, trained_on, stage=0)
    if start is not None:
        initialize(trainer.model, start, name=str(run.start))
    row = [trainer.run_epoch(lambda *_: None) for _ in range(run.recipe.epochs)][-1]
    checkpoint = trainer.checkpoint([])
    network = checkpoint.network()
    correct = predictions(network, dataset.test_images) == dataset.test_labels
    facts = {
        "accuracy": round(correct.double().mean().item(), 6),
        "loss": row["loss"],
        "weight_bits": row["weight_bits"],
        "activation_bits": row["activation_bits"],
        **weight_facts(network),
    }
    return Outcome(facts=facts, checkpoint=checkpoint)

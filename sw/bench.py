"""How much slower a quantized training step is than the float step of the same network."""

from collections.abc import Callable
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import torch

from .data import CLASSES, Dataset
from .execution import Execution
from .recipe import Recipe
from .schemes import FLOAT
from .training import Trainer

# Schemes that train, and DMBQ while loss-guided allocation watches it.
LBA = "dmbq+lba"
TIMED = ("uniform", "pot", "apot", "lsq", "dmbq", LBA, "lloyd", "lcq")

_WARM_UP = 3
# Half of the channels lose a bit each time, until there are some of every width.
_ALLOCATIONS = 4


def training_step_ratio(
    *,
    scheme: str = "apot",
    bits: int = 4,
    model: str = "resnet20",
    input_shape: tuple[int, int, int] = (1, 28, 28),
    batch_size: int = 64,
    pairs: int = 20,
    threads: int = 1,
    device: str = "cpu",
) -> dict[str, Any]:
    """Time a quantized and a float training step in turn, on random images.

    A step is what `Trainer` takes: forward, loss, backward and optimizer.  The two alternate, each going
    first in every other pair, so that whatever else the machine does slows both; the ratio is the median
    over pairs.

    Parameters
    ----------
    scheme
        One of `TIMED`.
    bits
        Of weights and activations of the inner layers.  With `LBA` channels have lost some of them.
    model, input_shape, batch_size, threads, device
        What is trained, and where.
    pairs
        How many pairs are timed, at least 2.

    Returns
    -------
    dict
        ``ratio``, its quartiles ``ratio_low`` and ``ratio_high``, the median ``float_ms`` and
        ``quantized_ms``, and the parameters.
    """
    shared: dict[str, Any] = {"model": model, "batch_size": batch_size, "lr": 0.01, "threads": threads}
    allocated: dict[str, Any] = (
        {"lba": "cp", "lba_start": 1, "lba_end": 1, "lba_ratio": 0.5} if scheme == LBA else {}
    )
    name = scheme.removesuffix("+lba")
    execution = Execution(device=torch.device(device))
    plain = Recipe(scheme=FLOAT, **shared)
    quantized = Recipe(scheme=name, weight_bits=bits, activation_bits=bits, **allocated, **shared)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        steps = [_step(recipe, _images(input_shape, batch_size), execution) for recipe in (plain, quantized)]
        times = [_pair(*steps, swapped=index % 2 == 1) for index in range(_WARM_UP + pairs)][_WARM_UP:]
    finally:
        torch.set_num_threads(before)
    ratios = [theirs / ours for ours, theirs in times]
    low, _, high = quantiles(ratios, n=4)
    return {
        "ratio": median(ratios),
        "ratio_low": low,
        "ratio_high": high,
        "float_ms": 1e3 * median(ours for ours, _ in times),
        "quantized_ms": 1e3 * median(theirs for _, theirs in times),
        "scheme": scheme,
        "bits": bits,
        "model": model,
        "input_shape": list(input_shape),
        "batch_size": batch_size,
        "pairs": pairs,
        "threads": threads,
        "device": device,
    }


def _images(input_shape: tuple[int, int, int], count: int) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, *input_shape), dtype=torch.uint8, generator=generator)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    return Dataset(train_images=images, train_labels=labels, test_images=images, test_labels=labels)


def _step(recipe: Recipe, data: Dataset, execution: Execution) -> Callable[[], object]:
    trainer = Trainer(recipe, data, stage=0, execution=execution)
    trainer.model.train()
    images, labels = trainer.dataset.train_images, trainer.dataset.train_labels

    def step() -> object:
        # What comes back as numbers has been computed, on a GPU too.
        return trainer.train_step(images, labels).tolist()

    if trainer.allocator is not None:
        for _ in range(_ALLOCATIONS):
            step()
            trainer.allocator.step(1)
    return step


def _pair(
    plain: Callable[[], object], quantized: Callable[[], object], *, swapped: bool
) -> tuple[float, float]:
    if swapped:
        theirs = _time(quantized)
        return _time(plain), theirs
    return _time(plain), _time(quantized)


def _time(step: Callable[[], object]) -> float:
    start = perf_counter()
    step()
    return perf_counter() - start

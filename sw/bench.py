"""How much slower a quantized training step is than the float step of the same network."""

from collections.abc import Callable
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import torch
from torch import nn

from .data import CLASSES
from .models import build
from .precision import Precision
from .schemes import FLOAT
from .training import optimizer

_WARM_UP = 5


def training_step_ratio(
    *,
    scheme: str = "apot",
    bits: int = 4,
    input_shape: tuple[int, int, int] = (1, 28, 28),
    batch_size: int = 64,
    pairs: int = 40,
    threads: int = 1,
) -> dict[str, Any]:
    """Time a quantized and a float training step in turn, on random images.

    A step is forward, loss, backward and optimizer.  The two alternate, so that whatever else the machine
    does slows both; the ratio is the median over pairs.

    Returns
    -------
    dict
        ``ratio``, its quartiles ``ratio_low`` and ``ratio_high``, the median ``float_ms`` and
        ``quantized_ms``, and the parameters.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    plain = _step(Precision(scheme=FLOAT), input_shape, batch_size)
    quantized = _step(
        Precision(scheme=scheme, weight_bits=bits, activation_bits=bits), input_shape, batch_size
    )
    times = [(_time(plain), _time(quantized)) for _ in range(_WARM_UP + pairs)][_WARM_UP:]
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
        "input_shape": list(input_shape),
        "batch_size": batch_size,
        "pairs": pairs,
        "threads": threads,
    }


def _step(precision: Precision, input_shape: tuple[int, int, int], batch_size: int) -> Callable[[], None]:
    torch.manual_seed(0)
    model = build("small_cnn", input_shape=input_shape, classes=CLASSES, precision=precision)
    descent = optimizer(model, lr=0.01)
    images = torch.randint(256, (batch_size, *input_shape), dtype=torch.uint8)
    labels = torch.randint(CLASSES, (batch_size,))

    def step() -> None:
        descent.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        descent.step()

    return step


def _time(step: Callable[[], None]) -> float:
    start = perf_counter()
    step()
    return perf_counter() - start

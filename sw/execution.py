"""Where a network is trained: device, mixed precision, compilation, and the processes that share the work."""

import gc
import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn

from hdl.console import RefusedError

from .quantizers import Quantizer

# The type that convolutions and linear layers compute in, by the name of a mode of mixed precision.
AMP_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

CPU = torch.device("cpu")

# Layers of one class share their code, but not their shapes: each is compiled for its own, however many.
_COMPILE: dict[str, Any] = {"dynamic": False, "recompile_limit": 1024}


@dataclass(frozen=True, kw_only=True)
class Execution:
    """A device, and this process's place among those that train the same network.

    Every process holds the whole network and the whole data set, takes the same steps with the mean of all
    gradients, and so has the same weights.

    Parameters
    ----------
    device
        Where the network and its data lie.
    rank, size
        Which process this is, from 0, of how many.
    compiled
        Whether ``torch.compile`` translates the network; quantizers run as they are written.
    """

    device: torch.device = CPU
    rank: int = 0
    size: int = 1
    compiled: bool = False

    @property
    def leads(self) -> bool:
        """Whether this process writes what all have come to."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """This process's part of a batch, whose length the number of processes divides; in order."""
        return batch.chunk(self.size)[self.rank]

    def every(self, samples: Tensor) -> Tensor:
        """This process's part of any number of samples; the parts differ in length by 1 at most."""
        return samples[self.rank :: self.size]

    def total(self, numbers: Tensor) -> Tensor:
        """The sum over all processes, the same bits in each."""
        if self.size == 1:
            return numbers
        summed = numbers.to(self.device, copy=True)
        distributed.all_reduce(summed)
        return summed

    def mean(self, numbers: Tensor) -> Tensor:
        """The mean over all processes, the same bits in each."""
        return self.total(numbers) / self.size

    def settle(self, model: nn.Module) -> None:
        """Give all processes the leader's running statistics; each saw other images."""
        if self.size > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, src=0)

    def wrap(self, model: nn.Module) -> Callable[[Tensor], Tensor]:
        """What is called in training instead of the model, whose weights it shares."""
        called = model
        if self.size > 1:
            # Of an axis of length 1 any stride is right, and torch warns of each that it did not expect.
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
            called = nn.parallel.DistributedDataParallel(model)
        if not self.compiled:
            return called
        for module in model.modules():
            if isinstance(module, Quantizer):
                # A compiler may fuse and reorder what must round as it is written.
                module.forward = torch.compiler.disable(module.forward)
        return torch.compile(called, **_COMPILE)

    def autocast(self, amp: str) -> torch.autocast:
        """Mixed precision for the layers between quantizers, by name; ``"off"`` does nothing."""
        return torch.autocast(self.device.type, dtype=AMP_TYPES.get(amp), enabled=amp in AMP_TYPES)

    def scaler(self, amp: str) -> torch.amp.GradScaler:
        """What keeps small gradients from vanishing in fp16; otherwise does nothing."""
        return torch.amp.GradScaler(self.device.type, enabled=amp == "fp16")


@contextmanager
def execution(device: str = "auto") -> Iterator[Execution]:
    """Join the processes that torchrun started, if it did, and take a device.

    Parameters
    ----------
    device
        ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"auto"``, which is CUDA where there is any.  Of several
        processes on one machine each takes its own GPU.

    Raises
    ------
    RefusedError
        If there is no such device.
    """
    launched = distributed.is_available() and distributed.is_torchelastic_launched()
    place = pick_device(device, local_rank=distributed.get_node_local_rank(0) if launched else None)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if not launched:
        yield Execution(device=place)
        return
    # It keeps the group that is there when it is imported, and DDP imports it: first, or it keeps ours.
    importlib.import_module("torch.distributed.nn.functional")
    if place.type == "cuda":
        distributed.init_process_group("nccl", device_id=place)
    else:
        distributed.init_process_group("gloo")
    try:
        yield Execution(device=place, rank=distributed.get_rank(), size=distributed.get_world_size())
    finally:
        # A group that a network still holds keeps its threads, and they may abort a process that ends.
        gc.collect()
        distributed.destroy_process_group()


def pick_device(name: str, *, local_rank: int | None = None) -> torch.device:
    """The device of that name.

    Parameters
    ----------
    name
        See `execution`.
    local_rank
        Which of this machine's processes this is; None if there is one.

    Raises
    ------
    RefusedError
        If there is no such device, or several processes would share it.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not count):
        return CPU
    if not count:
        raise RefusedError(f"--device must be cpu, not {name}: torch finds no CUDA device")
    _, _, index = name.partition(":")
    if index and local_rank is not None:
        raise RefusedError(f"--device must be cuda, not {name}: each process of torchrun takes its own GPU")
    number = int(index) if index else local_rank or 0
    if number >= count:
        raise RefusedError(f"--device must be one of cuda:0 … cuda:{count - 1}, not cuda:{number}")
    return torch.device("cuda", number)


def usual_amp(device: torch.device) -> str:
    """The mode of mixed precision that costs a device nothing: bf16 on GPUs that have it, else off."""
    with_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if with_bf16 else "off"


def compiler_trouble(device: torch.device) -> str:
    """Why ``torch.compile`` does not work for a device, in one line; empty if it does."""
    numbers = torch.ones(64, device=device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.compile(_compilable)(numbers)
    except Exception as error:  # what a missing or broken compiler raises is anything
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ""


def _compilable(numbers: Tensor) -> Tensor:
    return (numbers * 2).sin()

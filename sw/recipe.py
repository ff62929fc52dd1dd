"""What a training run is made of: everything that decides its result, and nothing else.  Loads no torch."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from hdl.formats import check_bool, check_int

from .precision import FLOAT, Precision

# Names only, so that a command's help need not load torch: `sw.data` and `sw.models` hold the things.
DATASETS = ("digits", "mnist", "fashion_mnist")
MODELS = ("small_cnn",)

# Progressive initialization starts here: float → 5 bits → 4 bits → … (APoT paper, section 3.1).
PROGRESSIVE_START = 5


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every choice behind a trained network.

    Parameters
    ----------
    dataset, model
        Names of a data set and a model.
    scheme, weight_bits, activation_bits
        The precision aimed at; see `Precision`.
    progressive
        Train in float first, then at 5 bits, then one bit less each, down to the precision aimed at.
    epochs
        Passes over the training images, in each stage.
    batch_size
        Images a step.
    lr
        Learning rate at the start of a stage; it falls to 0 along a cosine.
    seed
        Of the initial weights and the order of the images.
    threads
        Threads of arithmetic.  Sums, and so weights, repeat bit for bit only with the same number.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range.
    """

    dataset: str = "digits"
    model: str = "small_cnn"
    scheme: str = "apot"
    weight_bits: int = 4
    activation_bits: int = 4
    progressive: bool = False
    epochs: int = 12
    batch_size: int = 64
    lr: float = 0.1
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        for key, value, known in (("dataset", self.dataset, DATASETS), ("model", self.model, MODELS)):
            if value not in known:
                raise ValueError(f"{key} must be one of {', '.join(known)}, not {value!r}")
        check_bool("progressive", self.progressive)
        check_int("epochs", self.epochs, low=1)
        check_int("batch_size", self.batch_size, low=2)
        check_int("seed", self.seed, low=0, high=2**31 - 1)
        check_int("threads", self.threads, low=1, high=1024)
        if not isinstance(self.lr, float):
            raise TypeError(f"lr must be a positive number, not {self.lr!r}")
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"lr must be a positive number, not {self.lr!r}")
        self._target()

    def _target(self) -> Precision:
        return Precision(
            scheme=self.scheme, weight_bits=self.weight_bits, activation_bits=self.activation_bits
        )

    @property
    def stages(self) -> tuple[Precision, ...]:
        """The precisions trained one after another, each starting from the one before."""
        target = self._target()
        if not (self.progressive and target.quantized):
            return (target,)
        stages = [Precision(scheme=FLOAT)]
        for bits in range(PROGRESSIVE_START, 1, -1):
            stage = Precision(
                scheme=self.scheme,
                weight_bits=max(bits, self.weight_bits),
                activation_bits=max(bits, self.activation_bits),
            )
            if stage != stages[-1]:
                stages.append(stage)
        if stages[-1] != target:
            stages.append(target)
        return tuple(stages)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint or JSON."""
        return asdict(self)

    def differences(self, other: "Recipe") -> list[str]:
        """Names of the fields in which two recipes differ."""
        return [f.name for f in fields(self) if getattr(self, f.name) != getattr(other, f.name)]

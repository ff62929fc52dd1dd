"""What a training run is made of: everything that decides its result, and nothing else.  Loads no torch."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hdl.console import RefusedError
from hdl.formats import check_bool, check_int

from .precision import FLOAT, LayerRule, Precision, rules_of

# Names only, so that a command's help need not load torch: `sw.data` and `sw.models` hold the things.
DATASETS = ("digits", "mnist", "fashion_mnist")
MODELS = (
    "small_cnn",
    "resnet10",
    "resnet20",
    "resnet20_projection",
    "resnet56",
    "resnet56_projection",
    "vgg_small",
    "resnet18",
    "resnet34",
    "resnet50",
    "mobilenet_v2",
)

# In place of a data set: the network was trained by another program.
ELSEWHERE = "elsewhere"

# Progressive initialization starts here: float → 5 bits → 4 bits → … (APoT paper, section 3.1).
PROGRESSIVE_START = 5


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every choice behind a trained network.

    Parameters
    ----------
    dataset, model
        Names of a data set, or `ELSEWHERE`, and of a model.
    scheme, weight_bits, activation_bits, outer, outer_bits, signed, rules
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
    outer: tuple[str, ...] | None = None
    outer_bits: int = 8
    signed: tuple[str, ...] | None = None
    rules: tuple[LayerRule, ...] = ()

    def __post_init__(self) -> None:
        if self.dataset not in (*DATASETS, ELSEWHERE):
            raise ValueError(f"dataset must be one of {', '.join(DATASETS)}, not {self.dataset!r}")
        if self.model not in MODELS:
            raise ValueError(f"model must be one of {', '.join(MODELS)}, not {self.model!r}")
        check_bool("progressive", self.progressive)
        check_int("epochs", self.epochs, low=1)
        check_int("batch_size", self.batch_size, low=2)
        check_int("seed", self.seed, low=0, high=2**31 - 1)
        check_int("threads", self.threads, low=1, high=1024)
        if not isinstance(self.lr, (int, float)) or isinstance(self.lr, bool):
            raise TypeError(f"lr must be a positive number, not {self.lr!r}")
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"lr must be a positive number, not {self.lr!r}")
        _ = self.precision

    @property
    def precision(self) -> Precision:
        """The precision aimed at."""
        return Precision(**{field.name: getattr(self, field.name) for field in fields(Precision)})

    @property
    def stages(self) -> tuple[Precision, ...]:
        """The precisions trained one after another, each starting from the one before."""
        target = self.precision
        if not (self.progressive and target.quantized):
            return (target,)
        stages = [Precision(scheme=FLOAT)]
        for bits in range(PROGRESSIVE_START, 0, -1):
            stage = target.at_least(bits)
            if stage != stages[-1]:
                stages.append(stage)
        return tuple(stages)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint or JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """A recipe from plain values; those that are missing are the defaults.

        Raises
        ------
        TypeError, ValueError
            If there is another key, or a value is out of range.
        """
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise ValueError(f"key must be one of {', '.join(known)}, not {key!r}")
        changed: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        if isinstance(changed.get("rules"), tuple):
            changed["rules"] = rules_of(changed["rules"])
        return cls(**changed)

    @classmethod
    def from_toml(cls, path: Path) -> "Recipe":
        """A recipe from a TOML file: a key for each field, and a table ``[[rules]]`` for each rule.

        Raises
        ------
        RefusedError
            If the file is not TOML, has another key, or a value is out of range.
        """
        try:
            with path.open("rb") as file:
                return cls.from_dict(tomllib.load(file))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RefusedError(f"{path}: must be TOML ({error})") from error
        except (TypeError, ValueError) as error:
            raise RefusedError(f"{path}: {error}") from error

    def differences(self, other: "Recipe") -> list[str]:
        """Names of the fields in which two recipes differ."""
        return [f.name for f in fields(self) if getattr(self, f.name) != getattr(other, f.name)]

"""What a training run is made of: everything that decides its result, and nothing else.  Loads no torch."""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hdl.console import RefusedError
from hdl.formats import check_bool, check_int

from .checks import check_positive
from .precision import LayerRule, Precision, rules_of
from .schemes import FLOAT

# Names only, so that a command's help need not load torch: `sw.data` and `sw.models` hold the things.
DATASETS = ("digits", "mnist", "fashion_mnist", "cifar10")
MODELS = (
    "small_cnn",
    "resnet10",
    "resnet20",
    "resnet20_small",
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

# Penalties on weights, and what a bit-width is given to: the network, a layer, a channel.
REGULARIZERS = ("br", "kure")
GRANULARITIES = ("gp", "lp", "cp")

# What convolutions and linear layers compute in while training, where it is not float32.
AMP = ("off", "bf16", "fp16")

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
    images
        How many training images are used, the first ones; None for all.  Test images always are all.
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
    amp
        Mixed precision: convolutions and linear layers compute in ``"bf16"`` or ``"fp16"`` while training,
        quantizers and all else in float32; ``"off"`` for float32 throughout.
    regularizer
        ``"br"`` (bin regularization, with scheme lsq), ``"kure"`` (kurtosis), or None.
    strength
        λ of the regularizer.
    br_start
        Epochs of each stage before bin regularization begins; None for a third of them, as in the paper.
    lba
        Whether loss-guided bit-width allocation, with scheme dmbq, takes bits from the network (``"gp"``),
        from layers (``"lp"``) or from channels (``"cp"``) in the last stage; None for not at all.
    average_bits
        Weights' and activations' average bits that it aims at; see `sw.allocation.Allocation`.
    lba_start, lba_end
        The first and the last epoch after which it takes bits; an end of None is two thirds of the epochs.
    lba_ratio
        The share of groups that lose a bit at the end.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range, or two do not go together.
    """

    dataset: str = "digits"
    model: str = "small_cnn"
    scheme: str = "apot"
    weight_bits: int = 4
    activation_bits: int = 4
    progressive: bool = False
    images: int | None = None
    epochs: int = 12
    batch_size: int = 64
    lr: float = 0.1
    seed: int = 0
    threads: int = 1
    amp: str = "off"
    outer: tuple[str, ...] | None = None
    outer_bits: int = 8
    signed: tuple[str, ...] | None = None
    rules: tuple[LayerRule, ...] = ()
    regularizer: str | None = None
    strength: float = 1.0
    br_start: int | None = None
    lba: str | None = None
    average_bits: tuple[float, float] = (2.0, 2.0)
    lba_start: int = 1
    lba_end: int | None = None
    lba_ratio: float = 0.3

    def __post_init__(self) -> None:
        if self.dataset not in (*DATASETS, ELSEWHERE):
            raise ValueError(f"dataset must be one of {', '.join(DATASETS)}, not {self.dataset!r}")
        if self.model not in MODELS:
            raise ValueError(f"model must be one of {', '.join(MODELS)}, not {self.model!r}")
        check_bool("progressive", self.progressive)
        if self.images is not None:
            check_int("images", self.images, low=1)
        check_int("epochs", self.epochs, low=1)
        check_int("batch_size", self.batch_size, low=2)
        check_int("seed", self.seed, low=0, high=2**31 - 1)
        check_int("threads", self.threads, low=1, high=1024)
        check_positive("lr", self.lr)
        if self.amp not in AMP:
            raise ValueError(f"amp must be one of {', '.join(AMP)}, not {self.amp!r}")
        _ = self.precision
        self._check_regularizer()
        self._check_allocation()

    def _check_regularizer(self) -> None:
        if self.regularizer not in (None, *REGULARIZERS):
            raise ValueError(f"regularizer must be {' or '.join(REGULARIZERS)}, not {self.regularizer!r}")
        if self.regularizer == "br" and self.scheme != "lsq":
            raise ValueError(
                f"regularizer br must have scheme lsq, whose steps are learned, not {self.scheme!r}"
            )
        check_positive("strength", self.strength)
        if self.br_start is not None:
            check_int("br_start", self.br_start, low=0)

    def _check_allocation(self) -> None:
        if self.lba not in (None, *GRANULARITIES):
            raise ValueError(f"lba must be {', '.join(GRANULARITIES)} or None, not {self.lba!r}")
        if self.lba and not self.scheme.startswith("dmbq"):
            raise ValueError(f"lba must have scheme dmbq or dmbq_gauss, not {self.scheme!r}")
        if not isinstance(self.average_bits, tuple) or len(self.average_bits) != 2:
            raise TypeError(f"average_bits must be two numbers, not {self.average_bits!r}")
        for bits in self.average_bits:
            check_positive("average_bits", bits)
        check_int("lba_start", self.lba_start, low=1)
        if self.lba_end is not None:
            check_int("lba_end", self.lba_end, low=self.lba_start)
        check_positive("lba_ratio", self.lba_ratio)
        if self.lba_ratio > 1:
            raise ValueError(f"lba_ratio must be at most 1, not {self.lba_ratio!r}")

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

    def allocates(self, stage: int) -> bool:
        """Whether bits are taken from channels in this stage."""
        return self.lba is not None and stage == len(self.stages) - 1

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

"""Which networks are run, how each gets its weights, and how many images it is shown.  Loads no torch."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hdl.console import RefusedError
from hdl.formats import check_bool, check_int
from sw.checks import check_positive
from sw.comparison.protocol import Run
from sw.recipe import ELSEWHERE, Recipe
from sw.schemes import FLOAT

MAX_CLASSES, MAX_CORES = 1 << 16, 16


@dataclass(frozen=True, kw_only=True)
class Training:
    """How trained networks are trained: a float network of each model, and from it every scheme.

    Parameters
    ----------
    dataset, images, batch_size
        As in a recipe.
    float_epochs, float_lr
        Of the float networks.
    epochs, lr
        Of each network after that.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range.
    """

    dataset: str
    float_epochs: int
    epochs: int
    images: int | None = None
    batch_size: int = Recipe.batch_size
    float_lr: float = Recipe.lr
    lr: float = Recipe.lr

    def __post_init__(self) -> None:
        check_int("float_epochs", self.float_epochs, low=1)
        check_positive("float_lr", self.float_lr)
        for scheme in (FLOAT, Recipe.scheme):
            _ = self.recipe(scheme=scheme, seed=0)

    def recipe(self, *, scheme: str, epochs: int | None = None, **choices: Any) -> Recipe:
        """What a network of a scheme is trained with."""
        floating = scheme == FLOAT
        return Recipe(
            dataset=self.dataset,
            images=self.images,
            batch_size=self.batch_size,
            epochs=epochs or (self.float_epochs if floating else self.epochs),
            lr=self.float_lr if floating else self.lr,
            scheme=scheme,
            **choices,
        )


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A network.

    Parameters
    ----------
    name
        Unlike all others'.
    model, scheme
        As in a recipe.
    bits
        Of a weight and of an activation.
    lba, average_bits, lba_ratio
        As in a recipe.  Of a network that is not trained the bits of every channel are drawn: the averages
        must be multiples of 0.5, and `lba` be ``cp``.
    trained
        Whether it is trained; if not, its weights are random, and its other constants measured by random
        images.
    after
        The trained network that it starts from, if not from the float one.
    epochs
        Of its training, if not as many as others have.
    shape, classes
        Of an image, and how many logits; a trained network has its data set's.
    images
        How many it is shown.
    weight_format, level_width, cores
        Of the accelerator; formats and widths are chosen if they are not given.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range, or two do not go together.
    """

    name: str
    model: str
    scheme: str
    bits: tuple[int, int]
    lba: str | None = None
    average_bits: tuple[float, float] = Recipe.average_bits
    lba_ratio: float = Recipe.lba_ratio
    trained: bool = False
    after: str | None = None
    epochs: int | None = None
    shape: tuple[int, int, int] | None = None
    classes: int = 10
    images: int = 1
    weight_format: str | None = None
    level_width: int | None = None
    cores: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"name must be a string, not {self.name!r}")
        check_bool("trained", self.trained)
        check_int("classes", self.classes, low=1, high=MAX_CLASSES)
        check_int("images", self.images, low=1)
        check_int("cores", self.cores, low=1, high=MAX_CORES)
        if self.cores & (self.cores - 1):
            raise ValueError(f"cores must be a power of two, not {self.cores!r}")
        if self.scheme == FLOAT:
            raise ValueError("scheme must be one of integers, not float")
        if self.trained == (self.shape is not None):
            raise ValueError("shape must be given of a network that is not trained, and of no other")
        if self.shape is not None:
            if not isinstance(self.shape, tuple) or len(self.shape) != 3:
                raise TypeError(f"shape must be channels, height and width, not {self.shape!r}")
            for name, size in zip(("channels", "height", "width"), self.shape, strict=True):
                check_int(name, size, low=1, high=1024)
        if self.weight_format is not None and not isinstance(self.weight_format, str):
            raise TypeError(f"weight_format must be a format's name, not {self.weight_format!r}")
        if self.level_width is not None:
            check_int("level_width", self.level_width, low=1)
        if not self.trained and (self.after or self.epochs):
            raise ValueError("after and epochs must come with a network that is trained")
        if not self.trained and self.lba not in (None, "cp"):
            raise ValueError(f"lba must be cp where bits are drawn, not {self.lba!r}")
        if self.epochs is not None:
            check_int("epochs", self.epochs, low=1)
        _ = self.recipe
        if not self.trained and self.lba and any(2 * average % 1 for average in self.average_bits):
            raise ValueError(
                f"average_bits must be multiples of 0.5 where bits are drawn, not {self.average_bits!r}"
            )

    @property
    def choices(self) -> dict[str, Any]:
        """What its recipe says beside the training."""
        weight, activation = self.bits
        chosen = {"weight_bits": weight, "activation_bits": activation}
        names = ("model", "scheme", "lba", "average_bits", "lba_ratio")
        return chosen | {name: getattr(self, name) for name in names}

    @property
    def recipe(self) -> Recipe:
        """Model and precision; of a trained network not yet how it is trained."""
        return Recipe(dataset=ELSEWHERE, **self.choices)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """All networks.

    Parameters
    ----------
    networks
        In the tables' order; one comes after the one that it starts from.
    clock
        In MHz: what images a second are told for.
    seed
        Of weights, order and random images.
    training
        Of those that are trained.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range, names repeat, or a network starts from none before it.
    """

    networks: tuple[Entry, ...]
    clock: float
    seed: int = 0
    training: Training | None = None
    _before: dict[str, Entry] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_positive("clock", self.clock)
        check_int("seed", self.seed, low=0, high=2**31 - 1)
        if not self.networks:
            raise ValueError("networks must not be empty")
        for entry in self.networks:
            if entry.name in self._before:
                raise ValueError(f"networks must have names of their own, not {entry.name!r} twice")
            if entry.trained and self.training is None:
                raise ValueError(f"training must be given, since {entry.name!r} is trained")
            start = self._before.get(entry.after or "")
            if entry.after and (start is None or not start.trained or start.model != entry.model):
                raise ValueError(
                    f"after of {entry.name!r} must be a trained network of the same model before it, "
                    f"not {entry.after!r}"
                )
            self._before[entry.name] = entry

    def run(self, entry: Entry) -> Run:
        """What trains an entry, and what it starts from."""
        assert self.training is not None
        if entry.after is not None:
            start = self.run(self._before[entry.after])
        else:
            recipe = self.training.recipe(model=entry.model, scheme=FLOAT, seed=self.seed)
            start = Run(contender=f"{entry.model} float", bits=None, recipe=recipe, start=None)
        recipe = self.training.recipe(**entry.choices, epochs=entry.epochs, seed=self.seed)
        return Run(contender=entry.name, bits=None, recipe=recipe, start=start)

    def selected(self, names: Sequence[str]) -> tuple[Entry, ...]:
        """Networks of these names, all by default.

        Raises
        ------
        RefusedError
            If there is none of a name.
        """
        for name in names:
            if name not in self._before:
                raise RefusedError(f"--only must be one of {', '.join(self._before)}, not {name}")
        return tuple(each for each in self.networks if not names or each.name in names)

    @classmethod
    def from_toml(cls, path: Path) -> "Protocol":
        """A protocol from a TOML file: its keys, a table ``[training]``, and tables ``[[networks]]``.

        Raises
        ------
        RefusedError
            If the file is not TOML, has another key, lacks one, or a value is out of range.
        """
        try:
            with path.open("rb") as file:
                return _protocol(tomllib.load(file))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RefusedError(f"{path}: must be TOML ({error})") from error
        except (TypeError, ValueError) as error:
            raise RefusedError(f"{path}: {error}") from error


def _protocol(table: Mapping[str, Any]) -> Protocol:
    values = _checked("protocol", Protocol, table)
    if not isinstance(values["networks"], list):
        raise TypeError(f"networks must be a list, not {values['networks']!r}")
    values["networks"] = tuple(map(_entry, values["networks"]))
    if "training" in values:
        values["training"] = Training(**_checked("training", Training, values["training"]))
    return Protocol(**values)


def _entry(table: Any) -> Entry:
    values = _checked("network", Entry, table)
    try:
        values["bits"] = _bits(values["bits"])
        values |= {
            name: tuple(values[name])
            for name in ("shape", "average_bits")
            if isinstance(values.get(name), list)
        }
        return Entry(**values)
    except (TypeError, ValueError) as error:
        raise type(error)(f"network {values['name']!r}: {error}") from error


def _checked(what: str, kind: type, table: Any) -> dict[str, Any]:
    """A table as arguments of a dataclass."""
    if not isinstance(table, Mapping):
        raise TypeError(f"{what} must be a table, not {table!r}")
    known = {each.name: each for each in fields(kind) if each.init}
    for key in table:
        if key not in known:
            raise ValueError(f"key of a {what} must be one of {', '.join(known)}, not {key!r}")
    for name in known:
        if name not in table and not hasattr(kind, name):
            raise ValueError(f"{what} must have a {name}")
    return dict(table)


def _bits(value: Any) -> tuple[int, int]:
    parts = value.split("/") if isinstance(value, str) else []
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise ValueError(f'bits must be written as "4/4", not {value!r}')
    return int(parts[0]), int(parts[1])

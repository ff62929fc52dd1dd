"""What is compared: schemes, bits, seeds, and the training that all of them get.  Loads no torch."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hdl.console import RefusedError
from hdl.formats import check_int

from ..recipe import Recipe
from ..schemes import FLOAT
from .contender import OWN, Bits, Contender, Run, label, labels

# Keys of a recipe that a protocol gives to every scheme alike.
COMMON = ("dataset", "model", "images", "batch_size", "threads")

# What papers compare schemes by, of all that is measured.
MEASURES = ("accuracy", "weight_error", "bin_loss")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What a paper says: one contender is better than another.

    Parameters
    ----------
    better, worse
        Names of contenders.
    source
        Where the paper says so.
    measure
        Of `MEASURES`; a greater accuracy is better, and a smaller error.
    """

    better: str
    worse: str
    source: str
    measure: str = "accuracy"


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A comparison: for each seed a float network, and from it every contender under equal epochs.

    Parameters
    ----------
    dataset, model, batch_size, threads
        As in a recipe, the same for all.
    images, test_images
        How many images are trained on and tested on, the first ones; None for all.
    seeds
        Of weights and order; every contender is trained once with each.
    bits
        Bits of a weight and of an activation, in the order of training: at the first ones a contender starts
        from the seed's float network, at the others from its own network of those before.
    float_epochs, float_lr
        Of the float network.
    epochs, lr
        Of each run after that.
    contenders
        What is compared.
    claims
        What papers say about the order.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range or a contender has no such format.
    """

    dataset: str
    model: str
    seeds: tuple[int, ...]
    bits: tuple[Bits, ...]
    float_epochs: int
    epochs: int
    contenders: tuple[Contender, ...]
    images: int | None = None
    test_images: int | None = None
    batch_size: int = Recipe.batch_size
    threads: int = Recipe.threads
    float_lr: float = Recipe.lr
    lr: float = Recipe.lr
    claims: tuple[Claim, ...] = ()

    def __post_init__(self) -> None:
        if self.test_images is not None:
            check_int("test_images", self.test_images, low=1)
        for name in ("seeds", "bits", "contenders"):
            given = getattr(self, name)
            if not given:
                raise ValueError(f"{name} must not be empty")
            keys = [each.name if isinstance(each, Contender) else each for each in given]
            if len(set(keys)) < len(keys):
                raise ValueError(f"{name} must differ from one another, not {keys!r}")
        names = [each.name for each in self.contenders]
        for contender in self.contenders:
            _check_name(f"after of {contender.name}", contender.after or contender.name, names)
            for bits in contender.bits or ():
                if bits not in self.bits:
                    raise ValueError(f"bits of {contender.name} must be among {labels(self.bits)}")
        for claim in self.claims:
            _check_name("better", claim.better, names)
            _check_name("worse", claim.worse, names)
            _check_name("measure", claim.measure, MEASURES)
        _ = self.runs()

    def runs(self) -> list[Run]:
        """All runs, each after the one it starts from; the float networks are among them."""
        found: list[Run] = []
        for seed in self.seeds:
            common = {name: getattr(self, name) for name in COMMON} | {"seed": seed}
            recipe = Recipe(**common, scheme=FLOAT, epochs=self.float_epochs, lr=self.float_lr)
            root = Run(contender="", bits=None, recipe=recipe, start=None)
            found.append(root)
            before: dict[str, Run] = {}
            for bits in self.bits:
                now = {each.name: self._run(each, bits, common, before, root) for each in self._at(bits)}
                found.extend(now.values())
                before = now
        return found

    def _at(self, bits: Bits) -> list[Contender]:
        return [each for each in self.contenders if each.bits is None or bits in each.bits]

    def _run(
        self, contender: Contender, bits: Bits, common: dict[str, Any], before: dict[str, Run], root: Run
    ) -> Run:
        try:
            recipe = contender.recipe(bits, {**common, "epochs": self.epochs, "lr": self.lr})
        except (TypeError, ValueError) as error:
            raise ValueError(f"contender {contender.name} at {label(bits)}: {error}") from error
        start = before.get(contender.after or contender.name, root)
        return Run(contender=contender.name, bits=bits, recipe=recipe, start=start)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values = asdict(self)
        values["bits"] = labels(self.bits)
        for contender in values["contenders"]:
            contender["bits"] = contender["bits"] and labels(contender["bits"])
            contender["options"] = dict(contender["options"])
        return values

    @classmethod
    def from_toml(cls, path: Path) -> "Protocol":
        """A protocol from a TOML file: its keys, and tables ``[[contenders]]`` and ``[[claims]]``.

        Raises
        ------
        RefusedError
            If the file is not TOML, has another key, lacks one, or a value is out of range.
        """
        try:
            with path.open("rb") as file:
                return cls(**_arguments(tomllib.load(file)))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RefusedError(f"{path}: must be TOML ({error})") from error
        except (TypeError, ValueError) as error:
            raise RefusedError(f"{path}: {error}") from error


def _check_name(what: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise ValueError(f"{what} must be one of {', '.join(names)}, not {name!r}")


def _arguments(table: Mapping[str, Any]) -> dict[str, Any]:
    """A file's values as a protocol's arguments."""
    values = _checked("key", table, [field.name for field in fields(Protocol)])
    for name in ("dataset", "model", "seeds", "bits", "float_epochs", "epochs", "contenders"):
        if name not in values:
            raise ValueError(f"{name} must be given")
    for name in ("seeds", "bits", "contenders", "claims"):
        if not isinstance(values.get(name, []), list):
            raise TypeError(f"{name} must be a list, not {values[name]!r}")
    values["seeds"] = tuple(values["seeds"])
    values["bits"] = tuple(map(_bits, values["bits"]))
    values["contenders"] = tuple(map(_contender, values["contenders"]))
    keys = [field.name for field in fields(Claim)]
    values["claims"] = tuple(
        Claim(**_complete("claim", _checked("key of a claim", each, keys), keys[:3]))
        for each in values.get("claims", [])
    )
    return values


def _contender(table: Any) -> Contender:
    about = [field.name for field in fields(Contender) if field.name != "options"]
    values = _complete("contender", _checked("key of a contender", table, [*about, *OWN]), ("name", "scheme"))
    chosen = {name: values.pop(name) for name in OWN if name in values}
    if "bits" in values:
        values["bits"] = tuple(map(_bits, values["bits"]))
    check_int("extra_bits", values.get("extra_bits", 0), low=0)
    if values.get("extra_bits") and "lba" not in chosen:
        raise ValueError(f"extra_bits of {values['name']} must come with lba, which takes them")
    return Contender(**values, options=chosen)


def _checked(what: str, table: Any, known: Sequence[str]) -> dict[str, Any]:
    if not isinstance(table, Mapping):
        raise TypeError(f"{what.rpartition(' ')[2]} must be a table, not {table!r}")
    for key in table:
        _check_name(what, key, known)
    return dict(table)


def _complete(what: str, values: dict[str, Any], needed: Sequence[str]) -> dict[str, Any]:
    for name in needed:
        if not isinstance(values.get(name), str):
            raise TypeError(f"{name} of a {what} must be a string, not {values.get(name)!r}")
    return values


def _bits(value: Any) -> Bits:
    try:
        weight, activation = map(int, value.split("/"))
    except (AttributeError, ValueError) as error:
        raise ValueError(f"bits must be two integers W/A like 4/4, not {value!r}") from error
    return weight, activation

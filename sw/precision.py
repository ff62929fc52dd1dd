"""Which layer of a network is quantized how: one precision, and the exceptions.  Loads no torch."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from hdl.console import RefusedError
from hdl.formats import Format, check_int

from .schemes import FLOAT, MAX_BITS, OUTER_SCHEME, REAL, LayerPrecision, check_scheme, widened


@dataclass(frozen=True, kw_only=True)
class LayerRule:
    """What the layers of some names have instead of the network's precision.

    Parameters
    ----------
    pattern
        Of layer names, as in a shell: ``layer3.*.conv?``.
    scheme
        None leaves it as it is.
    weight_bits, activation_bits
        1 to 16, or `REAL` for what is not quantized; None leaves them as they are.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range, or nothing is changed.
    """

    pattern: str
    scheme: str | None = None
    weight_bits: int | None = None
    activation_bits: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str):
            raise TypeError(f"pattern must be a string, not {self.pattern!r}")
        if not self.changes:
            raise ValueError(f"rule {self.pattern!r} must give scheme, weight_bits or activation_bits")
        if self.scheme is not None:
            check_scheme(self.scheme)
        for name in ("weight_bits", "activation_bits"):
            bits = getattr(self, name)
            if bits is not None and bits != REAL:
                check_int(name, bits, low=1, high=MAX_BITS)

    @property
    def changes(self) -> dict[str, Any]:
        return {
            name: value for name, value in asdict(self).items() if name != "pattern" and value is not None
        }


@dataclass(frozen=True, kw_only=True)
class Precision:
    """How a network is quantized: scheme and bit-widths of its layers, and the exceptions.

    Parameters
    ----------
    scheme
        One of `SCHEMES`.
    weight_bits, activation_bits
        2 … 8 (from 1 for DMBQ) and 1 … 8; without meaning if the scheme is float.
    outer
        Names of the layers with integers of `outer_bits` instead; the first of them takes the image, which
        is not quantized again.  None for the first and the last layer called.
    outer_bits
        2 to 16.
    signed
        Patterns of the layers whose input may be negative.  None to find them out.
    rules
        Exceptions by name, from `outer` too; of those that match a layer a later one goes over an earlier.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range or the scheme has no format of that width.
    """

    scheme: str
    weight_bits: int = 4
    activation_bits: int = 4
    outer: tuple[str, ...] | None = None
    outer_bits: int = 8
    signed: tuple[str, ...] | None = None
    rules: tuple[LayerRule, ...] = ()

    def __post_init__(self) -> None:
        check_scheme(self.scheme)
        binary = self.scheme.startswith("dmbq")
        check_int("weight_bits", self.weight_bits, low=1 if binary else 2, high=8)
        check_int("activation_bits", self.activation_bits, low=1, high=8)
        check_int("outer_bits", self.outer_bits, low=2, high=MAX_BITS)
        for name in ("outer", "signed"):
            names = getattr(self, name)
            if names is not None and not _strings(names):
                raise TypeError(f"{name} must be a tuple of layer names or None, not {names!r}")
        if not isinstance(self.rules, tuple) or not all(isinstance(rule, LayerRule) for rule in self.rules):
            raise TypeError(f"rules must be a tuple of LayerRule, not {self.rules!r}")
        if self.rules and not self.quantized:
            raise ValueError("rules must be empty if the scheme is float")
        self._inner()

    @property
    def quantized(self) -> bool:
        return self.scheme != FLOAT

    def formats(self) -> tuple[Format | None, Format | None]:
        """Formats of weights and of activations; None for levels that are learned."""
        return self._inner().formats()

    def layer(self, name: str, *, outer: Collection[str] = (), image: str | None = None) -> LayerPrecision:
        """What one layer gets.

        Parameters
        ----------
        name
            Of the layer.
        outer
            The layers with `outer_bits`.
        image
            The one among them that takes the image.

        Raises
        ------
        RefusedError
            If the rules give it a width that its scheme has no format for.
        """
        base = self._inner()
        if name in outer and self.quantized:
            seen = REAL if name == image else self.outer_bits
            base = LayerPrecision(scheme=OUTER_SCHEME, weight_bits=self.outer_bits, activation_bits=seen)
        changes: dict[str, Any] = {}
        for rule in self.rules:
            if fnmatchcase(name, rule.pattern):
                changes |= rule.changes
        try:
            return replace(base, **changes)
        except (TypeError, ValueError) as error:
            raise RefusedError(f"layer {name}: {error}") from error

    def check_names(self, names: Iterable[str]) -> None:
        """Refuse a name or pattern that none of the layers has.

        Raises
        ------
        RefusedError
            With the layers' names.
        """
        known = list(names)
        patterns = [rule.pattern for rule in self.rules] + list(self.signed or ())
        wrong = [each for each in patterns if not any(fnmatchcase(name, each) for name in known)]
        wrong = [each for each in self.outer or () if each not in known] + wrong
        if wrong:
            raise RefusedError(f"layer {wrong[0]!r} must be one of {', '.join(known)} or a pattern of them")

    def at_least(self, bits: int) -> "Precision":
        """The same with so many bits wherever there are fewer, or as many as the scheme has."""

        rules = tuple(
            replace(
                rule,
                weight_bits=rule.weight_bits and widened(rule.scheme or self.scheme, rule.weight_bits, bits),
                activation_bits=rule.activation_bits and max(rule.activation_bits, bits),
            )
            for rule in self.rules
        )
        return replace(
            self,
            weight_bits=widened(self.scheme, self.weight_bits, bits),
            activation_bits=max(self.activation_bits, bits),
            rules=rules,
        )

    def _inner(self) -> LayerPrecision:
        return LayerPrecision(
            scheme=self.scheme, weight_bits=self.weight_bits, activation_bits=self.activation_bits
        )

    def __str__(self) -> str:
        return f"{self.scheme} {self.weight_bits}/{self.activation_bits}" if self.quantized else FLOAT


def rules_of(values: Iterable[Any]) -> tuple[LayerRule, ...]:
    """Rules from the tables of a file.

    Raises
    ------
    TypeError, ValueError
        If one is not a table, has another key, or a value is out of range.
    """
    return tuple(_rule(value) for value in values)


def _rule(value: Any) -> LayerRule:
    if isinstance(value, LayerRule):
        return value
    known = [field.name for field in fields(LayerRule)]
    if not isinstance(value, Mapping):
        raise TypeError(f"rule must be a table of {', '.join(known)}, not {value!r}")
    for key in value:
        if key not in known:
            raise ValueError(f"key of a rule must be one of {', '.join(known)}, not {key!r}")
    if "pattern" not in value:
        raise ValueError("rule must have a pattern")
    return LayerRule(**value)


def _strings(names: object) -> bool:
    return isinstance(names, tuple) and all(isinstance(name, str) for name in names)

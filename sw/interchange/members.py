"""Members of JSON objects and tensors by name, each refused in one line if it is not what it must be."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hdl.console import RefusedError
from hdl.formats import Format, check_int, named

from ..graph import Integers
from .content import Header, Tensors

_JSON_NAMES = {list: "array", float: "real number", str: "string", bool: "true or false", dict: "object"}


def member(values: Header, where: str, key: str, kind: type) -> Any:
    """A member of that type."""
    value = values.get(key)
    if not isinstance(value, kind):
        raise RefusedError(f"{where}: {key} must be a JSON {_JSON_NAMES[kind]}, not {value!r}")
    return value


def optional(values: Header, where: str, key: str, kind: type) -> Any:
    """A member of that type, or None."""
    return None if values.get(key) is None else member(values, where, key, kind)


def positive(values: Header, where: str, key: str) -> float:
    """A positive, finite number."""
    value = member(values, where, key, float)
    if not 0 < value < float("inf"):
        raise RefusedError(f"{where}: {key} must be a positive number, not {value!r}")
    return float(value)


def count(entry: Header, where: str, key: str, *, low: int, high: int | None = None) -> int:
    """An integer in a range."""
    try:
        check_int(key, entry.get(key), low=low, high=high)
    except (TypeError, ValueError) as error:
        raise RefusedError(f"{where}: {error}") from error
    return int(entry[key])


def counts(
    entry: Header, where: str, key: str, *, number: int, low: int, high: int | None = None
) -> tuple[int, ...]:
    """So many integers in a range."""
    values = member(entry, where, key, list)
    wanted = f"of at least {low}" if high is None else f"from {low} to {high}"
    fits = all(type(each) is int and low <= each and (high is None or each <= high) for each in values)
    if len(values) != number or not fits:
        raise RefusedError(f"{where}: {key} must be {number} integers {wanted}, not {values!r}")
    return tuple(values)


def objects(values: Header, where: str, key: str) -> list[Header]:
    """An array of objects."""
    found = member(values, where, key, list)
    for each in found:
        if not isinstance(each, dict):
            raise RefusedError(f"{where}: {key} must hold JSON objects, not {each!r}")
    return found


def format_of(entry: Header, where: str, key: str, *, signed: bool | None = None) -> Format:
    """The format of that name, signed or not if that matters."""
    try:
        fmt = named(member(entry, where, key, str))
    except (TypeError, ValueError) as error:
        raise RefusedError(f"{where}: {key}: {error}") from error
    if signed not in (None, fmt.signed):
        raise RefusedError(
            f"{where}: {key} must be {'a signed' if signed else 'an unsigned'} format, not {fmt.name!r}"
        )
    return fmt


def tensor(tensors: Tensors, name: str, *, kind: str, dimensions: tuple[int, ...]) -> NDArray[Any]:
    """The tensor of that name, of so many dimensions; kind is ``"f"`` or ``"i"``."""
    if name not in tensors:
        raise RefusedError(f"{name}: tensor must be present")
    found = tensors[name]
    if found.ndim not in dimensions or 0 in found.shape:
        wanted = " or ".join(map(str, dimensions))
        raise RefusedError(f"{name}: must have {wanted} dimensions, none of them 0, not shape {found.shape}")
    if found.dtype.kind != kind:
        raise RefusedError(f"{name}: must be {'real' if kind == 'f' else 'integer'}, not {found.dtype}")
    return found


def integer_tensor(
    tensors: Tensors, name: str, *, low: int, high: int, number: int | None = None, of: str = ""
) -> Integers:
    """A vector of integers in a range; of `number` of them, one `of` what."""
    values = tensor(tensors, name, kind="i", dimensions=(1,))
    if number is not None and len(values) != number:
        raise RefusedError(f"{name}: must have {number} values, one {of}, not {len(values)}")
    wrong = values[(values < low) | (values > high)]
    if len(wrong):
        raise RefusedError(f"{name}: must be {low} … {high}, not {wrong[0]}")
    return values.astype(np.int64)

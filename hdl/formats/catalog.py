"""Every scheme by name: ``named("apot_k2n2")`` is the format, ``SCHEMES`` the list to add to."""

import re
from typing import Any

from .apot import APoT, PoT
from .base import Format
from .uniform import Uniform

SCHEMES: tuple[type[Uniform] | type[APoT], ...] = (Uniform, PoT, APoT)


def named(name: str) -> Format:
    """The format of a canonical name; a trailing ``u`` makes it unsigned (activations).

    Raises
    ------
    TypeError
        If `name` is not a string.
    ValueError
        If no scheme has such a name, or its parameters are out of range.
    """
    for scheme in SCHEMES if isinstance(name, str) else ():
        match = re.fullmatch(scheme.pattern + "(?P<unsigned>u?)", name)
        if match:
            values = match.groupdict()
            signed = not values.pop("unsigned")
            parameters: dict[str, Any] = {
                key: bool(value) if key == "odd" else int(value) for key, value in values.items()
            }
            return scheme(signed=signed, **parameters)
    known = ", ".join(scheme.scheme for scheme in SCHEMES)
    message = f"format must be a name like 'apot_k2n2' or 'uniform_b8u' ({known}), not {name!r}"
    raise ValueError(message) if isinstance(name, str) else TypeError(message)

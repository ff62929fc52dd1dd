"""Every scheme by name: ``named("apot_k2n2")`` is the format, ``SCHEMES`` the list to add to."""

import re
from typing import Any

from .apot import APoT, PoT
from .base import Format
from .basis import COORDINATES, Basis, basis
from .companded import OUTER_BITS, Companded
from .uniform import SignMagnitude, Uniform

SCHEMES: tuple[type[Uniform] | type[SignMagnitude] | type[APoT] | type[Basis] | type[Companded], ...] = (
    Uniform,
    SignMagnitude,
    PoT,
    APoT,
    Basis,
    Companded,
)

FAMILY = rf"(?P<family>{'|'.join(COORDINATES)})_m(?P<planes>\d+)"
CONVERSIONS: dict[str, Any] = {
    "odd": bool,
    "coordinates": lambda text: tuple(map(int, text.split("_"))),
    "magnitudes": lambda text: tuple(map(int, text.split("_"))),
    "outer_bits": lambda text: int(text[1:-1]) if text else OUTER_BITS,
}


def named(name: str) -> Format:
    """The format of a canonical name; a trailing ``u`` makes it unsigned (activations).

    ``laplace_m2`` and the like are second names of the bases that `basis` gives.

    Raises
    ------
    TypeError
        If `name` is not a string.
    ValueError
        If no scheme has such a name, or its parameters are out of range.
    """
    family = re.fullmatch(FAMILY, name) if isinstance(name, str) else None
    if family:
        return basis(family=family["family"], planes=int(family["planes"]))
    for scheme in SCHEMES if isinstance(name, str) else ():
        match = re.fullmatch(scheme.pattern + "(?P<unsigned>u?)", name)
        if match:
            values = match.groupdict()
            signed = not values.pop("unsigned")
            parameters: dict[str, Any] = {
                key: CONVERSIONS.get(key, int)(value) for key, value in values.items()
            }
            return scheme(signed=signed, **parameters)
    known = ", ".join([*(scheme.scheme for scheme in SCHEMES), *COORDINATES])
    message = f"format must be a name like 'apot_k2n2' or 'uniform_b8u' ({known}), not {name!r}"
    raise ValueError(message) if isinstance(name, str) else TypeError(message)

"""Activation codes to levels, and values to activation codes: for one format, or loaded at run time."""

from dataclasses import dataclass
from typing import Any

from hdl.formats import named

from ..block import Block, Circuit
from ..weights import described


@dataclass(frozen=True, kw_only=True)
class Codes:
    """Words of activation codes.

    Parameters
    ----------
    lanes
        Codes of a word.
    format
        An activation format's name, such as apot_k2n2u or uniform_b4u, to build it in.
    code_width
        Bits of a code, if loadable.
    """

    lanes: int = 16
    format: str | None = None
    code_width: int | None = None


@dataclass(frozen=True, kw_only=True)
class ActivationDecoder(Codes):
    """Parameters of activation_decoder.

    Parameters
    ----------
    activation_width
        Bits of a level, if loadable.
    tables
        Tables that are loaded at run time and held at a time, instead of a format.
    """

    activation_width: int | None = None
    tables: int | None = None


@dataclass(frozen=True, kw_only=True)
class ActivationEncoder(Codes):
    """Parameters of activation_encoder.

    Parameters
    ----------
    value_width
        Bits of a value, two's complement.
    fraction
        Binary places of a value, which counts levels, if not loadable; by default 1, half levels.
    encodings
        Sets of boundaries that are loaded at run time and held at a time, instead of a format.
    """

    value_width: int = 18
    fraction: int | None = None
    encodings: int | None = None


def build_decoder(parameters: ActivationDecoder) -> Circuit:
    """The decoder of a format, or one with tables."""
    p = parameters
    if p.format is not None:
        _refuse(p, ("code_width", "activation_width", "tables"))
        return _fixed_decoder(p.format, p.lanes)
    if p.tables is None or p.code_width is None or p.activation_width is None:
        raise ValueError("format, or tables, code_width and activation_width, must be given")
    from hdl.activation import LoadableDecoder

    decoder = LoadableDecoder(
        lanes=p.lanes, code_width=p.code_width, activation_width=p.activation_width, tables=p.tables
    )
    entries = {
        "count": p.tables << p.code_width,
        "address": "table * 2^code_width + code",
        "word": "the level of the code; activation formats have level 0 at code 0 and ascend",
    }
    return _circuit(decoder, p.lanes, "codes", "levels", {"entries": entries})


def _fixed_decoder(name: str, lanes: int) -> Circuit:
    from hdl.activation import FixedDecoder

    decoder = FixedDecoder(activation_format=named(name), lanes=lanes)
    return _circuit(decoder, lanes, "codes", "levels", described(decoder.activation_format))


def build_encoder(parameters: ActivationEncoder) -> Circuit:
    """The encoder of a format, or one with sets of boundaries."""
    p = parameters
    if p.format is not None:
        _refuse(p, ("code_width", "encodings"))
        return _fixed_encoder(p, p.format)
    if p.encodings is None or p.code_width is None:
        raise ValueError("format, or encodings and code_width, must be given")
    _refuse(p, ("fraction",), reason="without format")
    from hdl.encoder import LoadableEncoder

    encoder = LoadableEncoder(
        lanes=p.lanes, code_width=p.code_width, value_width=p.value_width, encodings=p.encodings
    )
    entries = {
        "count": p.encodings << p.code_width,
        "address": "encoding * 2^code_width + node",
        "word": "the boundary at the node of a binary search tree: node 1 is its root, the children of node "
        "i are 2i for values up to its boundary and 2i + 1 for greater ones, node 0 is not used",
        "unused_boundary": 2 ** (p.value_width - 1) - 1,
    }
    value = {"width": p.value_width, "signed": True}
    return _circuit(encoder, p.lanes, "values", "codes", {"value": value, "entries": entries})


def _fixed_encoder(parameters: ActivationEncoder, name: str) -> Circuit:
    from hdl.encoder import FixedEncoder

    p, activation_format = parameters, named(name)
    fraction = 1 if p.fraction is None else p.fraction
    encoder = FixedEncoder(
        activation_format=activation_format, lanes=p.lanes, value_width=p.value_width, fraction=fraction
    )
    facts = {
        **described(activation_format),
        "value": {"width": p.value_width, "signed": True, "fraction": fraction},
        "boundaries": list(encoder.thresholds),
        "code": "number of boundaries below the value",
    }
    return _circuit(encoder, p.lanes, "values", "codes", facts)


def _refuse(parameters: Codes, names: tuple[str, ...], *, reason: str = "with format") -> None:
    for name in names:
        value = getattr(parameters, name)
        if value is not None:
            raise ValueError(f"{name} must not be given {reason}, not {value!r}")


def _circuit(component: Any, lanes: int, source: str, result: str, facts: dict[str, Any]) -> Circuit:
    return Circuit(
        component=component,
        facts={"latency": component.latency, **facts},
        lanes={source: lanes, result: lanes},
        renamed={"inside": "inside_tensor", "table": "table_select"},
        flat=True,
    )


BLOCKS = (
    Block(
        name="activation_decoder",
        summary="decoder of activations: rank codes become unsigned levels",
        parameters=ActivationDecoder,
        build=build_decoder,
        examples=(
            "--format apot_k2n2u --lanes 16",
            "--tables 2 --code-width 4 --activation-width 6 -o build/decoder.v",
        ),
    ),
    Block(
        name="activation_encoder",
        summary="encoder of activations: values become rank codes, by counting boundaries",
        parameters=ActivationEncoder,
        build=build_encoder,
        examples=(
            "--format apot_k2n2u --lanes 8 --fraction 8",
            "--encodings 2 --code-width 4 --lanes 8 -o build/encoder.v",
        ),
    ),
)

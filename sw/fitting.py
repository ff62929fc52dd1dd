"""Which accelerator a network needs, and reading the description of one that was generated."""

import json
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from hdl.console import RefusedError
from hdl.formats import Companded, Uniform, named
from hdl.parameters import AcceleratorParameters, parameters_from

from .digits import activation_digits, weight_digits
from .network import IntegerNetwork


def fitting_parameters(network: IntegerNetwork) -> AcceleratorParameters:
    """Default parameters, with the formats and widths that the network's layers use.

    The array's weight format is the one most weights have; 8-bit layers then run as digits of it.  Plain
    integers stand in for binary bases, which have no zero to pad with, and for learned tables, of which every
    layer has its own.

    Raises
    ------
    RefusedError
        If there is no such accelerator: its codes would be too wide, or its tables too many.
    """
    weights: Counter[str] = Counter()
    for layer in network.layers:
        narrow = not (isinstance(named(layer.weight_format), Uniform) and "b8" in layer.weight_format)
        weights[layer.weight_format] += layer.weights.size if narrow else 0
    outputs = [named(layer.output_format) for layer in network.layers if layer.output_format]
    code_width = max((values.code_width for values in outputs), default=4)
    activation_width = max(code_width, *(values.level_width for values in outputs), 1)
    requantizers = min(8, 1 << (max(1, 32 // code_width).bit_length() - 1))
    try:
        narrow_enough = AcceleratorParameters(
            weight_format=_array_format(weights),
            code_width=code_width,
            activation_width=activation_width,
            requantizers=requantizers,
        )
    except ValueError as error:
        raise RefusedError(f"network fits no accelerator: {error}") from error
    needed = {"passes": _most_passes(network, narrow_enough), **_codebooks(network, narrow_enough)}
    try:
        return replace(
            narrow_enough,
            **{name: max(count, getattr(narrow_enough, name)) for name, count in needed.items()},
        )
    except ValueError as error:
        raise RefusedError(f"network fits no accelerator: {error}") from error


def _array_format(weights: Counter[str]) -> str:
    """A format whose digits make the levels of all these, by how many weights have each."""
    most = named(weights.most_common(1)[0][0])
    if 0 in most.codes and not isinstance(most, Companded):
        return most.name
    widest = max(named(name).level_width for name in weights if weights[name])
    return Uniform(bits=widest + 1).name


def _codebooks(network: IntegerNetwork, parameters: AcceleratorParameters) -> dict[str, int]:
    """How many activation tables and sets of boundaries the layers have between them."""
    widths = {"code_width": parameters.code_width, "activation_width": parameters.activation_width}
    tables: set[tuple[int, ...]] = set()
    for layer in network.layers:
        with suppress(ValueError):
            tables |= {table for _, table in activation_digits(named(layer.input_format), **widths)}
    return {"tables": len(tables), "encodings": len({layer.thresholds for layer in network.layers[:-1]})}


def _most_passes(network: IntegerNetwork, parameters: AcceleratorParameters) -> int:
    """Passes of the layer that needs most; one that cannot be split is left for the compiler to refuse."""
    widths = {"code_width": parameters.code_width, "activation_width": parameters.activation_width}
    most = 0
    for layer in network.layers:
        with suppress(ValueError):
            places = weight_digits(values=named(layer.weight_format), array=parameters.format).places
            most = max(most, len(places) * len(activation_digits(named(layer.input_format), **widths)))
    return most


def read_parameters(path: Path) -> AcceleratorParameters:
    """Parameters of a generated accelerator, from the description beside its Verilog.

    Raises
    ------
    RefusedError
        If the file is not such a description, or of an accelerator that this version does not generate.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        parameters = parameters_from(content["parameters"])
        build_id = content["build_id"]
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedError(
            f"{path}: must be the JSON that `python -m gen accelerator` writes beside its Verilog"
        ) from error
    if build_id != f"{parameters.build_id:08x}":
        raise RefusedError(
            f"{path}: build id must be {parameters.build_id:08x}, not {build_id}; generate it anew"
        )
    return parameters


def generator_options(parameters: AcceleratorParameters) -> str:
    """Options of ``python -m gen accelerator`` that differ from its defaults."""
    defaults = AcceleratorParameters()
    return " ".join(
        f"--{name.replace('_', '-')} {value}"
        for name, value in vars(parameters).items()
        if value != getattr(defaults, name)
    )

"""What the hardware cannot carry exactly is refused: the layer, the quantity, and by how much."""

import numpy as np

from hdl.console import RefusedError
from hdl.formats import Format, named
from hdl.layouts import LAYER, PASS
from hdl.parameters import (
    BIAS_WIDTH,
    COORDINATE_WIDTH,
    MULTIPLIER_WIDTH,
    RESULT_WIDTH,
    VALUE_WIDTH,
    AcceleratorParameters,
)

from .network import SHIFT_LIMIT, IntegerLayer


def check_layer(layer: IntegerLayer, *, input_format: Format, parameters: AcceleratorParameters) -> None:
    """Refuse what the datapath cannot carry exactly, from the weights as they are.

    Raises
    ------
    RefusedError
        If a sum, a constant or a boundary does not fit.
    """
    fit(layer, "sum of one pass", layer.weights[0].size, parameters.depth, "products")
    for name, limit in (("multiplier", 1 << (MULTIPLIER_WIDTH - 1)), ("bias", 1 << (BIAS_WIDTH - 1))):
        values = getattr(layer, name)
        if values.min() < -limit or values.max() >= limit:
            raise RefusedError(f"layer {layer.name!r}: {name} must lie in {-limit} … {limit - 1}")
    if layer.shift.min() < 0 or layer.shift.max() > SHIFT_LIMIT:
        raise RefusedError(f"layer {layer.name!r}: shift must lie in 0 … {SHIFT_LIMIT}")
    reach = np.abs(layer.weights).sum(axis=(1, 2, 3)).tolist()
    constants = zip(reach, layer.multiplier.tolist(), layer.bias.tolist(), layer.shift.tolist(), strict=True)
    # In Python's integers: what is too large for the hardware may be too large for 64 bits as well.
    totals = [(total * input_format.max_level * abs(m) + abs(b), s) for total, m, b, s in constants]
    largest = max(total for total, _ in totals)
    fit(layer, "scaled sum", largest.bit_length() + 1, parameters.sum_width, "bits")
    if layer.output_format is None:
        result = max(total >> shift for total, shift in totals).bit_length() + 1
        fit(layer, "result", result, RESULT_WIDTH, "bits")
    else:
        output = named(layer.output_format)
        fit(layer, "output code", output.code_width, parameters.code_width, "bits")
        fit(layer, "output level", output.level_width, parameters.activation_width, "bits")
        fit(layer, "top boundary", layer.thresholds[-1].bit_length() + 1, VALUE_WIDTH, "bits")


def check_command(layer: IntegerLayer, command: dict[str, int], passes: list[dict[str, int]]) -> None:
    """Refuse what a command's fields, or the walker's coordinates, cannot hold (RefusedError)."""
    size = max(command["input_height"], command["input_width"])
    fit(layer, "padded coordinates", size + command["padding"], 2**COORDINATE_WIDTH, "values")
    for layout, values in ((LAYER, command), *((PASS, turn) for turn in passes)):
        for name, value in values.items():
            limit = (1 << layout[name].width) - 1
            if value > limit or (value < 0 and name != "origin"):
                raise RefusedError(f"layer {layer.name!r}: {name} must be at most {limit}, not {value}")


def fit(layer: IntegerLayer, what: str, needed: int, limit: int, unit: str) -> None:
    """Refuse a layer that needs more of something than there is (RefusedError)."""
    if needed > limit:
        raise RefusedError(
            f"layer {layer.name!r}: {what} needs {needed} {unit}, {needed - limit} more than the "
            f"accelerator's {limit}"
        )

"""What the hardware cannot carry exactly is refused: the layer, the quantity, and by how much."""

from collections.abc import Mapping

import numpy as np

from hdl.console import RefusedError
from hdl.formats import Format, named
from hdl.layouts import LAYER, PASS
from hdl.parameters import (
    BIAS_WIDTH,
    COORDINATE_WIDTH,
    MAX_WINDOW,
    MULTIPLIER_WIDTH,
    RESULT_WIDTH,
    VALUE_WIDTH,
    AcceleratorParameters,
)

from ..graph import SHIFT_LIMIT, Convolution, Encoding, Node, Pooling

LARGEST_VALUE = 1 << (VALUE_WIDTH - 1)
"""No value is farther from 0."""


def check_node(node: Node, *, source_format: Format | None, parameters: AcceleratorParameters) -> None:
    """Refuse what the datapath cannot carry exactly, from the weights as they are.

    Parameters
    ----------
    source_format
        Format of the codes that a convolution reads; None for a pooling, which reads values.

    Raises
    ------
    RefusedError
        If a sum, a constant or a threshold does not fit.
    """
    name = node.name
    for part, limit in (("multiplier", 1 << (MULTIPLIER_WIDTH - 1)), ("bias", 1 << (BIAS_WIDTH - 1))):
        values = getattr(node, part)
        if values.min() < -limit or values.max() >= limit:
            raise RefusedError(f"layer {name!r}: {part} must lie in {-limit} … {limit - 1}")
    if node.shift.min() < 0 or node.shift.max() > SHIFT_LIMIT:
        raise RefusedError(f"layer {name!r}: shift must lie in 0 … {SHIFT_LIMIT}")
    reach = _reach(node, source_format, parameters)
    constants = zip(reach, node.multiplier.tolist(), node.bias.tolist(), node.shift.tolist(), strict=True)
    # In Python's integers: what is too large for the hardware may be too large for 64 bits as well.
    totals = [(total * abs(m) + abs(b), s) for total, m, b, s in constants]
    largest = max(total for total, _ in totals)
    fit(name, "scaled sum", largest.bit_length() + 1, parameters.sum_width, "bits")
    if node.is_result:
        residual = LARGEST_VALUE if node.residual else 0
        result = max((total >> shift) + residual for total, shift in totals).bit_length() + 1
        fit(name, "result", result, RESULT_WIDTH, "bits")
    for encoding in node.encodings:
        _check_encoding(name, encoding, parameters)


def _reach(node: Node, source_format: Format | None, parameters: AcceleratorParameters) -> list[int]:
    """How far from 0 each channel's accumulator can get."""
    if isinstance(node, Convolution):
        assert source_format is not None
        fit(node.name, "sum of one pass", node.weights[0].size, parameters.depth, "products")
        sums = np.abs(node.weights).sum(axis=(1, 2, 3)).tolist()
        return [total * source_format.max_level for total in sums]
    assert isinstance(node, Pooling)
    if node.padding >= min(node.kernel):
        raise RefusedError(f"layer {node.name!r}: padding must be less than the kernel, not {node.padding}")
    if node.kind == "maximum":
        return [LARGEST_VALUE] * len(node.multiplier)
    window = node.kernel[0] * node.kernel[1]
    fit(node.name, "pooled sum", window, MAX_WINDOW, "values")
    return [window * LARGEST_VALUE] * len(node.multiplier)


def _check_encoding(name: str, encoding: Encoding, parameters: AcceleratorParameters) -> None:
    output, (low, *_, high) = named(encoding.format), (encoding.thresholds[0], *encoding.thresholds)
    if low < -LARGEST_VALUE or high >= LARGEST_VALUE:
        raise RefusedError(
            f"layer {name!r}: thresholds must lie in {-LARGEST_VALUE} … {LARGEST_VALUE - 1}, "
            f"not {low} … {high}"
        )
    if output.code_width <= parameters.code_width:
        fit(name, "output level", output.level_width, parameters.activation_width, "bits")


def check_command(name: str, command: Mapping[str, int], passes: list[dict[str, int]]) -> None:
    """Refuse what a command's fields, or the walker's coordinates, cannot hold (RefusedError)."""
    size = max(command["input_height"], command["input_width"])
    fit(name, "padded coordinates", size + command["padding"], 2**COORDINATE_WIDTH, "values")
    for layout, values in ((LAYER, command), *((PASS, turn) for turn in passes)):
        for field, value in values.items():
            limit = (1 << layout[field].width) - 1
            if value > limit or (value < 0 and field != "origin"):
                raise RefusedError(f"layer {name!r}: {field} must be at most {limit}, not {value}")


def fit(layer: str, what: str, needed: int, limit: int, unit: str) -> None:
    """Refuse a layer that needs more of something than there is (RefusedError)."""
    if needed > limit:
        raise RefusedError(
            f"layer {layer!r}: {what} needs {needed} {unit}, {needed - limit} more than the "
            f"accelerator's {limit}"
        )

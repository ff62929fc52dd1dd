"""What the hardware cannot carry exactly is refused: the layer, the quantity, and by how much."""

from collections.abc import Mapping

from hdl.console import RefusedError
from hdl.formats import named
from hdl.layouts import LAYER, PASS
from hdl.parameters import (
    BIAS_WIDTH,
    COORDINATE_WIDTH,
    MAX_WINDOW,
    MULTIPLIER_WIDTH,
    VALUE_WIDTH,
    AcceleratorParameters,
)

from ..graph import SHIFT_LIMIT, Convolution, Encoding, Node, Pooling

LARGEST_VALUE = 1 << (VALUE_WIDTH - 1)
"""No value is farther from 0."""


def check_node(node: Node, parameters: AcceleratorParameters) -> None:
    """Refuse constants, windows and encodings that the datapath does not take; for sums see `check_sums`.

    Raises
    ------
    RefusedError
        If one does not fit.
    """
    name = node.name
    multipliers = node.multipliers if isinstance(node, Convolution) else node.multiplier
    for part, values, width in (
        ("multiplier", multipliers, MULTIPLIER_WIDTH),
        ("bias", node.bias, BIAS_WIDTH),
    ):
        limit = 1 << (width - 1)
        if values.min() < -limit or values.max() >= limit:
            raise RefusedError(f"layer {name!r}: {part} must lie in {-limit} … {limit - 1}")
    if node.shift.min() < 0 or node.shift.max() > SHIFT_LIMIT:
        raise RefusedError(f"layer {name!r}: shift must lie in 0 … {SHIFT_LIMIT}")
    if isinstance(node, Pooling):
        _check_pooling(node)
    for encoding in node.encodings:
        _check_encoding(name, encoding, parameters)


def _check_pooling(node: Pooling) -> None:
    if node.padding >= min(node.kernel):
        raise RefusedError(f"layer {node.name!r}: padding must be less than the kernel, not {node.padding}")
    if node.kind == "sum":
        fit(node.name, "pooled sum", node.kernel[0] * node.kernel[1], MAX_WINDOW, "values")


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

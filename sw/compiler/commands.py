"""Commands: what the engine is told to do, before anything is packed."""

from dataclasses import dataclass

import numpy as np

from hdl.console import RefusedError
from hdl.layouts import LayerOpcode
from hdl.parameters import AcceleratorParameters

from ..graph import Encoding, Integers
from ..requantize import Requantization
from .digits import Digits
from .placement import Codes, Values
from .schedule import layer_cycles
from .shapes import Shape

Fields = dict[str, int]
Table = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command and what goes with it.

    Members
    -------
    fields : dict
        Of `layouts.LAYER`, but for the addresses of weights and channels and the index of the encoding.
    passes : list of dict
        Fields of `layouts.PASS`, but for the index of the table.
    tables : list
        Levels that each pass's codes stand for.
    weights : array or None
        Levels, shape (out, in, kernel height, kernel width) with the words of a pass as inputs, that split
        into `digits`; None for a pooling.
    constants : Requantization
        One each per output channel, of which there may be more than a whole number of tiles.
    thresholds : tuple of int or None
        What y is compared with.
    factors : array or None
        By what the multiplier of each output channel is multiplied for each digit, (channels, digits); None
        for 1.
    """

    fields: Fields
    passes: list[Fields]
    tables: list[Table]
    constants: Requantization
    weights: Integers | None = None
    digits: Digits | None = None
    thresholds: tuple[int, ...] | None = None
    factors: Integers | None = None

    @property
    def steps(self) -> list[int]:
        """Steps of each pass for a pixel and tile."""
        taps = self.fields["kernel_height"] * self.fields["kernel_width"]
        return [taps * turn["count"] for turn in self.passes]

    @property
    def weight_words(self) -> int:
        return 0 if self.weights is None else self.fields["tiles"] * sum(self.steps)

    def cycles(self, parameters: AcceleratorParameters) -> int:
        pixels = self.fields["output_height"] * self.fields["output_width"]
        return layer_cycles(
            parameters=parameters, pixels=pixels, tiles=self.fields["tiles"], steps=self.steps
        )


def window(
    source: Codes | Values,
    target: Shape,
    *,
    kernel: tuple[int, int] = (1, 1),
    stride: int = 1,
    padding: int = 0,
    first: int = 0,
) -> Fields:
    """Fields that walk a kernel over a tensor, from the word `first` of each pixel on."""
    _, height, width = source.shape
    row = width * source.pitch
    return {
        "kernel_height": kernel[0],
        "kernel_width": kernel[1],
        "stride": stride,
        "padding": padding,
        "output_height": target[1],
        "output_width": target[2],
        "input_height": height,
        "input_width": width,
        "origin": source.base + first - padding * (row + source.pitch),
        "row_step": stride * row,
        "pixel_step": stride * source.pitch,
        "row_pitch": row,
        "pixel_pitch": source.pitch,
    }


def pooling(
    opcode: LayerOpcode,
    fields: Fields,
    constants: Requantization,
    *,
    thresholds: tuple[int, ...] | None,
    parameters: AcceleratorParameters,
) -> Command:
    """A command that reads values: in one pass, tile after tile."""
    return Command(
        fields=fields | {"opcode": opcode, "passes": 1, "tile_step": parameters.groups},
        passes=[{"offset": 0, "count": parameters.groups, "shift": 0}],
        tables=[],
        constants=constants,
        thresholds=thresholds,
    )


def linear_constants(encoding: Encoding, *, name: str) -> tuple[int, int]:
    """Bias and shift with which values become codes of many bits: ``code = (value + bias) >> shift``.

    Raises
    ------
    RefusedError
        If the thresholds are not spaced by one power of two.
    """
    first, *rest = encoding.thresholds
    step = rest[0] - first if rest else 1
    if step < 1 or step & (step - 1) or np.any(np.diff(encoding.thresholds) != step):
        raise RefusedError(
            f"layer {name!r}: thresholds of {encoding.tensor!r}, whose codes take several digits, must be "
            f"spaced by one power of two"
        )
    return step - 1 - first, step.bit_length() - 1

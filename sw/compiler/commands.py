"""Commands: what the engine is told to do, before anything is packed."""

from dataclasses import dataclass

import numpy as np

from hdl.console import RefusedError
from hdl.layouts import LayerOpcode
from hdl.parameters import AcceleratorParameters

from ..graph import MULTIPLIER_WIDTH, SHIFT_LIMIT, Encoding, Integers
from ..requantize import Requantization
from .digits import Digits
from .placement import Codes, Values
from .schedule import layer_cycles
from .shapes import Shape

Fields = dict[str, int]
Table = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a convolution does with one of the tensors that it reads.

    Members
    -------
    weights : array
        Levels, shape (out, in, kernel height, kernel width) with the words of a pass as inputs.
    copies : int
        How often the passes of all digits of weights come, once for each digit of the activations.
    """

    weights: Integers
    copies: int


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
    constants : Requantization
        One each per output channel, of which there may be more than a whole number of tiles; of multipliers
        one for each pass besides, (channels, passes).
    parts : tuple of Part
        The tensors in the order of their passes; none for a pooling.
    digits : Digits or None
        How the parts' weights split.
    thresholds : tuple of int or None
        What y is compared with.
    codebook : tuple of int or None
        Levels that weights in memory are indices of, if they are.
    switches : bool
        The codebook is not that of the convolution before.
    """

    fields: Fields
    passes: list[Fields]
    tables: list[Table]
    constants: Requantization
    parts: tuple[Part, ...] = ()
    digits: Digits | None = None
    thresholds: tuple[int, ...] | None = None
    codebook: Table | None = None
    switches: bool = False

    @property
    def steps(self) -> list[int]:
        """Steps of each pass for a pixel and tile."""
        taps = self.fields["kernel_height"] * self.fields["kernel_width"]
        return [taps * turn["count"] for turn in self.passes]

    @property
    def weight_words(self) -> int:
        return self.fields["tiles"] * sum(self.steps) if self.parts else 0

    def cycles(self, parameters: AcceleratorParameters) -> int:
        pixels = self.fields["output_height"] * self.fields["output_width"]
        return layer_cycles(
            parameters=parameters,
            pixels=pixels,
            tiles=self.fields["tiles"],
            steps=self.steps,
            switches=self.switches,
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
    each_pass = constants._replace(multiplier=constants.multiplier[:, None])
    return Command(
        fields=fields | {"opcode": opcode, "passes": 1, "tile_step": parameters.groups},
        passes=[{"offset": 0, "count": parameters.groups, "shift": 0}],
        tables=[],
        constants=each_pass,
        thresholds=thresholds,
    )


def linear_constants(encoding: Encoding, *, name: str) -> tuple[int, int, int]:
    """Multiplier, bias and shift with which values become codes of many bits, each as thresholds tell.

    ``code = (value · multiplier + bias) >> shift``, cut at the lowest and the highest code, with the smallest
    shift that serves.  Between code k and the next one there is a threshold, so for all of them::

        t[k] · multiplier + bias < (k + 1) · 2^shift <= (t[k] + 1) · multiplier + bias

    Raises
    ------
    RefusedError
        If the thresholds are not spaced evenly enough for any line to tell them apart.
    """
    steps = np.array(encoding.thresholds, dtype=np.int64)
    apart = np.arange(1, len(steps))
    widest = np.array([(steps[each:] - steps[:-each]).max() for each in apart], dtype=np.int64)
    nearest = np.array([(steps[each:] - steps[:-each]).min() for each in apart], dtype=np.int64)
    for shift in range(SHIFT_LIMIT + 1):
        # What pairs of thresholds that are so far apart ask of the slope.
        least = max((-(-((apart << shift) + 1) // (nearest + 1))).tolist(), default=1)
        most = min((((apart << shift) - 1) // np.maximum(widest - 1, 1)).tolist(), default=least)
        multiplier = max(1, least)
        bias = int((((np.arange(len(steps)) + 1) << shift) - (steps + 1) * multiplier).max())
        if multiplier <= most and multiplier < 1 << (MULTIPLIER_WIDTH - 1):
            return multiplier, bias, shift
    raise RefusedError(
        f"layer {name!r}: thresholds of {encoding.tensor!r}, whose codes take several digits, must be evenly "
        f"spaced"
    )

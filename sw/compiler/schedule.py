"""The engine's exact schedule: cycles and multiply-accumulates of each layer, before anything runs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from hdl.layouts import LAYER_WORDS
from hdl.parameters import FETCH_LATENCY, AcceleratorParameters

COMMAND_CYCLES = LAYER_WORDS + FETCH_LATENCY + 1
"""Fetching and checking one layer command, or the final HALT."""


@dataclass(frozen=True, kw_only=True)
class LayerSchedule:
    """What one layer costs.

    Members
    -------
    name : str
    commands : int
    passes : int
        Of the layer's first command.
    cycles : int
        From fetching the first command until the last output can be read.
    macs : int
        Multiply-accumulates of the layer itself, each weight and activation counted once however many
        digits it has.
    sum_bits, scaled_bits : int
        What the accumulators of a pass need for all activation codes there are, and the sum over passes,
        scaled; a sign included.  Poolings have no use for the first.
    weight_words, activation_words, value_words : int
        Words of weights that it reads, and of the other two memories that are in use while it runs.
    """

    name: str
    commands: int
    passes: int
    cycles: int
    macs: int
    sum_bits: int
    scaled_bits: int
    weight_words: int
    activation_words: int
    value_words: int

    def as_dict(self) -> dict[str, int | str]:
        return asdict(self)


def layer_cycles(
    *,
    parameters: AcceleratorParameters,
    pixels: int,
    tiles: int,
    steps: Sequence[int],
    switches: bool = False,
) -> int:
    """Cycles of a command whose passes have so many steps per pixel and tile.

    Parameters
    ----------
    switches
        Its codebook is not the one that is held, and copied first.
    """
    copy = parameters.codebook_cycles * switches
    walk = tiles * pixels * sum(max(count, parameters.groups) for count in steps)
    return COMMAND_CYCLES + len(steps) + FETCH_LATENCY + copy + walk + parameters.drain


def program_cycles(layers: Sequence[LayerSchedule]) -> int:
    """Cycles of a whole run."""
    return sum(layer.cycles for layer in layers) + COMMAND_CYCLES

"""What a program of commands computes, step by step in plain integers: the oracle of the memories."""

from dataclasses import dataclass

from hdl.layouts import LayerOpcode
from hdl.parameters import RESULT_WIDTH, VALUE_WIDTH, AcceleratorParameters
from tests.nested_loops import Fields, Step, walk

Words = list[list[int]]


def clipped(value: int, *, width: int) -> int:
    return max(-(2 ** (width - 1)), min(2 ** (width - 1) - 1, value))


@dataclass(kw_only=True)
class Machine:
    """The memories of an accelerator, as words of numbers, and what a command does to them.

    `weights` are levels: words of rows of lanes; with codebooks, whose entries are levels, they are indices.
    `activations` and `values` are words of codes and of values; `results` and codes are written a group at a
    time.
    """

    parameters: AcceleratorParameters
    weights: list[Words]
    codebooks: Words
    channels: list[list[Fields]]
    tables: Words
    boundaries: Words
    activations: Words
    values: Words
    results: Words

    def run(self, layer: Fields, passes: list[Fields]) -> int:
        """Run one command; the cycles of its walk."""
        groups = self.parameters.groups
        cycles = 0
        window: list[Step] = []
        totals: list[int] = []
        for step in walk(layer, passes, groups=groups):
            window = [step] if step.first else [*window, step]
            if step.last:
                pools = layer["opcode"] != LayerOpcode.CONVOLUTION
                sums = self._pooled(layer, window) if pools else self._dot_products(layer, window)
                totals = [0] * self.parameters.rows if step.opening else totals
                place = 0 if pools else step.shift
                for row, each in enumerate(sums):
                    channel = self._channel(step, row)
                    totals[row] += (each << place) * channel["multiplier"] + channel["bias"]
            if step.closing:
                self._write(
                    layer,
                    step,
                    [total >> self._channel(step, row)["shift"] for row, total in enumerate(totals)],
                )
            cycles = step.cycle + 1
        return cycles

    def _channel(self, step: Step, row: int) -> Fields:
        group, lane = divmod(row, self.parameters.requantizers)
        return self.channels[step.channels + group][lane]

    def _dot_products(self, layer: Fields, window: list[Step]) -> list[int]:
        """Sums over a pass; the array adds a constant for each negative weight, even where it is padding."""
        sums = [0] * self.parameters.rows
        for step in window:
            codes = self.activations[step.input] if step.inside else [0] * self.parameters.lanes
            levels = [self.tables[step.table][code] if step.inside else 0 for code in codes]
            for row, weights in enumerate(self.weights[step.weight]):
                for weight, level in zip(weights, levels, strict=True):
                    if self.codebooks:
                        weight = self.codebooks[layer["codebook"]][weight]
                    sums[row] += weight * level + self.parameters.fold(weight)
        return sums

    def _pooled(self, layer: Fields, window: list[Step]) -> list[int]:
        take = max if layer["opcode"] == LayerOpcode.MAXIMUM else sum
        pooled = []
        for group in range(self.parameters.groups):
            words = [
                self.values[step.input] for step in window[group :: self.parameters.groups] if step.inside
            ]
            for lane in range(self.parameters.requantizers):
                pooled.append(take([word[lane] for word in words] or [0]))
        return pooled

    def _write(self, layer: Fields, step: Step, shifted: list[int]) -> None:
        size = self.parameters.requantizers
        for group in range(self.parameters.groups):
            ys = shifted[group * size : (group + 1) * size]
            if layer["add_residual"]:
                ys = [y + other for y, other in zip(ys, self.values[step.residual + group], strict=True)]
            if layer["to_codes"]:
                word, part = divmod(step.output + group, self.parameters.groups_per_word)
                self.activations[word][part * size : (part + 1) * size] = [self._code(layer, y) for y in ys]
            if layer["to_values"]:
                values = [clipped(y, width=VALUE_WIDTH) for y in ys]
                self.values[step.values + group] = (
                    [max(0, each) for each in values] if layer["rectify"] else values
                )
            if layer["to_results"]:
                self.results[step.output + group] = [clipped(y, width=RESULT_WIDTH) for y in ys]

    def _code(self, layer: Fields, y: int) -> int:
        y = clipped(y, width=VALUE_WIDTH)
        if layer["linear"]:
            digit = max(0, min(2 ** layer["linear_bits"] - 1, y)) >> layer["linear_place"]
            return digit % 2**self.parameters.code_width
        return sum(boundary < y for boundary in self.boundaries[layer["encoding"]])

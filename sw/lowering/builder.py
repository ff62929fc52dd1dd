"""Values become nodes here: as codes for the layers that read them, as values for sums and pooling."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from hdl.console import RefusedError
from hdl.formats import Uniform

from ..graph import ImageRounding
from ..quantizers import MixedActivation, Quantizer
from .bounds import Array, Bound
from .codes import Codes, Grid, alive, codes_of, grids_of
from .values import ConvolutionDraft, Draft, PoolingDraft, Value, Written, fresh

REAL_BITS = 12
"""Of the input of a linear layer that the model does not quantize."""


class Builder:
    """Collects the drafts of a graph.

    Parameters
    ----------
    dtype
        The type that the model computes in.
    level_width
        Bits of a level that suffice; see `lowering.lower`.

    Members
    -------
    drafts : list of Draft
        As made; `Draft.order` says when they run.
    """

    def __init__(self, dtype: torch.dtype, *, level_width: int | None = None) -> None:
        self.dtype = dtype
        self.level_width = level_width
        self.drafts: list[Draft] = []
        self._names: dict[str, int] = {}
        self._stepped: dict[tuple[Draft | None, Quantizer, float | None], tuple[Written, ...]] = {}
        self._clock = 0

    def now(self) -> int:
        """A time after all others."""
        self._clock += 1
        return self._clock

    def named(self, name: str) -> str:
        """The name, numbered if it is taken."""
        count = self._names[name] = self._names.get(name, 0) + 1
        return name if count == 1 else self.named(f"{name}:{count}")

    def convolution(self, name: str, **members: Any) -> ConvolutionDraft:
        """A new convolution."""
        draft = ConvolutionDraft(name=self.named(name), order=self.now(), **members)
        self.drafts.append(draft)
        return draft

    def pooling(self, name: str, source: Draft, **members: Any) -> PoolingDraft:
        """New pooling of a node's values, of the shape that follows from it."""
        found: dict[str, Any] = {
            "kernel": (1, 1),
            "stride": 1,
            "padding": 0,
            "channels_before": 0,
            "channels_after": 0,
        } | members
        channels, *size = source.shape
        height, width = (
            (each + 2 * found["padding"] - length) // found["stride"] + 1
            for each, length in zip(size, found["kernel"], strict=True)
        )
        if min(height, width) < 1:
            raise RefusedError(
                f"window {found['kernel'][0]}×{found['kernel'][1]} must fit in its padded input"
            )
        shape = (found["channels_before"] + channels + found["channels_after"], height, width)
        draft = PoolingDraft(name=self.named(name), order=self.now(), shape=shape, source=source, **found)
        self.drafts.append(draft)
        return draft

    def values(self, value: Value) -> Draft:
        """The node that writes a value as values."""
        if value.draft is None:
            raise RefusedError("the image must be read by convolutions or linear layers")
        if value.quantizer is not None:
            raise RefusedError(
                f"a value must not be quantized (by {value.quantizer_name}) where sums or averages read it"
            )
        if value.base is not None:
            copied = self.copied(value.base)
            return self.values(replace(copied, rectified=value.rectified, ceiling=value.ceiling))
        draft = self.fixed(value)
        clamps = value.rectified, value.ceiling
        assert not draft.values or clamps == (draft.rectified, draft.ceiling), draft.name
        draft.values, (draft.rectified, draft.ceiling) = True, clamps
        draft.bound = max(draft.bound, value.bound.cut(value.ceiling).largest)
        return draft

    def codes(self, value: Value, quantizer: Quantizer | None, name: str) -> tuple[Written, ...]:
        """The tensors of codes that a quantizer, `name` in the model, makes of a value."""
        quantizer, name = self._quantizer(value, quantizer, name)
        codes = codes_of(quantizer, name=name, dtype=self.dtype)
        if value.rectified and codes.zero:
            raise RefusedError("input is never negative, so its quantizer must be unsigned")
        if isinstance(quantizer, MixedActivation) and len(quantizer.bits) != value.shape[0]:
            raise RefusedError(
                f"input must have bits for each of its {value.shape[0]} channels, not {len(quantizer.bits)}"
            )
        mask = alive(quantizer)
        grids = grids_of(quantizer, codes, level_width=self.level_width)
        value = replace(value, quantizer=None)
        if grids is not None:
            key = value.draft, quantizer, value.ceiling
            if key not in self._stepped:
                self._stepped[key] = self._counted(value, grids, name)
            return self._stepped[key]
        if mask is not None:
            value = self._masked(value, mask.numpy())
        return (self._encoded(value, codes, name),)

    def image(self, value: Value, quantizer: Quantizer | None, name: str) -> Value:
        """The image as a layer reads it: as it is, or the levels of a quantizer of the model's input."""
        if quantizer is None and value.quantizer is None:
            return value
        quantizer, name = self._quantizer(value, quantizer, name)
        if not value.gain.all():
            raise RefusedError("the image must not be multiplied by 0 before it is quantized")
        if isinstance(quantizer, MixedActivation):
            raise RefusedError("the image must be quantized to the same bits in all channels")
        fmt = quantizer.format
        if not isinstance(fmt, Uniform):
            raise RefusedError(f"the image must be quantized to uniform levels, not to {fmt.name}")
        codes = codes_of(quantizer, name=name, dtype=self.dtype)
        rounding = ImageRounding(
            scale=tuple((value.gain / codes.scale).tolist()),
            offset=tuple((value.offset / codes.scale).tolist()),
            lowest=-codes.zero,
            highest=fmt.max_level,
        )
        gain = np.full_like(value.gain, codes.scale)
        zeros = np.zeros_like(gain)
        return replace(value, gain=gain, offset=zeros, quantizer=None, format=fmt, rounding=rounding)

    def _counted(self, value: Value, grids: list[Grid], name: str) -> tuple[Written, ...]:
        """Codes of channels whose steps are different numbers of levels, 0 for a channel of zeros.

        One node counts the whole steps of each channel, the next one multiplies them by their levels: what
        is beyond a channel's highest count is above the highest level, which all channels of a tensor share.
        """
        sizes: list[Array] = [(grid.steps * grid.codes.scale).astype(np.float64) for grid in grids]
        size, last = sum(sizes), max(grid.codes.edges[-1] * grid.codes.scale for grid in grids)
        each = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
        if not self._is_free(value) or (value.ceiling or np.inf) <= last:
            value = self.copied(value)
        counted = replace(value, ceiling=None).scaled(each, np.where(size > 0, -0.5, 0.0))
        counts, found = self.values(counted), []
        counts.counts = True
        for grid, gain in zip(grids, sizes, strict=True):
            draft = self.pooling(f"{counts.name}.levels", counts, kind="maximum")
            draft.gain, draft.offset = gain, np.zeros_like(gain)
            draft.encodings.append(
                Written(codes=grid.codes, draft=draft, ceiling=None, quantizer=name, parts=grid.parts)
            )
            found.append(draft.encodings[-1])
        return tuple(found)

    def _quantizer(self, value: Value, quantizer: Quantizer | None, name: str) -> tuple[Quantizer, str]:
        """What quantizes a value for a layer: the layer's quantizer, or the value's own."""
        if value.quantizer is not None and quantizer is not None:
            raise RefusedError(f"input must be quantized once, not by {value.quantizer_name} and {name}")
        if quantizer is not None:
            return quantizer, name
        if value.quantizer is None:
            raise RefusedError("input must be quantized, not float")
        return value.quantizer, value.quantizer_name

    def real_codes(self, value: Value) -> Written:
        """The codes of a value that no quantizer rounds: integers up to its bound.

        So many bits that rounding counts for little; the model that was trained has none.
        """
        signed = not (value.rectified or value.positive)
        highest = 2 ** (REAL_BITS - signed) - 1
        codes = Codes(
            format=Uniform(bits=REAL_BITS, signed=False),
            scale=value.bound.cut(value.ceiling).largest / highest or 1.0,
            zero=highest if signed else 0,
            edges=tuple(each + 0.5 for each in range(-highest if signed else 0, highest)),
        )
        return self._encoded(value, codes, None)

    def affine(self, value: Value, gain: Array, offset: Array, *, bound: Bound | None = None) -> Value:
        """``gain · value + offset`` for each channel.

        Parameters
        ----------
        bound
            What the result hardly exceeds, if more is known of it than follows from the value's.
        """
        if value.is_linear or (value.draft is None and value.quantizer is None):
            return value.scaled(gain, offset, bound=bound)
        return self.copied(value).scaled(gain, offset, bound=bound)

    def copied(self, value: Value) -> Value:
        """The same value as the sums of a node of its own."""
        source = self.values(value)
        return fresh(
            self.pooling(f"{source.name}.copy", source, kind="maximum"), value.bound.cut(value.ceiling)
        )

    def added(self, left: Value, right: Value) -> Value:
        """The sum: one side, a convolution that nobody reads otherwise, adds the values of the other."""
        if left.shape != right.shape:
            raise RefusedError(f"both sides must have one shape, not {left.shape} and {right.shape}")
        for main, other in ((left, right), (right, left)):
            draft = main.draft
            if isinstance(draft, ConvolutionDraft) and main.is_linear and draft.residual is None:
                parts = [*draft.partials, draft]
                parts[0].residual = self.values(other)
                self.fixed(main)
                # What is added is computed before.
                for part in parts:
                    part.order = self.now()
                return replace(main, bound=main.bound.plus(other.bound.cut(other.ceiling)), expected=None)
        raise RefusedError(
            "one side must be a convolution's output, perhaps normalized, that nothing else reads and no "
            "activation changes"
        )

    def _encoded(self, value: Value, codes: Codes, quantizer: str | None) -> Written:
        """The value's codes; readers that ask for the same share them."""
        draft = self.fixed(value)
        draft.bound = max(draft.bound, value.bound.largest)
        for written in draft.encodings:
            if (written.codes, written.ceiling) == (codes, value.ceiling):
                return written
        draft.encodings.append(Written(codes=codes, draft=draft, ceiling=value.ceiling, quantizer=quantizer))
        return draft.encodings[-1]

    def _masked(self, value: Value, mask: Array) -> Value:
        """A value with some channels 0; clamps do not matter to that."""
        if self._is_free(value):
            return value.scaled(mask, 0.0)
        return self.copied(value).scaled(mask, 0.0)

    @staticmethod
    def _is_free(value: Value) -> bool:
        """Whether its sums can still be scaled, before the clamps, for nobody else reads them."""
        return (
            value.draft is not None and value.draft.gain is None and not value.shared and value.base is None
        )

    def fixed(self, value: Value) -> Draft:
        """The value's draft, which from now on writes this."""
        draft = value.draft
        assert draft is not None
        if draft.gain is None:
            draft.gain, draft.offset, draft.expected = value.gain, value.offset, value.expected
            if isinstance(draft, ConvolutionDraft):
                _fix_partials(draft)
        assert draft.offset is not None
        assert np.array_equal(draft.gain, value.gain), draft.name
        assert np.array_equal(draft.offset, value.offset), draft.name
        return draft


def _fix_partials(draft: ConvolutionDraft) -> None:
    """A convolution's other parts write values, one added to the next."""
    before = draft.partials[0].residual if draft.partials else None
    bound = before.bound if before is not None else 0.0
    for part in draft.partials:
        assert draft.gain is not None
        part.gain, part.offset = draft.gain, np.zeros_like(draft.gain)
        bound += part.bound_of_sums.scaled(draft.gain, 0.0).largest
        part.values, part.bound, part.residual = True, bound, before
        before = part
    if draft.partials:
        draft.residual = before

"""From drafts to the header's nodes and the tensors of an interchange file."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from hdl.console import RefusedError

from ..graph import IMAGE, ImageRounding, Integers
from ..interchange import KIND, VERSION, Header, Interchange, Tensors
from ..requantize import Requantization, requantization
from .bounds import Array, Bound
from .builder import Builder
from .codes import thresholds
from .multipliers import further_multipliers, mean_sums, multiplier_width
from .units import HIGHEST, LOWEST, draft_moves, in_sums, units_of
from .unread import silence_unread
from .values import ConvolutionDraft, Draft, PoolingDraft, Shape, Value, Written


class Lowering(NamedTuple):
    """A model as a graph, and where its codes come from.

    Members
    -------
    content : Interchange
        What `sw.interchange.integers` makes a graph of.
    quantizers : dict
        For tensors of codes the name of a quantizer in the model that computes them in floats; there is none
        for the input of a linear layer that the model leaves real.
    parts : dict
        For tensors that hold some of a quantizer's channels: the quantizer's levels that make one of the
        tensor's, in each channel, 0 for one that it does not hold.
    """

    content: Interchange
    quantizers: dict[str, str]
    parts: dict[str, Integers]


def emitted(builder: Builder, result: Value, image_shape: Shape) -> Lowering:
    """What the drafts come to.

    Raises
    ------
    RefusedError
        If the result is not what a layer computes, or a constant does not fit the hardware's widths.
    """
    last = _result(builder, result)
    _part_wide_codes(builder)
    drafts = _needed(builder, last)
    silence_unread(drafts)
    return _Emission(drafts, last, image_shape).content()


def _result(builder: Builder, result: Value) -> Draft:
    """The last node, whose sums are the result."""
    draft = result.draft
    assert draft is not None
    if result.rectified or result.quantizer or draft.residual or draft.gain is not None:
        raise RefusedError(f"{draft.name}: the result must be a layer's output that nothing else reads")
    if draft.shape[1:] != (1, 1):
        raise RefusedError(
            f"{draft.name}: the result must be one pixel, not {draft.shape[1]} × {draft.shape[2]}"
        )
    draft.bound = result.bound.largest
    return builder.fixed(result)


def _part_wide_codes(builder: Builder) -> None:
    """Wide codes need a unit of their own: where y has another one, a copy of the values writes them."""
    for draft in list(builder.drafts):
        wide = [written for written in draft.encodings if written.codes.is_wide]
        if not (in_sums(draft) or (wide and len(draft.encodings) > 1)):
            continue
        for written in wide:
            value = _as_written(draft)
            source = builder.values(value)
            copy = builder.pooling(f"{draft.name}.copy", source, kind="maximum")
            copy.gain, copy.offset = np.ones(draft.shape[0]), np.zeros(draft.shape[0])
            copy.order = draft.order
            draft.encodings.remove(written)
            written.draft = copy
            copy.encodings.append(written)


def _as_written(draft: Draft) -> Value:
    """What a draft writes, as a value that asks for nothing that it does not write already."""
    assert draft.gain is not None
    assert draft.offset is not None
    return Value(
        draft=draft,
        shape=draft.shape,
        gain=draft.gain,
        offset=draft.offset,
        bound=Bound.certain(np.full(draft.shape[0], draft.bound)),
        rectified=draft.rectified,
        ceiling=draft.ceiling,
    )


def _needed(builder: Builder, last: Draft) -> list[Draft]:
    """All that the result depends on, in order."""
    found, waiting = {last}, [last]
    while waiting:
        draft = waiting.pop()
        sources: list[Draft] = []
        if isinstance(draft, ConvolutionDraft):
            sources = [source.draft for source in draft.sources]
        elif isinstance(draft, PoolingDraft):
            sources = [draft.source]
        for before in (*sources, draft.residual):
            if before is not None and before not in found:
                found.add(before)
                waiting.append(before)
    return sorted((draft for draft in builder.drafts if draft in found), key=lambda draft: draft.order)


class _Emission:
    """Units, names of tensors, and then each node."""

    def __init__(self, drafts: list[Draft], last: Draft, image_shape: Shape) -> None:
        self.drafts, self.last = drafts, last
        self.names: dict[Written, str] = {}
        for draft in drafts:
            for index, written in enumerate(draft.encodings):
                self.names[written] = draft.name if index == 0 else f"{draft.name}:codes{index + 1}"
        self.units = units_of(drafts)
        self.image = _image(drafts, image_shape)
        self.border, self.fill = _border(drafts, self.image)
        self.tensors: Tensors = {}
        self.logit_scale = 1.0

    def content(self) -> Lowering:
        assert self.image.format is not None
        nodes = [self._node(draft) for draft in self.drafts]
        header = {
            "kind": KIND,
            "version": VERSION,
            "input_shape": list(self.image.shape),
            "input_format": self.image.format.name,
            "input_scale": self.image.gain.tolist(),
            "input_offset": self.image.offset.tolist(),
            "border": self.border,
            "fill": self.fill,
            "rounding": _rounding(self.image.rounding),
            "logit_scale": self.logit_scale,
            "nodes": nodes,
        }
        quantizers = {
            name: written.quantizer for written, name in self.names.items() if written.quantizer is not None
        }
        return Lowering(
            content=Interchange(header=header, tensors=self.tensors),
            quantizers=quantizers,
            parts={name: written.parts for written, name in self.names.items() if written.parts is not None},
        )

    def _node(self, draft: Draft) -> Header:
        numbers = self._plain(draft) if self._is_plain(draft) else self._requantized(draft)
        self._add(draft.name, numbers._asdict())
        entry: Header = {
            "name": draft.name,
            "encodings": [self._encoding(written) for written in draft.encodings],
            "values": None,
            "rectified": draft.rectified,
            "residual": None if draft.residual is None else _values_of(draft.residual),
        }
        if draft.values:
            entry["values"] = {"tensor": _values_of(draft), "scale": self.units[draft]}
        if isinstance(draft, ConvolutionDraft):
            return entry | self._convolution(draft)
        assert isinstance(draft, PoolingDraft)
        return entry | _pooling(draft)

    def _convolution(self, draft: ConvolutionDraft) -> Header:
        bits = {} if draft.bits is None else {"bits": draft.bits}
        main = self.tensors[f"{draft.name}.multiplier"]
        self._add(draft.name, further_multipliers(draft, main))
        self._add(draft.name, {"weight": draft.weights, "scale": draft.scale} | bits)
        sources = [self.names[source] for source in draft.sources] or [IMAGE]
        return {
            "op": "convolution",
            "source": sources[0],
            "addends": sources[1:],
            "weight_format": draft.weight_format.name,
            "stride": draft.stride,
            "padding": 0 if draft.image is not None and self.border else draft.padding,
            "groups": draft.groups,
        }

    def _encoding(self, written: Written) -> Header:
        codes, unit, name = written.codes, self.units[written.draft], self.names[written]
        moved = codes.zero if draft_moves(written.draft) else 0
        steps = thresholds(
            codes, unit=unit, moved=moved, nearest=written.draft.values, low=LOWEST, high=HIGHEST
        )
        if written.ceiling is not None:
            over = np.array(codes.edges) * codes.scale >= written.ceiling
            steps[: len(over)][over] = HIGHEST
        self._add(name, {"thresholds": steps})
        return {"tensor": name, "format": codes.format.name, "scale": codes.scale, "zero": codes.zero}

    def _sums(self, draft: Draft) -> tuple[Array, Array]:
        """What the accumulator's unit stands for in what is written, and what is added to it."""
        assert draft.gain is not None
        assert draft.offset is not None
        if isinstance(draft, ConvolutionDraft):
            return draft.gain * draft.scales, draft.gain * draft.constant + draft.offset
        assert isinstance(draft, PoolingDraft)
        return draft.gain * self.units[draft.source], draft.offset

    def _requantized(self, draft: Draft) -> Requantization:
        (gain, offset), unit, moved = self._sums(draft), self.units[draft], 0.0
        if draft is self.last:
            self.logit_scale = unit
        if draft_moves(draft):
            codes = draft.encodings[0].codes
            moved = codes.zero * codes.scale / unit
        return requantization(
            gain / unit,
            offset / unit + moved,
            name=draft.name,
            width=multiplier_width(draft),
            nearest=(draft.values and not draft.counts) or draft is self.last,
            excess=draft.excess if isinstance(draft, ConvolutionDraft) else None,
            expected=mean_sums(draft, gain, offset),
        )

    def _is_plain(self, draft: Draft) -> bool:
        """Whether the sums are the result as they are."""
        several = isinstance(draft, ConvolutionDraft) and len(draft.sources) > 1
        return draft is self.last and draft.residual is None and not several

    def _plain(self, draft: Draft) -> Requantization:
        """The last node's sums themselves, which have one scale."""
        gain, offset = self._sums(draft)
        if not (gain == gain[0]).all() or gain[0] <= 0:
            raise RefusedError(
                f"{draft.name}: must have one scale for all weights, so its scheme must not be dmbq"
            )
        self.logit_scale = float(gain[0])
        bias = np.rint(offset / self.logit_scale).astype(np.int64)
        if isinstance(draft, ConvolutionDraft):
            bias = bias - draft.excess
        return Requantization(np.ones_like(bias), bias, np.zeros_like(bias))

    def _add(self, name: str, tensors: dict[str, Any]) -> None:
        for part, values in tensors.items():
            self.tensors[f"{name}.{part}"] = np.array(values, order="C")


def _rounding(rounding: ImageRounding | None) -> Header | None:
    if rounding is None:
        return None
    return {
        "scale": list(rounding.scale),
        "offset": list(rounding.offset),
        "lowest": rounding.lowest,
        "highest": rounding.highest,
    }


def _pooling(draft: PoolingDraft) -> Header:
    return {
        "op": "pooling",
        "source": _values_of(draft.source),
        "kind": draft.kind,
        "kernel": list(draft.kernel),
        "stride": draft.stride,
        "padding": draft.padding,
        "channels_before": draft.channels_before,
        "channels_after": draft.channels_after,
    }


def _values_of(draft: Draft) -> str:
    return f"{draft.name}:values"


def _image(drafts: list[Draft], shape: Shape) -> Value:
    """How pixels are real numbers to all layers that read them."""
    readers = [draft for draft in drafts if isinstance(draft, ConvolutionDraft) and draft.image is not None]
    images = [draft.image for draft in readers if draft.image is not None]
    for draft, image in zip(readers, images, strict=True):
        if (image.rounding, image.format) != (images[0].rounding, images[0].format):
            raise RefusedError(f"{draft.name}: the image must be quantized as for {readers[0].name}")
        same = np.array_equal(image.gain, images[0].gain) and np.array_equal(image.offset, images[0].offset)
        if not same:
            raise RefusedError(f"{draft.name}: the image must be normalized as for {readers[0].name}")
    return replace(images[0], shape=shape)


def _border(drafts: list[Draft], image: Value) -> tuple[int, list[int]]:
    """Pixels that the host adds around an image whose 0 is no pixel 0, and what they hold."""
    readers = [draft for draft in drafts if isinstance(draft, ConvolutionDraft) and draft.image is not None]
    if not image.offset.any() or not any(draft.padding for draft in readers):
        return 0, []
    for draft in readers:
        if draft.padding != readers[0].padding:
            raise RefusedError(f"{draft.name}: the image must be padded as for {readers[0].name}")
    assert image.format is not None
    fill = np.rint(np.clip(-image.offset / image.gain, image.format.grid[0], image.format.max_level))
    return readers[0].padding, fill.astype(np.int64).tolist()

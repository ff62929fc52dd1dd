"""Channels that no layer reads, because the quantizer behind them prunes them, are not computed."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .values import Draft, PoolingDraft

_Channels = NDArray[np.bool_]


def silence_unread(drafts: Sequence[Draft]) -> None:
    """Multiply by 0 what is only written as values that poolings multiply by 0.

    So a channel that a quantizer prunes needs neither the sums before a pooling nor those before its counts;
    a compiler leaves out what has a multiplier of 0.  Codes stay as they are.

    Parameters
    ----------
    drafts
        In order of execution.
    """
    read = {draft: np.full(draft.shape[0], bool(draft.encodings)) for draft in drafts}
    for draft in reversed(drafts):
        if draft.values and not draft.encodings:
            assert draft.gain is not None
            assert draft.offset is not None
            draft.gain, draft.offset = draft.gain * read[draft], draft.offset * read[draft]
        if draft.residual is not None:
            read[draft.residual] |= read[draft]
        if isinstance(draft, PoolingDraft):
            before = draft.channels_before
            read[draft.source] |= _multiplied(draft, read[draft])[before : before + draft.source.shape[0]]


def _multiplied(draft: PoolingDraft, read: _Channels) -> _Channels:
    """The channels in which what it reads makes a difference."""
    assert draft.gain is not None
    return read & (draft.gain != 0)

"""What one unit of each node's y stands for.

Nodes whose values are added to one another share a unit, found by union-find.  No data is needed: it is the
finest one in which the `bounds` of all their values fit.  What passes its bound saturates; how much that
costs is what `sw.agreement` measures.  Values that a ReLU6 cuts have the unit with which saturation is the
cut.

A node that counts the steps of its channels has unit 1.  One that writes nothing but codes has a finer unit:
a power of two of a level of its widest codes.
"""

from collections.abc import Sequence

from hdl.console import RefusedError
from hdl.parameters import VALUE_WIDTH

from ..requantize import fraction_of
from .values import Draft, PoolingDraft

HIGHEST = 2 ** (VALUE_WIDTH - 1) - 1
LOWEST = -HIGHEST - 1


def in_sums(draft: Draft) -> bool:
    """Whether its y shares a unit with other nodes' values."""
    return draft.values or draft.residual is not None


def units_of(drafts: Sequence[Draft]) -> dict[Draft, float]:
    """The real value of one unit of every y; that of the result is for sums that must be scaled.

    Raises
    ------
    RefusedError
        If values that are cut at different heights are added.
    """
    leaders = _groups(drafts)
    members: dict[Draft, list[Draft]] = {}
    for draft, leader in leaders.items():
        members.setdefault(leader, []).append(draft)
    units = {draft: _shared_unit(members[leader]) for draft, leader in leaders.items()}
    for draft in drafts:
        if draft not in units:
            units[draft] = _own_unit(draft) if draft.encodings else _shared_unit([draft])
    return units


def _groups(drafts: Sequence[Draft]) -> dict[Draft, Draft]:
    """For every node in a sum, or that writes values, the one that stands for its group."""
    parents = {draft: draft for draft in drafts if in_sums(draft)}

    def leader(draft: Draft) -> Draft:
        while parents[draft] is not draft:
            parents[draft] = parents[parents[draft]]
            draft = parents[draft]
        return draft

    for draft in list(parents):
        if draft.residual is not None:
            parents[leader(draft)] = leader(draft.residual)
        if isinstance(draft, PoolingDraft) and _repeats(draft):
            parents[leader(draft)] = leader(draft.source)
    return {draft: leader(draft) for draft in parents}


def _repeats(draft: PoolingDraft) -> bool:
    """Whether the values it writes are some of those that it reads, and need no rounding."""
    unscaled = not draft.counts and draft.gain is not None and (draft.gain == 1).all()
    unmoved = draft.offset is not None and not draft.offset.any()
    uncut = draft.ceiling is None and draft.source.ceiling is None
    return draft.kind == "maximum" and bool(unscaled and unmoved) and uncut


def _shared_unit(group: list[Draft]) -> float:
    if any(draft.counts for draft in group):
        return 1.0
    ceilings = {draft.ceiling for draft in group}
    if ceilings == {None}:
        return max(draft.bound for draft in group) / HIGHEST or 1.0
    if len(group) > 1:
        raise RefusedError(f"{group[0].name}: what a ReLU6 cuts must not be added to anything")
    return max(ceiling for ceiling in ceilings if ceiling is not None) / HIGHEST


def _own_unit(draft: Draft) -> float:
    codes = max((written.codes for written in draft.encodings), key=lambda codes: codes.clip)
    if draft_moves(draft):
        levels = codes.format.max_level
    else:
        levels = max(codes.format.grid[len(codes.edges)] - codes.zero, codes.zero)
    return codes.scale / 2 ** fraction_of(levels, name=f"{draft.name}: {codes.format.name}")


def draft_moves(draft: Draft) -> bool:
    """Whether y counts from the lowest level instead of 0, as wide codes that have a sign must."""
    return (
        len(draft.encodings) == 1
        and draft.encodings[0].codes.is_wide
        and draft.encodings[0].codes.zero > 0
        and not in_sums(draft)
    )

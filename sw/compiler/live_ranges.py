"""Live ranges: buffers share words of a memory when they are never needed at once."""

from collections.abc import Sequence
from dataclasses import dataclass

from .limits import fit


@dataclass(kw_only=True)
class Buffer:
    """`size` words that are in use from node `first` to node `last`, both included.

    Members
    -------
    base : int
        Its first word, once it is placed.
    """

    first: int
    last: int
    size: int
    base: int = 0

    @property
    def end(self) -> int:
        return self.base + self.size


def allocate(
    buffers: Sequence[Buffer], *, nodes: Sequence[str], what: str, limit: int, pinned: Buffer | None = None
) -> int:
    """Place all buffers, each at the first words that are free while it is needed; returns the words used.

    Fitting them largest first and fitting them in order of execution are both tried.

    Parameters
    ----------
    nodes
        Names of the nodes, for refusals.
    what, limit
        The memory, and how many words it has.
    pinned
        The buffer that must lie at word 0.

    Raises
    ------
    RefusedError
        If they do not fit; names the node.
    """
    for node, needed in zip(nodes, demand(buffers, nodes=len(nodes)), strict=True):
        fit(node, what, needed, limit, "words")
    orders = (
        sorted(buffers, key=lambda each: (each is not pinned, -each.size, each.first)),
        sorted(buffers, key=lambda each: (each is not pinned, each.first, -each.size)),
    )
    words, order = min(((_first_fit(order), order) for order in orders), key=lambda found: found[0])
    _first_fit(order)
    beyond = min((each.first for each in buffers if each.end > limit), default=None)
    if beyond is not None:
        fit(nodes[beyond], what, words, limit, "words")
    return words


def demand(buffers: Sequence[Buffer], *, nodes: int) -> list[int]:
    """Words that are needed while each node runs."""
    return [sum(each.size for each in buffers if each.first <= index <= each.last) for index in range(nodes)]


def _first_fit(order: Sequence[Buffer]) -> int:
    """Place buffers in this order; returns the end of the last one."""
    placed: list[Buffer] = []
    for buffer in order:
        buffer.base = 0
        for other in sorted(placed, key=lambda each: each.base):
            meets = other.first <= buffer.last and buffer.first <= other.last
            if meets and other.base < buffer.end:
                buffer.base = max(buffer.base, other.end)
        placed.append(buffer)
    return max((each.end for each in order), default=0)

"""Dot products of any codebook whose weights stay: sums of levels in lookup-table memories."""

from dataclasses import dataclass

from ..block import Block, Circuit
from .dot_product import FoldableRows, circuit, size


@dataclass(frozen=True, kw_only=True)
class CodebookDot(FoldableRows):
    """Parameters of codebook_dot.

    Parameters
    ----------
    level_width
        Bits of a level in two's complement; levels are written at run time and may be any integers.
    """

    level_width: int = 8


def build(parameters: CodebookDot) -> Circuit:
    """The dot product of looked-up sums."""
    from hdl.codebook import CodebookDot as Component
    from hdl.formats.subsets import GROUP

    dot = Component(level_width=parameters.level_width, folded=parameters.folded, **size(parameters))
    word = dot.word_shape
    return circuit(
        parameters,
        dot,
        folded=parameters.folded,
        tables={
            "entries": 2**GROUP,
            "groups": -(-parameters.lanes // GROUP),
            "word": {"width": word.width, "signed": word.signed},
            "contents": "entry e of group g: the sum of the levels of lanes 4 g + i whose bit i in e is 1"
            + (", and of max(0, -level) of all four" if parameters.folded else ""),
            "written_while_read": "a vector that meets a word as it is written finds the old one",
        },
    )


BLOCKS = (
    Block(
        name="codebook_dot",
        summary="dot product for any levels that stay: sums of four levels from small memories",
        parameters=CodebookDot,
        build=build,
        examples=("--level-width 8 --activation-width 4", "--level-width 6 --rows 4 --folded"),
    ),
)

"""Fixed-point operations as the APoT paper counts them: one FixOP is 64 binary operations.

So a product of two 8-bit numbers is one FixOP, and one of w and a bits ``w·a / 64`` (section 4.1).
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from ..architectures import Architecture

BINARY_OPERATIONS = 64


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How much one multiply-accumulate counts.

    Members
    -------
    formula : str
        With w and a for the bits of weight and activation, and n for the terms of a weight.
    cost : callable
        FixOPs from the bits of weight and activation.
    """

    formula: str
    cost: Callable[[int, int], Fraction]


def uniform_cost(weight_bits: int, activation_bits: int) -> Fraction:
    """Every bit of the weight times every bit of the activation."""
    return Fraction(weight_bits * activation_bits, BINARY_OPERATIONS)


def shift_add_cost(terms: Fraction, activation_bits: int) -> Fraction:
    """One addition of the activation for each term of the weight."""
    return terms * activation_bits / BINARY_OPERATIONS


def terms(weight_bits: int, *, k: int = 2) -> Fraction:
    """The paper's n for a weight of a sign and ``kn`` bits: a single bit is one term, three are 1.5."""
    magnitude = weight_bits - 1
    return Fraction(magnitude, min(k, magnitude))


UNIFORM = Rule(formula="w·a/64", cost=uniform_cost)
APOT_PRINTED = Rule(formula="0.75·w·a/64", cost=lambda w, a: Fraction(3, 4) * uniform_cost(w, a))
APOT_TEXT = Rule(formula="text: n·a/64", cost=lambda w, a: shift_add_cost(terms(w), a))
POT_PRINTED = Rule(formula="0.70·w·a/64", cost=lambda w, a: Fraction(7, 10) * uniform_cost(w, a))
POT_TEXT = Rule(formula="text: 1·a/64", cost=lambda _, a: shift_add_cost(Fraction(1), a))
REAL = Rule(formula="1", cost=lambda _, __: Fraction(1))


def network_fixops(
    architecture: Architecture,
    rule: Rule,
    weight_bits: int,
    activation_bits: int,
    *,
    real_shortcuts: bool = False,
) -> Fraction:
    """FixOPs for one image; the first and the last layer are 8 × 8 bits, 1 a multiply-accumulate.

    With `real_shortcuts`, convolutions beside the blocks count 1 a multiply-accumulate too.
    """
    cost = rule.cost(weight_bits, activation_bits)
    total = Fraction(architecture.first.macs + architecture.last.macs)
    for layer in architecture.inner:
        total += layer.macs * (1 if real_shortcuts and layer.shortcut else cost)
    return total

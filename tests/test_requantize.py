"""Requantization constants against exact fractions, and what does not fit."""

from fractions import Fraction
from math import ceil

import numpy as np
import pytest

from hdl.console import RefusedError
from hdl.formats import PoT, Uniform, apot
from sw.requantize import fraction_of, requantization


def test_fraction_fills_the_value():
    assert [fraction_of(fmt) for fmt in (apot(bits=4, signed=False), Uniform(bits=8, signed=False))] == [
        10,
        8,
    ]
    assert fraction_of(PoT(k=4, signed=False)) == 1
    with pytest.raises(RefusedError, match="pot_k5u: activation levels must have at most 15 bits"):
        fraction_of(PoT(k=5, signed=False))


def requantized(gain, offset):
    numbers = requantization(np.array([float(gain)]), np.array([float(offset)]), name="layer")
    return tuple(int(values[0]) for values in numbers)


@pytest.mark.parametrize(
    ("gain", "offset"), [(3 / 64, -7 / 32), (-5 / 1024, 100.5), (1.0, 0.0), (77.0, -1.0)]
)
def test_requantization_of_dyadic_constants_is_the_exact_ceiling(gain, offset):
    multiplier, bias, shift = requantized(gain, offset)
    for accumulator in [*range(-2000, 2000), 2**22, -(2**22)]:
        y = (accumulator * multiplier + bias) >> shift
        assert y == ceil(accumulator * Fraction(gain) + Fraction(offset))


def test_requantization_uses_the_widths():
    generator = np.random.default_rng(0)
    gain = np.exp(generator.uniform(-25, 11, 500)) * generator.choice([-1, 1], 500)
    offset = generator.normal(0, 1e5, 500)
    multiplier, bias, shift = requantization(gain, offset, name="layer")
    assert (abs(multiplier) < 2**17).all()
    assert (abs(bias) < 2**47).all()
    assert ((shift >= 0) & (shift <= 47)).all()
    wider = np.maximum(abs(multiplier) * 2, abs(gain) * 2.0 ** (shift + 1) + 0.5) >= 2**17
    longer = abs(offset) * 2.0 ** (shift + 1) + 2.0 ** (shift + 1) >= 2**46
    assert (wider | longer | (shift == 47)).all()
    np.testing.assert_allclose(multiplier / 2.0**shift, gain, rtol=0, atol=2.0 ** -(shift + 1.0).min())
    assert (abs(multiplier / 2.0**shift - gain) <= 2.0 ** -(shift + 1)).all()


def test_requantization_of_zero_gain_and_large_offsets():
    multiplier, bias, shift = requantized(0.0, -3.25)
    assert multiplier == 0
    assert bias >> shift == -3
    multiplier, bias, shift = requantized(1e-6, 3e9)
    assert abs(bias) < 2**47
    assert bias >> shift == 3_000_000_000
    assert requantized(2.0**17 - 1, 0.0) == (2**17 - 1, 0, 0)


@pytest.mark.parametrize(
    ("gain", "offset", "message"),
    [
        (float("nan"), 0, "layer: gain and offset of channel 0 must be finite, not nan, 0.0"),
        (1, float("inf"), "layer: gain and offset of channel 0 must be finite, not 1.0, inf"),
        (2**17, 0, "gain 131072 and offset 0 of channel 0 must fit in 18 and 48 signed bits"),
        (1, 2**48, "gain 1 and offset 2.81475e+14 of channel 0 must fit in 18 and 48 signed bits"),
    ],
)
def test_requantization_refusals(gain, offset, message):
    with pytest.raises(RefusedError) as caught:
        requantized(gain, offset)
    assert message in str(caught.value)

"""Requantization constants against exact fractions, and what does not fit."""

from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest

from hdl.console import RefusedError
from sw.requantize import fraction_of, requantization


def test_fraction_fills_the_value():
    assert [fraction_of(largest, name="a") for largest in (1, 15, 48, 255, 2**15 - 1)] == [15, 12, 10, 8, 1]
    with pytest.raises(RefusedError, match="a: activation levels must have at most 15 bits"):
        fraction_of(2**15, name="a")


def requantized(gain, offset, **options):
    numbers = requantization(np.array([float(gain)]), np.array([float(offset)]), name="layer", **options)
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
        (float("nan"), 0, "layer: channel 0: gain and offset must be finite, not nan, 0.0"),
        (1, float("inf"), "layer: channel 0: gain and offset must be finite, not 1.0, inf"),
        (1, 2**48, "layer: channel 0: gain 1 and offset 2.81475e+14 must fit in 18 and 48 signed bits"),
    ],
)
def test_requantization_refusals(gain, offset, message):
    with pytest.raises(RefusedError) as caught:
        requantized(gain, offset)
    assert message in str(caught.value)


@pytest.mark.parametrize(("gain", "offset"), [(3 / 64, -7 / 32), (-5 / 1024, 100.5), (77.0, -1.25)])
def test_values_are_the_nearest_integers_halves_up(gain, offset):
    multiplier, bias, shift = requantized(gain, offset, nearest=True)
    for accumulator in range(-2000, 2000):
        y = (accumulator * multiplier + bias) >> shift
        assert y == floor(accumulator * Fraction(gain) + Fraction(offset) + Fraction(1, 2))


def test_nearest_of_whole_numbers_is_themselves():
    multiplier, bias, shift = requantized(1.0, 0.0, nearest=True)
    assert all((value * multiplier + bias) >> shift == value for value in range(-300, 300))
    assert requantized(131071.0, 5.0, nearest=True) == (131071, 5, 0)


@pytest.mark.parametrize("width", [2, 12, 17, 18])
def test_multipliers_leave_room_for_coordinates(width):
    generator = np.random.default_rng(1)
    gain = np.exp(generator.uniform(-20, 0, 200)) * generator.choice([-1, 1], 200)
    multiplier, _, shift = requantization(gain, np.zeros(200), name="layer", width=width)
    assert (abs(multiplier) < 2 ** (width - 1)).all()
    wider = np.maximum(abs(multiplier) * 2, abs(gain) * 2.0 ** (shift + 1) + 0.5) >= 2 ** (width - 1)
    assert (wider | (shift == 47) | (shift == 46)).all()


def test_the_excess_is_taken_off_exactly():
    plain, shifted = requantized(0.037, 12.5), requantized(0.037, 12.5, excess=np.array([811]))
    for accumulator in range(-2000, 2000):
        y = (accumulator * plain[0] + plain[1]) >> plain[2]
        assert ((accumulator + 811) * shifted[0] + shifted[1]) >> shifted[2] == y


def test_the_expected_accumulator_is_scaled_as_if_the_multiplier_were_exact():
    gain, mean = 1 / 3, 30_000
    for accumulator, error in ((mean, 1), (mean + 300, 1), (0, 8)):
        multiplier, bias, shift = requantized(gain, 0.0, width=12, expected=np.array([float(mean)]))
        y = (accumulator * multiplier + bias) >> shift
        assert abs(y - accumulator * gain) <= error
    multiplier, bias, shift = requantized(gain, 0.0, width=12)
    assert abs(((mean * multiplier + bias) >> shift) - mean * gain) > 1


@pytest.mark.parametrize("gain", [2.0**17, 3e5, -4.4e6])
@pytest.mark.parametrize("offset", [0.0, 129944.0, -2.5e7, 1e9 + 0.5])
def test_what_is_steeper_than_any_multiplier_passes_the_same_boundaries(gain, offset):
    multiplier, bias, shift = requantized(gain, offset)
    assert abs(multiplier) < 2**17
    around = round(-offset / gain)
    for accumulator in (*range(around - 5, around + 6), around - 1000, around + 1000):
        y, real = (accumulator * multiplier + bias) >> shift, Fraction(gain) * accumulator + Fraction(offset)
        for boundary in (-(2**16) + 2, -5, 0, 1, 700, 2**16 - 2):
            assert (y > boundary) == (real > boundary)


def test_planes_that_are_too_steep_keep_what_their_mean_gives():
    multiplier, bias, shift = requantized(1e5, -2.9e6, width=12, expected=np.array([29.1]))
    assert (multiplier, shift) == (2047, 0)
    assert 29 * multiplier + bias == 0

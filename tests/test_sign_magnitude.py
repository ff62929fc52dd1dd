"""Integers in sign and magnitude: the product circuit, and what it refuses."""

import pytest

from hdl.formats import SignMagnitude, Uniform
from hdl.pe import ProcessingElement
from hdl.products import MagnitudeProduct, product_for
from tests.closed_form import sign_magnitude_levels
from tests.test_products import product_table


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
def test_every_product(bits: int) -> None:
    """The complement of a negative product's magnitude, and the one that it lacks as the carry."""
    table = product_table(MagnitudeProduct(weight_format=SignMagnitude(bits=bits), activation_width=4))
    levels = sign_magnitude_levels(bits=bits)
    assert [[value + carry for value, carry in row] for row in table] == [
        [level * activation for activation in range(16)] for level in levels
    ]
    assert [[carry for _, carry in row] for row in table] == [
        [code >> (bits - 1)] * 16 for code in range(2**bits)
    ]


def test_the_circuit_of_the_format() -> None:
    product = product_for(weight_format=SignMagnitude(bits=4), activation_width=4)
    assert isinstance(product, MagnitudeProduct)


def test_the_symmetric_range_may_save_a_bit() -> None:
    """Sums of three products reach 3 · 3 · 7 = 63, in two's complement -3 · 4 · 7 = -84."""
    narrow = product_for(weight_format=SignMagnitude(bits=3), activation_width=3)
    plain = product_for(weight_format=Uniform(bits=3), activation_width=3)
    widths = [len(ProcessingElement(product=each, depth=3).accumulator) for each in (narrow, plain)]
    assert widths == [7, 8]


def test_refuses_other_formats() -> None:
    with pytest.raises(TypeError) as caught:
        MagnitudeProduct(weight_format=Uniform(bits=4), activation_width=4)
    expected = "weight_format must be a SignMagnitude format, not Uniform(signed=True, bits=4)"
    assert str(caught.value) == expected

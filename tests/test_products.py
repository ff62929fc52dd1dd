"""Product circuits and processing element against the closed forms, in Amaranth's simulator."""

from collections.abc import Callable
from typing import Any

import pytest
from amaranth.sim import Simulator

from hdl.formats import APoT, Format, PoT, Table, Uniform
from hdl.pe import ProcessingElement
from hdl.products import MultiplyProduct, Product, ShiftProduct, TableProduct, product_for
from tests.closed_form import apot_levels, uniform_levels
from tests.simulated import outputs

WIDTH = 4
TABLE = Table(table=(3, -1, 0, 100, -128, 7, 7, -65))

EXACT: list[tuple[type[Product], Format, list[int]]] = [
    *((ShiftProduct, APoT(k=k, n=n), apot_levels(k=k, n=n)) for k in (1, 2, 3) for n in (1, 2, 3)),
    *((ShiftProduct, APoT(k=2, n=n, odd=True), apot_levels(k=2, n=n, odd=True)) for n in (1, 2)),
    *((ShiftProduct, PoT(k=k), apot_levels(k=k, n=1)) for k in (1, 2, 3)),
    (MultiplyProduct, Uniform(bits=4), uniform_levels(bits=4)),
    (TableProduct, TABLE, list(TABLE.table)),
    (TableProduct, APoT(k=2, n=2), apot_levels(k=2, n=2)),
    (TableProduct, Uniform(bits=4), uniform_levels(bits=4)),
]


def label(value: Any) -> str:
    return value.name if isinstance(value, Format) else getattr(value, "__name__", "")


def product_table(product: Product) -> list[list[tuple[int, int]]]:
    """What the circuit gives for every weight code and activation: product and carry."""
    table: list[list[tuple[int, int]]] = []

    async def bench(ctx: Any) -> None:
        for weight in range(2**product.weight_format.code_width):
            ctx.set(product.weight, weight)
            row = []
            for activation in range(2**product.activation_width):
                ctx.set(product.activation, activation)
                row.append((ctx.get(product.product), ctx.get(product.carry)))
            table.append(row)

    simulator = Simulator(product)
    simulator.add_testbench(bench)
    simulator.run()
    return table


@pytest.mark.parametrize(("circuit", "weight_format", "levels"), EXACT, ids=label)
def test_every_product(circuit: Any, weight_format: Format, levels: list[int]) -> None:
    product = circuit(weight_format=weight_format, activation_width=WIDTH)
    table = product_table(product)
    assert [[value + carry for value, carry in row] for row in table] == [
        [level * activation for activation in range(2**WIDTH)] for level in levels
    ]
    assert product.has_carry or all(carry == 0 for row in table for _, carry in row)


@pytest.mark.parametrize(
    ("weight_format", "circuit"),
    [
        (APoT(k=2, n=2), ShiftProduct),
        (PoT(k=2), ShiftProduct),
        (Uniform(bits=4), MultiplyProduct),
        (TABLE, TableProduct),
    ],
)
def test_the_circuit_of_a_format(weight_format: Format, circuit: type[Product]) -> None:
    assert type(product_for(weight_format=weight_format, activation_width=4)) is circuit


def test_processing_element_by_hand() -> None:
    """Levels of codes 0 … 7: 0, 4, 2, 1, -0, -4, -2, -1."""
    weights = ShiftProduct(weight_format=APoT(k=2, n=1), activation_width=4)
    element = ProcessingElement(product=weights, depth=3)
    steps = [
        # enable, clear, weight, activation, sum
        (1, 0, 1, 15, 60),
        (1, 0, 7, 3, 57),
        (0, 0, 1, 15, 57),
        (1, 1, 6, 7, -14),
        (1, 0, 4, 9, -14),
        (0, 1, 1, 15, 0),
        (1, 0, 5, 15, -60),
        (1, 0, 5, 15, -120),
        (1, 0, 5, 15, -180),
    ]
    cycles = [
        {"enable": enable, "clear": clear, "weight": weight, "activation": activation}
        for enable, clear, weight, activation, _ in steps
    ]
    assert outputs(element, cycles, "accumulator") == [[step[-1]] for step in steps]
    assert element.latency == 1


@pytest.mark.parametrize(
    ("weight_format", "width", "depth", "low", "high"),
    [
        (APoT(k=2, n=1), 4, 1, -60, 60),
        (APoT(k=2, n=2), 8, 4096, -48 * 255 * 4096, 48 * 255 * 4096),
        (Uniform(bits=4), 1, 2, -16, 14),
        (Uniform(bits=4), 1, 1, -8, 7),
        (Table(table=(0, 5)), 2, 1, 0, 15),
        (TABLE, 8, 3, -128 * 255 * 3, 100 * 255 * 3),
    ],
)
def test_accumulator_is_wide_enough_and_no_wider(
    weight_format: Format, width: int, depth: int, low: int, high: int
) -> None:
    product = product_for(weight_format=weight_format, activation_width=width)
    bits = len(ProcessingElement(product=product, depth=depth).accumulator)
    assert -(2 ** (bits - 1)) <= low <= high < 2 ** (bits - 1)
    assert low < -(2 ** (bits - 2)) or high >= 2 ** (bits - 2)


def test_accumulator_of_a_chosen_width() -> None:
    product = product_for(weight_format=APoT(k=2, n=1), activation_width=4)
    assert len(ProcessingElement(product=product, depth=1, accumulator_width=7).accumulator) == 7
    product = product_for(weight_format=APoT(k=2, n=1), activation_width=4)
    assert len(ProcessingElement(product=product, depth=1, accumulator_width=30).accumulator) == 30


def element(**changed: Any) -> ProcessingElement:
    product = ShiftProduct(weight_format=APoT(k=2, n=1), activation_width=4)
    return ProcessingElement(**({"product": product, "depth": 4} | changed))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: TableProduct(weight_format="apot_k2n1", activation_width=4),
            TypeError,
            "weight_format must be a Format, not 'apot_k2n1'",
        ),
        (
            lambda: TableProduct(weight_format=Uniform(bits=4, signed=False), activation_width=4),
            ValueError,
            "weight_format must be signed, not 'uniform_b4u'",
        ),
        (
            lambda: ShiftProduct(weight_format=Uniform(bits=4), activation_width=4),
            TypeError,
            "weight_format must be an APoT or PoT format, not Uniform(signed=True, bits=4)",
        ),
        (
            lambda: MultiplyProduct(weight_format=PoT(k=2), activation_width=4),
            TypeError,
            "weight_format must be a Uniform format, not PoT(signed=True, k=2, n=1, odd=False)",
        ),
        (
            lambda: ShiftProduct(weight_format=PoT(k=2), activation_width=0),
            ValueError,
            "activation_width must be an integer from 1 to 16, not 0",
        ),
        (
            lambda: ShiftProduct(weight_format=PoT(k=2), activation_width="4"),
            TypeError,
            "activation_width must be an integer from 1 to 16, not '4'",
        ),
        (lambda: element(product=3), TypeError, "product must be a Product, not 3"),
        (lambda: element(depth=0), ValueError, "depth must be an integer from 1 to 16777216, not 0"),
        (lambda: element(depth=1.0), TypeError, "depth must be an integer from 1 to 16777216, not 1.0"),
        (
            lambda: element(accumulator_width=8),
            ValueError,
            "accumulator_width must be at least 9 for sums of 4 products, not 8",
        ),
        (
            lambda: element(accumulator_width=True),
            TypeError,
            "accumulator_width must be an integer from 1 to 128, not True",
        ),
        (
            lambda: element(accumulator_width=129),
            ValueError,
            "accumulator_width must be an integer from 1 to 128, not 129",
        ),
    ],
)
def test_refusals(make: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        make()
    assert type(caught.value) is error
    assert str(caught.value) == message

"""Dot products: many products a cycle, summed by pipelined adder trees, an accumulator for each row."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

from amaranth.hdl import Const, Module, Shape, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .arithmetic import MAX_DEPTH, Accumulator, accumulator_shape
from .formats import Format, check_int
from .products import MAX_ACTIVATION_WIDTH, Product, product_for
from .sums import registered, tree

MAX_LANES = 256
MAX_ROWS = 256


class DotRows(wiring.Component):
    """Adds a dot product to every row's accumulator each cycle, exactly: what dot products have in common.

    Each cycle with `enable` adds ``Σ level[weights[row][i]] · activations[i]`` to each row's accumulator;
    with `clear` too, the sums start with that cycle.  A cycle with `clear` alone sets the sums to zero, and
    so does a synchronous `rst`, which drops what is still in flight too.  Throughput one vector a cycle, no
    back-pressure; the result of a cycle stands in `accumulators` after `latency` cycles.

    Parameters
    ----------
    lanes : int
        Products of a row each cycle, 1 to 256.
    rows : int
        Sums computed side by side from the same activations, 1 to 256.
    inputs : dict
        The shape of every input port but `enable` and `clear`; `weights` is an array of rows.
    flight : int
        Cycles from inputs to the input of the accumulators.
    accumulator_shape : Shape

    Members
    -------
    latency : int
        Cycles from inputs to `accumulators`.
    enable, clear : In(1)
    weights : In(ArrayLayout(ArrayLayout(code_width, lanes), rows))
    accumulators : Out(ArrayLayout(accumulator_shape, rows))

    Raises
    ------
    TypeError, ValueError
        If `lanes` or `rows` is out of range.
    """

    def __init__(self, *, inputs: dict[str, Any], rows: int, flight: int, accumulator_shape: Shape) -> None:
        self.flight = flight
        self.latency = flight + 1
        self.accumulator_shape = accumulator_shape
        super().__init__(
            {
                "enable": In(1),
                "clear": In(1),
                **{name: In(shape) for name, shape in inputs.items()},
                "accumulators": Out(data.ArrayLayout(accumulator_shape, rows)),
            }
        )

    def _front(self, _m: Module) -> Any:
        """What rows share besides the input ports; by default nothing."""
        return None

    @abstractmethod
    def _row(self, m: Module, number: int, shared: Any) -> tuple[Value, Value]:
        """A row's sum of products and a carry that is still to be added, `flight` cycles after the inputs."""

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        shared = self._front(m)
        enable = delayed(m, self.enable, cycles=self.flight)
        clear = delayed(m, self.clear, cycles=self.flight)
        for number in range(len(self.accumulators)):
            m.submodules[f"row{number}"] = row = Module()
            term, carry = self._row(row, number, shared)
            row.submodules.sum = total = Accumulator(term_shape=term.shape(), shape=self.accumulator_shape)
            row.d.comb += [
                total.enable.eq(enable),
                total.clear.eq(clear),
                total.term.eq(term),
                total.carry.eq(carry),
                self.accumulators[number].eq(total.accumulator),
            ]
        return m


class DotProduct(DotRows):
    """Dot products of one multiplying circuit for each lane of each row.

    Products are registered, and so is every level of the adder tree, so that adders stay carry chains.

    Parameters
    ----------
    weight_format : Format
        A signed format.
    activation_width : int
        Bits of an unsigned activation.
    lanes, rows : int
        See `DotRows`.
    depth : int
        The most products that are ever summed in a row between two clears, over all lanes.
    accumulator_width : int or None
        Bits of an accumulator; by default what `depth` needs.
    product : callable
        Makes the multiplying circuit; by default the format's own.

    Members
    -------
    latency : int
        2 cycles, and one per adder level.
    activations : In(ArrayLayout(activation_width, lanes))
    enable, clear, weights, accumulators
        See `DotRows`; accumulators are signed.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong, or the accumulator is too narrow for `depth`.
    """

    def __init__(
        self,
        *,
        weight_format: Format,
        activation_width: int,
        lanes: int,
        depth: int,
        rows: int = 1,
        accumulator_width: int | None = None,
        product: Callable[..., Product] = product_for,
    ) -> None:
        check_size(activation_width=activation_width, lanes=lanes, rows=rows, depth=depth)
        self._products = [
            [product(weight_format=weight_format, activation_width=activation_width) for _ in range(lanes)]
            for _ in range(rows)
        ]
        super().__init__(
            inputs={
                "weights": weight_layout(weight_format.code_width, lanes=lanes, rows=rows),
                "activations": data.ArrayLayout(activation_width, lanes),
            },
            rows=rows,
            flight=1 + (lanes - 1).bit_length(),
            accumulator_shape=accumulator_shape(
                weight_format=weight_format,
                activation_width=activation_width,
                depth=depth,
                folded=False,
                width=accumulator_width,
            ),
        )

    def _row(self, m: Module, number: int, _shared: Any) -> tuple[Value, Value]:
        terms: list[Value] = []
        carries: list[Value] = []
        for lane, product in enumerate(self._products[number]):
            m.submodules[f"multiplier{lane}"] = product
            m.d.comb += product.weight.eq(self.weights[number][lane])
            m.d.comb += product.activation.eq(self.activations[lane])
            terms.append(registered(m, product.product, name=f"product{lane}"))
            carries.append(
                registered(m, product.carry, name=f"carry{lane}") if product.has_carry else Const(0)
            )
        return tree(m, terms, carries)[:2]


def check_size(*, activation_width: int, lanes: int, rows: int, depth: int) -> None:
    """Refuse the size of a dot product that is out of range.

    Raises
    ------
    TypeError, ValueError
        Naming the parameter.
    """
    check_int("activation_width", activation_width, low=1, high=MAX_ACTIVATION_WIDTH)
    check_int("lanes", lanes, low=1, high=MAX_LANES)
    check_int("rows", rows, low=1, high=MAX_ROWS)
    check_int("depth", depth, low=1, high=MAX_DEPTH)


def weight_layout(code_width: int, *, lanes: int, rows: int) -> data.ArrayLayout:
    """A weight code of every lane of every row; row 0 and lane 0 lowest."""
    return data.ArrayLayout(data.ArrayLayout(code_width, lanes), rows)


def delayed(m: Module, value: Value, *, cycles: int) -> Value:
    """`value` after `cycles` registers."""
    for _ in range(cycles):
        register = Signal.like(value, name="delayed")
        m.d.sync += register.eq(value)
        value = register
    return value

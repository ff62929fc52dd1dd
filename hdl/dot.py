"""Dot product: many products a cycle, summed by a pipelined adder tree and one accumulator."""

from collections.abc import Callable

from amaranth.hdl import Const, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .arithmetic import Accumulator, accumulator_shape
from .formats import Format, check_int
from .products import Product, product_for
from .sums import registered, tree

MAX_LANES = 256


class DotProduct(wiring.Component):
    """Adds `lanes` products to an accumulator each cycle, exactly.

    Each cycle with `enable` adds ``Σ level[weights[i]] · activations[i]``; with `clear` too, the sum
    starts with that cycle.  A cycle with `clear` alone sets the sum to zero.  Throughput one vector a
    cycle, no back-pressure; the result of a cycle stands in `accumulator` after `latency` cycles.

    Products are registered, and so is every level of the adder tree, so that adders stay carry chains.

    Parameters
    ----------
    weight_format : Format
        A signed format.
    activation_width : int
        Bits of an unsigned activation.
    lanes : int
        Products a cycle, 1 to 256.
    depth : int
        The most products that are ever summed between two clears, over all lanes.
    accumulator_width : int or None
        Bits of the accumulator; by default what `depth` needs.
    folded : bool
        Leave out the correction of negative weights (see `Product`); the accumulator is then unsigned
        and too large by the sum of ``(2^activation_width - 1) · max(0, -level)`` over all products.
    product : callable or None
        Makes the multiplying circuit, instead of the format's own.

    Members
    -------
    latency : int
        Cycles from inputs to `accumulator`: 2 and one per adder level.
    enable, clear : In(1)
    weights : In(ArrayLayout(code_width, lanes))
    activations : In(ArrayLayout(activation_width, lanes))
    accumulator : Out(signed or, if folded, unsigned)

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
        accumulator_width: int | None = None,
        folded: bool = False,
        product: Callable[..., Product] | None = None,
    ) -> None:
        check_int("lanes", lanes, low=1, high=MAX_LANES)
        self._products = [
            product(weight_format=weight_format, activation_width=activation_width)
            if product
            else product_for(weight_format=weight_format, activation_width=activation_width, folded=folded)
            for _ in range(lanes)
        ]
        self.folded = self._products[0].folded
        self.latency = 2 + (lanes - 1).bit_length()
        shape = accumulator_shape(
            weight_format=weight_format,
            activation_width=activation_width,
            depth=depth,
            folded=self.folded,
            width=accumulator_width,
        )
        super().__init__(
            {
                "enable": In(1),
                "clear": In(1),
                "weights": In(data.ArrayLayout(weight_format.code_width, lanes)),
                "activations": In(data.ArrayLayout(activation_width, lanes)),
                "accumulator": Out(shape),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        terms: list[Value] = []
        carries: list[Value] = []
        for lane, product in enumerate(self._products):
            m.submodules[f"multiplier{lane}"] = product
            m.d.comb += product.weight.eq(self.weights[lane])
            m.d.comb += product.activation.eq(self.activations[lane])
            terms.append(registered(m, product.product, name=f"product{lane}"))
            carries.append(
                registered(m, product.carry, name=f"carry{lane}") if product.has_carry else Const(0)
            )
        term, carry, _ = tree(m, terms, carries)
        m.submodules.sum = total = Accumulator(term_shape=term.shape(), shape=self.accumulator.shape())
        m.d.comb += [
            total.enable.eq(delayed(m, self.enable, cycles=self.latency - 1)),
            total.clear.eq(delayed(m, self.clear, cycles=self.latency - 1)),
            total.term.eq(term),
            total.carry.eq(carry),
            self.accumulator.eq(total.accumulator),
        ]
        return m


def delayed(m: Module, value: Value, *, cycles: int) -> Value:
    """`value` after `cycles` registers."""
    for _ in range(cycles):
        register = Signal.like(value, name="delayed")
        m.d.sync += register.eq(value)
        value = register
    return value

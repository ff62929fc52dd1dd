"""Processing element: one product a cycle, summed."""

from amaranth.hdl import Const, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .arithmetic import Accumulator, accumulator_shape
from .products import Product


class ProcessingElement(wiring.Component):
    """Multiplies a weight code by an unsigned activation and accumulates, exactly.

    Each cycle with `enable` adds ``level[weight] · activation`` to `accumulator`; with `clear` too, the
    sum starts with that product.  A cycle with `clear` alone sets the sum to zero.  A synchronous `rst`
    does the same.  There is no back-pressure.

    Parameters
    ----------
    product : Product
        The multiplying circuit.
    depth : int
        The most products that are ever summed between two clears, 1 to 2^24.
    accumulator_width : int or None
        Bits of the accumulator; by default what `depth` needs.

    Members
    -------
    latency : int
        Cycles from inputs to `accumulator`: 1.
    enable, clear : In(1)
    weight : In(code_width)
    activation : In(activation_width)
    accumulator : Out(signed(accumulator_width))

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong, or the accumulator is too narrow for `depth`.
    """

    latency = 1

    def __init__(self, *, product: Product, depth: int, accumulator_width: int | None = None) -> None:
        if not isinstance(product, Product):
            raise TypeError(f"product must be a Product, not {product!r}")
        shape = accumulator_shape(
            weight_format=product.weight_format,
            activation_width=product.activation_width,
            depth=depth,
            folded=False,
            width=accumulator_width,
        )
        self._product = product
        super().__init__(
            {
                "enable": In(1),
                "clear": In(1),
                "weight": In(product.weight_format.code_width),
                "activation": In(product.activation_width),
                "accumulator": Out(shape),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.multiplier = product = self._product
        m.submodules.sum = total = Accumulator(
            term_shape=product.product.shape(), shape=self.accumulator.shape()
        )
        m.d.comb += [
            product.weight.eq(self.weight),
            product.activation.eq(self.activation),
            total.enable.eq(self.enable),
            total.clear.eq(self.clear),
            total.term.eq(product.product),
            total.carry.eq(product.carry if product.has_carry else Const(0)),
            self.accumulator.eq(total.accumulator),
        ]
        return m

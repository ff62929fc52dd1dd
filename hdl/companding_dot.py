"""Processing element and dot products on companded codes, whose tables are loaded at run time."""

from collections.abc import Sequence
from typing import NamedTuple

from amaranth.hdl import Cat, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Member, Out

from .arithmetic import MAX_DEPTH, Accumulator, sum_shape
from .companding import MAX_ADDRESS_WIDTH, MAX_PORTS, Companding, LoadableTable, TableWrite
from .dot import delayed
from .formats import check_int
from .sums import adder_levels, registered, tree


class Signed(NamedTuple):
    """A product of magnitudes, and whether it is to be subtracted."""

    magnitude: Value
    sign: Value

    @property
    def term(self) -> Value:
        """Complemented under a sign, which is to enter the next adder as its carry."""
        return Cat(self.magnitude ^ self.sign.replicate(len(self.magnitude)), self.sign).as_signed()


class _TableSum(wiring.Component):
    """What the units below share: controls, a bank, and signed magnitudes summed into one accumulator."""

    latency: int

    def __init__(
        self, companding: Companding, *, largest: int, depth: int, width: int | None, ports: dict[str, Member]
    ) -> None:
        self.companding = companding
        check_int("depth", depth, low=1, high=MAX_DEPTH)
        shape = sum_shape(-depth * largest, depth * largest, depth=depth, signed=True, width=width)
        super().__init__(
            {
                "enable": In(1),
                "clear": In(1),
                "bank": In(companding.bank_width),
                **ports,
                "accumulator": Out(shape),
            }
        )

    def _decoded(self, m: Module, weights: Sequence[Value], activations: Sequence[Value]) -> list[Signed]:
        """Products of every lane's levels, a cycle after the codes."""
        companding, lanes = self.companding, len(weights)
        index = companding.index_width
        m.submodules.weight_decoder = left = companding.decoder(index, companding.magnitude_width, lanes)
        m.submodules.activation_decoder = right = companding.decoder(
            companding.activation_bits, companding.activation_outer_bits, lanes
        )
        wiring.connect(m, wiring.flipped(self.weight_write), left.write)
        wiring.connect(m, wiring.flipped(self.activation_write), right.write)
        m.d.comb += [left.bank.eq(self.bank), right.bank.eq(self.bank)]
        products = []
        for lane, (weight, activation) in enumerate(zip(weights, activations, strict=True)):
            m.d.comb += [left.codes[lane].eq(weight[:index]), right.codes[lane].eq(activation)]
            sign = registered(m, weight[index], name=f"sign{lane}")
            products.append(Signed(left.levels[lane] * right.levels[lane], sign))
        return products

    def _sum(self, m: Module, products: Sequence[Signed]) -> None:
        """All products, after a register, through an adder tree to the accumulator."""
        terms = [registered(m, each.term, name=f"product{lane}") for lane, each in enumerate(products)]
        carries = [registered(m, each.sign, name=f"carry{lane}") for lane, each in enumerate(products)]
        term, carry, _ = tree(m, terms, carries)
        self._accumulate(m, term, carry)

    def _accumulate(self, m: Module, term: Value, carry: Value) -> None:
        m.submodules.sum = total = Accumulator(term_shape=term.shape(), shape=self.accumulator.shape())
        m.d.comb += [
            total.enable.eq(delayed(m, self.enable, cycles=self.latency - 1)),
            total.clear.eq(delayed(m, self.clear, cycles=self.latency - 1)),
            total.term.eq(term),
            total.carry.eq(carry),
            self.accumulator.eq(total.accumulator),
        ]


def _check(companding: object) -> None:
    if not isinstance(companding, Companding):
        raise TypeError(f"companding must be a Companding, not {companding!r}")


class CompandedElement(_TableSum):
    """Looks up the levels of a weight and an activation, multiplies and accumulates them, exactly.

    Each cycle with `enable` adds ``±weight level · activation level``; with `clear` too, the sum starts with
    that product.  A cycle with `clear` alone sets the sum to zero, and so does a synchronous `rst`.  Levels
    are those of the tables of `bank` when the codes come in: see `LutDecoder` for writing meanwhile.

    Parameters
    ----------
    companding : Companding
        Bits of codes and levels, and the number of banks.
    depth : int
        The most products that are ever summed between two clears, 1 to 2^24.
    accumulator_width : int or None
        Bits of the accumulator; by default what `depth` products of the largest levels need.

    Members
    -------
    latency : int
        Cycles from codes to `accumulator`: 2.
    enable, clear : In(1)
    bank : In(range(banks))
    weight : In(weight_bits)
        An index, and a sign on top.
    activation : In(activation_bits)
    accumulator : Out(signed(accumulator_width))
    weight_write, activation_write : In(TableWrite)
        Of the tables of weights' magnitudes and of activations' levels: index i in bank k is at
        ``k · 2^(bits of an index) + i``.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong, or the accumulator is too narrow for `depth`.
    """

    latency = 2

    def __init__(self, *, companding: Companding, depth: int, accumulator_width: int | None = None) -> None:
        _check(companding)
        ports = {
            "weight": In(companding.weight_bits),
            "activation": In(companding.activation_bits),
            **companding.level_writes,
        }
        super().__init__(
            companding, largest=companding.largest_product, depth=depth, width=accumulator_width, ports=ports
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        (product,) = self._decoded(m, [self.weight], [self.activation])
        self._accumulate(m, product.term, product.sign)
        return m


class CompandedDot(_TableSum):
    """Decodes `lanes` weights and activations a cycle by two tables, multiplies, and sums exactly.

    The protocol is that of `CompandedElement`; products and every level of the adder tree are registered.
    Signs stay outside of the multipliers.

    Parameters
    ----------
    companding : Companding
        Bits of codes and levels, and the number of banks.
    lanes : int
        Products a cycle, 1 to 256.
    depth, accumulator_width
        See `CompandedElement`; `depth` counts products over all lanes.

    Members
    -------
    latency : int
        Cycles from codes to `accumulator`: 3 and one per adder level.
    weights : In(ArrayLayout(weight_bits, lanes))
    activations : In(ArrayLayout(activation_bits, lanes))
    enable, clear, bank, accumulator, weight_write, activation_write
        See `CompandedElement`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong, or the accumulator is too narrow for `depth`.
    """

    def __init__(
        self, *, companding: Companding, lanes: int, depth: int, accumulator_width: int | None = None
    ) -> None:
        _check(companding)
        check_int("lanes", lanes, low=1, high=MAX_PORTS)
        self.latency = 3 + adder_levels(lanes)
        ports = {**companding.codes(lanes), **companding.level_writes}
        super().__init__(
            companding, largest=companding.largest_product, depth=depth, width=accumulator_width, ports=ports
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        lanes = range(self.weights.shape().length)
        self._sum(m, self._decoded(m, [self.weights[i] for i in lanes], [self.activations[i] for i in lanes]))
        return m


class ProductDot(_TableSum):
    """A dot product without multipliers: both codes address a table of products of magnitudes.

    Sums the same as `CompandedDot` does, once its table holds the products of the other's levels.  The sign
    of a weight's code is that of the product.

    Parameters
    ----------
    companding : Companding
        Bits of codes and levels, and the number of banks; at most 4096 words in all.
    lanes, depth, accumulator_width
        See `CompandedDot`; no contents of the table overflow the accumulator.

    Members
    -------
    latency : int
        Cycles from codes to `accumulator`: 2 and one per adder level.
    write : In(TableWrite)
        The product of the weight of index i and the activation of rank r in bank k is at
        ``(k · 2^activation_bits + r) · 2^(weight_bits - 1) + i``.
    enable, clear, bank, weights, activations, accumulator
        See `CompandedDot`.

    Raises
    ------
    TypeError, ValueError
        If a parameter is wrong, or the accumulator is too narrow for `depth`.
    """

    def __init__(
        self, *, companding: Companding, lanes: int, depth: int, accumulator_width: int | None = None
    ) -> None:
        _check(companding)
        check_int("lanes", lanes, low=1, high=MAX_PORTS)
        width = companding.index_width + companding.activation_bits + companding.bank_width
        if width > MAX_ADDRESS_WIDTH:
            raise ValueError(
                f"weight_bits, activation_bits and banks must give at most {2**MAX_ADDRESS_WIDTH} products, "
                f"not {2**width!r}"
            )
        self.latency = 2 + adder_levels(lanes)
        self._table = LoadableTable(
            address_width=width,
            word_width=companding.product_width,
            ports=lanes,
            registers=companding.registers,
        )
        write = TableWrite(address_width=width, data_width=companding.product_width)
        ports = {**companding.codes(lanes), "write": In(write)}
        largest = 2**companding.product_width - 1
        super().__init__(companding, largest=largest, depth=depth, width=accumulator_width, ports=ports)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.table = table = self._table
        wiring.connect(m, wiring.flipped(self.write), table.write)
        index, products = self.companding.index_width, []
        for lane in range(self.weights.shape().length):
            weight, activation = self.weights[lane], self.activations[lane]
            m.d.comb += table.addresses[lane].eq(Cat(weight[:index], activation, self.bank))
            products.append(Signed(table.words[lane], weight[index]))
        self._sum(m, products)
        return m

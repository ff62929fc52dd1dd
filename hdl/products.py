"""Products of one weight code and one activation: the circuits that schemes differ in."""

from abc import abstractmethod

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .formats import APoT, Format, SignMagnitude, Uniform, check_int, signed_width

MAX_ACTIVATION_WIDTH = 16


class Product(wiring.Component):
    """Combinational product of a weight code and an unsigned activation.

    The exact product is ``product + carry``: a negative product is left as its complement, and the one
    that is missing enters the next adder as its carry, where it costs nothing.

    Parameters
    ----------
    weight_format : Format
        A signed format.
    activation_width : int
        Bits of the unsigned activation, 1 to 16.

    Members
    -------
    weight : In(weight_format.code_width)
    activation : In(activation_width)
    product : Out(signed)
    carry : Out(1)
        Constant 0 unless `has_carry`.

    Raises
    ------
    TypeError, ValueError
        If the format is not signed or the width is out of range.
    """

    has_carry = False

    def __init__(self, *, weight_format: Format, activation_width: int) -> None:
        if not isinstance(weight_format, Format):
            raise TypeError(f"weight_format must be a Format, not {weight_format!r}")
        if not weight_format.signed:
            raise ValueError(f"weight_format must be signed, not {weight_format.name!r}")
        check_int("activation_width", activation_width, low=1, high=MAX_ACTIVATION_WIDTH)
        self.weight_format = weight_format
        self.activation_width = activation_width
        super().__init__(
            {
                "weight": In(weight_format.code_width),
                "activation": In(activation_width),
                "product": Out(self._product_shape()),
                "carry": Out(1),
            }
        )

    @abstractmethod
    def _product_shape(self) -> Shape: ...

    @property
    def _range(self) -> tuple[int, int]:
        return self.weight_format.sum_range(depth=1, activation_max=2**self.activation_width - 1)


class ShiftProduct(Product):
    """Multiplexed shifts and ``terms - 1`` adders, for additive powers of two (APoT, eq. 5 and 6).

    Each term of the magnitude selects one shift of the activation or nothing; the sign complements.
    """

    has_carry = True

    def __init__(self, *, weight_format: APoT, activation_width: int) -> None:
        if not isinstance(weight_format, APoT):
            raise TypeError(f"weight_format must be an APoT or PoT format, not {weight_format!r}")
        self._terms = weight_format.terms
        super().__init__(weight_format=weight_format, activation_width=activation_width)

    def _product_shape(self) -> Shape:
        return signed(self._range[1].bit_length() + 1)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        sign = self.weight[-1]
        addends = [
            _selected_shift(
                m, self.weight[term.offset : term.offset + term.width], term.shifts, self.activation
            )
            for term in self._terms
        ]
        magnitude = Signal(len(self.product) - 1)
        m.d.comb += [
            magnitude.eq(sum(addends[1:], addends[0])),
            self.product.eq(Cat(magnitude ^ sign.replicate(len(magnitude)), sign).as_signed()),
            self.carry.eq(sign),
        ]
        return m


def _selected_shift(m: Module, field: Value, shifts: tuple[int, ...], activation: Value) -> Signal:
    """`activation` shifted by the entry of `shifts` that `field` selects, counting from 1; 0 selects none."""
    addend = Signal(len(activation) + max(shifts), name=f"addend{max(shifts)}")
    if len(field) == 2:
        m.d.comb += addend.eq(_shifted_in_two_stages(m, field, shifts, activation))
        return addend
    with m.Switch(field):
        for value, shift in enumerate(shifts, start=1):
            with m.Case(value):
                m.d.comb += addend.eq(activation.shift_left(shift))
    return addend


def _shifted_in_two_stages(m: Module, field: Value, shifts: tuple[int, ...], activation: Value) -> Value:
    """Field value 1, 2 or 3 selects a shift, the largest first, in two 4-input tables a bit.

    The first stage sees two bits of activation and one of field; the second two bits of the first and the
    field.
    """
    high, middle, low = shifts
    near = Signal(len(activation) + high - middle, name=f"near{high}")
    far = Signal(len(near) + middle - low, name=f"far{high}")
    some, last = Signal(name=f"some{high}"), Signal(name=f"last{high}")
    m.d.comb += [
        some.eq(field.any()),
        last.eq(field.all()),
        near.eq(Mux(field[1], activation, activation.shift_left(high - middle))),
        # gated, not multiplexed with 0, which synthesis would make a reset of its own for every lane
        far.eq(Mux(last, near, near.shift_left(middle - low)) & some.replicate(len(far))),
    ]
    return far.shift_left(low)


class MultiplyProduct(Product):
    """A plain multiplier on uniform weights: the baseline of every comparison."""

    def __init__(self, *, weight_format: Uniform, activation_width: int) -> None:
        if not isinstance(weight_format, Uniform):
            raise TypeError(f"weight_format must be a Uniform format, not {weight_format!r}")
        super().__init__(weight_format=weight_format, activation_width=activation_width)

    def _product_shape(self) -> Shape:
        return signed(signed_width(*self._range))

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.d.comb += self.product.eq(self.weight.as_signed() * self.activation)
        return m


class MagnitudeProduct(Product):
    """A multiplier of magnitudes, and a sign that complements: for integers in sign and magnitude."""

    has_carry = True

    def __init__(self, *, weight_format: SignMagnitude, activation_width: int) -> None:
        if not isinstance(weight_format, SignMagnitude):
            raise TypeError(f"weight_format must be a SignMagnitude format, not {weight_format!r}")
        super().__init__(weight_format=weight_format, activation_width=activation_width)

    def _product_shape(self) -> Shape:
        return signed(self._range[1].bit_length() + 1)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        sign = self.weight[-1]
        magnitude = Signal(len(self.product) - 1)
        narrow, wide = sorted((self.weight[:-1], self.activation), key=len)
        m.d.comb += [
            magnitude.eq(narrow * wide if len(narrow) > 1 else narrow.replicate(len(wide)) & wide),
            self.product.eq(Cat(magnitude ^ sign.replicate(len(magnitude)), sign).as_signed()),
            self.carry.eq(sign),
        ]
        return m


class TableProduct(Product):
    """A level table and a multiplier: serves any format, and proves the specialised circuits."""

    @property
    def _level_width(self) -> int:
        return signed_width(self.weight_format.grid[0], self.weight_format.grid[-1])

    def _product_shape(self) -> Shape:
        return signed(self._level_width + self.activation_width)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        level = Signal(signed(self._level_width))
        with m.Switch(self.weight):
            for code, value in enumerate(self.weight_format.levels):
                with m.Case(code):
                    m.d.comb += level.eq(value)
        m.d.comb += self.product.eq(level * self.activation)
        return m


def product_for(*, weight_format: Format, activation_width: int) -> Product:
    """The cheapest product circuit for a format."""
    if isinstance(weight_format, APoT):
        return ShiftProduct(weight_format=weight_format, activation_width=activation_width)
    if isinstance(weight_format, Uniform):
        return MultiplyProduct(weight_format=weight_format, activation_width=activation_width)
    if isinstance(weight_format, SignMagnitude):
        return MagnitudeProduct(weight_format=weight_format, activation_width=activation_width)
    return TableProduct(weight_format=weight_format, activation_width=activation_width)

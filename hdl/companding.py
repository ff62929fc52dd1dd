"""Tables that are loaded at run time, and the decoder from codes to levels that is made of one."""

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Shape, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Member, Out

from .formats import check_bool, check_int

MAX_ADDRESS_WIDTH = 12
MAX_WORD_WIDTH = 32
MAX_BANKS = 64
MAX_PORTS = 256

WRITE_RULE = (
    "A word is written at the end of a cycle with enable: codes of that cycle are decoded with its old "
    "contents, codes of the next cycle with the new. Words are 0 until written, and no reset changes them."
)
"""What happens when a table is written while it is read, as descriptions of blocks say it."""


class TableWrite(wiring.Signature):
    """Write port of a table, as the writer has it: in a cycle with `enable`, `data` goes to `address`.

    Members
    -------
    enable : Out(1)
    address : Out(address_width)
    data : Out(data_width)
    """

    def __init__(self, *, address_width: int, data_width: int) -> None:
        super().__init__({"enable": Out(1), "address": Out(address_width), "data": Out(data_width)})


class LoadableTable(wiring.Component):
    """A small memory that many ports read in the same cycle, and one port writes.

    Reading is combinational; a word is written at the end of the cycle, so a read of that cycle still sees
    the old one.  Words are 0 until they are written, and no reset changes them.

    It is marked as distributed memory, of which synthesis makes a copy for each port, or as registers;
    unmarked it might become a block memory for each port, an expensive accident.

    Parameters
    ----------
    address_width : int
        1 to 12.
    word_width : int
        1 to 32.
    ports : int
        Reads a cycle, 1 to 256.
    registers : bool
        Keep words in registers, for devices that have no distributed memory, such as iCE40.

    Members
    -------
    write : In(TableWrite(address_width, word_width))
    addresses : In(ArrayLayout(address_width, ports))
    words : Out(ArrayLayout(word_width, ports))

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range.
    """

    def __init__(self, *, address_width: int, word_width: int, ports: int, registers: bool = False) -> None:
        check_int("address_width", address_width, low=1, high=MAX_ADDRESS_WIDTH)
        check_int("word_width", word_width, low=1, high=MAX_WORD_WIDTH)
        check_int("ports", ports, low=1, high=MAX_PORTS)
        check_bool("registers", registers)
        self._style = "registers" if registers else "distributed"
        super().__init__(
            {
                "write": In(TableWrite(address_width=address_width, data_width=word_width)),
                "addresses": In(data.ArrayLayout(address_width, ports)),
                "words": Out(data.ArrayLayout(word_width, ports)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(
            shape=unsigned(len(self.write.data)),
            depth=2 ** len(self.write.address),
            init=[],
            attrs={"ram_style": self._style},
        )
        written = memory.write_port()
        m.d.comb += [
            written.en.eq(self.write.enable),
            written.addr.eq(self.write.address),
            written.data.eq(self.write.data),
        ]
        for number in range(self.addresses.shape().length):
            read = memory.read_port(domain="comb")
            m.d.comb += [read.addr.eq(self.addresses[number]), self.words[number].eq(read.data)]
        return m


class LutDecoder(wiring.Component):
    """Looks up the level of every lane's code in a table that can be rewritten and switched at any time.

    The table holds magnitudes.  A signed code is an index and, on top, the sign of the level; an unsigned
    code is an index.  Each cycle takes one code a lane and gives its level `latency` cycles later; there is
    no back-pressure.  `bank` chooses among several tables and travels with the codes, so the next layer's
    codes follow the last one's without a bubble.

    Writing does not disturb decoding: codes that come in the cycle of a write are decoded with the word's
    old contents, codes of the next cycle with the new.  Words are 0 until written.  A synchronous `rst` sets
    levels to 0, and leaves words alone.

    Parameters
    ----------
    bits : int
        Of a code; an index has 1 to 12 of them.
    outer_bits : int
        Bits of a level, at most 32, its sign included.
    lanes : int
        Codes a cycle, 1 to 256.
    banks : int
        Tables, 1 to 64, of at most 4096 words in all.
    signed : bool
        Codes and levels have a sign.
    registers : bool
        See `LoadableTable`.

    Members
    -------
    latency : int
        Cycles from `codes` to `levels`: 1.
    codes : In(ArrayLayout(bits, lanes))
    bank : In(range(banks))
    levels : Out(ArrayLayout(signed(outer_bits) or unsigned(outer_bits), lanes))
    write : In(TableWrite)
        The magnitude of index i in bank k is at ``k · 2^(bits of an index) + i``.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range.

    Source: the look-up tables of Yamamoto, CVPR 2021, with outer bits as in eq. 14.
    """

    latency = 1

    def __init__(
        self,
        *,
        bits: int,
        outer_bits: int,
        lanes: int,
        banks: int = 1,
        signed: bool = True,
        registers: bool = False,
    ) -> None:
        check_bool("signed", signed)
        check_int("bits", bits, low=1 + signed, high=MAX_ADDRESS_WIDTH + signed)
        check_int("outer_bits", outer_bits, low=1 + signed, high=MAX_WORD_WIDTH)
        check_int("lanes", lanes, low=1, high=MAX_PORTS)
        check_int("banks", banks, low=1, high=MAX_BANKS)
        bank_width = (banks - 1).bit_length()
        width, word_width = bits - signed + bank_width, outer_bits - signed
        if width > MAX_ADDRESS_WIDTH:
            raise ValueError(
                f"bits and banks must give at most {2**MAX_ADDRESS_WIDTH} words, not {2**width!r}"
            )
        self._signed = signed
        self._table = LoadableTable(
            address_width=width, word_width=word_width, ports=lanes, registers=registers
        )
        super().__init__(
            {
                "codes": In(data.ArrayLayout(bits, lanes)),
                "bank": In(bank_width),
                "levels": Out(data.ArrayLayout(Shape(outer_bits, signed=signed), lanes)),
                "write": In(TableWrite(address_width=width, data_width=word_width)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.table = table = self._table
        wiring.connect(m, wiring.flipped(self.write), table.write)
        for lane in range(self.codes.shape().length):
            code, word = self.codes[lane], table.words[lane]
            m.d.comb += table.addresses[lane].eq(Cat(code[: len(code) - self._signed], self.bank))
            level = _with_sign(word, code[-1]) if self._signed else word
            m.d.sync += self.levels[lane].eq(level)
        return m


def _with_sign(magnitude: Value, sign: Value) -> Value:
    """``-magnitude`` under a sign: bits above the lowest one are complemented, which needs no carry chain."""
    flips = [sign & magnitude[:i].any() for i in range(len(magnitude) + 1)]
    return (Cat(magnitude, Const(0, 1)) ^ Cat(flips)).as_signed()


@dataclass(frozen=True, kw_only=True)
class Companding:
    """Companded weights, an index and a sign on top, and companded activations, an index; and their tables.

    Parameters
    ----------
    weight_bits
        Bits of a weight's code, 2 to 8.
    activation_bits
        Bits of an activation's code, 1 to 8.
    outer_bits, activation_outer_bits
        Bits of a weight's level, its sign included, and of an activation's: 2 to 16.
    banks
        Tables that can be switched between, 1 to 64.
    registers
        See `LoadableTable`.

    Members
    -------
    index_width, magnitude_width : int
        Bits of a weight's code and level without their signs.
    product_width : int
        Bits of a product of magnitudes.
    bank_width : int
        Bits that choose a bank.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of range.
    """

    weight_bits: int
    activation_bits: int
    outer_bits: int = 8
    activation_outer_bits: int = 8
    banks: int = 1
    registers: bool = False

    def __post_init__(self) -> None:
        check_int("weight_bits", self.weight_bits, low=2, high=8)
        check_int("activation_bits", self.activation_bits, low=1, high=8)
        check_int("outer_bits", self.outer_bits, low=2, high=16)
        check_int("activation_outer_bits", self.activation_outer_bits, low=2, high=16)
        check_int("banks", self.banks, low=1, high=MAX_BANKS)
        check_bool("registers", self.registers)

    @property
    def index_width(self) -> int:
        return self.weight_bits - 1

    @property
    def magnitude_width(self) -> int:
        return self.outer_bits - 1

    @property
    def product_width(self) -> int:
        return self.magnitude_width + self.activation_outer_bits

    @property
    def bank_width(self) -> int:
        return (self.banks - 1).bit_length()

    @property
    def largest_product(self) -> int:
        """The largest product of levels of the outer bits."""
        return int((2**self.magnitude_width - 1) * (2**self.activation_outer_bits - 1))

    @property
    def level_writes(self) -> dict[str, Member]:
        """Write ports of the two level tables."""
        index, activation = self.index_width + self.bank_width, self.activation_bits + self.bank_width
        return {
            "weight_write": In(TableWrite(address_width=index, data_width=self.magnitude_width)),
            "activation_write": In(
                TableWrite(address_width=activation, data_width=self.activation_outer_bits)
            ),
        }

    def decoder(self, index_width: int, word_width: int, lanes: int) -> LutDecoder:
        """A decoder from indices to the words of one of the level tables, without signs."""
        return LutDecoder(
            bits=index_width,
            outer_bits=word_width,
            lanes=lanes,
            banks=self.banks,
            signed=False,
            registers=self.registers,
        )

    def codes(self, lanes: int) -> dict[str, Member]:
        """Ports of the codes of so many lanes."""
        return {
            "weights": In(data.ArrayLayout(self.weight_bits, lanes)),
            "activations": In(data.ArrayLayout(self.activation_bits, lanes)),
        }

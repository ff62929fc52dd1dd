"""Carry chains of a mapped ECP5 netlist, made smaller: what Yosys leaves beside them or at their ends.

A netlist is the module that Yosys' ``write_json`` gives.  A CCU2C is two halves; a half with D = 1 has a
table of A, B and C for its sum, and a table of A and B for its carry out where that sum is 0.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

Cell = dict[str, Any]
Module = dict[str, Any]
Bit = int | str

ADDS = 0x96AA
"""A + B with C inverting B: the table of every half but the first that `ecp5_alu.v` makes."""


def tidy(module: Module) -> None:
    """Let halves take over small tables in front of them, and leave carries that are not needed open."""
    absorb(module)
    open_ends(module)


def open_ends(module: Module) -> None:
    """Unconnect carry outputs that nothing reads and carry inputs that the first half ignores.

    Place and route would otherwise spend a CCU2C to bring each into or out of the chain.
    """
    read = Counter(bit for _, _, bit in _reads(module))
    for cell in module["cells"].values():
        if cell["type"] == "CCU2C":
            wires = cell["connections"]
            if not read[wires["COUT"][0]]:
                wires["COUT"] = ["x"]
            if wires["CIN"] == ["0"] and wires["D0"] == ["1"] and _table(cell, "INIT0") >> 8 == 0:
                wires["CIN"] = ["x"]


def absorb(module: Module) -> int:
    """Remove tables whose readers are all halves with a free input, and compute them there; how many.

    A half that adds two variable bits has one input free, so it takes a table of two inputs for one of
    them: partial products of a multiplier, or the gate that clears an accumulator.
    """
    cells: dict[str, Cell] = module["cells"]
    readers: dict[Bit, list[tuple[str | None, str]]] = {}
    for name, pin, bit in _reads(module):
        readers.setdefault(bit, []).append((name, pin))
    removed = 0
    for name, cell in list(cells.items()):
        if cell["type"] != "LUT4":
            continue
        output, table = cell["connections"]["Z"][0], Table.of(cell)
        places = [_half(cells, *reader) for reader in readers.get(output, [])]
        halves = [half for half in places if half is not None and half.takes(table)]
        if not halves or len(halves) < len(places) or len({half.key for half in halves}) < len(halves):
            continue
        for half in halves:
            half.take(table)
            for bit in table.inputs:
                pin = next(pin for pin in "ABC" if half.cell["connections"][pin + half.side] == [bit])
                readers.setdefault(bit, []).append((half.name, pin + half.side))
        for bit in table.inputs:
            readers[bit] = [reader for reader in readers[bit] if reader[0] != name]
        del cells[name]
        removed += 1
    return removed


@dataclass(frozen=True, kw_only=True)
class Table:
    """What a LUT4 computes from its inputs that are not constant, first input lowest."""

    inputs: tuple[int, ...]
    values: tuple[int, ...]

    @classmethod
    def of(cls, cell: Cell) -> "Table":
        pins = [cell["connections"][pin][0] for pin in "ABCD"]
        inputs = tuple(sorted({bit for bit in pins if isinstance(bit, int)}))
        init = _table(cell, "INIT")
        values = []
        for bits in product((0, 1), repeat=len(inputs)):
            known: dict[Bit, int] = {"0": 0, "1": 1, "x": 0, **dict(zip(inputs, reversed(bits), strict=True))}
            values.append(init >> sum(known[bit] << place for place, bit in enumerate(pins)) & 1)
        return cls(inputs=inputs, values=tuple(values))


@dataclass(frozen=True, kw_only=True)
class Half:
    """A half that adds, one operand of which is on the pin `operand`, A or B, and the other on `other`."""

    name: str
    cell: Cell
    side: str
    operand: str
    other: str

    @property
    def key(self) -> tuple[str, str]:
        return self.name, self.side

    @property
    def rest(self) -> Bit:
        """What is added to the operand."""
        bit: Bit = self.cell["connections"][self.other + self.side][0]
        return bit

    def takes(self, table: Table) -> bool:
        """Are there inputs enough?"""
        return len(table.inputs) + isinstance(self.rest, int) <= 3 and self.rest not in table.inputs

    def take(self, table: Table) -> None:
        """Compute `table` in place of the operand."""
        wires, rest = self.cell["connections"], self.rest
        invert = {"A": 0, "B": wires["C" + self.side] == ["1"]}
        pins: list[Bit] = [*([rest] if isinstance(rest, int) else []), *table.inputs]
        sums, carries = 0, 0
        for place in range(8):
            bits = dict(zip(pins, (place & 1, place >> 1 & 1, place >> 2), strict=False))
            index = sum(bits[bit] << i for i, bit in enumerate(table.inputs))
            added = (bits[rest] if isinstance(rest, int) else int(rest == "1")) ^ invert[self.other]
            sums |= (table.values[index] ^ invert[self.operand] ^ added) << place
            carries |= added << place
        for pin, bit in zip("ABC", [*pins, "0", "0", "0"], strict=False):
            wires[pin + self.side] = [bit]
        self.cell["parameters"][f"INIT{self.side}"] = f"{sums << 8 | carries & 0xF:016b}"


def _half(cells: dict[str, Cell], name: str | None, pin: str) -> Half | None:
    """The half behind an input, if it adds that input to another."""
    if name is None or cells[name]["type"] != "CCU2C" or pin[0] not in "AB":
        return None
    cell = cells[name]
    side = pin[1]
    wires = cell["connections"]
    adds = _table(cell, f"INIT{side}") == ADDS
    if not adds or wires["D" + side] != ["1"] or wires["C" + side] not in (["0"], ["1"]):
        return None
    return Half(name=name, cell=cell, side=side, operand=pin[0], other="B" if pin[0] == "A" else "A")


def _reads(module: Module) -> Iterator[tuple[str | None, str, Bit]]:
    """Every bit that is read, by which cell's pin; the module's own outputs have no cell."""
    for name, port in module["ports"].items():
        if port["direction"] != "input":
            yield from ((None, name, bit) for bit in port["bits"])
    for name, cell in module["cells"].items():
        for pin, bits in cell["connections"].items():
            if cell["port_directions"][pin] != "output":
                yield from ((name, pin, bit) for bit in bits)


def _table(cell: Cell, parameter: str) -> int:
    return int(cell["parameters"][parameter], 2)

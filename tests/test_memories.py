"""Memories in Verilog: what they hold at first, written as a loop where that is zeros."""

import re
import subprocess
from pathlib import Path

import pytest
from amaranth.hdl import Module, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from gen.block import Circuit
from gen.verilog import convert

WIDTH, DEPTH = 6, 5
DEEP = (8, 1 << 14)


class Store(wiring.Component):
    """One memory with a port to read and one to write."""

    address: In(3)
    data: In(6)
    enable: In(1)
    read: Out(6)

    def __init__(self, words: list[int], *, width: int = WIDTH, depth: int = DEPTH) -> None:
        super().__init__()
        self._words, self._width, self._depth = words, width, depth

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.store = store = memory.Memory(
            shape=unsigned(self._width), depth=self._depth, init=self._words
        )
        reader, writer = store.read_port(domain="comb"), store.write_port()
        m.d.comb += [reader.addr.eq(self.address), self.read.eq(reader.data)]
        m.d.comb += [writer.addr.eq(self.address), writer.data.eq(self.data), writer.en.eq(self.enable)]
        return m


BENCH = """
module bench;
    reg clk = 0;
    reg [2:0] address;
    wire [5:0] read;
    store dut(.clk(clk), .rst(1'b0), .address(address), .data(6'd0), .enable(1'b0), .read(read));
    initial begin
        for (address = 0; address < %d; address = address + 1) begin
            #1 $display("%%b", read);
        end
        $finish;
    end
endmodule
"""


@pytest.mark.parametrize(("words", "width"), [([], WIDTH), ([0, 0], WIDTH), ([], 1), ([3, 0, 63], WIDTH)])
def test_every_word_is_there_at_time_0(words: list[int], width: int, tmp_path: Path) -> None:
    text, _ = convert(Circuit(component=Store(words, width=width), flat=True), name="store")
    assert ("for (" in text) == (not any(words))
    files = {"store.v": text, "bench.v": BENCH % DEPTH}
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    subprocess.run(["iverilog", "-g2001", "-o", "out", *files], cwd=tmp_path, check=True)
    printed = subprocess.run(["vvp", "out"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    found = [int(line, 2) for line in re.findall(r"^[01x]{6}$", printed, re.MULTILINE)]
    assert found == [*words, *[0] * (DEPTH - len(words))]


def test_deep_memories_take_no_more_text_than_small_ones() -> None:
    texts = [convert(Circuit(component=Store([], depth=depth), flat=True), name="store")[0] for depth in DEEP]
    assert len({text.count("\n") for text in texts}) == 1

"""Mapped ECP5 netlists, after the passes that Yosys lacks, compute what their Verilog does."""

import copy
import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fpga.carry import absorb, open_ends
from fpga.targets import TARGETS, Netlist
from fpga.yosys import run
from gen.verilog import generate

CYCLES = 200
MODELS = """
module LUT4(input A, B, C, D, output Z);
  parameter INIT = 16'h0;
  wire [15:0] table_ = INIT;
  assign Z = table_[{D, C, B, A}];
endmodule
module CCU2C(input CIN, A0, B0, C0, D0, A1, B1, C1, D1, output S0, S1, COUT);
  parameter INIT0 = 16'h0, INIT1 = 16'h0, INJECT1_0 = "NO", INJECT1_1 = "NO";
  wire [15:0] table0 = INIT0, table1 = INIT1;
  wire propagate0 = table0[{D0, C0, B0, A0}], propagate1 = table1[{D1, C1, B1, A1}];
  wire generate0 = table0[{2'b00, B0, A0}], generate1 = table1[{2'b00, B1, A1}];
  wire carry0 = propagate0 ? CIN : generate0;
  assign S0 = propagate0 ^ CIN, S1 = propagate1 ^ carry0, COUT = propagate1 ? carry0 : generate1;
endmodule
"""
FLIP_FLOP = """
module TRELLIS_FF(input CLK, LSR, CE, DI, M, output reg Q);
  parameter GSR = "ENABLED", CEMUX = "1", CLKMUX = "CLK", LSRMUX = "LSR", REGSET = "RESET",
            SRMODE = "LSR_OVER_CE";
  wire enable = CEMUX == "CE" ? CE : 1'b1;
  wire reset = LSRMUX == "LSR" ? LSR : 1'b0;
  initial Q = REGSET == "SET";
  always @(posedge CLK)
    if (reset & (SRMODE == "LSR_OVER_CE" | enable)) Q <= REGSET == "SET";
    else if (enable) Q <= DI;
endmodule
"""
ADDERS = """
module top(input clk, rst, input signed [6:0] a, input signed [7:0] b, input [8:0] c, d, input i, s, e, g,
           output signed [8:0] p, q, output [8:0] r, t, output [9:0] u, output v, w, output reg [11:0] x,
           output reg [7:0] y, output [13:0] z, output [8:0] o);
  assign p = a + b, q = a - b, r = c + d + i, t = s ? c - d : c + d, u = c - d, v = c < d, w = a >= b;
  initial {x, y} = 0;
  assign z = c[6:0] * b[6:0];
  assign o = (c & {9{e}}) - (d | {9{g}});
  always @(posedge clk) begin
    x <= (e ? 12'd0 : x) + (c & {9{i}});
    y <= (e ? 8'd0 : y) + (a ^ {7{i}}) + s;
    if (rst) begin x <= 0; y <= 0; end
  end
endmodule
"""
DESIGNS: list[tuple[str, dict[str, Any]]] = [
    ("apot_pe", {"k": 2, "n": 2, "activation_width": 5}),
    ("uniform_pe", {"bits": 5, "activation_width": 6}),
    ("table_pe", {"levels": (0, 1, 3, 9, 0, -1, -3, -11), "activation_width": 4}),
    ("basis_dot", {"coordinates": (5, 8), "lanes": 5, "rows": 2, "activation_width": 4, "depth": 100}),
    ("basis_dot", {"coordinates": (1, 2, 4), "lanes": 8, "activation_width": 3, "folded": True}),
]
INPUTS = ("CIN", "A0", "B0", "C0", "D0", "A1", "B1", "C1", "D1")
SHARE = "+/lattice/cells_sim_ecp5.v"


@cache
def mapped(verilog: str, top: str) -> Netlist:
    return TARGETS["ecp5"].synthesize(verilog, top=top)


def differences(verilog: str, top: str, module: dict[str, Any], folder: Path) -> int:
    """Cycles of random inputs after which an output of the netlist is not that of the Verilog."""
    (folder / "gates.json").write_text(json.dumps({"modules": {"gates": module}}))
    script = ["delete empty", f"read_json {folder / 'gates.json'}", f"write_verilog {folder / 'gates.v'}"]
    run("module empty; endmodule", [*script, "tee -q -o done.json stat -json"])
    gates = (folder / "gates.v").read_text()
    (folder / "gates.v").write_text(gates.replace(".COUT(1'hx)", ".COUT()"))
    (folder / "rtl.v").write_text(verilog)
    (folder / "models.v").write_text(MODELS + FLIP_FLOP)
    (folder / "bench.v").write_text(bench(top, module["ports"]))
    sources = [folder / name for name in ("bench.v", "rtl.v", "gates.v", "models.v")]
    subprocess.run(["iverilog", "-g2012", "-o", folder / "sim", "-s", "bench", *sources], check=True)
    outcome = subprocess.run(
        ["vvp", "-n", folder / "sim"], capture_output=True, text=True, timeout=60, check=True
    )
    return int(outcome.stdout.split()[-1])


def bench(top: str, ports: dict[str, Any]) -> str:
    """The two side by side.  `rst` is released after two cycles, and comes back now and then."""
    widths = {name: len(port["bits"]) for name, port in ports.items()}
    inputs = [name for name, port in ports.items() if port["direction"] == "input"]
    outputs = [name for name in ports if name not in inputs]
    driven = [name for name in inputs if name not in ("clk", "rst")]
    lines = [f"reg [{widths[name] - 1}:0] {name} = 0;" for name in inputs]
    for copy_, module in (("rtl", top), ("gates", "gates")):
        lines += [f"wire [{widths[name] - 1}:0] {copy_}_{name};" for name in outputs]
        pins = [f".{name}({name})" for name in inputs]
        pins += [f".{name}({copy_}_{name})" for name in outputs]
        lines.append(f"{module} {copy_}({', '.join(pins)});")
    unequal = " || ".join(f"rtl_{name} !== gates_{name}" for name in outputs)
    drive = " ".join(
        f"for (bit_ = 0; bit_ < {widths[name]}; bit_ = bit_ + 1) {name}[bit_] = $random;" for name in driven
    )
    lines.append(
        f"""
        integer bit_, cycle, wrong = 0;
        initial begin
          for (cycle = 0; cycle < {CYCLES}; cycle = cycle + 1) begin
            rst = cycle < 2 || cycle % 61 == 0;
            {drive}
            #1 if ({unequal}) wrong = wrong + 1;
            #1 clk = 1;
            #1 clk = 0;
          end
          $display("%0d", wrong);
          $finish;
        end"""
    )
    return "module bench;\n" + "\n".join(lines) + "\nendmodule\n"


@pytest.mark.parametrize(("top", "values"), [("top", None), *DESIGNS])
def test_netlist_equals_verilog(top: str, values: dict[str, Any] | None, tmp_path: Path) -> None:
    verilog = ADDERS if values is None else generate(top, **values).verilog
    module = mapped(verilog, top).module
    chains = [cell for cell in module["cells"].values() if cell["type"] == "CCU2C"]
    assert any(cell["connections"]["CIN"] == ["x"] for cell in chains)
    assert not any(cell["connections"]["CIN"] == ["0"] for cell in chains)
    assert differences(verilog, top, module, tmp_path) == 0


@pytest.mark.parametrize("flipped", [0x000F, 0x1000])
def test_a_wrong_table_is_seen(flipped: int, tmp_path: Path) -> None:
    """The carries of one half of a chain, or one of its sums."""
    module = copy.deepcopy(mapped(ADDERS, "top").module)
    chains = [cell for cell in module["cells"].values() if cell["type"] == "CCU2C"]
    cell = next(cell for cell in chains if cell["connections"]["COUT"] != ["x"])
    table = int(cell["parameters"]["INIT1"], 2) ^ flipped
    cell["parameters"]["INIT1"] = f"{table:016b}"
    assert differences(ADDERS, "top", module, tmp_path) > 0


def test_cell_models_are_the_familys() -> None:
    """The carry cell of this file against Yosys' own, for all inputs and some tables."""
    own = MODELS.replace("module LUT4", "module own_lut").replace("module CCU2C", "module own")
    tables = [0x96AA, 0x000A, 0x0008, 0x78CC, 0x6AC0]
    pins = ", ".join(f".{pin}(i[{bit}])" for bit, pin in enumerate(INPUTS))
    for name in ("own", "CCU2C"):
        cells = "".join(
            f'{name} #(.INIT0({first}), .INIT1({second}), .INJECT1_0("NO"), .INJECT1_1("NO"))'
            f" c{first}_{second}({pins}, .S0(o[{3 * number}]), .S1(o[{3 * number + 1}]),"
            f" .COUT(o[{3 * number + 2}]));\n"
            for number, (first, second) in enumerate((a, b) for a in tables for b in tables)
        )
        own += (
            f"module all_{name}(input [8:0] i, output [{3 * len(tables) ** 2 - 1}:0] o);\n{cells}endmodule\n"
        )
    commands = [
        f"read_verilog -overwrite {SHARE}",
        "hierarchy",
        "proc",
        "flatten",
        "miter -equiv -flatten -make_outputs all_own all_CCU2C miter",
        "sat -verify -prove trigger 0 miter",
        "tee -q -o done.json stat -json",
    ]
    assert run(own, commands)


def test_what_the_passes_save() -> None:
    """An accumulator's clearing gate moves into its chain, and no end of a chain is left connected."""
    script = TARGETS["ecp5"].commands("top")
    text = """
    module top(input clk, clear, input [7:0] a, output reg [15:0] sum);
      always @(posedge clk) sum <= (clear ? 16'd0 : sum) + a;
    endmodule
    """
    module = run(text, script)["netlist0.json"]["modules"]["top"]
    assert count(module, "LUT4") > 15
    assert absorb(module) == 15
    open_ends(module)
    assert (count(module, "LUT4"), count(module, "CCU2C")) == (2, 8)
    ends = [pin for cell in module["cells"].values() for pin in cell["connections"].get("CIN", [])]
    assert ends.count("x") == 1
    ends = [pin for cell in module["cells"].values() for pin in cell["connections"].get("COUT", [])]
    assert ends.count("x") == 1


def count(module: dict[str, Any], kind: str) -> int:
    return sum(cell["type"] == kind for cell in module["cells"].values())

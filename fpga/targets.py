"""FPGA families: how to synthesize for area, and what the cells of the result are."""

import re
from dataclasses import dataclass
from pathlib import Path

from .yosys import cells

MAPS = Path(__file__).parent
KINDS = ("LUTs", "carry", "flip-flops", "memories", "multipliers", "other")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A family and the flags that every count in this project is made with.

    Multiplier blocks and wide multiplexers are off, so that designs with and without multipliers are
    compared in the same currency.

    Parameters
    ----------
    name, about
        The option's value, and what it is.
    command
        The synthesis command, to which the top module is added.
    kinds
        For every kind of `KINDS` but the last, a regular expression of the cell types that belong to it.
    """

    name: str
    about: str
    command: str
    kinds: tuple[str, ...]

    def synthesize(self, verilog: str, *, top: str) -> dict[str, int]:
        """Cells by type after synthesis for area."""
        return cells(
            verilog,
            [
                *elaborated(top),
                f"techmap -map {MAPS / 'add2alu.v'} t:$add t:$sub",
                f"{self.command} -top {top}",
            ],
        )

    def summary(self, found: dict[str, int]) -> dict[str, int]:
        """Cells by kind; what no kind claims is other."""
        summed = dict.fromkeys(KINDS, 0)
        for cell, count in found.items():
            matches = (
                kind for kind, pattern in zip(KINDS, self.kinds, strict=False) if re.fullmatch(pattern, cell)
            )
            summed[next(matches, KINDS[-1])] += count
        return summed


def elaborated(top: str) -> list[str]:
    """Commands that make one module of word-level cells."""
    return [f"hierarchy -check -top {top}", "proc", "flatten", "opt_expr", "opt_clean"]


TARGETS = {
    target.name: target
    for target in (
        Target(
            name="ecp5",
            about="Lattice ECP5: LUT4 and CCU2C",
            command="synth_ecp5 -nodsp -nowidelut",
            kinds=("LUT4", "CCU2C", "TRELLIS_FF", "DP16KD|PDPW16KD|TRELLIS_DPR16X4", "MULT18X18D|ALU54B"),
        ),
        Target(
            name="ice40",
            about="Lattice iCE40: SB_LUT4 and SB_CARRY",
            command="synth_ice40",
            kinds=("SB_LUT4", "SB_CARRY", "SB_DFF.*", "SB_RAM.*|SB_SPRAM.*", "SB_MAC16"),
        ),
        Target(
            name="xilinx",
            about="Xilinx 7 series: LUT1 to LUT6 and CARRY4",
            command="synth_xilinx -flatten -nodsp -nowidelut -noiopad -noclkbuf",
            kinds=(r"LUT\d|INV", "CARRY4", r"FD[A-Z]+", r"RAM.*|SRL.*", r"DSP48E1"),
        ),
        Target(
            name="generic",
            about="any device of 4-input tables without carry chains",
            command="synth -flatten -lut 4",
            kinds=(r"\$lut", r"\$alu", r"\$_.*DFF.*", r"\$mem.*", r"\$mul|\$macc.*"),
        ),
    )
}

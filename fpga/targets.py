"""Device families: how to synthesize for area, and what the cells of the result are.

The one home of flags and netlist passes, for every count and every build.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hdl.console import RefusedError

from . import carry
from .processes import Processes
from .yosys import run

MAPS = Path(__file__).parent
KINDS = ("LUTs", "carry", "flip-flops", "LUT memories", "block memories", "multipliers", "other")
LIBERTY = "usr/share/qflow/tech/osu018/osu018_stdcells.lib"
PLACES = (Path("/") / LIBERTY, MAPS.parent / "build/osu018" / LIBERTY)
"""Where the library of the ASIC target may be: the installed package, or the same unpacked in build."""
OBTAIN = "apt-get download qflow-tech-osu018 && dpkg-deb -x qflow-tech-osu018_*.deb build/osu018"


@dataclass(frozen=True, kw_only=True)
class Netlist:
    """A mapped design.

    Members
    -------
    cells : dict
        Cells by type.
    area : int
        In the target's unit.
    module : dict
        The top module as Yosys' ``write_json`` gives it.
    """

    cells: dict[str, int]
    area: int
    module: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A family and the flags that every count in this project is made with.

    Multiplier blocks and wide multiplexers are off, so that designs with and without multipliers are
    compared in the same currency.

    Parameters
    ----------
    name, about
        The option's value, and what it is.
    unit
        What an area is counted in.
    script
        Yosys commands, in which ``{top}`` is the module.
    endings
        Commands to follow; of several endings the one with the smallest result is taken.
    kinds
        For every kind of `KINDS` but the last, a regular expression of the cell types that belong to it.
    areas
        Area of a cell by a regular expression of its type, if it has one.
    chains
        Keep adders as carry chains.
    tidy
        What is done to the netlist in the end.
    library
        The target maps to the cells of an ASIC library, ``{library}`` in commands.
    """

    name: str
    about: str
    unit: str
    script: tuple[str, ...]
    kinds: tuple[str, ...]
    endings: tuple[tuple[str, ...], ...] = ((),)
    areas: Mapping[str, int] = field(default_factory=dict)
    chains: bool = True
    tidy: Callable[[dict[str, Any]], None] | None = None
    library: bool = False

    def available(self) -> bool:
        """Is the library there, if one is needed?"""
        return not self.library or any(place.exists() for place in PLACES)

    def commands(self, top: str) -> list[str]:
        """Everything that is run; each ending leaves a netlist and statistics."""
        library = next((place for place in PLACES if place.exists()), PLACES[0]) if self.library else ""
        count = "stat -json" + (f" -liberty {library}" if self.library else "")
        script = [*elaborated(top)]
        if self.chains:
            script.append(f"techmap -map {MAPS / 'add2alu.v'} t:$add t:$sub")
        script += [*self.script, "design -save before"]
        for number, ending in enumerate(self.endings):
            script += ["design -load before", *ending]
            script += [f"write_json netlist{number}.json", f"tee -q -o statistics{number}.json {count}"]
        return [step.format(top=top, library=library) for step in script]

    def synthesize(self, verilog: str, *, top: str, processes: Processes | None = None) -> Netlist:
        """Map to the family's cells, for area.

        Raises
        ------
        RefusedError
            If Yosys or the target's library is missing, or Yosys fails.
        StoppedError
            If `processes` was stopped.
        """
        if not self.available():
            raise RefusedError(f"{self.name} needs a library that is not there: run `{OBTAIN}`")
        written = run(verilog, self.commands(top), processes=processes)
        results = []
        for number in range(len(self.endings)):
            module = written[f"netlist{number}.json"]["modules"][top]
            results.append(self._netlist(module, written[f"statistics{number}.json"]["design"]))
        return min(results, key=lambda result: result.area)

    def _netlist(self, module: dict[str, Any], statistics: dict[str, Any]) -> Netlist:
        if self.tidy:
            self.tidy(module)
        cells: dict[str, int] = {}
        for cell in module["cells"].values():
            if cell["type"] != "$scopeinfo":  # where a flattened module was, no hardware
                cells[cell["type"]] = cells.get(cell["type"], 0) + 1
        area = statistics["area"] if self.library else self.area(cells)
        return Netlist(cells=dict(sorted(cells.items())), area=round(area), module=module)

    def area(self, found: Mapping[str, int]) -> int:
        """Sum of the areas of cells by type."""
        return sum(
            count * next((area for pattern, area in self.areas.items() if re.fullmatch(pattern, cell)), 0)
            for cell, count in found.items()
        )

    def summary(self, found: Mapping[str, int]) -> dict[str, int]:
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


ECP5 = "synth_ecp5 -nodsp -nowidelut -top {top}"

TARGETS = {
    target.name: target
    for target in (
        Target(
            name="ecp5",
            about="Lattice ECP5: LUT4 and CCU2C",
            unit="LUT4, a carry cell as two and a LUT memory as six",
            script=(
                f"{ECP5} -run begin:map_gates",
                f"techmap -map +/techmap.v -map {MAPS / 'ecp5_alu.v'}",
                f"{ECP5} -run map_gates:map_luts",
            ),
            endings=(  # abc is better than abc9 at multiplexers, and worse at multipliers
                (f"{ECP5} -run map_luts:",),
                ("abc -lut 4 -dress", "clean", f"{ECP5} -run map_cells:"),
            ),
            kinds=(
                "LUT4",
                "CCU2C",
                "TRELLIS_FF",
                "TRELLIS_DPR16X4",
                "DP16KD|PDPW16KD",
                "MULT18X18D|ALU54B",
            ),
            areas={"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6},
            tidy=carry.tidy,
        ),
        Target(
            name="ice40",
            about="Lattice iCE40: SB_LUT4 and SB_CARRY",
            unit="SB_LUT4, of which each holds one SB_CARRY",
            script=(  # it has no LUT memory: tables that ask for it are registers
                'setattr -set ram_style "registers" a:ram_style=distributed',
                "synth_ice40 -top {top}",
            ),
            kinds=("SB_LUT4", "SB_CARRY", "SB_DFF.*", "none", "SB_RAM.*|SB_SPRAM.*", "SB_MAC16"),
            areas={"SB_LUT4": 1},
        ),
        Target(
            name="xilinx",
            about="Xilinx 7 series: LUT1 to LUT6 and CARRY4",
            unit="LUT, those of a LUT memory included",
            script=(  # without the many cells that nothing here is made of, which take seconds to read
                "read_verilog -lib -specify +/xilinx/cells_sim.v",
                "synth_xilinx -flatten -nodsp -nowidelut -noiopad -noclkbuf -top {top} -run prepare:",
            ),
            kinds=(r"LUT\d|INV", "CARRY4", r"FD[A-Z]+", r"RAM\d.*|SRL.*", r"RAMB.*", r"DSP48E1"),
            areas={r"LUT\d|INV|SRL.*|RAM\d+X1S": 1, r"RAM\d+X1D": 2, r"RAM\d+M": 4, "RAM32M16": 8},
        ),
        Target(
            name="osu018",
            about="standard cells of 0.18 µm: OSU's library, area in its units",
            unit="area in the library's units",
            script=(
                "synth -flatten -top {top}",
                "dfflibmap -liberty {library}",
                "abc -liberty {library}",
                "opt_clean",
            ),
            kinds=("none", "none", r"DFF.*|LATCH", "none", r"\$mem.*", "none"),
            chains=False,
            library=True,
        ),
        Target(
            name="generic",
            about="any device of 4-input tables without carry chains",
            unit="4-input tables",
            script=("synth -flatten -lut 4 -top {top}",),
            kinds=(r"\$lut", r"\$alu", r"\$_.*DFF.*", "none", r"\$mem.*", r"\$mul|\$macc.*"),
            areas={r"\$lut": 1},
        ),
    )
}

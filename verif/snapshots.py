"""Memories of a simulated engine: read while it runs, and filled before."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hdl.files import write_text
from hdl.layouts import Section, activation_word, values_word
from hdl.parameters import VALUE_WIDTH, AcceleratorParameters
from sw.executor import Instruction, Machine, Walk, code_fields

from .network import Beside
from .simulators import ROOT

ENTRIES = (1 << 8, 1 << 16)
"""Snapshots that the harness has room for: few if they suffice, since simulators start faster then."""
FORMS = {"codes": ("to_codes", "output"), "values": ("to_values", "values")}
"""What a command writes into a memory: its flag, and the field with the address."""
UNKNOWN = -(1 << 31)
"""A number that the simulator does not know."""
MACROS = {
    "activations": "CODES",
    "values": "VALUES",
    Section.WEIGHTS.name.lower(): "WEIGHTS",
    Section.CHANNELS.name.lower(): "CHANNELS",
}


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Part of a memory, to be read when a command has ended.

    Members
    -------
    command : Instruction
    end : int
        Cycles of the run until the command has ended.
    form : str
        Of `FORMS`.
    first, last : int
        Words.
    groups : int array (tiles, pixels, groups)
        Places in the memory of what the command writes, in groups of `requantizers` numbers.
    """

    command: Instruction
    end: int
    form: str
    first: int
    last: int
    groups: NDArray[np.int64]


def snapshots(machine: Machine, parameters: AcceleratorParameters) -> list[Snapshot]:
    """All that a program's commands write into memories, in order."""
    found, end = [], 0
    for instruction in machine.instructions:
        end += instruction.cycles(parameters)
        walk, tiles = Walk(instruction, parameters), range(instruction.fields["tiles"])
        for form, (flag, name) in FORMS.items():
            if instruction.fields[flag]:
                first = walk.writes(name, tiles, range(instruction.pixels)).T
                groups = first[:, :, None] + np.arange(parameters.groups)
                per_word = parameters.groups_per_word if form == "codes" else 1
                low, high = int(groups.min()) // per_word, int(groups.max()) // per_word
                found.append(
                    Snapshot(command=instruction, end=end, form=form, first=low, last=high, groups=groups)
                )
    return found


@dataclass(frozen=True, kw_only=True)
class Wave:
    """Cycles of the engine's work that a waveform shows."""

    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Recorder:
    """What reads and fills memories in a simulation.

    Parameters
    ----------
    verilog
        The accelerator.
    parameters
    folder
        For files.
    wanted
        What to read in the first run after reset.
    filled
        Files of memories that start filled, by the names that `MACROS` has.
    wave
        What a waveform shows, if one is recorded; everything by default.
    """

    verilog: Path
    parameters: AcceleratorParameters
    folder: Path
    wanted: Sequence[Snapshot] = ()
    filled: Mapping[str, Path] = field(default_factory=dict)
    wave: Wave | None = None

    def beside(self) -> Beside:
        """What goes into the harness."""
        capacity = next(size for size in ENTRIES if size >= len(self.wanted))
        plusargs: dict[str, str | int | Path] = {
            MACROS[name].lower(): path for name, path in self.filled.items()
        }
        if self.wanted:
            write_text(self.folder / "plan.hex", self._plan())
            plusargs |= {"snapshot_folder": self.folder, "snapshot_count": len(self.wanted)}
        if self.wave:
            plusargs |= {"wave_start": self.wave.start, "wave_end": self.wave.end}
        return Beside(
            sources=[ROOT / "verif" / "snapshots.v"],
            defines=memory_paths(self.verilog) | {"SNAPSHOTS": capacity},
            plusargs=plusargs,
        )

    def _plan(self) -> str:
        """Lines for every snapshot: cycle, memory, first and last word."""
        entries = [(each.end, list(FORMS).index(each.form), each.first, each.last) for each in self.wanted]
        return "".join(f"{number:x}\n" for entry in entries for number in entry)

    def share(self) -> float:
        """How much of what is wanted has been written by now."""
        written = sum(path.stem.isdigit() for path in self.folder.glob("*.hex"))
        return written / max(1, len(self.wanted))

    def read(self, index: int) -> NDArray[np.int64]:
        """Numbers (words · groups, requantizers) of a snapshot; those with unknown bits are `UNKNOWN`."""
        p, form = self.parameters, self.wanted[index].form
        layout = activation_word(p) if form == "codes" else values_word(p)
        width = p.code_width if form == "codes" else VALUE_WIDTH
        text = (self.folder / f"{index}.hex").read_text(encoding="ascii").lower()
        lines = [line for line in text.splitlines() if not line.startswith(("@", "/"))]
        numbers = code_fields(_bits(lines, size=layout.size), width=width).astype(np.int64)
        if form == "values":
            sign = 1 << (VALUE_WIDTH - 1)
            numbers = (numbers ^ sign) - sign
        if any("x" in line for line in lines):
            marked = [line.translate(_MARKS) for line in lines]
            numbers[code_fields(_bits(marked, size=layout.size), width=width) != 0] = UNKNOWN
        return numbers.reshape(-1, p.requantizers)


_MARKS = str.maketrans("0123456789abcdefx", "0" * 16 + "f")


def _bits(lines: Sequence[str], *, size: int) -> NDArray[np.uint8]:
    """Bits of hexadecimal words, least significant first; unknown digits are 0."""
    width = -(-size // 8)
    content = b"".join(int(line.replace("x", "0"), 16).to_bytes(width, "little") for line in lines)
    return np.unpackbits(
        np.frombuffer(content, np.uint8).reshape(-1, width), axis=1, bitorder="little", count=size
    )


def memory_paths(verilog: Path) -> dict[str, str | int]:
    """Macros with the hierarchical names of the engine's memories."""
    text = verilog.read_text(encoding="utf-8")
    instance = re.search(r"^  accelerator_engine (\w+) \(", text, re.MULTILINE)
    engine = re.search(r"^module accelerator_engine\(.*?^endmodule", text, re.MULTILINE | re.DOTALL)
    if instance is None or engine is None:
        raise ValueError(f"{verilog}: must be an accelerator that `python -m gen accelerator` wrote")
    paths: dict[str, str | int] = {}
    for name, macro in MACROS.items():
        found = re.search(rf"^  reg \[\d+:0\] ({name}(?:_\d+)?) \[", engine[0], re.MULTILINE)
        if found:
            paths[macro] = f"harness.dut.{instance[1]}.{found[1]}"
    return paths

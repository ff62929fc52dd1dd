"""What the child process of `fpga.yosys` runs: every argument is a Yosys command."""

import sys

from pyosys import libyosys

design = libyosys.Design()
for command in sys.argv[1:]:
    design.run_pass(command)

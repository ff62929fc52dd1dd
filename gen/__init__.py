"""Writes blocks as Verilog with a JSON description: ``python -m gen apot_pe --k 2 --n 2``."""

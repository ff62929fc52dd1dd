"""Cocotb benches; each runs inside a simulator, started by `verif.simulators.run`."""

"""Independent references, simulation runners and cocotb benches."""

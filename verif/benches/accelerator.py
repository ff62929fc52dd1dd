"""Bench of the accelerator: the harness streams all packets; the sink's contents are written to a file."""

import json
from pathlib import Path

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, First, RisingEdge, Timer

from ..simulators import configuration

PERIOD_NS = 10


@cocotb.test()
async def run(dut: cocotb.handle.HierarchyObject) -> None:
    """Reset, wait until everything is sent and received, and hand the received words over."""
    config = configuration()
    for name in ("source_count", "sink_count", "source_gaps", "sink_gaps"):
        getattr(dut, name).value = config[name]
    dut.rst.value = 1
    Clock(dut.clk, PERIOD_NS, unit="ns").start()
    await ClockCycles(dut.clk, 2)
    dut.rst.value = 0
    limit = Timer(config["cycle_limit"] * PERIOD_NS, unit="ns")
    await First(RisingEdge(dut.done), limit)
    assert dut.done.value == 1, (
        f"accelerator must answer within {config['cycle_limit']} cycles, but took {int(dut.sent.value)} of "
        f"{config['source_count']} words and sent {int(dut.received.value)} of {config['sink_count']}"
    )
    assert int(dut.broken.value) == 0, "output must hold while it waits"
    words = [int(dut.sink[i].value) for i in range(config["sink_count"])]
    np.save(config["words"], np.array(words, dtype=np.uint64))
    counts = {name: int(getattr(dut, name).value) for name in ("cycles", "busy_cycles")}
    Path(config["counts"]).write_text(json.dumps(counts), encoding="utf-8")

"""Bench of the accelerator on AXI, driven by the bus models of cocotbext-axi with pauses on every channel."""

import itertools
import random
from collections.abc import Iterator
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiResp,
    AxiStreamBus,
    AxiStreamFrame,
    AxiStreamSink,
    AxiStreamSource,
)

from ..simulators import configuration

PERIOD_NS = 10
WORD = 4
Words = list[int]


class Host:
    """What is connected to the accelerator: a manager of registers, a source and a sink of packets."""

    def __init__(self, dut: Any) -> None:
        self.dut, self.config = dut, configuration()
        self.addresses = {register["name"]: register["address"] for register in self.config["registers"]}
        ends = {"reset": dut.aresetn, "reset_active_level": False}
        self.registers = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.aclk, **ends)
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis_in"), dut.aclk, **ends)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis_out"), dut.aclk, **ends)
        if self.config["pauses"]:
            self._pause()

    def _pause(self) -> None:
        write, read = self.registers.write_if, self.registers.read_if
        channels = (
            write.aw_channel,
            write.w_channel,
            write.b_channel,
            read.ar_channel,
            read.r_channel,
            self.source,
            self.sink,
        )
        for number, channel in enumerate(channels):
            channel.set_pause_generator(pauses(number))

    async def start(self) -> None:
        """Clock and reset."""
        Clock(self.dut.aclk, PERIOD_NS, unit="ns").start()
        await self.reset()

    async def reset(self, cycles: int = 2) -> None:
        """A hard reset; the bus models forget what they were at."""
        self.dut.aresetn.value = 0
        await ClockCycles(self.dut.aclk, cycles)
        self.forget()
        self.dut.aresetn.value = 1
        await RisingEdge(self.dut.aclk)

    def forget(self) -> None:
        """Packets to be sent, and responses that came."""
        self.source.clear()
        while not self.sink.empty():
            self.sink.recv_nowait()

    async def read(self, name: str) -> int:
        answer = await self.registers.read(self.addresses[name], WORD)
        assert answer.resp == AxiResp.OKAY
        return int.from_bytes(answer.data, "little")

    async def write(self, name: str, value: int) -> None:
        answer = await self.registers.write(self.addresses[name], value.to_bytes(WORD, "little"))
        assert answer.resp == AxiResp.OKAY

    async def send(self, packets: list[Words]) -> None:
        for packet in packets:
            data = b"".join(word.to_bytes(WORD, "little") for word in packet)
            await self.source.send(AxiStreamFrame(data))

    async def receive(self) -> Words:
        frame = await with_timeout(self.sink.recv(), 100, "us")
        data = bytes(frame.tdata)
        assert len(data) % WORD == 0
        return [int.from_bytes(data[i : i + WORD], "little") for i in range(0, len(data), WORD)]

    async def read_back(self, asked: list[tuple[Words, Words]]) -> None:
        """Each packet must be answered with its words; the next one waits meanwhile."""
        await self.send([packet for packet, _ in asked])
        for _, words in asked:
            assert await self.receive() == [0, 0, *words]

    async def classify(self, network: str) -> None:
        """Send a network's image and run it; the response must be the expected one."""
        await self.send(self.config[network]["runs"])
        await self.answered(network)

    async def answered(self, network: str) -> None:
        """The next response must be a network's; padded channels may have any result."""
        response, expected = await self.receive(), self.config[network]["response"]
        assert len(response) == self.config[network]["length"]
        assert response[: len(expected)] == expected


def pauses(number: int) -> Iterator[bool]:
    """Cycles in which a channel pauses: in bursts, of another kind for every channel and seed."""
    draw = random.Random(f"{cocotb.RANDOM_SEED} {number}")
    while True:
        paused = draw.random() < 0.4
        yield from itertools.repeat(paused, draw.choice((1, 1, 1, 2, 5, 17)))


async def started(dut: Any, *, loaded: str | None = None) -> Host:
    host = Host(dut)
    await host.start()
    if loaded:
        await host.send(host.config[loaded]["loads"])
    return host


@cocotb.test()
async def registers(dut: Any) -> None:
    """Every register's reset value; every address and access that is wrong; what can be written."""
    host = await started(dut)
    for register in host.config["registers"]:
        value = sum(field["reset"] << field["low"] for field in register["fields"])
        assert await host.read(register["name"]) == value, register["name"]
    known = set(host.addresses.values())
    for address in range(0, 1 << 12, 4):
        if address not in known and (address < 0x80 or address % 0x3FC == 0):
            answer = await host.registers.read(address, WORD)
            assert (answer.resp, bytes(answer.data)) == (AxiResp.DECERR, bytes(WORD)), hex(address)
            answer = await host.registers.write(address, b"\xff" * WORD)
            assert answer.resp == AxiResp.DECERR, hex(address)
    control = host.addresses["control"]
    for address, count in ((control + 1, 1), (control + 2, 2), (control + 3, 1)):
        assert (await host.registers.read(address, count)).resp == AxiResp.SLVERR
    for offset in range(WORD):
        for count in range(1, WORD + 1 - offset):
            if count < WORD:
                answer = await host.registers.write(control + offset, b"\xff" * count)
                assert answer.resp == AxiResp.SLVERR, (offset, count)
    for name in host.config["read_only"]:
        answer = await host.registers.write(host.addresses[name], b"\xff" * WORD)
        assert answer.resp == AxiResp.SLVERR, name
    assert await host.read("control") == 0
    await host.write("control", 2)
    assert await host.read("control") == 2
    await host.write("control", 0)
    assert await host.read("control") == 0


@cocotb.test()
async def networks(dut: Any) -> None:
    """A network runs; counters, status and interrupt say so; another one replaces it."""
    host = await started(dut, loaded="first")
    await host.write("control", 2)
    for count in (1, 2):
        await host.classify("first")
        assert dut.irq.value == 1
        assert await host.read("cycles") == host.config["first"]["response"][1]
        assert await host.read("runs") == count
        await host.write("interrupt", 0)
        assert await host.read("interrupt") == 1
        await host.write("interrupt", 1)
        assert await host.read("interrupt") == 0
        assert dut.irq.value == 0
    await host.send(host.config["second"]["loads"])
    await host.classify("second")
    assert await host.read("status") == 0
    assert await host.read("refused") == 0
    await host.write("control", 0)
    assert dut.irq.value == 0
    assert await host.read("interrupt") == 1


@cocotb.test()
async def waits(dut: Any) -> None:
    """The counters of waits count the cycles in which a word was offered in vain."""
    host = await started(dut, loaded="first")
    found = {"input": 0, "output": 0}

    async def watch() -> None:
        ports = {
            "input": (dut.s_axis_in_tvalid, dut.s_axis_in_tready),
            "output": (dut.m_axis_out_tvalid, dut.m_axis_out_tready),
        }
        while True:
            await RisingEdge(dut.aclk)
            for name, (valid, ready) in ports.items():
                found[name] += int(valid.value) and not int(ready.value)

    cocotb.start_soon(watch())
    for _ in range(2):
        await host.send(host.config["first"]["runs"])
    for _ in range(2):
        await host.answered("first")
    await ClockCycles(dut.aclk, 4)
    assert found["input"] > 0
    for name, count in found.items():
        assert await host.read(f"{name}_waits") == count


@cocotb.test()
async def wrong(dut: Any) -> None:
    """Each wrong packet is answered with its error and has no other effect."""
    host = await started(dut, loaded="first")
    await host.classify("first")
    image, run = host.config["first"]["runs"][:-1], host.config["first"]["runs"][-1:]
    for count, (status, packet) in enumerate(host.config["wrong"], start=1):
        await host.send([*image, packet])
        assert await host.receive() == [status, 0]
        assert await host.read("status") == status << 8
        assert await host.read("refused") == count
        await host.send(run)
        await host.answered("first")


@cocotb.test()
async def reads(dut: Any) -> None:
    """What was loaded is read back, whatever was refused meanwhile, and no run is disturbed."""
    host = await started(dut, loaded="first")
    memories, image = host.config["memories"], host.config["image"]
    await host.send(host.config["first"]["runs"][:-1])
    await host.read_back([*memories, *image])
    assert await host.read("refused") == 0
    for count, (status, packet) in enumerate(host.config["wrong"], start=1):
        await host.send([packet])
        assert await host.receive() == [status, 0]
        assert await host.read("refused") == count
    await host.read_back([*memories, *image])
    assert await host.read("status") == 0
    await host.send(host.config["first"]["runs"][-1:])
    await host.answered("first")
    await host.read_back(memories)
    await host.classify("first")
    assert await host.read("runs") == 2
    assert await host.read("refused") == len(host.config["wrong"])


@cocotb.test()
async def partial_words(dut: Any) -> None:
    """A packet is refused if any of its words lacks a byte, whatever stands there."""
    host = await started(dut, loaded="first")
    (*image, run), length = host.config["first"]["runs"], host.config["length_error"]
    for place in range(len(run)):
        for lacking in range(WORD):
            data = b"".join(word.to_bytes(WORD, "little") for word in run)
            keep = [1] * len(data)
            keep[WORD * place + lacking] = 0
            await host.source.send(AxiStreamFrame(data, tkeep=keep))
            assert await host.receive() == [length, 0]
    await host.send(image)
    await host.send([run])
    await host.answered("first")


@cocotb.test()
async def hard_resets(dut: Any) -> None:
    """After a reset amid a packet, a run or a response, what was loaded runs as ever."""
    await resets(dut, soft=False)


@cocotb.test()
async def soft_resets(dut: Any) -> None:
    """The same by the register; the streams go on with whole packets."""
    await resets(dut, soft=True)


async def resets(dut: Any, *, soft: bool) -> None:
    host = await started(dut, loaded="first")
    await host.classify("first")  # now all is written
    network = host.config["first"]
    draw = random.Random(cocotb.RANDOM_SEED)
    longest = 2 * sum(map(len, network["runs"])) + network["response"][1] + 40
    host.sink.clear_pause_generator()
    for count in range(host.config["resets"]):
        await host.send(network["runs"])
        if count % 2:
            await ClockCycles(dut.aclk, draw.randrange(1, longest))
        else:  # amid the response
            await RisingEdge(dut.m_axis_out_tvalid)
            await ClockCycles(dut.aclk, draw.randrange(1, network["length"]))
            host.sink.pause = True
        if soft:
            await host.write("control", 1)
            host.sink.pause = False
            await host.source.wait()
            await ClockCycles(dut.aclk, longest)
            assert await host.read("refused") == 0, "what was left of a packet must be dropped"
            host.forget()
        else:
            await host.reset()
            host.sink.pause = False
        assert await host.read("status") & 7 == 0
        await host.classify("first")
        assert host.sink.empty()


@cocotb.test()
async def banks(dut: Any) -> None:
    """Two networks stay loaded and run in turn, and loading one leaves the other as it was."""
    host = await started(dut, loaded="first")
    await host.send(host.config["second"]["loads"])
    for network in ("first", "second", "second", "first", "second", "first"):
        await host.classify(network)
    await host.send(host.config["second"]["loads"])
    await host.classify("first")
    await host.classify("second")

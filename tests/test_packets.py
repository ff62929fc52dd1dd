"""Packets that cannot be obeyed are answered and do no harm; so does a reset at any time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from hdl.accelerator import Accelerator
from hdl.layouts import PacketOpcode, Section, Status, section_depth
from sw.bits import Words
from sw.driver import response_length, stream
from sw.schedule import program_cycles
from tests.accelerator_cases import GAPS, grouped, random_case, small, split, written
from verif.network import exchange

SHAPE = "apot_k2n1o_4x8"
QUICK = 6
"""Seed of a case that runs in some hundred cycles, since it runs often here."""


def packet(opcode: int, *, words: int = 0, **fields: int) -> Words:
    """A header and so many words behind it."""
    parameters = small(SHAPE)
    values = {"section": 0, "build_id": parameters.build_id, "address": 0, "count": 0, **fields}
    header = [opcode | values["section"] << 8, values["build_id"], values["address"], values["count"]]
    return np.array([*header, *[0xFFFF_FFFF] * words], dtype=np.uint32)


def wrong_packets() -> list[tuple[Status, Words]]:
    """Packets that cannot be obeyed; those of a wrong length write where the next image does."""
    load, run, wide = PacketOpcode.LOAD, PacketOpcode.RUN, 0xFFFF_FFFF
    image, build_id = Section.ACTIVATIONS, small(SHAPE).build_id
    depths = [(section, section_depth(small(SHAPE), section)) for section in Section]
    return [
        *(
            (Status.BUILD_ID, packet(op, build_id=build_id ^ 1 << 31, words=n))
            for op in (1, 2, 9)
            for n in (0, 3)
        ),
        *((Status.PACKET_OPCODE, packet(op, words=n)) for op in (0, 3, 255) for n in (0, 5)),
        *((Status.SECTION, packet(load, section=at, count=1, words=n)) for at in (6, 255) for n in (0, 1)),
        *((Status.LOAD_RANGE, packet(load, section=at, address=n, count=1, words=1)) for at, n in depths),
        *((Status.LOAD_RANGE, packet(load, section=at, count=n + 1, words=1)) for at, n in depths),
        (Status.LOAD_RANGE, packet(load, section=image, address=wide, count=1, words=1)),
        (Status.LOAD_RANGE, packet(load, section=image, address=1, count=wide, words=1)),
        (Status.LOAD_RANGE, packet(run, count=small(SHAPE).result_words + 1)),
        (Status.LOAD_RANGE, packet(run, address=small(SHAPE).program_words)),
        *((Status.LENGTH, packet(load)[:n]) for n in (1, 2, 3)),
        (Status.LENGTH, packet(load, section=image, count=2)),
        (Status.LENGTH, packet(load, section=image, count=2, words=3)),
        (Status.LENGTH, packet(load, section=image, count=2, words=5)),
        (Status.LENGTH, packet(load, section=image, count=2, words=9)),
        (Status.LENGTH, packet(load, section=image, count=0)),
        (Status.LENGTH, packet(load, section=image, count=0, words=4)),
        (Status.LENGTH, packet(run, words=1)),
    ]


@pytest.mark.parametrize("gaps", ["steady", "both_slow"])
@pytest.mark.parametrize("shape", grouped([SHAPE]))
def test_wrong_packets(shape: str, gaps: str, tmp_path: Path, simulator: str) -> None:
    """Each is answered with its error and 0 cycles, and the accelerator then runs an image as ever."""
    wrong, good = wrong_packets(), random_case(shape, QUICK, images=1)
    parameters = good.compiled.parameters
    packets = [*good.loads, *(each for _, bad in wrong for each in (bad, *good.runs))]
    length = response_length(results=good.compiled.results, parameters=parameters)
    exchanged = exchange(
        written(shape, tmp_path),
        packets,
        answers=len(wrong) * (2 + length),
        simulator=simulator,
        cycle_limit=40 * sum(map(len, packets)) + len(wrong) * 4 * program_cycles(good.compiled.schedule),
        source_gaps=GAPS[gaps][0],
        sink_gaps=GAPS[gaps][1],
    )
    responses = split(exchanged.words, exchanged.last)
    assert responses[::2] == [[status, 0] for status, _ in wrong]
    for response in responses[1::2]:
        good.check([response])


def test_reset_at_any_time() -> None:
    """After a reset amid a packet, a run or a response, the next image runs as ever."""
    good = random_case(SHAPE, QUICK, images=1)
    parameters = good.compiled.parameters
    unit, reset = Accelerator(parameters=parameters), Signal()
    cycles = program_cycles(good.compiled.schedule)
    length = response_length(results=good.compiled.results, parameters=parameters)
    loads, (image, run) = good.loads, good.runs
    responses: list[list[int]] = []

    async def send(ctx: Any, words: Words, last: Any) -> None:
        ctx.set(unit.input_valid, 1)
        for word, ends in zip(words.tolist(), last.tolist(), strict=True):
            ctx.set(unit.input_data, word)
            ctx.set(unit.input_last, ends)
            await ctx.tick().until(unit.input_ready)
        ctx.set(unit.input_valid, 0)

    async def receive(ctx: Any, count: int) -> list[int]:
        ctx.set(unit.output_ready, 1)
        words = []
        for _ in range(count):
            (word,) = await ctx.tick().sample(unit.output_data).until(unit.output_valid)
            words.append(word)
        ctx.set(unit.output_ready, 0)
        return words

    async def bench(ctx: Any) -> None:
        await send(ctx, *stream(loads))
        for cut in (1, 3, 4, 5, 6, len(image) - 1):
            await send(ctx, image[:cut], np.zeros(cut, dtype=bool))
            await recover(ctx)
        for wait in (0, 1, 20, 25, cycles // 2, cycles - 1, cycles, cycles + 4):
            await send(ctx, *stream([image, run]))
            await ctx.tick().repeat(wait + 1)
            await recover(ctx)
        await send(ctx, *stream([image, run]))
        await receive(ctx, 3)
        await recover(ctx)

    async def recover(ctx: Any) -> None:
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        assert not ctx.get(unit.output_valid)
        await send(ctx, *stream([image, run]))
        responses.append(await receive(ctx, length))

    simulator = Simulator(ResetInserter(reset)(unit))
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert len(responses) == 15
    for response in responses:
        good.check([response])

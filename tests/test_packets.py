"""Packets that cannot be obeyed are answered and do no harm; so does a reset at any time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.sim import Simulator

from hdl.accelerator import Accelerator
from hdl.layouts import PAYLOAD_WORDS, PacketOpcode, Section, Status, section_depth, sections, slices
from hdl.packets import HEADER_WORDS
from hdl.parameters import ADDRESS_WIDTH
from sw.bits import Words
from sw.compiler.schedule import program_cycles
from sw.driver import response_length, sealed, stream
from tests.accelerator_cases import GAPS, grouped, random_case, small, split, written
from verif.network import exchange

SHAPE = "apot_k2n1o_4x8"
BATCH = 12
"""Wrong packets between an image and its run."""
QUICK = 6
"""Seed of a case that runs in some hundred cycles, since it runs often here."""


def packet(opcode: int, *, words: int = 0, **fields: int) -> Words:
    """A header, so many words behind it, and their CRC-32."""
    parameters = small(SHAPE)
    values = {
        "section": 0,
        "slice": 0,
        "build_id": parameters.build_id,
        "address": 0,
        "bank": 0,
        "count": words,
    }
    values |= fields
    header = [
        opcode | values["section"] << 8 | values["slice"] << 16,
        values["build_id"],
        values["address"] | values["bank"] << 24,
        values["count"],
    ]
    return sealed(np.array([*header, *[0xFFFF_FFFF] * words], dtype=np.uint32))


def wrong_headers() -> list[tuple[Status, Words]]:
    """Packets that arrive as they were sent, but should not have been sent."""
    load, read, run = PacketOpcode.LOAD, PacketOpcode.READ, PacketOpcode.RUN
    last = (1 << ADDRESS_WIDTH) - 1
    image, build_id = Section.ACTIVATIONS, small(SHAPE).build_id
    held = sections(small(SHAPE))
    depths = [(section, section_depth(small(SHAPE), section)) for section in held]
    wide = [(section, slices(small(SHAPE), section)) for section in held]
    ends = list(zip(depths, wide, strict=True))
    return [
        *(
            (Status.BUILD_ID, packet(op, build_id=build_id ^ 1 << bit, words=n))
            for op, bit in ((1, 0), (2, 31), (9, 17))
            for n in (0, 3)
        ),
        *((Status.PACKET_OPCODE, packet(op, words=n)) for op in (0, 4, 255) for n in (0, 5)),
        *((Status.SECTION, packet(load, section=at, words=n)) for at in (len(held), 255) for n in (0, 1)),
        *((Status.LOAD_RANGE, packet(load, section=at, address=n, words=1)) for at, n in depths),
        *(
            (Status.LOAD_RANGE, packet(load, section=at, address=n - 1, words=w + 1))
            for (at, n), (_, w) in ends
        ),
        *((Status.LOAD_RANGE, packet(load, section=at, slice=n, words=1)) for at, n in wide),
        *((Status.LOAD_RANGE, packet(load, section=at, bank=1, words=1)) for at in held),
        (Status.LOAD_RANGE, packet(load, section=image, address=last, words=1)),
        (Status.LOAD_RANGE, packet(run, count=small(SHAPE).result_words + 1)),
        (Status.LOAD_RANGE, packet(run, count=1 << 24)),
        (Status.LOAD_RANGE, packet(run, address=small(SHAPE).program_words, count=0)),
        (Status.LOAD_RANGE, packet(run, bank=1)),
        *((Status.LENGTH, packet(load, section=image, words=n, count=n + 1)) for n in (0, 1, PAYLOAD_WORDS)),
        *((Status.LENGTH, packet(load, section=image, words=n, count=n - 1)) for n in (1, 2, PAYLOAD_WORDS)),
        *((Status.LENGTH, packet(load, section=image, words=PAYLOAD_WORDS + n)) for n in (1, 2, 300, 1100)),
        (Status.LENGTH, packet(load, section=image, words=0)),
        (Status.LENGTH, packet(run, words=1)),
        (Status.BUILD_ID, packet(read, build_id=build_id ^ 1 << 7, count=1)),
        *((Status.SECTION, packet(read, section=at, count=1)) for at in (len(held), 255)),
        *((Status.LENGTH, packet(read, section=image, count=n)) for n in (0, PAYLOAD_WORDS + 1, 2**32 - 1)),
        *((Status.LENGTH, packet(read, section=image, words=n, count=n)) for n in (1, 3, PAYLOAD_WORDS)),
        *((Status.LOAD_RANGE, packet(read, section=at, address=n, count=1)) for at, n in depths),
        *(
            (Status.LOAD_RANGE, packet(read, section=at, address=n - 1, count=w + 1))
            for (at, n), (_, w) in ends
        ),
        *((Status.LOAD_RANGE, packet(read, section=at, slice=n, count=1)) for at, n in wide),
        *((Status.LOAD_RANGE, packet(read, section=at, bank=1, count=1)) for at in held),
        (Status.LOAD_RANGE, packet(read, section=image, address=last, count=1)),
    ]


def damaged_packets() -> list[tuple[Status, Words]]:
    """Packets that arrive otherwise than they were sent: bits flipped, words lost, doubled or swapped."""
    found = []
    for good in (
        packet(PacketOpcode.LOAD, section=Section.ACTIVATIONS, words=9),
        packet(PacketOpcode.READ, section=Section.CHANNELS, count=9),
        packet(PacketOpcode.RUN),
    ):
        for place in range(len(good)):
            flipped = good.copy()
            flipped[place] ^= np.uint32(1 << (7 * place + 3) % 32)
            found.append(flipped)
        found += [np.append(good, good[-1]), np.append(good, np.uint32(0)), np.concatenate([good, good])]
        found += [good[:n] for n in range(1, len(good))]
    load = packet(PacketOpcode.LOAD, section=Section.WEIGHTS, words=6)
    load[4] = 1  # then words that differ
    load = sealed(load[:-1])
    found += [np.delete(load, at) for at in (0, 3, 5)]
    found.append(load[[0, 1, 2, 3, 5, 4, *range(6, len(load))]])
    return [(Status.LENGTH if len(each) <= HEADER_WORDS else Status.CHECKSUM, each) for each in found]


@pytest.mark.parametrize("gaps", ["steady", "both_slow"])
@pytest.mark.parametrize("shape", grouped([SHAPE]))
def test_wrong_packets(shape: str, gaps: str, tmp_path: Path, simulator: str) -> None:
    """Each is answered with its error and 0 cycles, and what was loaded before them runs as ever."""
    wrong, good = [*wrong_headers(), *damaged_packets()], random_case(shape, QUICK, images=1)
    parameters = good.compiled.parameters
    batches = [wrong[start : start + BATCH] for start in range(0, len(wrong), BATCH)]
    *image, run = good.runs
    packets = list(good.loads)
    for batch in batches:
        packets += [*image, *(bad for _, bad in batch), run]
    length = response_length(results=good.compiled.results, parameters=parameters)
    exchanged = exchange(
        written(shape, tmp_path),
        packets,
        answers=2 * len(wrong) + length * len(batches),
        simulator=simulator,
        cycle_limit=40 * sum(map(len, packets)) + len(batches) * 4 * program_cycles(good.compiled.schedule),
        source_gaps=GAPS[gaps][0],
        sink_gaps=GAPS[gaps][1],
    )
    responses = split(exchanged.words, exchanged.last)
    for batch in batches:
        assert responses[: len(batch)] == [[status, 0] for status, _ in batch]
        good.check([responses[len(batch)]])
        responses = responses[len(batch) + 1 :]
    assert not responses


def test_reset_at_any_time() -> None:
    """After a reset amid a packet, a run, a READ or a response, the next image runs as ever."""
    good = random_case(SHAPE, QUICK, images=1)
    parameters = good.compiled.parameters
    unit, reset = Accelerator(parameters=parameters), Signal()
    cycles = program_cycles(good.compiled.schedule)
    length = response_length(results=good.compiled.results, parameters=parameters)
    loads, (image, run) = good.loads, good.runs  # an image of one packet
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
        await ctx.tick().repeat(PAYLOAD_WORDS + 8)  # the last one is written
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
        read = packet(PacketOpcode.READ, section=Section.WEIGHTS, count=9)
        for wait in (0, 5, 11, 14):
            await send(ctx, *stream([read]))
            await ctx.tick().repeat(wait + 1)
            await recover(ctx)
        await send(ctx, *stream([read]))
        await receive(ctx, 5)
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
    assert len(responses) == 20
    for response in responses:
        good.check([response])

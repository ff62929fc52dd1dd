"""Programs that cannot be run end with their error, touch nothing, and never hang the engine."""

import random
from typing import Any

import pytest
from amaranth.sim import Simulator

from hdl.engine import Engine
from hdl.layouts import LAYER, PASS, STREAM_WIDTH, LayerOpcode, Section, Status
from hdl.parameters import AcceleratorParameters
from sw.schedule import COMMAND_CYCLES, layer_cycles

PARAMETERS = AcceleratorParameters(
    weight_format="apot_k1n1",
    rows=2,
    lanes=2,
    requantizers=2,
    code_width=2,
    activation_width=2,
    depth=64,
    passes=3,
    activation_words=24,
    weight_words=20,
    channel_words=12,
    program_words=64,
    result_words=6,
)
GOOD: dict[str, int] = {
    "opcode": LayerOpcode.CONVOLUTION,
    "to_results": 1,
    **dict.fromkeys(("passes", "kernel_height", "kernel_width", "stride", "tiles"), 1),
    **dict.fromkeys(("output_height", "output_width", "input_height", "input_width"), 1),
}
PASS_GOOD = {"count": 1}
HALT = [0] * (LAYER.size // STREAM_WIDTH)
DIMENSIONS = (
    "passes",
    "kernel_height",
    "kernel_width",
    "stride",
    "tiles",
    "output_height",
    "output_width",
    "input_height",
    "input_width",
)


def words(layout: Any, values: dict[str, int]) -> list[int]:
    """A structure as stream words."""
    bits = 0
    for name, value in values.items():
        field = layout[name]
        bits |= (value & ((1 << field.width) - 1)) << field.offset
    return [bits >> place & 0xFFFF_FFFF for place in range(0, layout.size, STREAM_WIDTH)]


def program(layer: dict[str, int], *passes: dict[str, int]) -> list[int]:
    each = [word for values in passes or (PASS_GOOD,) for word in words(PASS, {**PASS_GOOD, **values})]
    return [*words(LAYER, {**GOOD, **layer}), *each, *HALT]


def run(programs: list[tuple[int, list[int]]], *, bound: int) -> list[tuple[int, int]]:
    """Status and cycles of programs one after another, each at its place; a hang fails."""
    engine, ends = Engine(parameters=PARAMETERS), []

    async def bench(ctx: Any) -> None:
        for start, content in programs:
            ctx.set(engine.write_section, Section.PROGRAM)
            for address, word in enumerate([*content, *[0] * (PARAMETERS.program_words - len(content))]):
                ctx.set(engine.write_enable, 1)
                ctx.set(engine.write_address, address)
                ctx.set(engine.write_data, word)
                await ctx.tick()
            ctx.set(engine.write_enable, 0)
            ctx.set(engine.program_start, start)
            ctx.set(engine.start, 1)
            await ctx.tick()
            ctx.set(engine.start, 0)
            for _ in range(bound):
                if ctx.get(engine.done):
                    break
                assert ctx.get(engine.busy)
                await ctx.tick()
            assert ctx.get(engine.done), f"program must end within {bound} cycles"
            await ctx.tick()
            assert not ctx.get(engine.busy)
            ends.append((ctx.get(engine.status), ctx.get(engine.cycles)))

    simulator = Simulator(engine)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return ends


GOOD_END = (
    Status.DONE,
    layer_cycles(parameters=PARAMETERS, pixels=1, tiles=1, steps=[1]) + COMMAND_CYCLES,
)

LAST = {
    "origin": PARAMETERS.activation_words - 1,
    "weights": PARAMETERS.weight_words - 1,
    "channels": PARAMETERS.channel_words - 1,
    "output": PARAMETERS.result_words - 1,
}
LAST_CODES = PARAMETERS.activation_words * PARAMETERS.groups_per_word - 1
BAD: list[tuple[str, Status, int, list[int]]] = [
    ("opcode 2", Status.LAYER_OPCODE, 0, program({"opcode": 2})),
    ("opcode 255", Status.LAYER_OPCODE, 0, program({"opcode": 255})),
    *((f"{name} 0", Status.ZERO_DIMENSION, 0, program({name: 0})) for name in DIMENSIONS),
    ("count 0", Status.ZERO_DIMENSION, 0, program({}, {"count": 0})),
    ("second count 0", Status.ZERO_DIMENSION, 0, program({"passes": 2}, {}, {"count": 0})),
    ("passes", Status.LAYER_LIMIT, 0, program({"passes": PARAMETERS.passes + 1})),
    ("encoding", Status.LAYER_LIMIT, 0, program({"encoding": PARAMETERS.encodings})),
    ("table", Status.LAYER_LIMIT, 0, program({}, {"table": PARAMETERS.tables})),
    ("no end", Status.PROGRAM_RANGE, PARAMETERS.program_words - len(HALT) + 1, []),
    ("beyond", Status.PROGRAM_RANGE, PARAMETERS.program_words, []),
    ("far beyond", Status.PROGRAM_RANGE, 2**24 - 1, []),
    ("too many passes", Status.PROGRAM_RANGE, 0, program({"passes": 255})),
    ("activations", Status.ACTIVATION_RANGE, 0, program({"origin": LAST["origin"] + 1})),
    ("below activations", Status.ACTIVATION_RANGE, 0, program({"origin": -1})),
    ("offset", Status.ACTIVATION_RANGE, 0, program({"origin": LAST["origin"]}, {"offset": 1})),
    ("weights", Status.WEIGHT_RANGE, 0, program({"weights": LAST["weights"] + 1})),
    ("second weight", Status.WEIGHT_RANGE, 0, program({"weights": LAST["weights"]}, {"count": 2})),
    ("channels", Status.CHANNEL_RANGE, 0, program({"channels": LAST["channels"] + 1})),
    ("second channels", Status.CHANNEL_RANGE, 0, program({"channels": LAST["channels"], "tiles": 2})),
    ("results", Status.OUTPUT_RANGE, 0, program({"output": LAST["output"] + 1})),
    ("codes", Status.OUTPUT_RANGE, 0, program({"to_results": 0, "output": LAST_CODES + 1})),
    (
        "second pixel",
        Status.OUTPUT_RANGE,
        0,
        program({"output_width": 2, "output": LAST["output"], "output_pitch": 1}),
    ),
]


def test_errors() -> None:
    """Each error by its name, and a good program runs after it in the cycles planned."""
    good = (0, program({}))
    ends = run([each for _, _, *bad in BAD for each in (tuple(bad), good)], bound=200)
    assert [status for status, _ in ends[::2]] == [status for _, status, *_ in BAD]
    assert ends[1::2] == [GOOD_END] * len(BAD)


def test_every_error_is_reached() -> None:
    answered_by_packets = {"PACKET_OPCODE", "BUILD_ID", "SECTION", "LOAD_RANGE", "LENGTH", "DONE"}
    assert {status.name for _, status, *_ in BAD} == set(Status.__members__) - answered_by_packets


def test_last_words_can_be_used() -> None:
    """What lies right below each limit runs."""
    edges = [
        *({name: value} for name, value in LAST.items()),
        {"to_results": 0, "output": LAST_CODES},
        {"origin": -1, "padding": 1},
        {"encoding": PARAMETERS.encodings - 1},
    ]
    ends = run([(0, program(edge)) for edge in edges], bound=200)
    assert ends == [GOOD_END] * len(edges)


def garbage(seed: int) -> list[int]:
    """Layers whose small dimensions are mostly plausible, and sometimes any words at all."""
    draw = random.Random(seed)
    if draw.random() < 0.1:
        return [draw.randrange(2**32) for _ in range(PARAMETERS.program_words)]
    content: list[int] = []
    while len(content) + len(HALT) <= PARAMETERS.program_words:
        layer = {"opcode": draw.choices((1, 0, 2), (18, 1, 1))[0], "encoding": draw.randrange(2)}
        layer |= {name: draw.randrange(1, 3) for name in DIMENSIONS}
        layer |= {"to_results": draw.randrange(2), "padding": draw.randrange(3)}
        for name in ("origin", "row_step", "pixel_step", "row_pitch", "pixel_pitch", "output_pitch"):
            layer[name] = draw.choice((0, 1, 2, draw.randrange(2**24)))
        for name in ("weights", "channels", "output"):
            layer[name] = draw.choice((0, 0, 1, 5, draw.randrange(2**24)))
        if draw.random() < 0.2:
            layer[draw.choice(DIMENSIONS)] = 0
        content += words(LAYER, layer)
        for _ in range(layer["passes"]):
            turn = {"count": draw.randrange(1, 3), "offset": draw.randrange(3), "table": draw.randrange(2)}
            content += words(PASS, turn | {"shift": draw.randrange(16)})
    return content[: PARAMETERS.program_words]


def check_garbage(seed: int) -> None:
    programs = [(0, garbage(each)) for each in range(seed, seed + 10)]
    longest = layer_cycles(parameters=PARAMETERS, pixels=9, tiles=3, steps=[3 * 3 * 2] * 3)
    bound = 6 * longest
    good = (0, program({}))
    ends = run([each for bad in programs for each in (bad, good)], bound=bound)
    assert ends[1::2] == [GOOD_END] * len(programs)
    assert len({status for status, _ in ends[::2]}) > 1


@pytest.mark.parametrize("seed", range(0, 100, 10))
def test_garbage_ends(seed: int) -> None:
    """Ten random programs, each followed by a good one."""
    check_garbage(seed)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(100, 1100, 10))
def test_more_garbage_ends(seed: int) -> None:
    check_garbage(seed)

"""Every error of a program by its name, from the engine's own ports; the last words of memories run."""

from typing import Any

from amaranth.sim import Simulator

from hdl.engine import Engine
from hdl.layouts import LAYER, PASS, STREAM_WIDTH, LayerOpcode, Section, Status
from hdl.parameters import AcceleratorParameters
from sw.compiler.schedule import COMMAND_CYCLES, layer_cycles
from tests.nested_loops import DIMENSIONS

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
            ctx.set(engine.host.section, Section.PROGRAM)
            for address, word in enumerate([*content, *[0] * (PARAMETERS.program_words - len(content))]):
                ctx.set(engine.host.write_enable, 1)
                ctx.set(engine.host.address, address)
                ctx.set(engine.host.write_data, word)
                await ctx.tick()
            ctx.set(engine.host.write_enable, 0)
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
TO_CODES = {"to_results": 0, "to_codes": 1}
LAST_CODES = PARAMETERS.activation_words * PARAMETERS.groups_per_word - 1
BAD: list[tuple[str, Status, int, list[int]]] = [
    *((f"opcode {code}", Status.LAYER_OPCODE, 0, program({"opcode": code})) for code in (2, 3, 4)),
    ("opcode 255", Status.LAYER_OPCODE, 0, program({"opcode": 255})),
    *((f"{name} 0", Status.ZERO_DIMENSION, 0, program({name: 0})) for name in DIMENSIONS),
    ("count 0", Status.ZERO_DIMENSION, 0, program({}, {"count": 0})),
    ("second count 0", Status.ZERO_DIMENSION, 0, program({"passes": 2}, {}, {"count": 0})),
    ("passes", Status.LAYER_LIMIT, 0, program({"passes": PARAMETERS.passes + 1})),
    ("encoding", Status.LAYER_LIMIT, 0, program({"encoding": PARAMETERS.encodings})),
    *((name, Status.LAYER_LIMIT, 0, program({name: 1})) for name in ("to_values", "add_residual", "linear")),
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
    ("codes", Status.OUTPUT_RANGE, 0, program({**TO_CODES, "output": LAST_CODES + 1})),
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
    answered_by_packets = {"PACKET_OPCODE", "BUILD_ID", "SECTION", "LOAD_RANGE", "LENGTH", "CHECKSUM", "DONE"}
    of_values = {"VALUES_RANGE", "RESIDUAL_RANGE"}  # which this accelerator has not
    assert {status.name for _, status, *_ in BAD} == set(Status.__members__) - answered_by_packets - of_values


def test_last_words_can_be_used() -> None:
    """What lies right below each limit runs."""
    edges = [
        *({name: value} for name, value in LAST.items()),
        {**TO_CODES, "output": LAST_CODES},
        {"origin": -1, "padding": 1},
        {"encoding": PARAMETERS.encodings - 1},
        {"rectify": 1, "values": -1, "residual": -1, "reserved": 3, "spare": 1},
    ]
    ends = run([(0, program(edge)) for edge in edges], bound=200)
    assert ends == [GOOD_END] * len(edges)

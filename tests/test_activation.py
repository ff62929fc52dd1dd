"""Activation decoders and encoders against levels written down and counted boundaries."""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator
from click.testing import CliRunner

from gen.__main__ import main
from gen.verilog import Design, generate
from hdl.activation import FixedDecoder, LoadableDecoder
from hdl.encoder import FixedEncoder, LoadableEncoder
from hdl.formats import Format, Table, Uniform, apot, named
from hdl.layouts import search_order
from tests.test_benches import written
from verif.simulators import Bench, SimulationError, run

LEVELS: dict[str, tuple[int, ...]] = {
    "apot_k1n1u": (0, 1),
    "apot_k2n1u": (0, 1, 2, 4),
    "apot_k2n1ou": (0, 1, 2, 3, 4, 6, 8, 10),
    "apot_k2n2u": (0, 1, 2, 3, 4, 6, 8, 9, 12, 16, 18, 24, 32, 33, 36, 48),
    "apot_k2n2ou": (
        *(0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 17, 20, 21),
        *(24, 28, 32, 34, 36, 38, 48, 52, 64, 65, 68, 69, 72, 76, 96, 100),
    ),
    "pot_k2u": (0, 1, 2, 4),
    "pot_k3u": (0, 1, 2, 4, 8, 16, 32, 64),
    "companded_0_3_9_127u": (0, 3, 9, 127),
    "companded_0_2_3_5_6_90_91_255u": (0, 2, 3, 5, 6, 90, 91, 255),
    **{f"uniform_b{bits}u": tuple(range(2**bits)) for bits in range(1, 9)},
}
"""Li, Dong, Wang (ICLR 2020), eq. 5 and 6, and what the other names say."""

QUICK = ("uniform_b3u", "apot_k2n2u", "apot_k2n2ou", "companded_0_2_3_5_6_90_91_255u")
LANES = 3


def encoded(levels: Iterable[int], value: int, *, fraction: int) -> int:
    """How many of the midpoints between neighbouring levels lie below a value of so many binary places."""
    ordered = sorted(levels)
    midpoints = [Fraction(low + high, 2) for low, high in pairwise(ordered)]
    return bisect_left(midpoints, Fraction(value, 2**fraction))


def values_of(width: int) -> range:
    return range(-(2 ** (width - 1)), 2 ** (width - 1))


def in_tree_order(boundaries: list[int], *, code_width: int, top: int) -> list[int]:
    """Boundaries at the nodes of a binary search tree: read from left to right, they are in order."""
    rest = iter([*boundaries, *[top] * (2**code_width - 1 - len(boundaries))])
    entries = [0] * 2**code_width

    def fill(node: int) -> None:
        if node < len(entries):
            fill(2 * node)
            entries[node] = next(rest)
            fill(2 * node + 1)

    fill(1)
    return entries


def run_unit(design: Design, simulator: str, *, tests: tuple[str, ...], **config: Any) -> None:
    description = design.description
    ports = {port["name"]: port for port in description["ports"]}
    encodes = "values" in ports
    source, result = (ports["values"], ports["codes"]) if encodes else (ports["codes"], ports["levels"])
    settings = {
        "lanes": source["lanes"],
        "latency": description["latency"],
        "encodes": encodes,
        "element_width": source["width"] // source["lanes"],
        "result_width": result["width"] // result["lanes"],
        "entries": [],
        **config,
    }
    settings["maps"] = [list(table.items()) for table in settings["maps"]]
    bench = Bench(module="verif.benches.activation", toplevel=design.name, sources=[written(design)])
    run(bench, simulator=simulator, config=settings, tests=tests)


FIXED = ("everything", "tables_change")
LOADED = (*FIXED, "other_tables_load_meanwhile")


def run_decoder(name: str, simulator: str, *, levels: tuple[int, ...] | None = None) -> None:
    design = generate("activation_decoder", format=name, lanes=LANES)
    table = dict(enumerate(LEVELS[name] if levels is None else levels))
    run_unit(design, simulator, tests=FIXED, maps=[table])


def run_encoder(name: str, simulator: str, *, fraction: int = 1, spare: int = 1) -> None:
    levels = LEVELS[name]
    width = (max(levels) << fraction).bit_length() + 1 + spare
    design = generate("activation_encoder", format=name, lanes=LANES, value_width=width, fraction=fraction)
    table = {value: encoded(levels, value, fraction=fraction) for value in values_of(width)}
    run_unit(design, simulator, tests=FIXED, maps=[table])


def run_loaded_decoder(simulator: str, *, tables: int) -> None:
    chosen = [LEVELS["apot_k2n1ou"], LEVELS["uniform_b3u"], LEVELS["apot_k2n1u"]][:tables]
    padded = [[*levels, *[0] * (8 - len(levels))] for levels in chosen]
    design = generate("activation_decoder", tables=tables, code_width=3, activation_width=4, lanes=LANES)
    run_unit(
        design,
        simulator,
        tests=(*LOADED, "entries_change_under_way"),
        maps=[dict(enumerate(levels)) for levels in padded],
        entries=[level for levels in padded for level in levels],
    )


def run_loaded_encoder(simulator: str, *, encodings: int, width: int = 8) -> None:
    names = ("apot_k2n1ou", "uniform_b3u", "apot_k2n1u", "pot_k3u")
    chosen = [LEVELS[name] for name in names[:encodings]]
    design = generate("activation_encoder", encodings=encodings, code_width=3, value_width=width, lanes=LANES)
    entries, maps = [], []
    for levels in chosen:
        halves = [low + high for low, high in pairwise(levels)]
        entries += in_tree_order(halves, code_width=3, top=2 ** (width - 1) - 1)
        maps.append({value: encoded(levels, value, fraction=1) for value in values_of(width)})
    run_unit(design, simulator, tests=LOADED, maps=maps, entries=entries)


@pytest.mark.parametrize("name", QUICK)
def test_every_code_and_value(name: str, icarus: str) -> None:
    run_decoder(name, icarus)
    run_encoder(name, icarus)


@pytest.mark.nightly
@pytest.mark.parametrize("name", [name for name in LEVELS if name not in QUICK])
def test_every_code_and_value_of_the_others(name: str, icarus: str) -> None:
    run_decoder(name, icarus)
    run_encoder(name, icarus)


@pytest.mark.nightly
@pytest.mark.parametrize("name", LEVELS)
def test_every_code_and_value_on_verilator(name: str, verilator: str) -> None:
    run_decoder(name, verilator)
    run_encoder(name, verilator)


@pytest.mark.parametrize(("fraction", "spare"), [(0, 2), (3, 0)])
def test_binary_places_and_widths_of_values(fraction: int, spare: int, icarus: str) -> None:
    run_encoder("apot_k2n1ou", icarus, fraction=fraction, spare=spare)


@pytest.mark.parametrize("count", [1, 3])
def test_loaded_tables(count: int, icarus: str) -> None:
    run_loaded_decoder(icarus, tables=count)
    run_loaded_encoder(icarus, encodings=count + 1 if count > 1 else 1)


def test_one_of_each_on_verilator(verilator: str) -> None:
    run_encoder("apot_k2n1ou", verilator)
    run_loaded_decoder(verilator, tables=3)


def test_a_wrong_level_is_seen(icarus: str) -> None:
    wrong = (0, 1, 2, 3, 4, 6, 9, 10)
    with pytest.raises(SimulationError, match="everything: lane 2 is 8, not 9, for 6 by table 0"):
        run_decoder("apot_k2n1ou", icarus, levels=wrong)


class RoundTrip(wiring.Component):
    """Codes decoded, and their levels encoded again."""

    def __init__(self, chosen: Format, *, fraction: int) -> None:
        width = (chosen.max_level << fraction).bit_length() + 1
        self._fraction = fraction
        self.decoder = FixedDecoder(activation_format=chosen, lanes=1)
        self.encoder = FixedEncoder(activation_format=chosen, lanes=1, value_width=width, fraction=fraction)
        super().__init__({"code": In(chosen.code_width), "again": Out(chosen.code_width)})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.decoder, m.submodules.encoder = decoder, encoder = self.decoder, self.encoder
        level = Signal(signed(len(decoder.levels[0]) + 1))
        m.d.comb += [
            decoder.codes[0].eq(self.code),
            decoder.inside.eq(1),
            level.eq(decoder.levels[0]),
            encoder.values[0].eq(level << self._fraction),
            self.again.eq(encoder.codes[0]),
        ]
        return m


WIDE = Table(table=(0, 1, 7, 1000, 1001, 65535, 2**20, 2**31 - 1), signed=False)
"""Levels that no table of all values would hold."""


@pytest.mark.parametrize(
    "chosen",
    [*map(named, LEVELS), WIDE, *(apot(bits=bits, signed=False) for bits in (6, 8))],
    ids=lambda chosen: chosen.name,
)
@pytest.mark.parametrize("fraction", [1, 4])
def test_encoding_a_decoded_code_returns_it(chosen: Format, fraction: int) -> None:
    unit = RoundTrip(chosen, fraction=fraction)
    codes = list(range(2**chosen.code_width))
    found: list[int] = []

    async def bench(ctx: Any) -> None:
        for code in [*codes, 0]:
            ctx.set(unit.code, code)
            await ctx.tick()
            found.append(ctx.get(unit.again))

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert found[1:] == codes


@pytest.mark.parametrize("fraction", [0, 1, 6])
def test_wide_values_around_every_boundary(fraction: int) -> None:
    """Beside, on and between the boundaries of levels of 31 bits, and at the ends."""
    encoder = FixedEncoder(activation_format=WIDE, lanes=1, value_width=40, fraction=fraction)
    places = [(low + high << fraction) // 2 for low, high in pairwise(WIDE.table)]
    values = [place + step for place in places for step in (-1, 0, 1, 2)]
    values += [level << fraction for level in WIDE.table] + [-1, -(2**39), 2**39 - 1, 2**37]
    found: list[int] = []

    async def bench(ctx: Any) -> None:
        for value in values:
            ctx.set(encoder.values, [value])
            await ctx.tick()
            found.append(ctx.get(encoder.codes[0]))

    simulator = Simulator(encoder)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert found == [encoded(WIDE.table, value, fraction=fraction) for value in values]


def test_the_packers_words_are_the_descriptions_tree() -> None:
    for width in (6, 18):
        top = 2 ** (width - 1) - 1
        for count in (1, 4, 7):
            boundaries = list(range(3, 3 + 2 * count, 2))
            words = search_order(boundaries, code_width=3, value_width=width)
            assert words == in_tree_order(boundaries, code_width=3, top=top)


def test_descriptions() -> None:
    decoder = generate("activation_decoder", format="apot_k2n1u", lanes=4).description
    assert decoder["latency"] == 1
    assert decoder["levels"] == [0, 1, 2, 4]
    assert decoder["code_layout"] == [{"name": "rank", "lsb": 0, "width": 2}]
    encoder = generate("activation_encoder", format="apot_k2n1u", value_width=12, fraction=0).description
    assert encoder["latency"] == 1
    assert encoder["boundaries"] == [0, 1, 3]
    assert encoder["value"] == {"width": 12, "signed": True, "fraction": 0}
    assert generate("activation_encoder", format="apot_k2n1u").description["boundaries"] == [1, 3, 6]
    loaded = generate("activation_encoder", encodings=3, code_width=4, value_width=9).description
    assert loaded["latency"] == 4
    assert loaded["entries"]["count"] == 48
    assert loaded["entries"]["unused_boundary"] == 255
    tables = generate("activation_decoder", tables=3, code_width=4, activation_width=6).description
    assert tables["entries"]["count"] == 48


def loadable_decoder(**changed: Any) -> LoadableDecoder:
    return LoadableDecoder(**{"lanes": 4, "code_width": 4, "activation_width": 6, "tables": 2, **changed})


def loadable_encoder(**changed: Any) -> LoadableEncoder:
    return LoadableEncoder(**{"lanes": 4, "code_width": 4, "value_width": 18, "encodings": 2, **changed})


def encoder(**changed: Any) -> FixedEncoder:
    values = {"activation_format": Uniform(bits=4, signed=False), "lanes": 4, "value_width": 8, "fraction": 1}
    return FixedEncoder(**{**values, **changed})


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: FixedDecoder(activation_format="uniform_b4u", lanes=1),
            TypeError,
            "activation_format must be a Format, not 'uniform_b4u'",
        ),
        (
            lambda: FixedDecoder(activation_format=Uniform(bits=4), lanes=1),
            ValueError,
            "activation_format must be unsigned, not 'uniform_b4'",
        ),
        (
            lambda: encoder(activation_format=Uniform(bits=9, signed=False)),
            ValueError,
            "activation_format must have codes of at most 8 bits, not 'uniform_b9u'",
        ),
        (
            lambda: FixedDecoder(activation_format=named("pot_k2u"), lanes=0),
            ValueError,
            "lanes must be an integer from 1 to 256, not 0",
        ),
        (lambda: encoder(lanes="4"), TypeError, "lanes must be an integer from 1 to 256, not '4'"),
        (
            lambda: encoder(value_width=5),
            ValueError,
            "value_width must be at least 6 for level 15 with fraction 1, not 5",
        ),
        (lambda: encoder(value_width=65), ValueError, "value_width must be an integer from 1 to 64, not 65"),
        (lambda: encoder(fraction=-1), ValueError, "fraction must be an integer from 0 to 64, not -1"),
        (lambda: loadable_decoder(lanes=257), ValueError, "lanes must be an integer from 1 to 256, not 257"),
        (
            lambda: loadable_decoder(code_width=9),
            ValueError,
            "code_width must be an integer from 1 to 8, not 9",
        ),
        (
            lambda: loadable_decoder(activation_width=17),
            ValueError,
            "activation_width must be an integer from 1 to 16, not 17",
        ),
        (lambda: loadable_decoder(tables=0), ValueError, "tables must be an integer from 1 to 16, not 0"),
        (lambda: loadable_encoder(lanes=None), TypeError, "lanes must be an integer from 1 to 256, not None"),
        (
            lambda: loadable_encoder(code_width=0),
            ValueError,
            "code_width must be an integer from 1 to 8, not 0",
        ),
        (
            lambda: loadable_encoder(value_width=0),
            ValueError,
            "value_width must be an integer from 1 to 64, not 0",
        ),
        (
            lambda: loadable_encoder(encodings=65),
            ValueError,
            "encodings must be an integer from 1 to 64, not 65",
        ),
    ],
)
def test_refusals(make: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        make()
    assert type(caught.value) is error
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("activation_decoder", "format, or tables, code_width and activation_width, must be given"),
        ("activation_encoder --encodings 2", "format, or encodings and code_width, must be given"),
        (
            "activation_decoder --format pot_k2u --tables 2",
            "tables must not be given with format, not 2",
        ),
        (
            "activation_encoder --format pot_k2u --code-width 2",
            "code_width must not be given with format, not 2",
        ),
        (
            "activation_encoder --encodings 1 --code-width 2 --fraction 3",
            "fraction must not be given without format, not 3",
        ),
        ("activation_decoder --format pot_k2", "activation_format must be unsigned, not 'pot_k2'"),
    ],
)
def test_the_command_line_refuses_in_one_line(arguments: str, message: str) -> None:
    refused = CliRunner().invoke(main, arguments.split())
    assert refused.exit_code == 2
    assert refused.stderr.splitlines() == [refused.stderr.strip()]
    assert refused.stderr.strip().endswith(message)

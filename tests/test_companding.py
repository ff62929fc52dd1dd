"""The cocotb regression of companded blocks on both simulators, what they refuse, and what they map to."""

import random
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from gen.verilog import Design, generate
from hdl.formats import Companded, level_table, product_table
from tests.test_benches import label, width_of, written
from verif.simulators import Bench, SimulationError, run


def magnitudes(kind: str, count: int, largest: int) -> tuple[int, ...]:
    """A table of so many words: evenly spaced, as low or as high as can be, or at random."""
    if kind == "uniform":
        return tuple(i * largest // (count - 1) for i in range(count))
    if kind == "low":
        return (*range(count - 1), largest)
    if kind == "high":
        return (0, *range(largest - count + 2, largest + 1))
    return (0, *sorted(random.Random(f"{kind} {count}").sample(range(1, largest + 1), count - 1)))


KINDS = ("uniform", "low", "high", "random", "any")


def signed_levels(table: tuple[int, ...]) -> list[int]:
    """Level of every code of an index and a sign."""
    return [*table, *(-each for each in table)]


def scenario(weights: tuple[int, ...], activations: tuple[int, ...]) -> dict[str, list[int]]:
    """Words that the formats give, and beside them the levels, written out from the tables alone."""
    weight_format = Companded(magnitudes=weights)
    activation_format = Companded(magnitudes=activations, signed=False)
    return {
        "weight_write": list(level_table(weight_format)),
        "activation_write": list(level_table(activation_format)),
        "write": list(product_table(weight_format, activation_format)),
        "weight_levels": signed_levels(weights),
        "activation_levels": list(activations),
    }


def scenarios(weight_bits: int, activation_bits: int) -> list[dict[str, list[int]]]:
    return [
        scenario(magnitudes(left, 2 ** (weight_bits - 1), 127), magnitudes(right, 2**activation_bits, 255))
        for left, right in zip(KINDS, (*KINDS[2:], *KINDS[:2]), strict=True)
    ]


def run_sum(block: str, values: dict[str, Any], simulator: str, **changed: Any) -> None:
    design = generate(block, **values)
    parameters = design.description["parameters"]
    bits = parameters["weight_bits"], parameters["activation_bits"]
    config = {
        "lanes": 1,
        **parameters,
        "element": block == "lcq_pe",
        "latency": design.description["latency"],
        "tables": design.description["tables"],
        "accumulator_width": width_of(design, "accumulator"),
        "scenarios": scenarios(*bits),
        **changed,
    }
    bench = Bench(module="verif.benches.companding", toplevel=block, sources=[written(design)])
    run(bench, simulator=simulator, config=config)


def run_decoder(design: Design, simulator: str, **changed: Any) -> None:
    parameters = design.description["parameters"]
    signed = not parameters["unsigned"]
    count = 2 ** (parameters["bits"] - signed)
    tables = [magnitudes(kind, count, 2 ** (parameters["outer_bits"] - signed) - 1) for kind in KINDS]
    config = {
        **parameters,
        "code_width": parameters["bits"],
        "signed": signed,
        "tables": tables,
        "levels": [signed_levels(table) if signed else table for table in tables],
        **changed,
    }
    bench = Bench(module="verif.benches.lut_decoder", toplevel="lut_decoder", sources=[written(design)])
    run(bench, simulator=simulator, config=config)


def sized(weight_bits: int, activation_bits: int, **values: Any) -> dict[str, Any]:
    return {"weight_bits": weight_bits, "activation_bits": activation_bits, "depth": 35, **values}


SUMS = ("lcq_pe", "lcq_dot", "product_dot")
EVERYWHERE = [
    ("lcq_dot", sized(3, 3, lanes=3, banks=2)),
    ("product_dot", sized(3, 3, lanes=3, banks=2)),
]
REST = [
    ("lcq_pe", sized(3, 3, banks=2)),
    *(
        (block, sized(bits, bits, **({} if block == "lcq_pe" else {"lanes": 5})))
        for block, bits in product(SUMS, (2, 4))
    ),
]
LONG = [
    ("lcq_pe", sized(7, 5, depth=4096)),
    ("lcq_dot", sized(2, 4, lanes=1, banks=3, registers=True)),
    ("lcq_dot", sized(5, 3, lanes=16, banks=2, depth=160)),
    ("product_dot", sized(4, 2, lanes=2, banks=3, registers=True)),
    ("product_dot", sized(5, 3, lanes=16, depth=160)),
]
DECODERS = [
    {"bits": 3, "lanes": 3, "banks": 2},
    {"bits": 2, "lanes": 1},
    {"bits": 4, "lanes": 5, "banks": 3, "unsigned": True},
    {"bits": 4, "outer_bits": 12, "lanes": 2, "registers": True},
    {"bits": 1, "outer_bits": 2, "unsigned": True},
]


@pytest.mark.parametrize("values", DECODERS[:1], ids=label)
def test_decoder(values: dict[str, Any], simulator: str) -> None:
    run_decoder(generate("lut_decoder", **values), simulator)


@pytest.mark.parametrize("values", DECODERS[1:], ids=label)
def test_decoder_on_icarus(values: dict[str, Any], icarus: str) -> None:
    run_decoder(generate("lut_decoder", **values), icarus)


@pytest.mark.nightly
@pytest.mark.parametrize("values", DECODERS[1:], ids=label)
def test_decoder_on_verilator(values: dict[str, Any], verilator: str) -> None:
    run_decoder(generate("lut_decoder", **values), verilator)


@pytest.mark.parametrize(("block", "values"), EVERYWHERE, ids=label)
def test_sum(block: str, values: dict[str, Any], simulator: str) -> None:
    """Both dot products equal the same products of levels, so each other."""
    run_sum(block, values, simulator)


@pytest.mark.parametrize(("block", "values"), REST, ids=label)
def test_sum_on_icarus(block: str, values: dict[str, Any], icarus: str) -> None:
    run_sum(block, values, icarus)


@pytest.mark.nightly
@pytest.mark.parametrize(("block", "values"), REST, ids=label)
def test_sum_on_verilator(block: str, values: dict[str, Any], verilator: str) -> None:
    run_sum(block, values, verilator)


@pytest.mark.nightly
@pytest.mark.parametrize(("block", "values"), LONG, ids=label)
def test_larger_sum(block: str, values: dict[str, Any], simulator: str) -> None:
    run_sum(block, values, simulator)


def test_tables_of_the_sweep_written_out() -> None:
    assert [magnitudes(kind, 4, 127) for kind in KINDS[:3]] == [
        (0, 42, 84, 127),
        (0, 1, 2, 127),
        (0, 125, 126, 127),
    ]
    assert [magnitudes(kind, 2, 127) for kind in KINDS[:3]] == [(0, 127), (0, 127), (0, 127)]


def test_a_wrong_level_is_seen(icarus: str) -> None:
    wrong = scenario((0, 3), (0, 9))
    wrong["weight_levels"] = [0, 3, 0, -4]
    with pytest.raises(SimulationError, match="every_pair: sum 0 is -27, not -36"):
        run_sum("product_dot", sized(2, 1, lanes=1), icarus, scenarios=[wrong])


def test_a_wrong_level_of_a_decoder_is_seen(icarus: str) -> None:
    with pytest.raises(SimulationError, match=r"every_code: levels are \[-5\], not \[-6\]"):
        run_decoder(generate("lut_decoder", bits=2), icarus, tables=[[0, 5]], levels=[[0, 5, 0, -6]])


def test_a_word_that_counts_in_the_cycle_of_its_write_is_seen(icarus: str) -> None:
    design = generate("lut_decoder", bits=2)
    word = "table_memory[codes[0]]"
    forwarded = design.verilog.replace(
        f"= {word}", f"= write_enable && write_address == codes[0] ? write_data : {word}"
    )
    assert forwarded != design.verilog
    with pytest.raises(SimulationError, match="rewritten_during_traffic: levels are"):
        run_decoder(replace(design, verilog=forwarded), icarus)

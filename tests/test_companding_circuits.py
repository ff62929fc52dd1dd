"""What companded blocks map to, what their descriptions say, and what they refuse."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

from fpga.targets import TARGETS
from gen.__main__ import main
from gen.blocks import catalog
from gen.verilog import generate
from hdl.companding import Companding, LoadableTable, LutDecoder
from hdl.companding_dot import CompandedDot, CompandedElement, ProductDot

BLOCKS = ("lut_decoder", "lcq_pe", "lcq_dot", "product_dot")
LARGE = {"bits": 8, "lanes": 1, "unsigned": True}


def kinds(verilog: str, *, top: str, target: str) -> dict[str, int]:
    chosen = TARGETS[target]
    return chosen.summary(chosen.synthesize(verilog, top=top).cells)


@pytest.mark.parametrize(
    ("block", "values", "target", "memories"),
    [
        ("lut_decoder", LARGE, "ecp5", 256 // 16 * 2),
        ("lut_decoder", {"bits": 4, "lanes": 16}, "ecp5", 16 * 2),
        pytest.param("lcq_dot", {"lanes": 2}, "ecp5", 2 * (2 + 2), marks=pytest.mark.nightly),
        ("product_dot", {"lanes": 2}, "ecp5", 2 * 128 // 16 * 4),
        ("product_dot", {"lanes": 1}, "xilinx", 10),
    ],
)
def test_tables_are_distributed_memory(
    block: str, values: dict[str, Any], target: str, memories: int
) -> None:
    """A copy for each lane, in cells of 16 words by 4 bits or 64 by 3; none is a block memory."""
    found = kinds(generate(block, **values).verilog, top=block, target=target)
    assert (found["block memories"], found["LUT memories"]) == (0, memories)


def test_an_unmarked_table_would_be_a_block_memory() -> None:
    text = generate("lut_decoder", **LARGE).verilog
    unmarked = text.replace('(* ram_style = "distributed" *)', "")
    assert unmarked != text
    assert kinds(unmarked, top="lut_decoder", target="ecp5")["block memories"] == 1


def test_tables_in_registers_need_no_memory() -> None:
    """What an iCE40 needs, which has block memories only."""
    text = generate("lut_decoder", bits=4, lanes=2, registers=True).verilog
    found = kinds(text, top="lut_decoder", target="ice40")
    assert (found["block memories"], found["LUT memories"]) == (0, 0)
    assert found["flip-flops"] == 8 * 7 + 2 * 8


@pytest.mark.parametrize(
    ("name", "example"), [(name, example) for name in BLOCKS for example in catalog()[name].examples]
)
def test_examples_work(name: str, example: str) -> None:
    outcome = CliRunner().invoke(main, [name, *example.split(), "-o", "-"])
    assert outcome.exit_code == 0
    assert f"module {name}(" in outcome.stdout


def test_description_of_a_decoder() -> None:
    description = generate("lut_decoder", bits=4, lanes=3, banks=2).description
    assert description["latency"] == 1
    assert description["code_layout"] == [
        {"name": "index", "lsb": 0, "width": 3},
        {"name": "sign", "lsb": 3, "width": 1},
    ]
    assert description["tables"] == {
        "write": {
            "words": 8,
            "word_width": 7,
            "address": "8 * bank + i",
            "contents": "magnitude of the index i",
        }
    }
    assert description["writing"].startswith("A word is written at the end of a cycle with enable")


@pytest.mark.parametrize(
    ("block", "values", "latency", "tables"),
    [
        ("lcq_pe", {}, 2, {"weight_write": (8, 7), "activation_write": (16, 8)}),
        ("lcq_dot", {"lanes": 16}, 3 + 4, {"weight_write": (8, 7), "activation_write": (16, 8)}),
        ("lcq_dot", {"lanes": 1, "weight_bits": 2}, 3, {"weight_write": (2, 7), "activation_write": (16, 8)}),
        ("product_dot", {"lanes": 5}, 2 + 3, {"write": (128, 15)}),
    ],
)
def test_description_of_a_sum(
    block: str, values: dict[str, Any], latency: int, tables: dict[str, tuple[int, int]]
) -> None:
    description = generate(block, **values).description
    found = {name: (each["words"], each["word_width"]) for name, each in description["tables"].items()}
    assert (description["latency"], found) == (latency, tables)
    ports = {port["name"]: port["width"] for port in description["ports"]}
    for name, (words, width) in tables.items():
        assert ports[f"{name}_data"] == width
        assert 2 ** ports[f"{name}_address"] == words


@pytest.mark.parametrize(
    ("block", "largest"), [("lcq_pe", 127 * 255), ("lcq_dot", 127 * 255), ("product_dot", 2**15 - 1)]
)
@pytest.mark.parametrize("depth", [1, 4, 5, 4096])
def test_accumulators_are_as_wide_as_the_outer_bits_need(block: str, largest: int, depth: int) -> None:
    description = generate(block, depth=depth, **({} if block == "lcq_pe" else {"lanes": 1})).description
    port = next(each for each in description["ports"] if each["name"] == "accumulator")
    assert 2 ** (port["width"] - 2) <= depth * largest < 2 ** (port["width"] - 1)


WIDTHS = Companding(weight_bits=4, activation_bits=4)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: LoadableTable(address_width=13, word_width=8, ports=1),
            ValueError,
            "address_width must be an integer from 1 to 12, not 13",
        ),
        (
            lambda: LoadableTable(address_width=4, word_width=33, ports=1),
            ValueError,
            "word_width must be an integer from 1 to 32, not 33",
        ),
        (
            lambda: LoadableTable(address_width=4, word_width=8, ports=0),
            ValueError,
            "ports must be an integer from 1 to 256, not 0",
        ),
        (
            lambda: LoadableTable(address_width=4, word_width=8, ports=1, registers=1),
            TypeError,
            "registers must be True or False, not 1",
        ),
        (
            lambda: LutDecoder(bits=1, outer_bits=8, lanes=1),
            ValueError,
            "bits must be an integer from 2 to 13, not 1",
        ),
        (
            lambda: LutDecoder(bits=4, outer_bits=1, lanes=1),
            ValueError,
            "outer_bits must be an integer from 2 to 32, not 1",
        ),
        (
            lambda: LutDecoder(bits=4, outer_bits=8, lanes=257),
            ValueError,
            "lanes must be an integer from 1 to 256, not 257",
        ),
        (
            lambda: LutDecoder(bits=4, outer_bits=8, lanes=1, banks=65),
            ValueError,
            "banks must be an integer from 1 to 64, not 65",
        ),
        (
            lambda: LutDecoder(bits=12, outer_bits=8, lanes=1, banks=3),
            ValueError,
            "bits and banks must give at most 4096 words, not 8192",
        ),
        (
            lambda: LutDecoder(bits=4, outer_bits=8, lanes=1, signed=None),
            TypeError,
            "signed must be True or False, not None",
        ),
        (
            lambda: Companding(weight_bits=1, activation_bits=4),
            ValueError,
            "weight_bits must be an integer from 2 to 8, not 1",
        ),
        (
            lambda: Companding(weight_bits=4, activation_bits=9),
            ValueError,
            "activation_bits must be an integer from 1 to 8, not 9",
        ),
        (
            lambda: Companding(weight_bits=4, activation_bits=4, outer_bits=17),
            ValueError,
            "outer_bits must be an integer from 2 to 16, not 17",
        ),
        (
            lambda: Companding(weight_bits=4, activation_bits=4, activation_outer_bits=1),
            ValueError,
            "activation_outer_bits must be an integer from 2 to 16, not 1",
        ),
        (
            lambda: Companding(weight_bits=4, activation_bits=4, banks=0),
            ValueError,
            "banks must be an integer from 1 to 64, not 0",
        ),
        (
            lambda: Companding(weight_bits=4, activation_bits=4, registers="yes"),
            TypeError,
            "registers must be True or False, not 'yes'",
        ),
        (
            lambda: CompandedElement(companding=4, depth=8),
            TypeError,
            "companding must be a Companding, not 4",
        ),
        (
            lambda: CompandedElement(companding=WIDTHS, depth=0),
            ValueError,
            "depth must be an integer from 1 to 16777216, not 0",
        ),
        (
            lambda: CompandedDot(companding=None, lanes=1, depth=8),
            TypeError,
            "companding must be a Companding, not None",
        ),
        (
            lambda: CompandedDot(companding=WIDTHS, lanes=0, depth=8),
            ValueError,
            "lanes must be an integer from 1 to 256, not 0",
        ),
        (
            lambda: CompandedDot(companding=WIDTHS, lanes=1, depth=8, accumulator_width=18),
            ValueError,
            "accumulator_width must be at least 19 for sums of 8 products, not 18",
        ),
        (
            lambda: ProductDot(companding=(), lanes=1, depth=8),
            TypeError,
            "companding must be a Companding, not ()",
        ),
        (
            lambda: ProductDot(companding=WIDTHS, lanes=300, depth=8),
            ValueError,
            "lanes must be an integer from 1 to 256, not 300",
        ),
        (
            lambda: ProductDot(companding=Companding(weight_bits=8, activation_bits=6), lanes=1, depth=8),
            ValueError,
            "weight_bits, activation_bits and banks must give at most 4096 products, not 8192",
        ),
    ],
)
def test_refusals(make: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        make()

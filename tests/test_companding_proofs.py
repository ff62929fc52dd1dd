"""Proofs of companded blocks: claims hold for all contents of tables, and broken circuits are refuted."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
from amaranth.hdl import Const

from gen.verilog import Design
from verif.claim import Claim
from verif.claims import companding
from verif.claims.companding import CLAIMS, DOT, Decoder, SameSum, Sum, both, opened
from verif.proofs import ProofError, prove, prove_design


def broken(design: Design, old: str, new: str) -> Design:
    assert design.verilog.count(old) == 1
    return replace(design, verilog=design.verilog.replace(old, new))


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if not claim.slow], ids=str)
def test_holds(claim: Claim) -> None:
    prove(claim)


@pytest.mark.nightly
@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if claim.slow], ids=str)
def test_holds_for_larger_blocks(claim: Claim) -> None:
    prove(claim)


def test_opening_shows_the_words_and_changes_nothing_else() -> None:
    design = opened("lut_decoder", bits=2, outer_bits=4)
    lines = design.verilog.splitlines()
    assert lines[-3:] == [
        "  output [5:0] table_memory_words;",
        "  assign table_memory_words = { table_memory[1], table_memory[0] };",
        "endmodule",
    ]
    assert design.description["ports"][-1]["name"] == "table_memory_words"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("= table_memory[{ bank, codes[0] }]", "= table_memory[{ 1'h0, codes[0] }]"),
        (
            "= table_memory[{ bank, codes[0] }]",
            "= write_enable ? write_data : table_memory[{ bank, codes[0] }]",
        ),
        ("if (write_enable)", "if (write_enable && write_address != 3)"),
        ("table_memory_index] = 3'd0", "table_memory_index] = 3'd1"),
    ],
)
def test_a_broken_decoder_is_refuted(old: str, new: str) -> None:
    design = broken(opened("lut_decoder", bits=2, outer_bits=4, banks=2), old, new)
    with pytest.raises(ProofError, match="counterexample"):
        prove_design(design, specification=Decoder, name="broken")


def test_a_wrong_sign_is_refuted() -> None:
    design = broken(opened("product_dot", **DOT), "product0 <= { weights[1],", "product0 <= { weights[3],")
    with pytest.raises(ProofError, match="counterexample"):
        prove_design(design, specification=Sum, name="broken")


def test_a_product_table_addressed_the_other_way_round_is_refuted() -> None:
    old, new = "{ activations[1:0], weights[0] }", "{ weights[0], activations[1:0] }"
    with pytest.raises(ProofError, match="counterexample"):
        prove_design(broken(opened("product_dot", **DOT), old, new), specification=Sum, name="broken")


def test_sums_by_any_products_are_not_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both dot products differ as soon as products are not held to be the levels'."""
    monkeypatch.setattr(companding, "consistent", lambda *_: Const(1))
    with pytest.raises(ProofError, match="counterexample"):
        prove_design(both("product_dot", **DOT), specification=SameSum, name="unequal")


@pytest.mark.parametrize(("depth", "holds"), [(14, True), (15, False)])
def test_a_sum_that_does_not_fit_is_not_proven(depth: int, holds: bool) -> None:
    """Eight bits hold 14 products of 9, but not 15."""
    design = opened("lcq_pe", **{key: value for key, value in DOT.items() if key != "lanes"})
    parameters = {**design.description["parameters"], "depth": depth}
    changed = replace(design, description={**design.description, "parameters": parameters})
    with nullcontext() if holds else pytest.raises(ProofError, match="not proven"):
        prove_design(changed, specification=Sum, name="depth")

"""Proofs: claims hold, and broken circuits are refuted."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
from click.testing import CliRunner

from gen.verilog import Design, generate
from verif.__main__ import main
from verif.claim import Claim
from verif.claims import catalog
from verif.claims.sums import specified
from verif.proofs import ProofError, prove, prove_design

SUMS = [claim for claim in catalog() if claim.specification is specified]
QUICK = [claim for claim in SUMS if claim.parameters.get("n") != 2 and claim.block != "table_dot"]


@pytest.mark.parametrize("claim", QUICK, ids=str)
def test_holds(claim: Claim) -> None:
    prove(claim)


@pytest.mark.nightly
@pytest.mark.parametrize("claim", [claim for claim in SUMS if claim not in QUICK], ids=str)
def test_holds_for_larger_blocks(claim: Claim) -> None:
    prove(claim)


@pytest.fixture
def element() -> Design:
    return generate("apot_pe", k=2, n=2, activation_width=4, depth=64)


def test_a_broken_circuit_is_refuted(element: Design) -> None:
    broken = element.verilog.replace(" ^ {", " | {", 1)
    assert broken != element.verilog
    with pytest.raises(ProofError, match="counterexample"):
        prove_design(replace(element, verilog=broken), specification=specified, name="broken")


@pytest.mark.parametrize("code", [1, 15, 31])
def test_one_wrong_level_is_refuted(element: Design, code: int) -> None:
    levels = list(element.description["levels"])
    levels[code] += 1
    description = {**element.description, "levels": levels}
    with pytest.raises(ProofError, match="counterexample"):
        prove_design(replace(element, description=description), specification=specified, name="broken")


@pytest.mark.parametrize(("depth", "holds"), [(91, True), (92, False)])
def test_a_sum_that_does_not_fit_is_not_proven(element: Design, depth: int, holds: bool) -> None:
    """17 bits hold 91 products of 48 · 15, but not 92."""
    parameters = {**element.description["parameters"], "depth": depth}
    claim = replace(element, description={**element.description, "parameters": parameters})
    with nullcontext() if holds else pytest.raises(ProofError, match="not proven"):
        prove_design(claim, specification=specified, name="depth")


def test_command_line() -> None:
    done = CliRunner().invoke(main, ["prove", "pot_pe"])
    assert done.exit_code == 0
    assert done.stdout.count("holds") == 2


def test_unknown_block_is_refused() -> None:
    refused = CliRunner().invoke(main, ["prove", "no_pe"])
    assert refused.exit_code == 2
    assert "BLOCKS must be among apot_pe, pot_pe" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1

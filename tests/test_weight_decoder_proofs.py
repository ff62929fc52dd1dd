"""Proofs of the weights' decoder: claims hold for all contents and writes, broken circuits are refuted."""

from dataclasses import replace

import pytest

from verif.claim import Claim
from verif.claims.weight_decoder import CLAIMS, Decoder
from verif.proofs import ProofError, prove, prove_design


@pytest.mark.parametrize("claim", CLAIMS, ids=str)
def test_holds(claim: Claim) -> None:
    prove(claim)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("= row1_memory[held_weights[5:4]]", "= row1_memory[held_weights[7:6]]"),
        ("= row0_memory[held_weights[1:0]]", "= write_enable ? write_data : row0_memory[held_weights[1:0]]"),
        ("row1_memory[write_address] <= write_data", "row1_memory[write_address] <= ~write_data"),
        ("row0_memory[row0_memory_index] = 4'd0", "row0_memory[row0_memory_index] = 4'd1"),
    ],
)
def test_a_broken_decoder_is_refuted(old: str, new: str) -> None:
    design = CLAIMS[0].design()
    assert design.verilog.count(old) == 1
    broken = replace(design, verilog=design.verilog.replace(old, new))
    with pytest.raises(ProofError, match="counterexample"):
        prove_design(broken, specification=Decoder, name="broken")

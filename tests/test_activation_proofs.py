"""Proofs of activation decoders and encoders: claims hold, and what is broken is refuted."""

from dataclasses import replace
from typing import Any

import pytest

from gen.verilog import generate
from verif.claim import Claim
from verif.claims.activation import (
    CLAIMS,
    FixedDecoder,
    FixedEncoder,
    LoadedDecoder,
    LoadedEncoder,
)
from verif.claims.companding import opened
from verif.proofs import ProofError, prove, prove_design

LONG = [claim for claim in CLAIMS if claim.parameters.get("format") in ("uniform_b8u", "apot_k2n4u")]


@pytest.mark.parametrize("claim", [claim for claim in CLAIMS if claim not in LONG], ids=str)
def test_holds(claim: Claim) -> None:
    prove(claim)


@pytest.mark.nightly
@pytest.mark.parametrize("claim", LONG, ids=str)
def test_holds_for_codes_of_a_byte(claim: Claim) -> None:
    prove(claim)


@pytest.mark.parametrize(
    ("block", "specification", "fact", "place", "change"),
    [
        ("activation_decoder", FixedDecoder, "levels", 0, 1),
        ("activation_decoder", FixedDecoder, "levels", 15, -1),
        ("activation_encoder", FixedEncoder, "boundaries", 0, 1),
        ("activation_encoder", FixedEncoder, "boundaries", 7, -1),
        ("activation_encoder", FixedEncoder, "boundaries", 14, 1),
    ],
)
def test_one_wrong_number_is_refuted(
    block: str, specification: Any, fact: str, place: int, change: int
) -> None:
    design = generate(block, format="apot_k2n2u", lanes=1)
    numbers = list(design.description[fact])
    numbers[place] += change
    description = {**design.description, fact: numbers}
    with pytest.raises(ProofError, match="counterexample"):
        prove_design(replace(design, description=description), specification=specification, name="broken")


DECODER = {"tables": 2, "code_width": 2, "activation_width": 3, "lanes": 1}
ENCODER = {"encodings": 2, "code_width": 2, "value_width": 4, "lanes": 1}


@pytest.mark.parametrize(
    ("block", "parameters", "specification", "old", "new"),
    [
        ("activation_decoder", DECODER, LoadedDecoder, "{ table_select, codes }", "{ 1'h0, codes }"),
        ("activation_decoder", DECODER, LoadedDecoder, "inside_tensor ? ", "1'h1 ? "),
        ("activation_decoder", DECODER, LoadedDecoder, "if (write_enable)", "if (1)"),
        ("activation_encoder", ENCODER, LoadedEncoder, "< $signed(value0_0)", "<= $signed(value0_0)"),
        ("activation_encoder", ENCODER, LoadedEncoder, "< $signed(values)", "< values"),
        ("activation_encoder", ENCODER, LoadedEncoder, "boundaries0_0[encoding]", "boundaries0_0[0]"),
    ],
)
def test_a_broken_circuit_is_refuted(
    block: str, parameters: dict[str, Any], specification: Any, old: str, new: str
) -> None:
    design = opened(block, **parameters)
    assert design.verilog.count(old) == 1
    broken = replace(design, verilog=design.verilog.replace(old, new))
    with pytest.raises(ProofError, match="counterexample"):
        prove_design(broken, specification=specification, name="broken")

"""Proofs: claims hold, and broken circuits are refuted."""

import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
from click.testing import CliRunner

from gen.verilog import Design, generate
from verif.__main__ import main
from verif.claim import Claim
from verif.claims import catalog
from verif.claims.dots import Planes, Sums, terms, with_one_plane
from verif.claims.streams import SIZE, Held, Packets, Payloads, Responses, opened
from verif.claims.sums import Sum
from verif.proofs import ProofError, prove, prove_design

OWN = [
    claim
    for claim in catalog()
    if claim.block.endswith("_pe") or claim.block in ("responder", "packet_reader", "payload_mover")
]
QUICK = ("signmag_pe --bits 2", "table_pe --format uniform_b4", "responder", "payload_mover")
FOUR = {"lanes": 4, "activation_width": 4, "depth": 64}

refuted = pytest.raises(ProofError, match="counterexample")


@pytest.mark.parametrize("claim", [claim for claim in OWN if str(claim).startswith(QUICK)], ids=str)
def test_holds(claim: Claim) -> None:
    prove(claim)


@pytest.mark.nightly
@pytest.mark.parametrize("claim", [each for each in catalog() if not each.slow], ids=str)
def test_every_claim_holds(claim: Claim) -> None:
    prove(claim)


def changed(design: Design, pattern: str, replacement: str) -> Design:
    """The design with the first match of `pattern` in its Verilog replaced."""
    verilog, times = re.subn(pattern, replacement, design.verilog, count=1, flags=re.MULTILINE)
    assert times == 1
    return replace(design, verilog=verilog)


@pytest.fixture(scope="module")
def element() -> Design:
    return generate("apot_pe", k=2, n=2, activation_width=4, depth=64)


def test_a_broken_circuit_is_refuted(element: Design) -> None:
    with refuted:
        prove_design(changed(element, r" \^ \{", " | {"), specification=Sum, name="broken")


@pytest.mark.parametrize("code", [1, 31])
def test_one_wrong_level_is_refuted(element: Design, code: int) -> None:
    levels = list(element.description["levels"])
    levels[code] += 1
    description = {**element.description, "levels": levels}
    with refuted:
        prove_design(replace(element, description=description), specification=Sum, name="broken")


@pytest.mark.parametrize(("depth", "holds"), [(91, True), (92, False)])
def test_a_sum_that_does_not_fit_is_not_proven(element: Design, depth: int, holds: bool) -> None:
    """17 bits hold 91 products of 48 · 15, but not 92."""
    parameters = {**element.description["parameters"], "depth": depth}
    claim = replace(element, description={**element.description, "parameters": parameters})
    with nullcontext() if holds else pytest.raises(ProofError, match="not proven"):
        prove_design(claim, specification=Sum, name="depth")


@pytest.fixture(scope="module")
def dot() -> Design:
    return generate("apot_dot", k=2, n=1, **FOUR)


def prove_terms(design: Design) -> None:
    prove_design(design, specification=terms, name="terms", from_any_state=True)


def test_dot_products_hold(dot: Design) -> None:
    prove_terms(dot)
    prove_design(dot, specification=Sums, name="sums")


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r"\{ row0_lane3_term0, ", "{ row0_lane2_term0, "),
        (r"row0_carry1_0 \}\)", "1'h0 })"),
        (r"row0_lane1_term0_field <= ", "row0_lane1_term0_field <= 2'h1 & "),
    ],
    ids=["wrong term in a lane", "carry dropped", "code's bit dropped"],
)
def test_a_broken_dot_product_is_refuted(dot: Design, pattern: str, replacement: str) -> None:
    with refuted:
        prove_terms(changed(dot, pattern, replacement))


def test_an_accumulator_one_bit_too_narrow_is_not_proven(dot: Design) -> None:
    parameters = {**dot.description["parameters"], "depth": 2 * FOUR["depth"]}
    narrow = replace(dot, description={**dot.description, "parameters": parameters})
    with pytest.raises(ProofError, match="not proven"):
        prove_design(narrow, specification=Sums, name="narrow")


def test_an_accumulator_that_forgets_its_clear_is_refuted(dot: Design) -> None:
    with refuted:
        prove_design(
            changed(dot, r"delayed_(\d+) \? 13'h0000 : ", "1'h0 ? 13'h0000 : "), specification=Sums, name=""
        )


def test_planes_are_weighted_sums() -> None:
    design = with_one_plane("basis_dot", coordinates=(5, 8), folded=True, **FOUR)
    prove = partial(prove_design, specification=Planes, name="planes", from_any_state=True)
    prove(design)
    wrong = {"coordinates": [5, 9], "levels": [-14, -4, 4, 14]}
    with refuted:
        prove(replace(design, description={**design.description, **wrong}))


@pytest.fixture(scope="module")
def responder() -> Design:
    return opened("responder", **SIZE)


@pytest.mark.parametrize(
    ("specification", "pattern", "replacement"),
    [
        pytest.param(
            Held, r"held_status, held_cycles, waiting", "status, held_cycles, waiting", id="payload changes"
        ),
        pytest.param(Responses, r"= net_\d+ \? 3'h3 : fsm_state", "= 3'h3", id="word dropped"),
        pytest.param(
            Responses,
            r"= net_\d+ \? 3'h3 : fsm_state",
            "= fsm_state",
            marks=pytest.mark.nightly,
            id="words doubled",
        ),
    ],
)
def test_a_broken_response_is_refuted(
    responder: Design, specification: Callable[..., Responses], pattern: str, replacement: str
) -> None:
    with refuted:
        prove_design(changed(responder, pattern, replacement), specification=specification, name="", steps=8)


def test_a_word_that_is_taken_too_early_is_refuted() -> None:
    reader = changed(
        opened("packet_reader", **SIZE),
        r"^  assign ready = (.*);$",
        r"  assign ready = (\1) | enable;",
    )
    with refuted:
        prove_design(reader, specification=Packets, name="reader", steps=4)


def test_a_word_of_a_payload_that_is_not_written_is_refuted() -> None:
    writer = changed(
        opened("payload_mover", **SIZE),
        r"^  assign busy = (.*);$",
        r"  assign busy = (\1) & host_write_enable;",
    )
    with refuted:
        prove_design(writer, specification=Payloads, name="writer", steps=4)


def test_a_word_that_is_shown_too_early_is_refuted() -> None:
    mover = changed(opened("payload_mover", **SIZE), r"age == 3'h4", "age == 3'h3")
    with refuted:
        prove_design(mover, specification=Payloads, name="mover", steps=8)


def test_command_line() -> None:
    done = CliRunner().invoke(main, ["prove", "signmag_pe"])
    assert done.exit_code == 0
    assert done.stdout.count("holds") == 2


def test_unknown_block_is_refused() -> None:
    refused = CliRunner().invoke(main, ["prove", "no_pe"])
    assert refused.exit_code == 2
    assert "BLOCKS must be among " in refused.stderr
    assert len(refused.stderr.splitlines()) == 1

"""Every program ends: proven of the sequencer, and not of sequencers that hang."""

from collections.abc import Callable
from typing import Any

import pytest
from amaranth.hdl import Value

from hdl import sequencer
from hdl.parameters import AcceleratorParameters
from hdl.walker import Walker
from verif.claim import Claim
from verif.claims.sequencer import CLAIMS
from verif.proofs import ProofError, prove

CODEBOOKS = next(claim for claim in CLAIMS if "codebooks" in claim.parameters)


@pytest.mark.parametrize("claim", [CLAIMS[0], CODEBOOKS], ids=str)
def test_every_program_ends(claim: Claim) -> None:
    prove(claim)


def unchecked(patch: pytest.MonkeyPatch) -> None:
    """No tiles are none too many."""
    patch.setattr(sequencer, "LAYER_DIMENSIONS", tuple(set(sequencer.LAYER_DIMENSIONS) - {"tiles"}))


def stuck(patch: pytest.MonkeyPatch) -> None:
    """A pass that is shorter than the groups waits for them in vain."""
    patch.setattr(Walker, "_stretch_passes", lambda self, _m, _advance: waiting(self))


def waiting(walker: Any) -> Value:
    return walker._pass_end & (walker._current.count == 1)


def test_a_codebook_that_is_never_copied_is_not_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AcceleratorParameters, "codebook_cycles", 0)
    with pytest.raises(ProofError):
        prove(CODEBOOKS)


@pytest.mark.parametrize("broken", [unchecked, stuck])
def test_what_may_hang_is_not_proven(
    broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    with pytest.raises(ProofError):
        prove(CLAIMS[0])

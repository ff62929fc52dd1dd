"""Every program ends: proven of the sequencer, and not of sequencers that hang."""

from collections.abc import Callable
from typing import Any

import pytest
from amaranth.hdl import Value

from hdl import sequencer
from hdl.walker import Walker
from verif.claims.sequencer import CLAIMS
from verif.proofs import ProofError, prove


def test_every_program_ends() -> None:
    prove(CLAIMS[0])


def unchecked(patch: pytest.MonkeyPatch) -> None:
    """No tiles are none too many."""
    patch.setattr(sequencer, "LAYER_DIMENSIONS", tuple(set(sequencer.LAYER_DIMENSIONS) - {"tiles"}))


def stuck(patch: pytest.MonkeyPatch) -> None:
    """A pass that is shorter than the groups waits for them in vain."""
    patch.setattr(Walker, "_stretch_passes", lambda self, _m, _advance: waiting(self))


def waiting(walker: Any) -> Value:
    return walker._pass_end & (walker._current.count == 1)


@pytest.mark.parametrize("broken", [unchecked, stuck])
def test_what_may_hang_is_not_proven(
    broken: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    with pytest.raises(ProofError):
        prove(CLAIMS[0])

"""Finished runs, kept in a folder: what an interrupted comparison goes on with."""

import json
from pathlib import Path

from hdl.console import RefusedError
from hdl.files import write_text

from ..checkpoint import load, save
from .contender import Run
from .execution import Outcome


class Cache:
    """Two files for each run by its key: what was measured, and the network as a checkpoint of `train`.

    Failed runs are not kept, so that the next comparison tries them again.

    Parameters
    ----------
    folder
        Made when the first run is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: str) -> Outcome | None:
        """A run's outcome without its network; None if it was not kept.

        Raises
        ------
        RefusedError
            If the file is damaged.
        """
        path = self.folder / f"{key}.json"
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))["facts"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise RefusedError(f"{path}: must be a finished run's file; remove it") from error
        return Outcome(facts=facts)

    def with_network(self, key: str, outcome: Outcome) -> Outcome:
        """The same outcome with its network, which other runs start from."""
        return Outcome(facts=outcome.facts, checkpoint=load(self.folder / f"{key}.pt"))

    def keep(self, key: str, run: Run, outcome: Outcome) -> None:
        """Write both files, if the run did not fail."""
        if outcome.failed:
            return
        assert outcome.checkpoint is not None
        save(outcome.checkpoint, self.folder / f"{key}.pt")
        content = {"run": str(run), "facts": outcome.facts}
        write_text(self.folder / f"{key}.json", json.dumps(content, indent=2) + "\n")

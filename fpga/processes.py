"""Child processes of a thread pool, all of which can be stopped at once."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from threading import Lock


class StoppedError(Exception):
    """The work was given up from outside."""


class Processes:
    """Runs children for any number of threads until `stop` kills them and refuses more.

    Children get a session of their own, so that Ctrl-C reaches the parent alone, which then decides.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def run(self, command: Sequence[str | Path], *, cwd: Path) -> tuple[int, str]:
        """Run to the end: the exit status, and what was printed, errors last.

        Raises
        ------
        StoppedError
            If `stop` was called before or meanwhile.
        """
        with self._lock:
            if self._stopped:
                raise StoppedError
            child = subprocess.Popen(
                command,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            self._running.add(child)
        try:
            output, errors = child.communicate()
        except BaseException:
            child.kill()
            child.wait()
            raise
        finally:
            with self._lock:
                self._running.discard(child)
        if self._stopped:
            raise StoppedError
        return child.returncode, output + errors

    @property
    def running(self) -> int:
        """How many children there are."""
        with self._lock:
            return len(self._running)

    def stop(self) -> None:
        """Kill every child, and start none any more."""
        with self._lock:
            self._stopped = True
            for child in self._running:
                child.kill()

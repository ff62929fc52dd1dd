"""Results by the hash of what they come from; an interrupted run leaves whole results or none."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hdl.files import write_bytes


def digest(*parts: Any) -> str:
    """A hash of values that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Cache:
    """A folder of results.

    Parameters
    ----------
    folder
        Made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str, make: Callable[[], Any]) -> Any:
        """The result for `key`, made and kept if it is not there, or cannot be read."""
        path = self._folder / key[:2] / f"{key}.json.gz"
        try:
            return json.loads(gzip.decompress(path.read_bytes()))
        except (OSError, EOFError, ValueError, zlib.error):
            result = make()
        write_bytes(path, gzip.compress(json.dumps(result).encode(), compresslevel=4, mtime=0))
        return result

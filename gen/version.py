"""The generator's version, as the project file gives it."""

import tomllib
from functools import cache
from pathlib import Path


@cache
def version() -> str:
    """``project.version`` of pyproject.toml, its only home."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    return str(tomllib.loads(text)["project"]["version"])

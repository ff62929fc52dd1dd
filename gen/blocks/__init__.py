"""The catalog of blocks: every module here holds a tuple BLOCKS.  A new family is one more module."""

import importlib
import pkgutil
from functools import cache

from ..block import Block


@cache
def catalog() -> dict[str, Block]:
    """All blocks by name."""
    modules = [
        importlib.import_module(f"{__name__}.{entry.name}")
        for entry in sorted(pkgutil.iter_modules(__path__), key=lambda entry: entry.name)
    ]
    return {block.name: block for module in modules if hasattr(module, "BLOCKS") for block in module.BLOCKS}

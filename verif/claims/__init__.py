"""The claims that `make prove` proves: every module here holds a tuple CLAIMS, and is one family of blocks.

To add a claim, write a component that holds the block (`verif.specification.instance`) and says with
Amaranth's `Assert` what its outputs must be, by other means than the block's own: a level table, a loop over
counts, a register that remembers what it watches.  `Assume` what the block's users promise, and nothing else.
Then list it, here in `verif/claims/relu.py`::

    class Relu(wiring.Component):
        def __init__(self, description):
            self._description = description
            super().__init__({"x": In(signed(8))})

        def elaborate(self, _platform):
            m = Module()
            outputs = instance(m, self._description, x=self.x)
            m.d.comb += Assert(outputs["y"] == Mux(self.x < 0, 0, self.x))
            return m

    CLAIMS = (Claim(block="relu", parameters={"width": 8}, specification=Relu),)

Last, break the block once and see the proof fail.
"""

import importlib
import pkgutil
from functools import cache

from ..claim import Claim


@cache
def catalog() -> tuple[Claim, ...]:
    """All claims, family by family."""
    modules = [
        importlib.import_module(f"{__name__}.{entry.name}")
        for entry in sorted(pkgutil.iter_modules(__path__), key=lambda entry: entry.name)
    ]
    return tuple(claim for module in modules for claim in getattr(module, "CLAIMS", ()))

"""What can be proven: a generated block, and a specification with assertions on it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gen.verilog import Design, generate

if TYPE_CHECKING:
    from amaranth.lib.wiring import Component

Description = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A block keeps to a specification for all inputs and all time.

    Parameters
    ----------
    block
        Of the generator's catalog.
    specification
        Makes, from the description beside the block's Verilog, a component that holds an instance of the
        block (see `verif.specification.instance`) and its assertions and assumptions; or several, which are
        the steps of a proof.
    parameters
        The block's parameters.
    says
        What is claimed, in a few words, to tell claims about the same block apart.
    steps
        Cycles of the induction's longest hypothesis, at least the longest way from an input to an
        assertion.  By default two more than the description's latency.
    from_any_state
        In place of induction: the assertions hold after `steps` cycles from any state whatever, be it
        reachable or not, hence always.  For circuits that forget, whose cycles need no hypothesis; by
        default after as many cycles as the latency.
    generator
        Makes the design, if it is not in the catalog.
    slow
        Left out unless all are asked for.
    """

    block: str
    specification: Callable[[Description], "Component | Iterable[Component]"]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    says: str = ""
    steps: int | None = None
    from_any_state: bool = False
    generator: Callable[..., Design] = generate
    slow: bool = False

    def __str__(self) -> str:
        words = [self.block]
        for name, value in self.parameters.items():
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words.append(f"--{name.replace('_', '-')}" + ("" if value is True else f" {shown}"))
        return " ".join(words) + (f": {self.says}" if self.says else "")

    def design(self) -> Design:
        """The block's Verilog and description."""
        return self.generator(self.block, **self.parameters)

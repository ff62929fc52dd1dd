"""Random graphs on the generated accelerator against the integer reference: every bit and every cycle.

Every test prints its seeds; `graph_case` makes the graph of one again.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hdl.formats import named
from sw.graph import Convolution, Pooling
from tests.accelerator_cases import GRAPHS, check_cases, graph_case, grouped, small, written

QUICK = {"apot_k2n1o_4x8": range(10), "pot_k2_3x2": range(10)}
"""Seeds by shape: 20 graphs on two accelerators, which other tests build as well."""


def check(shape: str, seeds: range, gaps: str, folder: Path, simulator: str) -> None:
    print(f"{shape}: seeds {seeds.start} … {seeds.stop - 1}")
    check_cases([graph_case(shape, seed) for seed in seeds], gaps, written(shape, folder), simulator)


@pytest.mark.parametrize("shape", grouped(QUICK))
def test_random_graphs(shape: str, tmp_path: Path, verilator: str) -> None:
    check(shape, QUICK[shape], "steady", tmp_path, verilator)


@pytest.mark.parametrize("shape", grouped(["apot_k2n1_8x4", "signmag_b6_4x4"]))
def test_random_graphs_on_icarus(shape: str, tmp_path: Path, icarus: str) -> None:
    """Where unknown bits show."""
    check(shape, range(1), "steady", tmp_path, icarus)


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(100, 180, 20))
@pytest.mark.parametrize("shape", grouped(GRAPHS))
def test_many_random_graphs(shape: str, first: int, tmp_path: Path, verilator: str) -> None:
    """240 graphs."""
    check(shape, range(first, first + 20), "both_slow", tmp_path, verilator)


def test_the_random_graphs_cover_the_nodes() -> None:
    """Every kind of node and of what it writes."""
    seen: Counter[str] = Counter()
    for shape, seeds in QUICK.items():
        for seed in seeds:
            case = graph_case(shape, seed)
            seen["border"] += bool(case.network.border)
            seen["signed image"] += named(case.network.input_format).signed
            seen["varied"] += len(np.unique(case.expected)) > 1
            for node in case.network.nodes:
                seen[type(node).__name__] += 1
                seen["residual"] += node.residual is not None
                seen["values"] += node.values is not None
                seen["rectified values"] += node.values is not None and node.rectified
                seen["several encodings"] += len(node.encodings) > 1
                seen["negative thresholds"] += any(each.thresholds[0] < 0 for each in node.encodings)
                width = small(shape).code_width
                seen["wide codes"] += any(len(each.thresholds) >= 2**width for each in node.encodings)
                if isinstance(node, Convolution):
                    seen["depthwise"] += node.groups > 1
                elif isinstance(node, Pooling):
                    seen[node.kind] += 1
                    seen["added channels"] += node.channels_before + node.channels_after > 0
                    seen["pooling as result"] += node.is_result
                    seen["padded pooling"] += node.padding > 0
    assert len(seen) == 17
    assert min(seen.values()) >= 2, seen

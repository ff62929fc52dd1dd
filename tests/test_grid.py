"""Weights back to their levels: exact on the grid, refused off it."""

import numpy as np
import pytest

from hdl.console import RefusedError
from hdl.formats import PoT, Uniform, apot
from sw.grid import grid_levels

GRIDS = [apot(bits=4), apot(bits=5), apot(bits=9), Uniform(bits=8), Uniform(bits=2), PoT(k=4), PoT(k=5)]


@pytest.mark.parametrize("fmt", GRIDS, ids=lambda fmt: fmt.name)
def test_grid_levels_are_found_exactly(fmt):
    generator = np.random.default_rng(1)
    levels = generator.choice(np.array(fmt.grid), size=(70, 1000))
    for scale in generator.lognormal(-3, 2, 20).astype(np.float32):
        weights = levels.astype(np.float32) * scale
        found = grid_levels(weights, float(scale), fmt, name="w")
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, levels)


@pytest.mark.parametrize("fmt", GRIDS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("place", [(0, 0), (69, 999), (65, 600)])
def test_one_weight_off_the_grid_is_refused(fmt, place):
    scale, weights = 0.125, np.zeros((70, 1000), dtype=np.float32)
    top = fmt.grid[-1]
    wrong = {
        0.001: 0,
        0.5: 0,
        2.0 * top + 1: top,
        -3.0 * top - 9: fmt.grid[0],
        np.inf: top,
    }
    for units, nearest in wrong.items():
        weights[place] = units * scale
        with pytest.raises(RefusedError) as caught:
            grid_levels(weights, scale, fmt, name="conv.weight")
        message = str(caught.value)
        assert message.startswith(
            f"conv.weight[{place[0]}, {place[1]}]: must be a level of {fmt.name} times the scale 0.125, "
            f"not {weights[place]:.9g} (nearest level {nearest},"
        )
    weights[place] = np.nan
    with pytest.raises(RefusedError, match="not nan"):
        grid_levels(weights, scale, fmt, name="conv.weight")


def test_grid_integers_between_levels_and_tolerance():
    fmt = apot(bits=4)
    assert 5 not in fmt.grid
    with pytest.raises(
        RefusedError, match=r"w\[1\]: must be a level of apot_k2n1o .* not 5 \(nearest level 4, 4\)"
    ):
        grid_levels(np.array([4.0, 5.0]), 1.0, fmt, name="w")
    assert grid_levels(np.array([4.00009, -9.99991]), 1.0, fmt, name="w").tolist() == [4, -10]
    with pytest.raises(RefusedError, match="nearest level 4"):
        grid_levels(np.array([4.00011]), 1.0, fmt, name="w")


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_grid_scale_is_refused(scale):
    with pytest.raises(RefusedError, match=r"w: scale must be a positive number, not "):
        grid_levels(np.zeros(3), scale, apot(bits=4), name="w")

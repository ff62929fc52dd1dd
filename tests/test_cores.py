"""Several inputs at a time: every core answers as one alone would, a batch in the cycles of one input."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sw.compiler.compile import compile_network
from sw.compiler.schedule import program_cycles
from tests.accelerator_cases import random_case
from tests.random_networks import random_images
from verif.network import accelerator, classify
from verif.reference import run as run_reference


@pytest.mark.parametrize("cores", [2, pytest.param(4, marks=pytest.mark.nightly)])
def test_a_batch_of_inputs(cores: int, tmp_path: Path) -> None:
    """A whole batch and a part of one."""
    alone = random_case("pot_k2_3x2", 2)
    parameters = replace(alone.compiled.parameters, cores=cores)
    verilog = tmp_path / "accelerator.v"
    accelerator(parameters).write(verilog)
    compiled = compile_network(alone.network, parameters)
    images = random_images(np.random.default_rng(3), alone.network.input_shape, count=cores + 1) % 8
    answers = classify(compiled, images, verilog=verilog, simulator="icarus")
    np.testing.assert_array_equal(
        answers.logits, run_reference(alone.network, torch.from_numpy(images)).logits.numpy()
    )
    assert len({tuple(row) for row in answers.logits.tolist()}) > 1
    assert answers.cycles.tolist() == [program_cycles(compiled.schedule)] * len(images)
    assert answers.exchange.busy_cycles == 2 * program_cycles(compiled.schedule)

"""What `make bench` measures of training: that it times the steps it says, not how long they take."""

from itertools import count

import pytest
import torch

from sw import bench
from sw.bench import LBA, TIMED, training_step_ratio
from sw.quantizers import MixedActivation, MixedDMBQWeight
from sw.schemes import SCHEMES

SMALL = {"model": "small_cnn", "input_shape": (1, 8, 8), "batch_size": 8, "pairs": 2}


def test_every_trained_scheme_is_timed():
    """Schemes for outer layers and for another distribution take the same steps as those named."""
    assert set(TIMED) == {*SCHEMES, LBA} - {"float", "absmax", "dmbq_gauss"}


@pytest.mark.parametrize("scheme", TIMED)
def test_a_quantized_step_is_timed_beside_a_float_one(scheme, monkeypatch):
    trained = []

    class Watched(bench.Trainer):
        def train_step(self, images, labels):
            trained.append(self)
            return super().train_step(images, labels)

    monkeypatch.setattr(bench, "Trainer", Watched)
    threads = torch.get_num_threads()
    figures = training_step_ratio(scheme=scheme, **SMALL)
    assert torch.get_num_threads() == threads
    assert figures["ratio_low"] <= figures["ratio"] <= figures["ratio_high"]
    assert min(figures["float_ms"], figures["quantized_ms"]) > 0
    assert (figures["scheme"], figures["model"], figures["input_shape"]) == (scheme, "small_cnn", [1, 8, 8])
    found = {trainer.precision.quantized: trainer for trainer in trained}
    plain, quantized = found[False], found[True]
    assert quantized.precision.scheme == scheme.removesuffix("+lba")
    assert trained.count(plain) == 5
    for kind in (MixedDMBQWeight, MixedActivation):
        mixed = [module for module in quantized.model.modules() if isinstance(module, kind)]
        widths = {bits for module in mixed for bits in module.bits.tolist()}
        assert len(widths) > 2 if scheme == LBA else not mixed


def test_the_ratio_is_of_the_steps_of_a_pair(monkeypatch):
    """A clock by which every reading takes one second more than the one before: 1, 2, 3 … seconds a step."""
    seconds = (number * (number + 1) / 2 for number in count())
    monkeypatch.setattr(bench, "perf_counter", lambda: next(seconds))
    figures = training_step_ratio(scheme="uniform", **SMALL | {"pairs": 4})
    # Two readings a step; steps 0 to 5 are warm-up; in every other pair the float step goes second.
    length = [2 * step + 1 for step in range(14)]
    ratios = sorted(
        [length[6] / length[7], length[9] / length[8], length[10] / length[11], length[13] / length[12]]
    )
    assert figures["ratio"] == pytest.approx((ratios[1] + ratios[2]) / 2)

"""Checkpoints: what one starts from another, and every file that is none."""

from pathlib import Path

import pytest
import torch

from hdl.console import RefusedError
from sw import checkpoint as checkpoints
from sw import models, training
from sw.precision import Precision
from sw.recipe import Recipe
from tests.few_digits import few_digits

RECIPE = Recipe(epochs=1, batch_size=32)


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A short run and its file."""
    path = tmp_path_factory.mktemp("straight") / "net.pt"
    return training.train(RECIPE, few_digits(), path), path


def test_initial_weights_of_another_model_are_refused(straight):
    model = models.build("small_cnn", input_shape=(1, 28, 28), classes=10, precision=Precision(scheme="apot"))
    with pytest.raises(RefusedError) as caught:
        checkpoints.initialize(model, straight[0], name="old.pt")
    assert str(caught.value) == (
        "old.pt: must hold the same model for the same images: "
        "classifier.weight must have shape (10, 3136), not (10, 256)"
    )


def state_of(model: torch.nn.Module, ending: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in model.state_dict().items() if key.endswith(ending)}


def fresh(scheme: str, bits: int) -> models.Network:
    precision = Precision(scheme=scheme, weight_bits=bits, activation_bits=bits)
    return models.build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=precision)


@pytest.mark.parametrize("scheme", ["dmbq", "lcq", "lloyd", "lsq", "pot"])
@pytest.mark.parametrize("before", ["float", "apot"])
def test_any_scheme_starts_from_any_other(tmp_path, scheme, before):
    """Weights and normalization are copied; what the source's quantizers do not have stays as it starts."""
    recipe = Recipe(scheme=before, epochs=1, batch_size=32)
    source = training.train(recipe, few_digits(), tmp_path / "net.pt")
    model, untouched = fresh(scheme, 3), fresh(scheme, 3)
    checkpoints.initialize(model, source, name="it")
    for key, value in model.state_dict().items():
        if key in source.model:
            assert torch.equal(value, source.model[key]), key
        else:
            assert torch.equal(value, untouched.state_dict()[key]), key
    assert source.model.keys() <= model.state_dict().keys() or before == "apot"


def test_curves_go_on_at_fewer_bits_and_centroids_start_anew(tmp_path):
    sources = {
        scheme: training.train(
            Recipe(scheme=scheme, epochs=1, batch_size=32), few_digits(), tmp_path / f"{scheme}.pt"
        )
        for scheme in ("lcq", "lloyd")
    }
    curved, lloyd = fresh("lcq", 3), fresh("lloyd", 3)
    checkpoints.initialize(curved, sources["lcq"], name="it")
    thetas = state_of(curved, ".theta")
    assert len(thetas) == 3 + 4
    assert all(torch.equal(value, sources["lcq"].model[key]) for key, value in thetas.items())
    assert any(value.any() for value in thetas.values())
    checkpoints.initialize(lloyd, sources["lloyd"], name="it")
    first = state_of(fresh("lloyd", 3), ".centroids")
    assert all(torch.equal(value, first[key]) for key, value in state_of(lloyd, ".centroids").items())
    same = fresh("lloyd", 4)
    checkpoints.initialize(same, sources["lloyd"], name="it")
    for key, value in state_of(same, ".centroids").items():
        assert torch.equal(value, sources["lloyd"].model[key])


def rewritten(path: Path, out: Path, **changes: object) -> Path:
    content = torch.load(path, weights_only=True) | changes
    torch.save({key: value for key, value in content.items() if value is not None}, out)
    return out


def test_bad_checkpoints_are_refused(straight, tmp_path):
    good, bad = straight[1], tmp_path / "bad.pt"
    unreadable = "must be a checkpoint written by 'train' (unreadable or truncated)"
    wrong_shape = torch.load(good, weights_only=True)["model"] | {"classifier.bias": torch.zeros(9)}
    cases = {
        unreadable: [
            b"",
            b"not a checkpoint",
            good.read_bytes()[:-100],
            good.read_bytes()[:100],
            b"\x80\x04cos\nsystem\n.",
        ],
        "must be a checkpoint written by 'train', not another torch file": [{"kind": "theirs"}],
        "checkpoint version must be 1, not 7: train again": [{"version": 7}],
        "damaged checkpoint (KeyError: 'scheduler')": [{"scheduler": None}],
        "damaged checkpoint (ValueError: scheme must be": [{"recipe": {"scheme": "x"}}],
        "damaged checkpoint (RuntimeError: Error(s) in loading": [{"model": wrong_shape}],
        "damaged checkpoint (IndexError": [{"stage": 40}],
    }
    for message, contents in cases.items():
        for content in contents:
            if isinstance(content, bytes):
                bad.write_bytes(content)
            else:
                rewritten(good, bad, **content)
            with pytest.raises(RefusedError) as caught:
                checkpoints.load(bad)
            assert str(caught.value).startswith(f"{bad}: {message}")
    torch.save([1], bad)
    with pytest.raises(RefusedError, match="not another torch file"):
        checkpoints.load(bad)


def test_checkpoints_run_no_code(tmp_path):
    path = tmp_path / "evil.pt"
    torch.save({"kind": checkpoints.KIND, "call": print}, path)
    with pytest.raises(RefusedError, match="must be a checkpoint"):
        checkpoints.load(path)


@pytest.mark.parametrize("first", range(256))
def test_a_text_file_of_any_kind_is_refused(tmp_path, first):
    """Arbitrary bytes are a program to an unpickler, which may fail at any of its operations."""
    path = tmp_path / "text.pt"
    path.write_bytes(bytes([first]) + b"root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1:q\n")
    with pytest.raises(RefusedError, match=r"must be a checkpoint written by 'train'"):
        checkpoints.load(path)

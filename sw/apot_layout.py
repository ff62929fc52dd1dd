"""Checkpoints in the layout of APoT's authors, as networks of this project with the same outputs.

Their code and this one differ in what follows; everything else, levels included, is the same.

- They normalize weights by the unbiased deviation, here it is the biased one plus 1e-5.  The clipping value
  takes up the ratio, so that every weight has the level it had, and batch normalization takes it back.
- Their first and last layers divide by the signed maximum, ``round(w / max(w) · 127)``, so that negative
  codes may pass -127 and need nine bits or more.  Here those layers get the same step, ``max(w) / 127``, and
  as many bits as their codes need.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hdl.console import RefusedError
from hdl.formats import Format

from .checkpoint import Checkpoint
from .layers import Quantized
from .models import Pixels, build
from .precision import LayerRule
from .published import PUBLISHED
from .quantizers import LSQWeight, RCFWeight
from .quantizers.normalize import EPSILON
from .recipe import ELSEWHERE, Recipe
from .schemes import MAX_BITS, REAL

PREFIX = "module."
OUTER = ("conv1", "fc")
OUTER_MAXIMUM = 127
ACTIVATION = "act_alpha"
WEIGHT = ("weight_alpha", "weight_quant.wgt_alpha")

State = dict[str, Tensor]


class Outer(NamedTuple):
    """The first or the last layer's weights, as integers.

    Members
    -------
    codes : Tensor
        int64, in the weights' shape.
    step : Tensor
        Real value of one.
    bits : int
        Of a two's complement code.
    """

    codes: Tensor
    step: Tensor
    bits: int


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What became of a published checkpoint.

    Members
    -------
    checkpoint : Checkpoint
        Of this project.
    outer : dict
        The first and the last layer's integers, by name.
    layers : int
        Quantized layers between them.
    moved : int
        Of their weights, how many have another level than by the authors' arithmetic: they lay halfway
        between two, as far as float32 can tell.
    """

    checkpoint: Checkpoint
    outer: dict[str, Outer]
    layers: int
    moved: int


def read(path: Path) -> State:
    """The state dictionary in a torch file, without the prefix of parallel training; nothing is executed.

    Raises
    ------
    RefusedError
        If the file holds anything else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # what torch's unpickler raises on arbitrary bytes is anything
        raise RefusedError(
            f"{path}: must be a torch file of tensors and plain values (unreadable, truncated, or with code)"
        ) from error
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, Mapping) or not state:
        raise RefusedError(f"{path}: must be a torch file with a 'state_dict'")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            kind = type(value).__name__
            raise RefusedError(f"{path}: state_dict must hold tensors by name, not {key!r}: {kind}")
        if value.layout != torch.strided or value.is_meta or value.is_quantized or value.is_complex():
            raise RefusedError(f"{path}: {key} must be a plain tensor of real numbers")
        if not value.isfinite().all():
            raise RefusedError(f"{path}: {key} must be finite numbers")
    prefixed = all(key.startswith(PREFIX) for key in state)
    return {key.removeprefix(PREFIX) if prefixed else key: value for key, value in state.items()}


def convert(state: State, *, name: str, bits: int, scheme: str = "apot") -> Imported:
    """The network of a state in the authors' layout.

    Parameters
    ----------
    state
        See `read`.
    name
        One of `PUBLISHED`.
    bits
        Of weights and activations alike, which the state does not tell.
    scheme
        ``"apot"`` or ``"uniform"``.

    Raises
    ------
    RefusedError
        If the state is not one of that network, or its numbers cannot be used.
    """
    published = PUBLISHED[name]
    projected = any(".downsample." in key for key in state)
    first = _tensor(state, f"{OUTER[0]}.weight", dimensions=4)
    last = _tensor(state, f"{OUTER[1]}.weight", dimensions=2)
    outer = {layer: _outer(layer, weight) for layer, weight in zip(OUTER, (first, last), strict=True)}
    recipe = _recipe(published.projection if projected else name, outer, bits=bits, scheme=scheme)
    shape = (len(published.mean), published.size, published.size)
    model = build(recipe.model, input_shape=shape, classes=len(last), precision=recipe.precision)
    inner = {
        key: layer
        for key, layer in model.named_modules()
        if isinstance(layer, Quantized) and key not in OUTER
    }
    source = _renamed(state, inner)
    for layer, each in outer.items():
        source[f"{layer}.quantizer.step"] = each.step
    _load(model, source)
    model.get_submodule("pixels").load_state_dict(
        Pixels(shape[0], mean=published.mean, deviation=published.deviation).state_dict()
    )
    moved = sum(_adapt(model, key, layer) for key, layer in inner.items())
    for layer, each in outer.items():
        _snap(model.get_submodule(layer), each)
    return Imported(checkpoint=_checkpoint(recipe, shape, model), outer=outer, layers=len(inner), moved=moved)


def _recipe(model: str, outer: dict[str, Outer], *, bits: int, scheme: str) -> Recipe:
    rules = tuple(
        LayerRule(pattern=layer, scheme="lsq", weight_bits=each.bits, activation_bits=REAL)
        for layer, each in outer.items()
    )
    return Recipe(
        dataset=ELSEWHERE,
        model=model,
        scheme=scheme,
        weight_bits=bits,
        activation_bits=bits,
        epochs=1,
        outer=(),
        rules=rules,
    )


def _checkpoint(recipe: Recipe, shape: tuple[int, int, int], model: nn.Module) -> Checkpoint:
    """A finished run of one epoch that nothing is known of."""
    return Checkpoint(
        recipe=recipe,
        input_shape=shape,
        stage=0,
        epoch=recipe.epochs,
        model=model.state_dict(),
        optimizer={},
        scheduler={},
        rng=torch.Generator().manual_seed(recipe.seed).get_state(),
    )


def _tensor(state: State, key: str, *, dimensions: int) -> Tensor:
    if key not in state:
        raise RefusedError(f"{key} must be present")
    if state[key].dim() != dimensions or not state[key].numel():
        raise RefusedError(
            f"{key} must have {dimensions} dimensions, none of them 0, not shape {tuple(state[key].shape)}"
        )
    return state[key].float()


def _outer(name: str, weight: Tensor) -> Outer:
    largest = weight.max()
    if not largest > 0:
        raise RefusedError(f"{name}.weight must have a positive maximum, which its 8-bit codes are scaled by")
    codes = weight.div(largest).mul(OUTER_MAXIMUM).round().long()
    bits = max(8, (-int(codes.min()) - 1).bit_length() + 1)
    if bits > MAX_BITS:
        raise RefusedError(
            f"{name}.weight must have codes of at most {MAX_BITS} bits, not as low as {int(codes.min())}"
        )
    return Outer(codes, largest / OUTER_MAXIMUM, bits)


def _renamed(state: State, inner: Mapping[str, nn.Module]) -> State:
    """The state with this project's names for clipping values."""
    source = dict(state)
    for layer in inner:
        found = [f"{layer}.{name}" for name in WEIGHT if f"{layer}.{name}" in state]
        if not found or f"{layer}.{ACTIVATION}" not in state:
            missing = ACTIVATION if found else WEIGHT[0]
            raise RefusedError(f"{layer}.{missing} must be present: the network must be a quantized one")
        for key, ours in ((found[0], "quantizer"), (f"{layer}.{ACTIVATION}", "input_quantizer")):
            value = source.pop(key)
            if value.numel() != 1 or not value > 0:
                raise RefusedError(f"{key} must be one positive number, not {value.tolist()}")
            source[f"{layer}.{ours}.alpha"] = value.reshape(())
    return source


def _load(model: nn.Module, source: State) -> None:
    """All that the model has, and nothing else; only counters of batches and pixels may be missing."""
    target = model.state_dict()
    for key in source:
        if key not in target:
            raise RefusedError(f"{key} must not be present: no such tensor in this network")
    for key, value in target.items():
        if key.startswith("pixels.") or (key.endswith("num_batches_tracked") and key not in source):
            continue
        if key not in source or source[key].shape != value.shape:
            found = f"not {tuple(source[key].shape)}" if key in source else "but is missing"
            raise RefusedError(f"{key} must have shape {tuple(value.shape)}, {found}")
        if key.endswith("running_var") and not (source[key] >= 0).all():
            raise RefusedError(f"{key} must not be negative")
    model.load_state_dict(target | source)


@torch.no_grad()
def _adapt(model: nn.Module, name: str, layer: Quantized) -> int:
    """Go over to this project's normalization of weights; how many have another level after."""
    quantizer = layer.quantizer
    assert isinstance(quantizer, RCFWeight)
    theirs = _levels(layer.weight, quantizer.alpha, quantizer.format)
    weight = layer.weight.double()
    unbiased, biased = weight.std(), weight.std(correction=0)
    if not biased > 0:
        raise RefusedError(f"{name}.weight must not be all equal")
    ratio = (unbiased / (biased + EPSILON)).item()
    quantizer.alpha.mul_(ratio)
    norm = model.get_submodule(_norm_after(name))
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    # Convolution results are `ratio` times theirs: so are their mean and deviation, and the gain divides
    # by it; what it does not divide alike is the epsilon under the root.
    before = norm.running_var.double() + norm.eps
    after = norm.running_var.double() * ratio**2 + norm.eps
    norm.running_mean.mul_(ratio)
    norm.running_var.mul_(ratio**2)
    norm.weight.mul_((after / before).sqrt() / ratio)
    return int((quantizer.levels(layer.weight) != theirs).sum())


def _levels(weight: Tensor, alpha: Tensor, fmt: Format) -> Tensor:
    """The level of every weight by the authors' arithmetic."""
    units = (weight - weight.mean()).div(weight.std()).div(alpha).clamp(-1, 1)
    grid = torch.tensor([level / fmt.max_level for level in fmt.grid if abs(level) <= fmt.max_level])
    edges = (grid[1:] + grid[:-1]) / 2
    return torch.tensor(fmt.grid)[len(fmt.grid) - len(grid) :][torch.bucketize(units, edges)]


def _norm_after(name: str) -> str:
    """The batch normalization that follows a convolution."""
    parent, _, own = name.rpartition(".")
    return f"{parent}.{own.replace('conv', 'bn') if own.startswith('conv') else '1'}"


@torch.no_grad()
def _snap(layer: nn.Module, outer: Outer) -> None:
    """Put weights halfway between two codes, where the ways of rounding part, on the authors' one."""
    assert isinstance(layer, Quantized)
    assert isinstance(layer.quantizer, LSQWeight)
    same = layer.quantizer.levels(layer.weight) == outer.codes
    layer.weight.copy_(torch.where(same, layer.weight, outer.codes * outer.step))

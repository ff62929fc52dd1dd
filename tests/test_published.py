"""Checkpoints in the layout of APoT's authors: the same levels and outputs as their arithmetic gives.

The checkpoints are made here, with values that a straightforward import would get wrong, and judged by
the formulas of that layout written out below.
"""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor
from torch.nn import functional

from hdl.console import RefusedError
from sw import apot_layout
from sw import checkpoint as checkpoints
from sw.__main__ import main
from sw.apot_layout import convert, read
from sw.published import PUBLISHED

# Unsigned levels of so many bits as shares of the largest, by eqs. 5 and 6 of the paper; 1 bit is ternary.
LEVELS = {
    1: (0, 1),
    2: (0, 1, 2, 4),
    3: (0, 1, 2, 3, 4, 6, 8, 10),
    4: (0, 1, 2, 3, 4, 6, 8, 9, 12, 16, 18, 24, 32, 33, 36, 48),
}
BLOCKS = {"resnet10": (1, 1, 1, 1), "resnet20": (3, 3, 3), "resnet56": (9, 9, 9)}
SIZES = {"resnet10": (1, 28), "resnet20": (3, 32), "resnet56": (3, 32)}


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors here are too small for threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def levels(bits: int, scheme: str) -> Tensor:
    chosen = LEVELS[bits] if scheme == "apot" else range(2**bits)
    return torch.tensor(chosen, dtype=torch.float64) / max(chosen)


def nearest(values: Tensor, grid: Tensor) -> Tensor:
    return grid[torch.bucketize(values, (grid[1:] + grid[:-1]) / 2)]


class Authors:
    """A network in the authors' layout: its state, and its arithmetic in float64."""

    def __init__(self, name: str, *, bits: int, scheme: str = "apot", alpha: str, seed: int = 0) -> None:
        self.name, self.bits, self.scheme, self.alpha = name, bits, scheme, alpha
        self.random = torch.Generator().manual_seed(seed)
        self.state: dict[str, Tensor] = {}
        channels, _ = SIZES[name]
        self.convolution("conv1", channels, 16, 7 if name == "resnet10" else 3, quantized=False)
        inputs = 16
        for stage, count in enumerate(BLOCKS[name]):
            for index in range(count):
                width, block = 16 << stage, f"layer{stage + 1}.{index}"
                self.convolution(f"{block}.conv1", inputs, width, 3)
                self.convolution(f"{block}.conv2", width, width, 3)
                if inputs != width:
                    self.convolution(f"{block}.downsample.0", inputs, width, 1)
                inputs = width
        self.state["fc.weight"] = self.normal(10, inputs)
        self.state["fc.bias"] = self.normal(10)
        # Weights and results so small that both epsilons count.
        self.state["layer2.0.conv1.weight"] *= 1e-3
        self.state["layer2.0.bn1.running_var"] *= 1e-6
        self.beyond("conv1.weight", -130)
        self.beyond("fc.weight", -145)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.random)

    def beyond(self, key: str, code: int) -> None:
        """Let the lowest weight be so many 127ths of the highest."""
        weight = self.state[key].view(-1)
        highest = weight.max()
        weight.clamp_(min=code / 127 * highest)[3] = code / 127 * highest

    def convolution(
        self, name: str, inputs: int, outputs: int, kernel: int, *, quantized: bool = True
    ) -> None:
        weight = self.normal(outputs, inputs, kernel, kernel) * 0.05 + 0.01
        weight.view(-1)[:2] = torch.tensor([0.9, -0.7])  # far beyond the clipping value
        self.state[f"{name}.weight"] = weight
        if quantized:
            self.state[f"{name}.act_alpha"] = torch.tensor(3.0) + self.normal(1)[0].abs()
            self.state[f"{name}.{self.alpha}"] = torch.tensor(1.5) + self.normal(1)[0].abs()
        norm = self.norm_after(name)
        self.state[f"{norm}.weight"] = 0.6 + 0.1 * self.normal(outputs)
        self.state[f"{norm}.bias"] = 0.3 * self.normal(outputs)
        self.state[f"{norm}.running_mean"] = 0.2 * self.normal(outputs)
        self.state[f"{norm}.running_var"] = 1e-4 + self.normal(outputs).square() * 4
        self.state[f"{norm}.num_batches_tracked"] = torch.tensor(7)

    @staticmethod
    def norm_after(name: str) -> str:
        return name.replace("downsample.0", "downsample.1").replace("conv", "bn")

    def of(self, key: str) -> Tensor:
        return self.state[key].double()

    def weight(self, name: str) -> Tensor:
        """Normalized by the unbiased deviation, clipped, rounded; not multiplied back."""
        weight, alpha = self.of(f"{name}.weight"), self.of(f"{name}.{self.alpha}")
        share = ((weight - weight.mean()) / weight.std() / alpha).clamp(-1, 1)
        return alpha * share.sign() * nearest(share.abs(), levels(self.bits - 1, self.scheme))

    def outer(self, name: str) -> Tensor:
        """Rounded to 127ths of the maximum, which is not the largest magnitude."""
        weight = self.of(f"{name}.weight")
        return (weight / weight.max() * 127).round() / 127 * weight.max()

    def normalized(self, values: Tensor, name: str) -> Tensor:
        norm = self.norm_after(name)
        parts = (self.of(f"{norm}.{part}") for part in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(values, *parts)

    def layer(self, values: Tensor, name: str, *, stride: int = 1) -> Tensor:
        alpha, weight = self.of(f"{name}.act_alpha"), self.weight(name)
        coded = alpha * nearest((values / alpha).clamp(0, 1), levels(self.bits, self.scheme))
        padding = weight.shape[-1] // 2
        return self.normalized(functional.conv2d(coded, weight, stride=stride, padding=padding), name)

    def logits(self, images: Tensor) -> Tensor:
        published = PUBLISHED[self.name]
        mean, deviation = (
            torch.tensor(each, dtype=torch.float64).view(-1, 1, 1)
            for each in (published.mean, published.deviation)
        )
        values, first = (images / 255 - mean) / deviation, self.outer("conv1")
        large = self.name == "resnet10"
        values = functional.conv2d(values, first, stride=1 + large, padding=first.shape[-1] // 2)
        values = self.normalized(values, "conv1").relu()
        if large:
            values = functional.max_pool2d(values, 3, stride=2, padding=1)
        for stage, count in enumerate(BLOCKS[self.name]):
            for index in range(count):
                block, stride = f"layer{stage + 1}.{index}", 2 if stage and not index else 1
                inner = self.layer(values, f"{block}.conv1", stride=stride).relu()
                inner = self.layer(inner, f"{block}.conv2")
                beside = values
                if stage and not index:
                    beside = self.layer(values, f"{block}.downsample.0", stride=stride)
                values = (inner + beside).relu()
        return values.mean((2, 3)) @ self.outer("fc").T + self.of("fc.bias")

    def write(self, path: Path, *, prefix: str = "module.") -> Path:
        state = {prefix + key: value for key, value in self.state.items()}
        torch.save({"epoch": 3, "state_dict": state, "best_acc1": torch.tensor(91.5), "optimizer": {}}, path)
        return path


CASES = [
    ("resnet10", 4, "apot", "weight_alpha", "module."),
    ("resnet10", 3, "uniform", "weight_alpha", ""),
    ("resnet20", 2, "apot", "weight_quant.wgt_alpha", "module."),
    ("resnet20", 3, "apot", "weight_quant.wgt_alpha", ""),
]


@pytest.mark.parametrize(("name", "bits", "scheme", "alpha", "prefix"), CASES)
def test_outputs_and_levels_are_the_authors(tmp_path, name, bits, scheme, alpha, prefix):
    theirs = Authors(name, bits=bits, scheme=scheme, alpha=alpha)
    imported = convert(
        read(theirs.write(tmp_path / "a.pth", prefix=prefix)), name=name, bits=bits, scheme=scheme
    )
    assert imported.moved == 0
    model = imported.checkpoint.network().double()
    for key in [key.removesuffix(".act_alpha") for key in theirs.state if key.endswith(".act_alpha")]:
        layer = model.get_submodule(key)
        expected = theirs.weight(key) / theirs.of(f"{key}.{alpha}") * layer.quantizer.format.max_level
        assert torch.equal(layer.quantizer.levels(layer.weight), expected.round().long()), key
    for key, lowest in (("conv1", -130), ("fc", -145)):
        layer = model.get_submodule(key)
        assert layer.quantizer.levels(layer.weight).min() == lowest
        torch.testing.assert_close(layer.quantizer(layer.weight), theirs.outer(key), rtol=1e-6, atol=0)
        assert layer.quantizer.format.name == "uniform_b9"
        assert layer.input_quantizer is None
    images = torch.randint(256, (2, *theirs_shape(name)), dtype=torch.uint8, generator=theirs.random)
    with torch.no_grad():
        torch.testing.assert_close(model(images), theirs.logits(images), rtol=1e-4, atol=1e-4)


def theirs_shape(name: str) -> tuple[int, int, int]:
    channels, size = SIZES[name]
    return channels, size, size


def test_fine_tuning_starts_where_the_authors_stopped(tmp_path):
    """With batch statistics, too: normalization keeps its gain, but for epsilon."""
    theirs = Authors("resnet10", bits=4, alpha="weight_alpha")
    imported = convert(read(theirs.write(tmp_path / "a.pth")), name="resnet10", bits=4)
    gains = imported.checkpoint.model["layer4.0.bn1.weight"] / theirs.state["layer4.0.bn1.weight"]
    torch.testing.assert_close(gains, torch.ones_like(gains), rtol=1e-3, atol=0)


@pytest.mark.parametrize("lowest", [-127, -128, -129, -256, -257])
def test_bits_of_the_first_layer(lowest):
    theirs = Authors("resnet10", bits=3, alpha="weight_alpha")
    theirs.beyond("conv1.weight", lowest)
    imported = convert(theirs.state, name="resnet10", bits=3)
    codes = imported.outer["conv1"].codes
    assert (int(codes.min()), int(codes.max())) == (lowest, 127)
    assert imported.outer["conv1"].bits == {-127: 8, -128: 8, -129: 9, -256: 9, -257: 10}[lowest]
    layer = imported.checkpoint.network().get_submodule("conv1")
    assert torch.equal(layer.quantizer.levels(layer.weight), codes)


def test_weights_halfway_between_two_codes():
    """The authors round to even, this project down."""
    theirs = Authors("resnet10", bits=3, alpha="weight_alpha")
    weight = theirs.state["fc.weight"].clamp_(-1, 1).view(-1)
    weight[:6] = torch.tensor([127, 0.5, 1.5, -0.5, -1.5, -2.5]) / 127
    weight[0] = 1.0
    imported = convert(theirs.state, name="resnet10", bits=3)
    expected = (theirs.state["fc.weight"] / 1 * 127).round()
    assert torch.equal(imported.outer["fc"].codes, expected.long())
    layer = imported.checkpoint.network().get_submodule("fc")
    assert torch.equal(layer.quantizer.levels(layer.weight), expected.long())


def test_shortcuts_without_weights():
    """He's option A, should somebody have trained it with the authors' layers."""
    theirs = Authors("resnet20", bits=3, alpha="weight_quant.wgt_alpha")
    state = {key: value for key, value in theirs.state.items() if "downsample" not in key}
    imported = convert(state, name="resnet20", bits=3)
    assert (imported.checkpoint.recipe.model, imported.layers) == ("resnet20", 18)


def test_the_checkpoint_is_one_of_this_project(tmp_path):
    source = Authors("resnet20", bits=2, alpha="weight_quant.wgt_alpha").write(tmp_path / "a.pth.tar")
    out = tmp_path / "sub" / "net.pt"
    code, text = invoke(source, "--model", "resnet20", "--bits", 2, "-o", out)
    assert (code, text) == (
        0,
        f"{out}: resnet20_projection, 20 layers at apot 2/2; "
        "codes of conv1 -130 … 127 (9 bits), fc -145 … 127 (9 bits)\n",
    )
    loaded = checkpoints.load(out)
    assert loaded.finished
    assert loaded.input_shape == (3, 32, 32)
    pixels = loaded.network().get_submodule("pixels")
    black = pixels(torch.zeros(1, 3, 1, 1)).flatten() * torch.tensor(PUBLISHED["resnet20"].deviation)
    torch.testing.assert_close(black, -torch.tensor(PUBLISHED["resnet20"].mean))
    before = out.read_bytes()
    invoke(source, "--model", "resnet20", "--bits", 2, "-o", out)
    assert out.read_bytes() == before


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(
        main, ["import", *map(str, arguments)], prog_name="python -m sw", catch_exceptions=False
    )
    return result.exit_code, result.output


UNREADABLE = "must be a torch file of tensors and plain values (unreadable, truncated, or with code)"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", UNREADABLE),
        (b"hello", UNREADABLE),
        (b"\x80\x04cos\nsystem\n.", UNREADABLE),
        ({"state_dict": {"a": print}}, UNREADABLE),
        ([1], "must be a torch file with a 'state_dict'"),
        ({"model": {}}, "must be a torch file with a 'state_dict'"),
        ({"state_dict": {}}, "must be a torch file with a 'state_dict'"),
        ({"state_dict": {"a": 3}}, "state_dict must hold tensors by name, not 'a': int"),
        ({"state_dict": {"a": torch.tensor([1, float("nan")])}}, "a must be finite numbers"),
        ({"state_dict": {3: torch.ones(2)}}, "state_dict must hold tensors by name, not 3: Tensor"),
        ({"state_dict": {"a": torch.ones(2).to_sparse()}}, "a must be a plain tensor of real numbers"),
        ({"state_dict": {"a": torch.ones(2, device="meta")}}, "a must be a plain tensor of real numbers"),
        ({"state_dict": {"a": torch.ones(2, dtype=torch.complex64)}}, "a must be a plain tensor of real"),
        ({"state_dict": {"a": torch.ones(2)}}, "conv1.weight must be present"),
    ],
)
def test_files_that_are_something_else(tmp_path, content, message):
    path, out = tmp_path / "a.pth", tmp_path / "net.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    code, text = invoke(path, "--model", "resnet20", "--bits", 4, "-o", out)
    assert code == 1
    assert text.startswith(f"python -m sw: {path}: {message}")
    assert text.count("\n") == 1
    assert not out.exists()


def test_a_file_that_is_missing(tmp_path):
    code, text = invoke(tmp_path / "a.pth", "--model", "resnet20", "--bits", 4, "-o", tmp_path / "net.pt")
    assert (code, text) == (1, f"python -m sw: {tmp_path / 'a.pth'}: no such file or directory\n")


BLOCK = "layer2.0.conv1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {f"{BLOCK}.weight_alpha": None},
            f"{BLOCK}.weight_alpha must be present: the network must be a quantized one",
        ),
        (
            {f"{BLOCK}.act_alpha": None},
            f"{BLOCK}.act_alpha must be present: the network must be a quantized one",
        ),
        (
            {f"{BLOCK}.act_alpha": torch.tensor(-1.5)},
            f"{BLOCK}.act_alpha must be one positive number, not -1.5",
        ),
        (
            {f"{BLOCK}.weight_alpha": torch.tensor([1.0, 2.0])},
            f"{BLOCK}.weight_alpha must be one positive number, not [1.0, 2.0]",
        ),
        (
            {f"{BLOCK}.weight": torch.ones(32, 16, 1, 1)},
            f"{BLOCK}.weight must have shape (32, 16, 3, 3), not (32, 16, 1, 1)",
        ),
        ({f"{BLOCK}.weight": torch.ones(32, 16, 3, 3)}, f"{BLOCK}.weight must not be all equal"),
        ({"layer2.0.bn1.bias": None}, "layer2.0.bn1.bias must have shape (32,), but is missing"),
        ({"layer2.0.bn1.running_var": -torch.ones(32)}, "layer2.0.bn1.running_var must not be negative"),
        (
            {"layer5.0.conv1.weight": torch.ones(1)},
            "layer5.0.conv1.weight must not be present: no such tensor",
        ),
        (
            {"conv1.weight": torch.ones(16, 3, 7, 7)},
            "conv1.weight must have shape (16, 1, 7, 7), not (16, 3, 7, 7)",
        ),
        (
            {"conv1.weight": torch.ones(16)},
            "conv1.weight must have 4 dimensions, none of them 0, not shape (16,)",
        ),
        (
            {"fc.weight": torch.ones(0, 128)},
            "fc.weight must have 2 dimensions, none of them 0, not shape (0, 128)",
        ),
        (
            {"fc.weight": -torch.ones(10, 128)},
            "fc.weight must have a positive maximum, which its 8-bit codes are scaled by",
        ),
        (
            {"fc.weight": torch.tensor([[1e-6, -1.0]]).repeat(10, 64)},
            "fc.weight must have codes of at most 16 bits, not as low as -12700",
        ),
    ],
)
def test_states_that_do_not_fit(changes, message):
    state = Authors("resnet10", bits=4, alpha="weight_alpha").state | changes
    with pytest.raises(RefusedError) as caught:
        convert({key: value for key, value in state.items() if value is not None}, name="resnet10", bits=4)
    assert str(caught.value).startswith(message)


def test_old_files_have_no_counters():
    state = Authors("resnet10", bits=4, alpha="weight_alpha").state
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert convert(state, name="resnet10", bits=4).layers == 11


def test_weights_that_change_sides_are_counted(monkeypatch):
    """A weight halfway between two levels goes by rounding errors: all that an import may change."""
    monkeypatch.setattr(apot_layout, "_levels", lambda weight, *_: torch.full(weight.shape, 99))
    state = Authors("resnet10", bits=4, alpha="weight_alpha").state
    weights = sum(
        state[key.replace("act_alpha", "weight")].numel() for key in state if key.endswith("act_alpha")
    )
    assert convert(state, name="resnet10", bits=4).moved == weights


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "vgg", "--bits", "4"], "'vgg' is not one of 'resnet10', 'resnet20', 'resnet56'"),
        (["--model", "resnet20", "--bits", "1"], "1 is not in the range 2<=x<=6"),
        (["--model", "resnet20"], "Missing option '--bits'"),
    ],
)
def test_wrong_options(tmp_path, arguments, message):
    code, text = invoke(tmp_path / "a", *arguments, "-o", tmp_path / "b")
    assert code == 2
    assert message in text
    assert text.count("\n") == 1

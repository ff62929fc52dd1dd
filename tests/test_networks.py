"""The networks command: a small network through the whole path, what must fail, and what documents show."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from hdl.console import RefusedError
from sw.checkpoint import load
from sw.comparison.cache import Cache
from sw.comparison.execution import fingerprint
from sw.compiler.compile import compile_network
from sw.compiler.fitting import fitting_parameters
from sw.compiler.schedule import program_cycles
from sw.data import Dataset, digits
from sw.export import integer_network
from sw.layers import Quantized
from sw.quantizers.mixed import MixedActivation, MixedDMBQWeight
from verif import network
from verif.__main__ import NETWORKS, main
from verif.networks import measuring, report
from verif.networks.measuring import Simulation, Simulations, measure
from verif.networks.protocol import Entry, Protocol
from verif.networks.weights import random_images, random_network, trained

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SHAPE = (1, 8, 8)
SMALL = Entry(name="small", model="small_cnn", scheme="apot", bits=(4, 4), shape=SHAPE, images=3)

HEAD = "clock = 100.0\n"
TABLE = """
[[networks]]
name = "small"
model = "small_cnn"
scheme = "apot"
bits = "4/4"
shape = [1, 8, 8]
images = 3
"""
DRAWN = TABLE.replace("apot", "dmbq") + 'lba = "cp"\naverage_bits = [2.0, 2.0]\n'
KINDS = (MixedDMBQWeight, MixedActivation)
TRAINED = """
[training]
dataset = "digits"
images = 64
batch_size = 32
float_epochs = 1
epochs = 1

[[networks]]
name = "first"
model = "small_cnn"
scheme = "apot"
bits = "4/4"
trained = true

[[networks]]
name = "second"
model = "small_cnn"
scheme = "lsq"
bits = "3/3"
trained = true
after = "first"
epochs = 2
"""


@pytest.fixture
def small_graph():
    return integer_network(random_network(SMALL, seed=0), SHAPE)


def written(folder: Path, text: str) -> Path:
    path = folder / "networks.toml"
    path.write_text(text, encoding="utf-8")
    return path


def run(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(
        main, ["networks", str(path), "-o", str(path.parent), *arguments], env={"COLUMNS": "200"}
    )


# --- Documents ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", [ROOT / "README.md", DOCS / "networks.md"], ids=lambda path: path.name)
def test_documents_show_what_was_measured(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert report.fill(text, committed()) == text


def committed() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((DOCS / "networks.json").read_text(encoding="utf-8"))
    return content


def test_the_protocol_is_what_was_measured() -> None:
    protocol, content = Protocol.from_toml(NETWORKS), committed()
    assert [facts["name"] for facts in content["networks"]] == [each.name for each in protocol.networks]
    assert (content["clock"], content["seed"]) == (protocol.clock, protocol.seed)
    assert content["training"] == vars(protocol.training)
    for entry, facts in zip(protocol.networks, content["networks"], strict=True):
        assert (facts["model"], facts["scheme"], facts["images"]) == (entry.model, entry.scheme, entry.images)
        assert facts["mismatches"] == 0
        assert ("accuracy" in facts) == entry.trained


def test_the_table_shows_the_numbers() -> None:
    facts = {
        "name": "small", "macs": 5120, "cycles": 40, "share_of_peak": 0.5, "weight_bytes": 1024,
        "float_bytes": 4096, "accuracy": 0.98765, "images": 2, "mismatches": 0, "processor_seconds": 7.4,
        "parameters": {"cores": 2},
    }  # fmt: skip
    content = {"clock": 50.0, "networks": [facts]}
    assert report.table(content).splitlines() == [
        "| Network | MACs | Cycles | of peak | Images/s at 50 MHz | Weight bytes | as float32 | Accuracy, % "
        "| Images in RTL | Mismatches | Seconds |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| small | 5,120 | 40 | 50.0% | 2,500,000 | 1,024 | 4,096 | 98.77 | 2 | 0 | 7 |",
    ]
    assert json.loads(report.text_of(content)) == content


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- networks: other -->\n<!-- /networks -->\n", "must name one of table, accelerators"),
        ("nothing", "there is no <!-- networks -->"),
    ],
)
def test_wrong_markers_are_refused(text: str, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        report.fill(text, {"clock": 1, "networks": []})


# --- Protocols ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clock = ", r"must be TOML"),
        (TABLE, r"protocol must have a clock"),
        (HEAD, r"protocol must have a networks"),
        ("clock = 0\n" + TABLE, r"clock must be a positive number, not 0"),
        (HEAD + "networks = 1\n", r"networks must be a list, not 1"),
        (HEAD + "networks = []\n", r"networks must not be empty"),
        (HEAD + "networks = [1]\n", r"network must be a table, not 1"),
        (HEAD + "speed = 1\n" + TABLE, r"key of a protocol must be one of networks, clock, .*'speed'"),
        (HEAD + TABLE + "depth = 1\n", r"key of a network must be one of name, model, .*'depth'"),
        (HEAD + TABLE + TABLE, r"names of their own, not 'small' twice"),
        (HEAD + TABLE.replace('bits = "4/4"\n', ""), r"network must have a bits"),
        (HEAD + TABLE.replace('"4/4"', '"4"'), r"network 'small': bits must be written as \"4/4\", not '4'"),
        (HEAD + TABLE.replace('"apot"', '"float"'), r"scheme must be one of integers, not float"),
        (HEAD + TABLE.replace("[1, 8, 8]", "[8, 8]"), r"shape must be channels, height and width, not"),
        (HEAD + TABLE.replace("[1, 8, 8]", "[1, 8, 0]"), r"width must be an integer from 1 to 1024, not 0"),
        (HEAD + TABLE.replace("images = 3", "images = 0"), r"images must be .* not 0"),
        (HEAD + TABLE + "cores = 3\n", r"cores must be a power of two"),
        (HEAD + TABLE + "trained = 1\n", r"trained must be True or False, not 1"),
        (HEAD + TABLE + "trained = true\n", r"shape must be given of a network that is not trained"),
        (HEAD + TABLE.replace("shape = [1, 8, 8]\n", ""), r"shape must be given of a network that is not"),
        (HEAD + TABLE + "epochs = 2\n", r"after and epochs must come with a network that is trained"),
        (HEAD + TABLE + "weight_format = 4\n", r"weight_format must be a format's name, not 4"),
        (HEAD + DRAWN.replace('"cp"', '"lp"'), r"lba must be cp where bits are drawn, not 'lp'"),
        (HEAD + DRAWN.replace("2.0", "2.2"), r"average_bits must be multiples of 0.5 where bits are drawn"),
        (HEAD + TRAINED.replace('"first"\nepochs', '"none"\nepochs'), r"after of 'second' must be .*'none'"),
        (HEAD + TRAINED.partition("[[")[0].replace("epochs = 1\n\n", "\n") + TABLE, r"have a epochs"),
        (HEAD + TRAINED.replace("float_epochs = 1", "float_epochs = 0"), r"float_epochs must be .* not 0"),
        (HEAD + "[[" + TRAINED.partition("[[")[2], r"training must be given, since 'first' is trained"),
    ],
)
def test_wrong_protocols_are_refused(text: str, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(RefusedError, match=f"^{path}: .*{message}"):
        Protocol.from_toml(path)


def test_an_unknown_name_is_refused_and_so_is_publishing_a_part(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD + TABLE)
    result = run(path, "--only", "large")
    assert result.exit_code == 1
    assert "--only must be one of small, not large" in result.stderr
    assert run(path, "--only", "small", "--publish").exit_code == 2


# --- Weights -----------------------------------------------------------------------------------------------


def test_random_networks_repeat_and_clip_what_is_rare() -> None:
    models = [
        random_network(replace(SMALL, model="resnet20", shape=(3, 8, 8)), seed=seed) for seed in (0, 0, 1)
    ]
    states = [model.state_dict() for model in models]
    assert all(bool((states[0][name] == states[1][name]).all()) for name in states[0])
    assert any(bool((states[0][name] != states[2][name]).any()) for name in states[0])
    clips = [
        layer.input_quantizer.alpha.item()
        for layer in models[0].modules()
        if isinstance(layer, Quantized) and layer.input_quantizer is not None
    ]
    assert len(clips) == len(set(clips)) == 19
    assert all(0.1 < clip < 100 for clip in clips)


def test_bits_are_drawn_from_all_around_the_average() -> None:
    entry = replace(SMALL, scheme="dmbq", lba="cp", average_bits=(1.5, 4.0))
    modules = list(random_network(entry, seed=0).modules())
    weights, activations = ([each for each in modules if isinstance(each, kind)] for kind in KINDS)
    assert len(weights) == 3
    assert len(activations) == 4
    for quantizer in weights:
        counts = quantizer.bits.bincount()
        assert (len(counts), counts.min()) == (4, counts.max())
        assert (quantizer.bits.diff() != 0).sum() > len(quantizer.bits) / 2
    assert all((quantizer.bits == 4).all() for quantizer in activations)


def few(count: int = 64) -> Dataset:
    data = digits()
    return replace(data, test_images=data.test_images[:count], test_labels=data.test_labels[:count])


def test_what_is_trained_is_kept_and_starts_from_what_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = Protocol.from_toml(written(tmp_path, HEAD + TRAINED))
    dataset, cache = few(), Cache(tmp_path / "trained")
    data, runs = fingerprint(dataset), [protocol.run(entry) for entry in protocol.networks]
    second = trained(runs[1], dataset, data, cache)
    assert second.checkpoint is not None
    assert second.checkpoint.recipe.epochs == 2
    assert len(list((tmp_path / "trained").glob("*.pt"))) == 3
    monkeypatch.setattr("verif.networks.weights.execute", None)
    first = trained(runs[0], dataset, data, cache)
    assert first.checkpoint is not None
    assert first.checkpoint.recipe.scheme == "apot"
    assert runs[1].start == runs[0]
    assert load(next((tmp_path / "trained").glob("*.pt"))).finished


# --- The path ----------------------------------------------------------------------------------------------


@pytest.fixture
def on_icarus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds at once."""
    monkeypatch.setattr(measuring, "SIMULATOR", "icarus")


@pytest.mark.usefixtures("on_icarus")
def test_a_network_through_the_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, HEAD + TABLE.replace("images = 3", "images = 1"))
    result = run(path)
    assert result.exit_code == 0, result.stderr
    assert "small: 1 image, all logits equal, 2,234 cycles each, as planned" in result.stderr
    content = json.loads((tmp_path / "networks.json").read_text(encoding="utf-8"))
    assert (tmp_path / "networks.md").read_text(encoding="utf-8") == report.page(content)
    (facts,) = content["networks"]
    # Four convolutions of 3 × 3 on maps of 64, 16, 16 and 4 pixels, and a linear layer.
    layers = [(64, 16), (16, 16 * 32), (16, 32 * 32), (4, 32 * 64)]
    assert facts["macs"] == sum(pixels * 9 * channels for pixels, channels in layers) + 256 * 10
    assert facts["float_bytes"] == 4 * (9 * sum(channels for _, channels in layers) + 256 * 10)
    assert facts["share_of_peak"] == pytest.approx(facts["macs"] / facts["cycles"] / 256, abs=1e-6)
    assert facts["simulated_cycles"] > facts["cycles"]
    # What is kept is not simulated again.
    monkeypatch.setattr(network, "classify", None)
    assert run(path).exit_code == 0
    assert json.loads((tmp_path / "networks.json").read_text(encoding="utf-8")) == content


class Told(Simulations):
    """Answers as it is told."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def simulated(self, *_: Any) -> Simulation:
        return self._simulation


@pytest.fixture
def answer(small_graph):
    """What hardware must answer to three images."""
    compiled = compile_network(small_graph, fitting_parameters(small_graph))
    images = random_images(SHAPE, count=3, seed=1)
    logits = measuring.reference.run(small_graph, images).logits.tolist()
    cycles = [program_cycles(compiled.schedule)] * 3
    return images.numpy(), Simulation(
        logits=logits, cycles=cycles, simulated_cycles=9999, seconds=1.0, processor_seconds=1.0
    )


def test_right_answers_pass(small_graph, answer) -> None:
    images, simulation = answer
    facts = measure(small_graph, images, cores=1, simulations=Told(simulation))
    assert (facts["images"], facts["mismatches"]) == (3, 0)


def test_a_wrong_logit_is_found(small_graph, answer) -> None:
    images, simulation = answer
    simulation.logits[2][7] += 1
    with pytest.raises(
        RefusedError, match=r"logits of the hardware must be the executor's: image 2 has .*1 of 30"
    ):
        measure(small_graph, images, cores=1, simulations=Told(simulation))


def test_a_wrong_cycle_is_found(small_graph, answer) -> None:
    images, simulation = answer
    simulation.cycles[1] += 1
    with pytest.raises(RefusedError, match="cycles must be as planned: image 1 has 2235 for 2234"):
        measure(small_graph, images, cores=1, simulations=Told(simulation))


def test_a_wrong_executor_is_found(small_graph, answer, monkeypatch: pytest.MonkeyPatch) -> None:
    images, simulation = answer
    right = measuring.Machine.run
    monkeypatch.setattr(
        measuring.Machine, "run", lambda *arguments: right(*arguments) + np.eye(3, 10, dtype=np.int64)
    )
    with pytest.raises(RefusedError, match="logits of the executor must be the reference's: image 0"):
        measure(small_graph, images, cores=1, simulations=Told(simulation))


def test_an_interrupted_run_says_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("verif.networks.command.measure", interrupted)
    result = run(written(tmp_path, HEAD + TABLE))
    assert result.exit_code == 130
    assert "0 of 1 networks are kept" in result.stderr


def test_a_simulated_difference_names_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answered(*_: Any, **__: Any) -> Any:
        raise RuntimeError("batch 0 must end with DONE, not SUM")

    monkeypatch.setattr(network, "classify", answered)
    monkeypatch.setattr(network, "accelerator", lambda _: SimpleNamespace(verilog=""))
    result = run(written(tmp_path, HEAD + TABLE))
    assert result.exit_code == 1
    assert result.stderr.strip() == "main: small: batch 0 must end with DONE, not SUM"
    assert not (tmp_path / "networks.json").exists()


@pytest.mark.nightly
@pytest.mark.parametrize("scheme", ["uniform", "pot", "apot", "lsq", "lloyd", "dmbq", "lcq"])
def test_residual_networks_of_every_scheme(scheme: str, tmp_path: Path) -> None:
    entry = replace(SMALL, model="resnet20", scheme=scheme, bits=(3, 3), shape=(3, 16, 16), images=2)
    graph = integer_network(random_network(entry, seed=0), entry.shape)
    pictures = random_images((3, 16, 16), count=2, seed=1).numpy()
    facts = measure(graph, pictures, cores=2, simulations=Simulations(tmp_path))
    assert facts["mismatches"] == 0

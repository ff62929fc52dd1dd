"""Comparisons: protocols, what is measured, resuming, failed runs, and tables that show the JSON alone."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import nn

from hdl.console import RefusedError
from sw import compare as command
from sw.__main__ import main
from sw.comparison import execution
from sw.comparison.cache import Cache
from sw.comparison.contender import Contender, Run
from sw.comparison.execution import Outcome, execute, fingerprint, key, select
from sw.comparison.measures import latent_weights, relative_errors, weight_bytes, weight_facts
from sw.comparison.plot import svg
from sw.comparison.protocol import Claim, Protocol
from sw.comparison.report import claim_rows, fill, page, report, rows, table, text_of
from sw.comparison.spreading import WORKER, cluster, outcomes
from sw.data import Dataset
from sw.layers import QuantizedConv2d
from sw.models import build
from sw.precision import Precision
from sw.quantizers import DMBQWeight, LloydWeight, LSQWeight, MixedDMBQWeight, RCFWeight
from sw.recipe import Recipe
from sw.regularizers import bin_losses
from tests.few_digits import few_digits

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# Other commands have protocols too.
PROTOCOLS = [
    path
    for path in sorted((ROOT / "sw" / "protocols").glob("*.toml"))
    if "[[contenders]]" in path.read_text()
]
HEAD = """
dataset = "digits"
model = "small_cnn"
seeds = [0]
bits = ["4/4"]
float_epochs = 1
epochs = 1
"""
UNIFORM = '[[contenders]]\nname = "a"\nscheme = "uniform"\n'


def tiny(**changes: Any) -> Protocol:
    """One step a run."""
    given: dict[str, Any] = {
        "dataset": "digits",
        "model": "small_cnn",
        "seeds": (0, 1),
        "bits": ((4, 4), (2, 2)),
        "batch_size": 96,
        "float_epochs": 1,
        "epochs": 1,
        "contenders": (
            Contender(name="float", options={"scheme": "float"}),
            Contender(name="lsq", options={"scheme": "lsq"}),
        ),
    }
    return Protocol(**given | changes)


BROKEN = Contender(name="broken", options={"scheme": "uniform", "regularizer": "kure", "strength": 1e39})


@contextmanager
def here() -> Iterator[Any]:
    """A client whose one worker is a thread of this process."""
    from distributed import Client

    with Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0"
    ) as client:
        yield client


@contextmanager
def nowhere() -> Iterator[Any]:
    raise AssertionError("nothing is left to train")
    yield


def compared(protocol: Protocol, folder: Path, connect: Callable[[], Any] = here) -> dict[str, Any]:
    found = [
        (run, outcome.facts, outcome.failed)
        for run, outcome in outcomes(protocol.runs(), few_digits(), cache=Cache(folder), connect=connect)
    ]
    return report(protocol, found, data="d", program="2")


# --- Protocols ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PROTOCOLS, ids=lambda path: path.stem)
def test_protocols_of_the_project(path):
    protocol = Protocol.from_toml(path)
    assert len(protocol.seeds) >= 3
    runs = protocol.runs()
    assert len(set(runs)) == len(runs)
    for place, run in enumerate(runs):
        assert run.start is None or run.start in runs[:place]
        assert (run.recipe.epochs, run.recipe.lr) == (
            (protocol.epochs, protocol.lr) if run.start else (protocol.float_epochs, protocol.float_lr)
        )


def test_every_scheme_takes_part_in_the_small_protocol():
    protocol = Protocol.from_toml(command.SMALL)
    assert (protocol.dataset, protocol.bits) == ("fashion_mnist", ((4, 4), (3, 3), (2, 2)))
    assert {each.name for each in protocol.contenders} == {
        "float", "uniform", "uniform+kure", "pot", "apot", "lloyd", "lsq", "lsq+br", "dmbq", "dmbq+lba",
        "lcq",
    }  # fmt: skip


def test_runs_start_from_those_of_the_bits_before():
    lba = Contender(
        name="lba", options={"scheme": "dmbq", "lba": "cp"}, bits=((2, 2),), extra_bits=1, after="dmbq"
    )
    protocol = tiny(
        seeds=(3,), contenders=(Contender(name="dmbq", options={"scheme": "dmbq"}), lba), images=50
    )
    first, wide, narrow, taken = protocol.runs()
    common = Recipe(batch_size=96, epochs=1, seed=3, images=50)
    assert first == Run(contender="", bits=None, recipe=replace(common, scheme="float"), start=None)
    assert wide.start == first
    assert wide.recipe == replace(common, scheme="dmbq")
    assert narrow.start == taken.start == wide
    assert narrow.recipe == replace(common, scheme="dmbq", weight_bits=2, activation_bits=2)
    assert taken.recipe == replace(
        common, scheme="dmbq", lba="cp", average_bits=(2.0, 2.0), weight_bits=3, activation_bits=3
    )
    assert list(map(str, (first, taken))) == ["float network, seed 3", "lba 2/2, seed 3"]


def test_an_option_may_have_a_value_for_each_of_the_bits(tmp_path):
    path = tmp_path / "p.toml"
    text = f"{HEAD}{UNIFORM}regularizer = 'kure'\nstrength = {{ '4/4' = 0.25, '2/2' = 0.5 }}"
    path.write_text(text.replace('"4/4"', '"4/4", "2/2"'))
    _, wide, narrow = Protocol.from_toml(path).runs()
    assert (wide.recipe.strength, narrow.recipe.strength) == (0.25, 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dataset = 1", "model must be given"),
        ("epoch = 1", "key must be one of dataset, model, .*, not 'epoch'"),
        (HEAD, "contenders must be given"),
        (f"{HEAD}contenders = 1", "contenders must be a list, not 1"),
        (f"{HEAD}contenders = [1]", "contender must be a table, not 1"),
        (f"{HEAD}contenders = []", "contenders must not be empty"),
        (f"{HEAD}{UNIFORM}{UNIFORM}", r"contenders must differ from one another, not \['a', 'a'\]"),
        (f"{HEAD}{UNIFORM}weight_bits = 3", "key of a contender must be one of name, .*, not 'weight_bits'"),
        (f"{HEAD}[[contenders]]\nname = 'a'", "scheme of a contender must be a string, not None"),
        (f"{HEAD}{UNIFORM}bits = ['3/3']", "bits of a must be among .*4/4"),
        (f"{HEAD}{UNIFORM}bits = ['3']", "bits must be two integers W/A like 4/4, not '3'"),
        (f"{HEAD}{UNIFORM}after = 'b'", "after of a must be one of a, not 'b'"),
        (f"{HEAD}{UNIFORM}extra_bits = 1", "extra_bits of a must come with lba"),
        (f"{HEAD}{UNIFORM}extra_bits = -1", "extra_bits must be an integer of at least 0, not -1"),
        (f"{HEAD}{UNIFORM}lba = 'cp'", "contender a at 4/4: lba must have scheme dmbq or dmbq_gauss"),
        (
            f"{HEAD}{UNIFORM}regularizer = 'kure'\nstrength = {{ '2/2' = 1.0 }}",
            "contender a at 4/4: strength must have a value for these bits, not only for 2/2",
        ),
        (f"test_images = 0{HEAD}{UNIFORM}", "test_images must be an integer of at least 1, not 0"),
        (
            f"{HEAD}{UNIFORM}[[claims]]\nbetter = 'a'\nworse = 'b'\nsource = 's'",
            "worse must be one of a, not 'b'",
        ),
        (
            f"{HEAD}{UNIFORM}[[claims]]\nbetter = 'a'\nworse = 'a'\nsource = 's'\nmeasure = 'bytes'",
            "measure must be one of accuracy, weight_error, bin_loss, not 'bytes'",
        ),
        (f"{HEAD}{UNIFORM}[[claims]]\nbetter = 'a'", "worse of a claim must be a string, not None"),
        ("=", "must be TOML"),
    ],
)
def test_refused_protocols(tmp_path, text, message):
    path = tmp_path / "p.toml"
    path.write_text(text)
    result = run_command(path)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert re.search(f"^python -m sw: {re.escape(str(path))}: {message}", result.stderr), result.stderr


# --- What is measured --------------------------------------------------------------------------------------


def test_bin_loss_is_that_of_bin_regularization():
    torch.manual_seed(0)
    weights, quantizer = torch.randn(8, 4, 3, 3), LSQWeight(Precision(scheme="lsq").formats()[0])
    quantizer(weights)
    step, levels = torch.tensor(quantizer.scale(weights)), quantizer.levels(weights)
    error, loss = relative_errors(weights, quantizer)
    power = weights.square().mean().item()
    assert loss == pytest.approx(bin_losses(weights, levels, step).mean().item() / power, rel=1e-5)
    assert error == pytest.approx(((quantizer(weights) - weights) ** 2).mean().item() / power, rel=1e-5)


def test_errors_of_a_case_by_hand():
    """Levels -1, 0, 1 with step 1: errors 0.2, 0.2, 0.4, 0.5; the second and third share a bin."""
    quantizer = LSQWeight(Precision(scheme="lsq", weight_bits=2).formats()[0])
    quantizer.step.data.fill_(1.0)
    weights = torch.tensor([[-1.2, 0.2, -0.4, 1.5]])
    power = (1.44 + 0.04 + 0.16 + 2.25) / 4
    error, loss = relative_errors(weights, quantizer)
    assert error == pytest.approx((0.04 + 0.04 + 0.16 + 0.25) / 4 / power, rel=1e-6)
    assert loss == pytest.approx((0.04 + 0.10 + 0.25) / 3 / power, rel=1e-6)


@pytest.mark.parametrize(
    "quantizer",
    [
        RCFWeight(Precision(scheme="apot").formats()[0]),
        LloydWeight(bits=3),
        DMBQWeight(Precision(scheme="dmbq").formats()[0]),
        MixedDMBQWeight(channels=8, bits=3),
    ],
    ids=lambda quantizer: type(quantizer).__name__,
)
def test_latent_weights_are_what_is_rounded(quantizer):
    """No error is beyond that of a plain grid of so few levels; the mean of the weights is not in it."""
    torch.manual_seed(0)
    weights = torch.randn(8, 16, 3, 3) * 0.1 + 5
    latent = latent_weights(weights, quantizer)
    assert latent.mean().abs() < 1e-5
    assert relative_errors(weights, quantizer)[0] < 0.06


def test_bytes_of_weights():
    layer = QuantizedConv2d(3, 4, quantizer=MixedDMBQWeight(channels=4, bits=3))
    layer.quantizer.bits.copy_(torch.tensor([0, 1, 2, 4]))
    assert weight_bytes(layer) == -(-(3 * 9 * 7) // 8)
    assert weight_bytes(nn.Conv2d(3, 4, 3)) == 3 * 4 * 9 * 4
    model = build(
        "small_cnn", input_shape=(1, 8, 8), classes=10, precision=Precision(scheme="apot", weight_bits=3)
    )
    facts = weight_facts(model.eval())
    sizes = [layer.weight.numel() for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert facts["bytes"] == sizes[0] + sum(size * 3 // 8 for size in sizes[1:-1]) + sizes[-1]


def test_float_networks_have_no_error():
    torch.manual_seed(0)
    model = build("small_cnn", input_shape=(1, 8, 8), classes=10, precision=Precision(scheme="float"))
    facts = weight_facts(model)
    assert facts["weight_error"] is facts["bin_loss"] is None
    assert facts["kurtosis"] == pytest.approx(3, abs=0.3) or facts["kurtosis"] == pytest.approx(1.8, abs=0.1)


# --- Runs --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[dict[str, Any], Path]:
    """A finished comparison with a contender that fails, and its cache."""
    folder = tmp_path_factory.mktemp("runs")
    return compared(tiny(contenders=(*tiny().contenders, BROKEN)), folder), folder


def test_failed_runs_are_reported_and_the_others_finish(done):
    content, folder = done
    by_name: dict[str, list[dict[str, Any]]] = {}
    for run in content["runs"]:
        by_name.setdefault(run["contender"], []).append(run)
    assert {name: len(runs) for name, runs in by_name.items()} == {"float": 4, "lsq": 4, "broken": 4}
    for run in by_name["float"] + by_name["lsq"]:
        assert 0 <= run["accuracy"] <= 1
        assert "failed" not in run
    for run in by_name["broken"]:
        start = "its start failed: " if run["bits"] == "2/2" else ""
        assert re.match(f"{start}loss became (inf|nan) in epoch 1 at uniform 4/4: ", run["failed"])
    assert [row[2] for row in rows(content) if row[1] == "broken"] == ["failed", "failed"]
    assert "- broken 2/2, seed 1: its start failed: loss became" in table(content)
    # Two float networks, four runs of either good contender; a network and a file of numbers each.
    assert len(list(folder.iterdir())) == 2 * (2 + 8)


def test_finished_runs_are_not_trained_again(done, tmp_path):
    content, folder = done
    protocol = tiny()
    good = [run for run in content["runs"] if run["contender"] != "broken"]
    assert compared(protocol, folder, connect=nowhere)["runs"] == good
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    data = fingerprint(few_digits())
    lost = [run for run in protocol.runs() if run.bits == (2, 2) and run.recipe.seed == 1]
    for run in lost:
        (tmp_path / f"{key(run, data)}.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert compared(protocol, tmp_path)["runs"] == good
    after = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert after.keys() - before.keys() == {tmp_path / f"{key(run, data)}.json" for run in lost}
    assert {path: after[path] for path in before} == before


def test_same_seed_same_numbers(done, tmp_path):
    content, _ = done
    again = compared(tiny(seeds=(1,)), tmp_path)
    assert again["runs"] == [
        run for run in content["runs"] if run["seed"] == 1 and run["contender"] != "broken"
    ]
    accuracies = {run["seed"]: run["loss"] for run in content["runs"] if run["contender"] == "lsq"}
    assert len(set(accuracies.values())) == 2


def test_keys_tell_apart_what_makes_a_difference():
    run, data = tiny().runs()[2], few_digits()
    other = replace(data, train_labels=data.train_labels.flip(0))
    changed = [
        replace(run, recipe=replace(run.recipe, lr=0.2)),
        replace(run, start=replace(run.start, recipe=replace(run.start.recipe, epochs=2))),
    ]
    keys = [key(run, fingerprint(data)), key(run, fingerprint(other))]
    keys += [key(each, fingerprint(data)) for each in changed]
    assert len(set(keys)) == 4
    assert key(replace(run, contender="another name"), fingerprint(data)) == keys[0]


def test_contenders_that_are_the_same_run_are_trained_once(tmp_path):
    twins = [Contender(name=name, options={"scheme": "float"}) for name in "ab"]
    content = compared(tiny(seeds=(0,), bits=((4, 4),), contenders=tuple(twins)), tmp_path)
    first, second = content["runs"]
    assert [first.pop("contender"), second.pop("contender")] == ["a", "b"]
    assert first == second
    assert len(list(tmp_path.glob("*.json"))) == 2


def test_a_run_that_cannot_start_says_why():
    run = tiny().runs()[1]
    outcome = execute(run, few_digits(), Outcome(facts={}, failed="it broke"))
    assert (outcome.facts, outcome.failed) == ({}, "its start failed: it broke")


def test_an_error_in_a_worker_is_a_failed_run(tmp_path, monkeypatch):
    def broken(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(execution, "weight_facts", broken)
    content = compared(tiny(seeds=(0,), bits=((4, 4),)), tmp_path)
    assert all(run["failed"] == "ZeroDivisionError: by zero" for run in content["runs"])
    assert not list(tmp_path.iterdir())


def test_damaged_files_are_refused(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(RefusedError, match=r"a\.json: must be a finished run's file; remove it"):
        Cache(tmp_path).find("a")


def test_selected_images():
    data = few_digits()
    chosen = select(data, tiny(images=10, test_images=5))
    assert [len(getattr(chosen, name)) for name in Dataset.__dataclass_fields__] == [10, 10, 5, 5]
    assert torch.equal(chosen.test_images, data.test_images[:5])
    for name, count in (("images", 97), ("test_images", 51)):
        with pytest.raises(
            RefusedError, match=f"^{name} of the protocol must be at most the {count - 1} there"
        ):
            select(data, tiny(**{name: count}))


# --- Tables ------------------------------------------------------------------------------------------------


def made(accuracies: dict[str, tuple[float, ...]], claims: tuple[Claim, ...] = ()) -> dict[str, Any]:
    """A report of these accuracies at 2/2, one for each seed."""
    contenders = tuple(Contender(name=name, options={"scheme": "lsq"}) for name in accuracies)
    count = max(map(len, accuracies.values()))
    protocol = tiny(seeds=tuple(range(count)), bits=((2, 2),), contenders=contenders, claims=claims)
    facts = {"weight_error": 0.5, "bin_loss": 0.25, "kurtosis": 2.0, "bytes": 1234}
    facts |= {"weight_bits": 2.0, "activation_bits": 2.25}
    found = [
        (run, facts | {"accuracy": accuracies[run.contender][run.recipe.seed]}, "")
        if run.recipe.seed < len(accuracies[run.contender])
        else (run, {}, "lost")
        for run in protocol.runs()
        if run.contender
    ]
    return report(protocol, found, data="d", program="2")


def test_table_of_numbers_by_hand():
    """Mean and sample deviation of 80, 81 and 85 are 82 and √7."""
    content = made({"a": (0.80, 0.81, 0.85), "b": (0.7,)})
    assert rows(content) == [
        ("2/2", "a", "82.00 ± 2.65", "50.00", "25.00", "2.00", "2/2.25", "1,234"),
        ("2/2", "b", "70.00 (1 of 3)", "50.00", "25.00", "2.00", "2/2.25", "1,234"),
    ]
    assert table(content).endswith("\n\nFailed:\n\n- b 2/2, seed 1: lost\n- b 2/2, seed 2: lost")


def test_claims_by_hand():
    """A claim is judged seed by seed; a smaller error is better, so an equal one is not."""
    claims = (
        Claim(better="a", worse="b", source="s"),
        Claim(better="b", worse="a", source="s"),
        Claim(better="b", worse="c", source="s"),
        Claim(better="a", worse="b", source="s", measure="weight_error"),
        Claim(better="c", worse="a", source="s", measure="bin_loss"),
    )
    content = made({"a": (0.80, 0.81), "b": (0.79, 0.79), "c": (0.78, 0.80)}, claims)
    for run in content["runs"]:
        run["bin_loss"] = 0.20 if run["contender"] == "c" else 0.25
    assert claim_rows(content) == [
        ("a over b: accuracy", "s", "2/2", "+1.50 ± 0.71", "holds with every seed"),
        ("b over a: accuracy", "s", "2/2", "-1.50 ± 0.71", "does not hold with any seed"),
        ("b over c: accuracy", "s", "2/2", "+0.00 ± 1.41", "with 1 of 2 seeds"),
        ("a under b: weight error", "s", "2/2", "+0.00 ± 0.00", "with 0 of 2 seeds"),
        ("c under a: bin loss", "s", "2/2", "-5.00 ± 0.00", "holds with every seed"),
    ]


def test_tables_are_functions_of_the_json(done):
    content, _ = done
    again = json.loads(text_of(content))
    assert again == json.loads(json.dumps(content))
    for made_of in (table, page, svg, rows):
        assert made_of(again) == made_of(content)


def test_markers():
    content = made({"a": (0.5,)})
    text = "x\n<!-- compare -->\nold\n<!-- /compare -->\ny\n<!-- compare: claims -->\n<!-- /compare -->\n"
    filled = fill(text, content)
    assert f"x\n<!-- compare -->\n{table(content)}\n<!-- /compare -->\ny\n" in filled
    assert "old" not in filled
    assert fill(filled, content) == filled
    with pytest.raises(RefusedError, match="<!-- compare: plot --> must name one of table, claims"):
        fill("<!-- compare: plot -->\n<!-- /compare -->\n", content)
    with pytest.raises(RefusedError, match="there is no <!-- compare -->"):
        fill("nothing", content)


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    return json.loads((DOCS / "compare.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", [ROOT / "README.md", DOCS / "compare.md"], ids=lambda path: path.name)
def test_documents_show_what_came_out(document, committed):
    text = document.read_text(encoding="utf-8")
    assert fill(text, committed) == text


def test_published_files_are_of_the_small_protocol(committed):
    assert text_of(committed) == (DOCS / "compare.json").read_text(encoding="utf-8")
    assert svg(committed) == (DOCS / "compare.svg").read_text(encoding="utf-8")
    protocol = Protocol.from_toml(command.SMALL)
    assert committed["protocol"] == json.loads(json.dumps(protocol.as_dict()))
    expected = [(run.contender, run.recipe.seed) for run in protocol.runs() if run.contender]
    assert [(run["contender"], run["seed"]) for run in committed["runs"]] == expected


# --- The command -------------------------------------------------------------------------------------------

TINY = f"""{HEAD}images = 64
test_images = 20
{UNIFORM}
[[contenders]]
name = "long"
scheme = "lsq"
"""


def run_command(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, arguments)], prog_name="python -m sw")


def test_command_with_its_own_workers(tmp_path):
    protocol = tmp_path / "p.toml"
    protocol.write_text(TINY)
    command_line = [sys.executable, "-m", "sw", "compare", str(protocol), "-o", str(tmp_path / "out")]
    command_line += ["--cache", str(tmp_path / "runs"), "--workers", "1"]
    first, second = (
        subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True, timeout=120) for _ in range(2)
    )
    assert first.returncode == second.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    names = ["float network, seed 0", "a 4/4, seed 0", "long 4/4, seed 0"]
    assert [line.rpartition(": ")[0] for line in first.stderr.splitlines()] == names
    content = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [run["contender"] for run in content["runs"]] == ["a", "long"]
    assert (tmp_path / "out" / "compare.md").read_text() == page(content)
    assert (tmp_path / "out" / "compare.svg").read_text() == svg(content)


def test_interrupt_keeps_finished_runs(tmp_path):
    protocol = tmp_path / "p.toml"
    protocol.write_text(TINY.replace("\nepochs = 1", "\nepochs = 5000"))
    command_line = [sys.executable, "-m", "sw", "compare", str(protocol), "--cache", str(tmp_path / "runs")]
    process = subprocess.Popen(command_line, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("float network, seed 0: ")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    said = f"python -m sw compare: 1 of 3 runs are kept in {tmp_path / 'runs'}; the same command goes on"
    assert list(filter(None, errors.splitlines())) == [said, "python -m sw: interrupted"]
    assert len(list((tmp_path / "runs").glob("*.json"))) == 1


def test_schedulers_that_are_not_there(monkeypatch):
    monkeypatch.setattr("sw.comparison.spreading.PATIENCE", 0.2)
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        message = f"^--scheduler must be the address of a Dask scheduler, not '{address}'$"
        with pytest.raises(RefusedError, match=message), cluster(address, workers=1):
            pass


def test_a_scheduler_without_workers_and_with_one(monkeypatch, tmp_path):
    from distributed import LocalCluster

    monkeypatch.setattr("sw.comparison.spreading.PATIENCE", 0.2)
    with LocalCluster(
        n_workers=0, processes=False, threads_per_worker=1, dashboard_address="127.0.0.1:0"
    ) as local:
        address = local.scheduler_address
        message = f"--scheduler must have workers; in this folder: {WORKER} {address} --nthreads 1"
        with pytest.raises(RefusedError, match=message), cluster(address, workers=1):
            pass
        local.scale(1)
        monkeypatch.setattr("sw.comparison.spreading.PATIENCE", 30)
        protocol = tiny(seeds=(0,), bits=((4, 4),))
        content = compared(protocol, tmp_path, connect=lambda: cluster(address, workers=1))
        assert len(content["runs"]) == 2


def test_workers_that_cannot_load_the_program(tmp_path):
    class Elsewhere:
        def scatter(self, *_: object, **__: object) -> None:
            raise Exception("ModuleNotFoundError(\"No module named 'sw'\")")

    @contextmanager
    def elsewhere() -> Iterator[Any]:
        yield Elsewhere()

    with pytest.raises(RefusedError, match=r"^workers must be started in this folder with its Python: M"):
        compared(tiny(), tmp_path, connect=elsewhere)


def test_refusals_of_the_command(tmp_path):
    for arguments, message in (
        ((tmp_path / "none.toml",), "none.toml: no such file or directory"),
        ((command.SMALL, "--data-dir", tmp_path), "train-images-idx3-ubyte: no such file, plain or .gz"),
    ):
        result = run_command(*arguments)
        assert result.exit_code == 1
        assert result.stderr.count("\n") == 1
        assert message in result.stderr
    assert run_command("--workers", "0").exit_code == 2


def test_all_failed_is_a_failure(tmp_path, monkeypatch):
    protocol = tmp_path / "p.toml"
    protocol.write_text(TINY.replace("images = 64", "images = 192\nfloat_lr = 1e30", 1))
    monkeypatch.setattr("sw.comparison.spreading.cluster", lambda *_, **__: here())
    result = run_command(protocol, "-o", tmp_path / "out", "--cache", tmp_path / "runs")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "python -m sw: every run failed"
    assert "failed: long 4/4, seed 0: its start failed: " in result.stdout

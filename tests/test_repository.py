"""The tree itself: which way imports point, what the documents promise, what may not be there."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path

import click
import pytest
import yaml

from docs import hooks

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("hdl", "gen", "sw", "verif", "fpga")
SHARED = (
    "hdl.formats",
    "hdl.layouts",
    "hdl.parameters",
    "hdl.files",
    "hdl.console",
    "hdl.markdown",
)
ARROWS = {
    "hdl.formats": ("hdl.formats",),
    "hdl": ("hdl",),
    "gen": ("gen", "hdl"),
    "sw": ("sw", *SHARED),
    "verif": ("verif", *SHARED, "gen", "sw", "fpga.yosys"),
    "fpga": ("fpga", "hdl", "gen", "sw"),
}
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = {
    path: command
    for package in PACKAGES
    if (ROOT / package / "__main__.py").exists()
    for path, command in hooks.commands(package)
}
TEXTS = [*DOCUMENTS, *(ROOT / name for name in ("Makefile", "bootstrap.sh", ".ci/run", "pyproject.toml"))]
MARKERS = ["no" + "qa", "type: " + "ignore", "TO" + "DO", "FIX" + "ME", "XX" + "X"]


def _sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def _relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(source: str, *, module: str, is_package: bool = False) -> Iterator[str]:
    """Every module that the source imports, anywhere in it, as an absolute name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: len(module.split(".")) - node.level + is_package] if node.level else []
            target = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                inner = ROOT.joinpath(*target.split("."), alias.name)
                is_module = inner.with_suffix(".py").exists() or inner.is_dir()
                yield f"{target}.{alias.name}" if is_module else target


def _within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _wrong_imports(source: str, *, module: str, is_package: bool = False) -> list[str]:
    package = next(package for package in ARROWS if _within(module, (package,)))
    wrong = []
    for name in _imports(source, module=module, is_package=is_package):
        ours = name.partition(".")[0] in (*PACKAGES, "tests", "docs")
        if ours and not _within(name, ARROWS[package]):
            wrong.append(name)
        if not ours and package == "hdl.formats" and name.partition(".")[0] not in sys.stdlib_module_names:
            wrong.append(name)
    return wrong


@pytest.mark.parametrize("path", _sources(*PACKAGES), ids=_module)
def test_imports_follow_the_arrows(path: Path) -> None:
    is_package = path.name == "__init__.py"
    assert not _wrong_imports(path.read_text(), module=_module(path), is_package=is_package)


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("hdl.formats.apot", "import numpy as np", ["numpy"]),
        ("hdl.formats.apot", "from ..layouts import LAYER", ["hdl.layouts"]),
        ("hdl.formats.apot", "import re\nfrom .base import Format", []),
        ("hdl.array", "def f():\n    from gen import verilog", ["gen.verilog"]),
        ("hdl.array", "import amaranth\nfrom .formats import APoT", []),
        ("gen.verilog", "from sw.graph import IntegerGraph", ["sw.graph"]),
        ("sw.training", "from hdl import array, formats", ["hdl.array"]),
        ("sw.training", "import verif.demo\nfrom tests import conftest", ["verif.demo", "tests.conftest"]),
        ("verif.demo", "import hdl.engine", ["hdl.engine"]),
        ("fpga.synthesis", "from verif.reference import run", ["verif.reference"]),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str, wrong: list[str]) -> None:
    assert _wrong_imports(source, module=module) == wrong


def test_importing_hdl_loads_nothing() -> None:
    body = ast.parse((ROOT / "hdl/__init__.py").read_text()).body
    assert len(body) == 1
    assert isinstance(body[0], ast.Expr)
    assert isinstance(body[0].value, ast.Constant)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_is_quick_and_has_an_example(path: tuple[str, ...]) -> None:
    arguments = [sys.executable, "-X", "importtime", *path[1:], "--help"]
    result = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
    assert "click" in loaded
    assert not loaded & {"torch", "amaranth"}
    assert " ".join(path) in result.stdout.partition("xample")[2]


def _lines(document: Path, start: str) -> Iterator[list[str]]:
    """Words of every command in a document's code that begins with `start`."""
    text = document.read_text()
    for block in re.findall(r"```sh\n(.*?)```|`([^`\n]+)`", text, re.DOTALL):
        for line in "".join(block).splitlines():
            command = line.partition("#")[0].strip()
            if command.startswith(f"{start} "):
                yield command.split()


@pytest.mark.parametrize("document", DOCUMENTS, ids=_relative)
def test_make_commands_in_documents_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for _, target, *_ in _lines(document, "make"):
        assert target in targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=_relative)
def test_python_commands_in_documents_exist(document: Path) -> None:
    for words in _lines(document, "python -m"):
        known_starts = [count for count in range(3, len(words) + 1) if tuple(words[:count]) in COMMANDS]
        assert known_starts, f"{' '.join(words)}: {words[2]} cannot be run"
        length = max(known_starts)
        command, rest = COMMANDS[tuple(words[:length])], words[length:]
        assert not isinstance(command, click.Group) or not rest or rest[0].startswith("-")
        known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
        unknown = {word for word in rest if re.match("-+[a-z]", word)} - known - {"--help"}
        assert not unknown, f"{' '.join(words)}: unknown {unknown}"
        options = [each for each in command.params if isinstance(each, click.Option) and each.required]
        missing = [each.opts[0] for each in options if not set(each.opts) & set(rest)]
        assert not missing or "--help" in rest, f"{' '.join(words)}: lacks {missing}"


def test_readme_opens_with_a_diagram_and_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert re.match(
        r"# [^\n]+\n\n[^\n#`]+\n?[^\n#`]*\.\n\n```text\n.*?```\n\n```sh\nmake demo\nmake test\n```",
        readme,
        re.S,
    )


def test_every_make_target_is_explained() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    assert set(re.findall(r"^([a-z]+):.*## \S", makefile, re.MULTILINE)) == set(phony[1].split())


def test_make_refuses_an_unknown_simulator() -> None:
    result = subprocess.run(
        ["make", "--no-print-directory", "sim", "SIM=modelsim"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "SIM must be icarus or verilator, not modelsim" in result.stderr


def test_every_page_is_in_the_navigation() -> None:
    def pages(entry: object) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for inner in entry.values() if isinstance(entry, dict) else entry:
                yield from pages(inner)

    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    assert sorted(pages(navigation)) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_changelog_and_project_name_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    newest = re.search(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == project["version"]


@pytest.mark.parametrize("path", [*_sources(*PACKAGES, "tests", "docs"), *TEXTS], ids=_relative)
def test_no_suppressions_and_no_notes_to_self(path: Path) -> None:
    found = re.findall("|".join(rf"\b{marker}\b" for marker in MARKERS), path.read_text(), re.IGNORECASE)
    assert not found


def test_the_example_of_adding_a_scheme_keeps_the_contract() -> None:
    page = (ROOT / "docs/adding-a-scheme.md").read_text()
    source = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert source
    namespace: dict[str, type] = {"__name__": __name__}
    exec(re.sub(r"^    ", "", source[1], flags=re.MULTILINE), namespace)
    squares = namespace["Squares"]
    weight, activation = squares(bits=3), squares(bits=3, signed=False)
    assert weight.levels == (0, 1, 4, 9, 0, -1, -4, -9)
    assert activation.levels == activation.grid == (0, 1, 4, 9, 16, 25, 36, 49)
    assert sum(field.width for field in weight.fields) == weight.code_width
    assert (weight.name, activation.name) == ("squares_b3", "squares_b3u")
    with pytest.raises(ValueError, match="bits must be an integer from 2 to 8, not 1"):
        squares(bits=1)
    with pytest.raises(FrozenInstanceError):
        weight.bits = 4

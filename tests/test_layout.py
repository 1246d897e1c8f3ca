"""The structure that README and design promise: tables, file tree, imports that go down only."""

import ast
import re
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import lepton_lab as lab
from lepton_lab import spec
from lepton_lab.strategies import STRATEGIES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()

# From the ground up; a module may import from the layers below its own, and from its own package.
LAYERS = [
    {"refusals", "uncertainty", "answers"},
    {"frozen", "tables", "disks"},
    {"spec"},
    {"tails", "processes", "trust", "switches", "story"},
    {"folders"},
    {"events", "control", "operations"},
    {"datasets", "models", "optimizers", "losses"},
    {"strategies"},
    {"compressors"},
    {"loading", "shipping", "injection", "naming", "labels"},
    {"feeding"},
    {"checkpoints", "provenance", "tracing", "artifacts"},
    {"evaluation", "progress", "trials"},
    {"training", "trained", "costs"},
    {"meters", "latency"},
    {"sizes"},
    {"delivery"},
    {"compressing"},
    {"supervisor"},
    {"run"},
    {"launching", "overview"},
    {"charts", "generation", "trainer", "serving", "estimates"},
    {"contenders", "equality", "scanning", "explaining", "rates"},
    {"reports"},
    {"races", "searching", "grids", "comparing"},
    {"advice"},
    {"cli"},
    {"__init__", "__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def modules():
    for path in sorted((ROOT / "lepton_lab").rglob("*.py")):
        yield path, path.relative_to(ROOT / "lepton_lab").parts[0].removesuffix(".py")


def imported(path):
    """Top-level modules of lepton_lab that a file imports, anywhere in it but for types."""
    tree = ast.parse(path.read_text())
    typing = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    skipped = {id(child) for node in typing for child in ast.walk(node)}
    depth = len(path.relative_to(ROOT / "lepton_lab").parts)
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            yield from [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (name for name in names if name.split(".")[0] in ("IPython", "ipywidgets", "lepton_widgets"))


def test_imports_go_down_only():
    for path, name in modules():
        for other in imported(path):
            assert other in LEVEL, f"{path.name} imports {other}"
            assert other == name or LEVEL[other] < LEVEL[name], f"{path} imports {other}, which is not below it"


def test_a_wheel_holds_what_the_library_reads(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    code = {
        path.relative_to(root).as_posix()
        for root, package in ((ROOT, "lepton_lab"), (ROOT / "widgets", "lepton_widgets"))
        for path in (root / package).rglob("*.*")
        if "__pycache__" not in path.parts
    }
    books = [*ROOT.glob("notebooks/0*.ipynb"), ROOT / "notebooks" / "report.ipynb"]
    lessons = {f"lepton_lab/notebooks/{book.name}" for book in books}
    assert names == code | lessons | {"lepton_lab-0.1.0.data/data/etc/ipython/ipython_kernel_config.py"}


def test_the_readme_lists_every_member_of_every_family():
    for field in spec.TABLES | spec.LISTED:
        row = next(line for line in README.splitlines() if line.startswith(f"| {field} |"))
        assert re.findall(r"`([a-z0-9_]+)`", row.split("|")[3]) == list(spec.table(field)), row


def strategy_table():
    """README's table of strategies, from STRATEGIES."""
    lines = ["| strategy | who holds what | options | held to |", "| --- | --- | --- | --- |"]
    for name, strategy in STRATEGIES.items():
        first = strategy.__doc__.strip().split("\n")[0]
        options = ", ".join(f"`{option}`" for option in spec.keywords(strategy))
        but = f"; not with `{strategy.inexact_with}`" if strategy.inexact_with else ""
        held = f"one process, to rounding{but}" if strategy.exact else "its own model"
        lines.append(f"| `{name}` | {first} | {options} | {held} |")
    return "\n".join(lines)


def test_the_readme_s_table_of_strategies_is_that_of_the_code():
    assert strategy_table() in README


def test_the_api_page_is_that_of_the_code():
    made = runpy.run_path(str(ROOT / "docs" / "api.py"))["page"]()
    assert (ROOT / "docs" / "api.md").read_text() == made, "write it again: python docs/api.py"
    assert {name for name in lab.__all__ if f"`lab.{name}" not in made} == set()
    assert "|  |" not in made  # each has a sentence


def test_the_readme_tree_is_true():
    tree = README.split("## Files")[1].split("```")[1]
    listed = set(re.findall(r"[\w./-]+(?:/|\.(?:py|js|css|ipynb))(?=\s|$)", tree))
    folders = (
        "lepton_lab",
        "lepton_lab/supervisor",
        "widgets/lepton_widgets",
        "widgets/lepton_widgets/static",
        "notebooks",
    )
    for folder in folders:
        for path in (ROOT / folder).iterdir():
            if path.suffix in (".py", ".js", ".css", ".ipynb") and not path.name.startswith("_"):
                assert path.name in listed, f"{path} is missing in README's tree"
    for name in listed:
        assert list(ROOT.rglob(Path(name).name)), f"README's tree lists {name}, which is not there"


@pytest.mark.parametrize("path", sorted(ROOT.glob("notebooks/**/*.ipynb")), ids=lambda p: p.name)
def test_notebooks_are_committed_without_outputs(path):
    import json

    assert not any(cell.get("outputs") for cell in json.loads(path.read_text())["cells"])

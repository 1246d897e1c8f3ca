"""The structure that README and design promise: tables, file tree, imports that go down only."""

import ast
import graphlib
import re
import runpy
import subprocess

import pytest
from helpers import ROOT

import lepton_lab as lab
from lepton_lab import tables
from lepton_lab.strategies import STRATEGIES

README = (ROOT / "README.md").read_text()

# From the ground up, by folder: a room imports from the floors below its own and from itself, and not from its
# neighbours. The modules of the root are the first floor.
FLOORS = (
    {""},
    {"datasets", "transforms", "models", "tasks", "metrics", "optimizers", "strategies", "compressors"},
    {"store", "artifacts"},
    {"engine", "measures"},
    {"launchers"},
    {"run", "charts"},
    {"serving", "studies"},
    {"reports", "stages"},
    {"cli"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
LATE = {"tables.py", "launchers/local/zygote.py"}
"""Who imports by a name in a string: the look-up of tables, and the warm process, which does so ahead of need."""
PACKAGE = ROOT / "lepton_lab"
MODULES = sorted({*PACKAGE.rglob("*.py")} - {PACKAGE / "__main__.py", PACKAGE / "__init__.py"})


def name_of(path):
    """A file's module within lepton_lab: `store.log`; of a room's __init__, the room."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def room_of(module):
    top = module.split(".")[0]
    return top if (PACKAGE / top).is_dir() else ""


def imported(path):
    """Modules of lepton_lab that a file imports, anywhere in it but for types; and any that it must not."""
    tree = ast.parse(path.read_text())
    typing = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    skipped = {id(child) for node in typing for child in ast.walk(node)}
    package = path.relative_to(PACKAGE).parts[:-1]
    for node in (node for node in ast.walk(tree) if id(node) not in skipped):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                inner = PACKAGE.joinpath(*base, alias.name)
                yield ".".join([*base, alias.name] if inner.with_suffix(".py").exists() or inner.is_dir() else base)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not {name.split(".")[0] for name in names} & {"IPython", "ipywidgets", "lepton_widgets"}, path
            assert "lepton_lab" not in {name.split(".")[0] for name in names}, f"{path}: imports of ours are relative"


def test_every_folder_has_its_floor_and_says_what_it_is():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert rooms | {""} == set(FLOOR)
    for folder in {path.parent for path in MODULES}:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_down_and_never_sideways(path):
    room = room_of(name_of(path))
    for other in imported(path):
        below = FLOOR[room_of(other)] < FLOOR[room]
        assert below or room_of(other) == room, f"{name_of(path)} imports {other}, which is not below it"


def test_no_modules_import_each_other():
    graph = {name_of(path): set(imported(path)) - {name_of(path)} for path in MODULES}
    sorter = graphlib.TopologicalSorter(graph)
    sorter.prepare()  # raises CycleError, with the circle


def test_nothing_is_imported_by_a_name_in_a_string():
    for path in MODULES:
        if "import_module" in path.read_text():
            assert path.relative_to(PACKAGE).as_posix() in LATE, path


def test_no_module_hides_a_public_name():
    for name in lab.__all__:
        assert not (PACKAGE / name).exists() and not (PACKAGE / f"{name}.py").exists(), name


def test_the_readme_lists_every_member_of_every_family():
    for field in tables.TABLES | tables.LISTED:
        row = next(line for line in README.splitlines() if line.startswith(f"| {field} |"))
        assert re.findall(r"`([a-z0-9_]+)`", row.split("|")[3]) == list(tables.table(field)), row


def strategy_table():
    """README's table of strategies, from STRATEGIES."""
    lines = ["| strategy | who holds what | options | held to |", "| --- | --- | --- | --- |"]
    for name, strategy in STRATEGIES.items():
        first = strategy.__doc__.strip().split("\n")[0]
        options = ", ".join(f"`{option}`" for option in tables.keywords(strategy))
        but = f"; not with `{strategy.inexact_with}`" if strategy.inexact_with else ""
        held = f"one process, to rounding{but}" if strategy.exact else "its own model"
        lines.append(f"| `{name}` | {first} | {options} | {held} |")
    return "\n".join(lines)


def test_the_readme_s_table_of_strategies_is_that_of_the_code():
    assert strategy_table() in README


def test_the_page_of_tasks_has_each_with_its_options():
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*)\|$", (ROOT / "docs" / "tasks.md").read_text(), re.MULTILINE)
    options = {name: re.findall(r"`(\w+)`", listed) for name, listed in rows}
    assert options == {name: [*tables.keywords(task)] for name, task in tables.table("task").items()}


def test_the_api_page_is_that_of_the_code():
    made = runpy.run_path(str(ROOT / "docs" / "api.py"))["page"]()
    assert (ROOT / "docs" / "api.md").read_text() == made, "write it again: python docs/api.py"
    assert {name for name in lab.__all__ if f"`lab.{name}" not in made} == set()
    assert "|  |" not in made  # each has a sentence


def test_the_readme_tree_is_true():
    tree = README.split("## Files")[1].split("```")[1]
    listed = set(re.findall(r"^  ([\w]+)/", tree, re.MULTILINE))
    assert listed == set(FLOOR) - {""} | {"static"}
    tops = re.findall(r"^([\w./]+)", tree, re.MULTILINE)
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and tracked(path)}
    assert {top.split("/")[0] for top in tops} >= folders - {".ci"}
    for top in tops:
        assert (ROOT / top).exists(), f"README's tree lists {top}, which is not there"


def tracked(folder):
    return bool(subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True).stdout)


@pytest.mark.parametrize("path", sorted(ROOT.glob("notebooks/**/*.ipynb")), ids=lambda p: p.name)
def test_notebooks_are_committed_without_outputs(path):
    import json

    assert not any(cell.get("outputs") for cell in json.loads(path.read_text())["cells"])

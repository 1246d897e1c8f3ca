"""The wheel works without the checkout; with no extra installed it does what a cluster's node needs."""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from helpers import ROOT
from packaging.requirements import Requirement

from lepton_lab.errors import EXTRAS, Missing, needs

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

ENGINES = {"ray", "s3", "slurm"}
"""Extras for runs past one machine, which neither `make run` nor Binder installs."""

HEADLESS = """
import sys
from click.testing import CliRunner
import lepton_lab as lab
from lepton_lab.cli import main

def command(*words):
    done = CliRunner().invoke(main, words)
    return done.exit_code, done.output

runs = [lab.launch(lab.Spec(model="mlp", epochs=1, lr=lr, name=f"lr{lr}")) for lr in (0.01, 0.1)]
runs += [lab.launch(lab.Spec(model="mlp", epochs=1, strategy="ddp", world=2))]
assert [run.wait() for run in runs] == ["done"] * 3, [run.error for run in runs]
print(lab.table(runs), runs[0].frame("eval"), lab.advise(runs[0].spec), sep="\\n")
small = lab.compress(runs[0], ["low_rank"])
assert small.wait() == "done", small.error
print(lab.load(small.folder / "artifact.lepton"))

refused = {
    "prune": lambda: lab.compress(runs[0], ["prune"]),
    "quantize": lambda: lab.compress(runs[0], ["quantize"]),
    "search": lambda: lab.search(runs[0], {"bytes": 10_000}),
    "onnx": lambda: lab.export(runs[0], "model.onnx", "onnx"),
    "report": lambda: lab.report(runs[0], "report.html"),
    "serve": lambda: lab.serve(small.folder / "artifact.lepton"),
    "explain": lambda: lab.explain(runs[0]),
    "widgets": lambda: __import__("lepton_widgets"),
}
for name, call in refused.items():
    try:
        call()
    except lab.LabError as error:
        print("REFUSED", name, error)
for words in (["list"], ["show"], ["watch"], ["advise"], ["estimate", "low_rank"]):
    code, out = command(*words)
    assert code == 0 and out, (words, out)
for words, extra in ((["report"], "report"), (["demo"], "report"), (["lab"], "notebook")):
    code, out = command(*words)
    assert code == 2 and f"lepton-lab[{extra}]" in out, (words, out)
assert not {module.split(".")[0] for module in sys.modules} & set(%s)
"""


def installed(requirements):
    """Distributions that requirements bring, theirs included."""
    names, waiting = set(), [Requirement(line) for line in requirements]
    while waiting:
        wanted = waiting.pop()
        if wanted.name.lower() not in names:
            names.add(wanted.name.lower())
            needed = map(Requirement, metadata.requires(wanted.name) or [])
            waiting += [line for line in needed if line.marker is None or line.marker.evaluate({"extra": ""})]
    return names


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def node(wheel, tmp_path_factory):
    """Runs Python, outside of the checkout, where the wheel and its dependencies are installed, and no extra."""
    folder = tmp_path_factory.mktemp("node")
    venv.create(folder / "env", symlinks=True)
    paths = {"base": str(folder / "env"), "platbase": str(folder / "env")}
    site = Path(sysconfig.get_path("purelib", "venv", paths))
    for name in installed(PROJECT["dependencies"]):
        for file in metadata.files(name):
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (site / top).exists():
                (site / top).symlink_to(metadata.distribution(name).locate_file(top))
    zipfile.ZipFile(wheel).extractall(site)
    work = folder / "work"
    work.mkdir()

    def python(*words):
        env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        done = subprocess.run(
            [folder / "env" / "bin" / "python", *words], env=env, cwd=work, capture_output=True, text=True, timeout=280
        )
        return done.returncode, done.stdout, done.stderr

    return python


def test_a_wheel_holds_what_the_library_reads(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    code = {
        path.relative_to(root).as_posix()
        for root, package in ((ROOT, "lepton_lab"), (ROOT / "widgets", "lepton_widgets"))
        for path in (root / package).rglob("*.*")
        if "__pycache__" not in path.parts
    }
    lessons = {f"lepton_lab/{book.relative_to(ROOT).as_posix()}" for book in ROOT.glob("notebooks/**/*.ipynb")}
    shared = ["etc/ipython/ipython_kernel_config.py"]
    shared += [f"share/jupyter/labextensions/lepton-lab/{name}" for name in ("package.json", "static/pictures.js")]
    assert names == code | lessons | {f"lepton_lab-0.1.0.data/data/{name}" for name in shared}


@pytest.mark.slow
def test_without_extras_a_node_trains_sweeps_and_compresses_and_names_the_extra_of_the_rest(node):
    code, out, err = node("-c", HEADLESS % sorted(EXTRAS))
    assert code == 0, err
    said = dict(re.findall(r"^REFUSED (\w+) (.+)$", out, re.MULTILINE))
    extras = {name: re.search(r"pip install 'lepton-lab\[(\w+)\]'$", sentence)[1] for name, sentence in said.items()}
    assert extras == {
        "prune": "compress",
        "quantize": "compress",
        "search": "search",
        "onnx": "compress",
        "report": "report",
        "serve": "deploy",
        "explain": "explain",
        "widgets": "notebook",
    }
    code, out, err = node("-m", "lepton_lab", "run", "--model", "mlp", "--epochs", "1", "--name", "alone")
    assert code == 0, err


def test_every_library_of_an_extra_is_named_with_one_that_brings_it(monkeypatch):
    distributions = {"torch_pruning": "torch-pruning", "IPython": "jupyterlab", "PIL": "pillow"}
    for library, extra in EXTRAS.items():
        declared = {Requirement(line).name for line in PROJECT["optional-dependencies"][extra]}
        assert distributions.get(library, library) in declared, library
    needs("this test", "matplotlib")
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(Missing, match=r"^it needs captum, .*: pip install 'lepton-lab\[explain\]'$"):
        needs("it", "matplotlib", "captum")


def test_all_has_every_extra_and_make_installs_it_for_tests_but_no_engine_for_a_user():
    extras = PROJECT["optional-dependencies"]
    (everything,) = map(Requirement, extras["all"])
    assert everything.extras == set(extras) - {"all", "test", "bench"}
    assert "lepton-lab[all]" in extras["test"]
    named = re.search(r"^EXTRAS := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split(",")
    brought = {name for extra in named for line in extras[extra] for name in Requirement(line).extras} | {*named}
    assert brought == everything.extras - ENGINES


def test_lab_puts_the_lessons_into_a_folder_and_leaves_those_that_are_there(tmp_path):
    """JupyterLab is asked for its version alone, which it prints in place of starting."""
    place = tmp_path / "lessons"
    place.mkdir()
    (place / "index.ipynb").write_text("mine")
    words = [sys.executable, "-m", "lepton_lab", "lab", str(place), "--", "--version"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=100)
    assert done.returncode == 0 and re.match(r"\d+\.\d+", done.stdout), done.stderr
    copied = {path.relative_to(place) for path in place.rglob("*.ipynb")}
    assert copied == {path.relative_to(ROOT / "notebooks") for path in ROOT.glob("notebooks/**/*.ipynb")}
    assert (place / "index.ipynb").read_text() == "mine"


def test_lab_says_why_a_folder_can_t_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    words = [sys.executable, "-m", "lepton_lab", "lab", str(tmp_path / "file"), "--", "--version"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2 and "the lessons can't be put into" in done.stderr

"""What Binder builds from: the files that repo2docker finds, what they install, and what they set."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from helpers import ROOT
from packaging.requirements import Requirement

BINDER = ROOT / "binder"


@pytest.fixture(scope="module")
def check():
    found = importlib.util.spec_from_file_location("check", BINDER / "check.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_files_are_those_that_repo2docker_takes_for_python():
    """Its rules: in binder/ alone; a Dockerfile or environment.yml would win over these; scripts begin with `#!`."""
    names = {path.name for path in BINDER.iterdir() if not path.name.startswith("__")}
    assert names == {"check.py", "jupyter_config.json", "postBuild", "requirements.txt", "runtime.txt", "start"}
    assert not (ROOT / ".binder").exists()
    version = re.fullmatch(r"python-(\d+)\.(\d+)\n", (BINDER / "runtime.txt").read_text())
    assert tuple(map(int, version.groups())) >= (3, 11)
    for script in ("postBuild", "start"):
        assert (BINDER / script).read_text().startswith("#!/bin/bash\n")
        assert os.access(BINDER / script, os.X_OK)
        subprocess.run(["bash", "-n", BINDER / script], check=True)
    assert (BINDER / "start").read_text().endswith('\nexec "$@"\n')


def test_repo2docker_itself_finds_them():
    if shutil.which("repo2docker") is None:
        pytest.skip("repo2docker is not installed; it wants an environment of its own")
    done = subprocess.run(["repo2docker", "--no-build", "--debug", ROOT], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    made = done.stdout + done.stderr
    pip, build = '-r "binder/requirements.txt"', "RUN ./binder/postBuild"
    for line in ("python=3.11", pip, build, 'R2D_ENTRYPOINT="${REPO_DIR}/binder/start"'):
        assert line in made, line
    assert made.index(" src/ ${REPO_DIR}/") < made.index(pip) < made.index(build), "constraints.txt is not there yet"


def test_what_pip_installs_first_is_pinned():
    lines = (BINDER / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith(("#", "-"))]
    assert "-c ../constraints.txt" in lines
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(any(pin.startswith(f"{Requirement(name).name}==") for pin in pinned) for name in wanted)


def test_post_build_installs_what_is_checked(check):
    script = (BINDER / "postBuild").read_text()
    extras = Requirement(check.INSTALLED).extras
    assert set(re.search(r"'\.\[([\w,]+)\]'", script)[1].split(",")) == extras
    assert "--torch-backend cpu" in script and "--constraint constraints.txt" in script
    assert script.index("uv pip install") < script.index("python binder/check.py")


def test_no_file_names_an_address():
    for path in BINDER.iterdir():
        if path.is_file():
            assert "://" not in path.read_text(), path


def test_what_is_installed_here_fits(check):
    """The same packages as in the image, under the same constraints: CPU torch, and 2.0 GB on disk at most."""
    done = subprocess.run([sys.executable, BINDER / "check.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    packages, size = re.match(r"(\d+) packages, ([\d.]+) GB on disk", done.stdout).groups()
    assert int(packages) > 50 and 0.5 < float(size) <= 2.0
    assert {"torch", "voila", "captum", "jupyterlab", "sympy"} <= check.closure(check.INSTALLED)


def test_too_much_or_a_torch_for_cuda_is_refused(check):
    assert check.complaints({"torch": 10**9}, "2.13.0+cpu") == []
    (said,) = check.complaints({"torch": 10**9}, "2.13.0")
    assert "--torch-backend cpu" in said
    (said,) = check.complaints({"torch": 1_900_000_000, "voila": 200_000_000}, "2.13.0+cpu")
    assert "2.10 GB" in said and "torch 1.90 GB" in said


def test_start_sets_the_environment_and_runs_what_it_is_given(tmp_path):
    names = ("LEPTON_LAB_MAX_WORKERS", "LEPTON_LAB_STANDBY", "LEPTON_LAB_PROFILE", "JUPYTER_CONFIG_PATH")
    code = f"import json, os; print(json.dumps([os.environ[name] for name in {names}]))"
    environment = {**os.environ, "REPO_DIR": str(ROOT)}
    done = subprocess.run(
        [BINDER / "start", sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == ["2", "3", "smoke", str(BINDER)]


def test_jupyter_opens_on_the_landing_page():
    said = json.loads((BINDER / "jupyter_config.json").read_text())
    url = said["ServerApp"]["default_url"]
    assert said["LabApp"]["default_url"] == said["JupyterNotebookApp"]["default_url"] == url
    assert (ROOT / "widgets" / "voila" / "templates" / said["VoilaConfiguration"]["template"]).is_dir()
    assert (ROOT / url.removeprefix("/lab/tree/")).is_file()


def test_lessons_know_nothing_of_binder():
    for path in ROOT.glob("notebooks/**/*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        code = "".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        assert not re.search(r"(?i)binder|LEPTON_LAB_PROFILE|os\.environ", code), path

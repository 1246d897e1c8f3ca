"""Nothing is sent anywhere: what every process of a whole round looks up and reaches, C++ libraries included."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from helpers import ROOT, until

ROUND = """
import lepton_lab as lab, torch
from click.testing import CliRunner
from lepton_lab.cli import main

if __name__ == "__main__":
    run = lab.launch(lab.Spec(model="mlp", epochs=1, batch_size=256, world=2, strategy="ddp"))
    assert run.wait(120) == "done", run.failure
    child = lab.compress(run, [("prune", 0.5), ("quantize", "int8")], epochs=1)
    assert child.wait(200) == "done", child.failure
    for format in ("onnx", "torch"):
        lab.export(run, f"model.{format}", format)
    file = str(child.folder / "artifact.lepton")
    digits = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    names = lab.load(file).predict(digits)
    with lab.serve(file) as server:
        server.wait(60)
        assert lab.Client(server.url, server.token).predict(digits) == names
    lab.report([run, child], "report.html")
    for words in (["list"], ["load-test", file, "--calls", "3"]):
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 0, done.output
"""


@pytest.fixture(scope="module")
def watch(tmp_path_factory):
    """A library that, loaded before all others, notes look-ups and connections that leave the machine."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to build what watches the C library's look-ups")
    built = tmp_path_factory.mktemp("watch") / "watch.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-o", str(built), str(ROOT / "tests" / "watch.c"), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return built


@pytest.fixture
def watched(watch, home, tmp_path):
    """An environment that is watched, in a home of its own."""
    told = {"HOME": tmp_path, "XDG_CACHE_HOME": tmp_path / ".cache", "LD_PRELOAD": watch, "WATCHED": tmp_path / "seen"}
    unset = {"ORT_DISABLE_TELEMETRY", "JUPYTER_CONFIG_DIR"}
    return {**{k: v for k, v in os.environ.items() if k not in unset}, **{k: str(v) for k, v in told.items()}}


def seen(environment):
    """What was looked up or reached, and what a maker of telemetry keeps to send later."""
    noted = Path(environment["WATCHED"])
    lines = noted.read_text().splitlines() if noted.exists() else []
    queued = [str(path) for path in Path(environment["HOME"]).rglob("*") if "Microsoft" in path.parts]
    return lines + queued


def python(code, environment):
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=environment["HOME"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_a_whole_round_looks_nothing_up_and_reaches_nobody(watched):
    script = Path(watched["HOME"]) / "round.py"
    script.write_text(ROUND)
    python(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')", watched)
    assert not seen(watched)


def test_jupyterlab_opens_and_starts_a_kernel_without_a_look_up(watched, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lab = [sys.executable, "-m", "lepton_lab", "lab", str(tmp_path / "lessons"), "--", "--no-browser"]
    lab += [f"--ServerApp.port={port}", "--IdentityProvider.token=watched"]  # all else as a person has it

    def ask(path, method="GET"):
        request = urllib.request.Request(f"http://127.0.0.1:{port}/{path}?token=watched", method=method)
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    with subprocess.Popen(lab, env=watched, cwd=ROOT, stderr=subprocess.DEVNULL) as server:
        try:
            assert b"jupyter-config-data" in until(lambda: ask("lab/tree/index.ipynb"))
            for question in ("update", "news"):  # as the page does once it is shown
                ask(f"lab/api/{question}")
            kernel = json.loads(ask("api/kernels", "POST"))["id"]
            until(lambda: json.loads(ask(f"api/kernels/{kernel}"))["execution_state"] in ("idle", "starting"))
            ask(f"api/kernels/{kernel}", "DELETE")
        finally:
            server.terminate()
    assert not seen(watched)


def test_the_watch_sees_what_it_is_to_see(watched):
    code = "import socket\n"
    code += "try: socket.getaddrinfo('nobody.invalid', 80)\nexcept OSError: pass\n"
    code += "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: s.connect(('192.0.2.1', 9))\n"
    code += "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: s.connect(('127.0.0.1', 9))\n"
    python(code, watched)
    lines = seen(watched)
    assert [line.split(" (")[0] for line in lines] == ["looks up nobody.invalid", "reaches 192.0.2.1"]

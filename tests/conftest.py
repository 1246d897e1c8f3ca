"""Isolation: every test has its own run root, and leaves no process, thread, port, file or environment behind."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

import lepton_lab as lab
from lepton_lab.engine.tracing.costs import ASKED
from lepton_lab.files import write_json
from lepton_lab.launchers.local import client
from lepton_lab.store.folder import ENDED

SET_BY_OTHERS = ("PYTEST_CURRENT_TEST", "TORCHINDUCTOR_CACHE_DIR", "_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR")
SHARED = Path(__file__).parents[2] / "shared" / "data"

# How long an example takes depends on what else the machine does.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_configure(config):
    # Real data, where a data root is named or lies beside the checkout.
    if "LEPTON_LAB_DATA" not in os.environ and SHARED.is_dir():
        os.environ["LEPTON_LAB_DATA"] = str(SHARED)


def pytest_collection_modifyitems(items):
    """The longest file first, or one process would be left with it at the end."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")


@pytest.fixture(autouse=True, scope="module")
def standby():
    """One warm process for a module's launches, so that they don't each pay for a start; gone at its end."""
    yield
    client.close()
    assert not ours(), f"processes left: {ours()}"


@pytest.fixture(autouse=True)
def home(standby):
    """A run root of its own, short enough for any path; no rank, thread or environment variable outlives the test."""
    root = Path(tempfile.mkdtemp(prefix="lepton-lab-test-"))
    with pytest.MonkeyPatch.context() as own:
        own.setenv("LEPTON_LAB_HOME", str(root))
        own.setenv("XDG_RUNTIME_DIR", str(root))  # leases of its own
        environment, threads = _environment(), set(threading.enumerate())
        yield root
        assert _environment() == environment
        live = [run for run in lab.runs() if run.state not in ENDED]
        for run in live:
            run.stop()
            run.wait(60)
    left = _linger(lambda: [p for p in ours() if p.pid != _warm()])
    started = _linger(lambda: [t for t in threading.enumerate() if t not in threads])
    kept = _linger(lambda: _stays(root))  # a supervisor on its way out may be writing still
    assert not kept, f"files left: {kept}"
    assert not live, f"runs left live: {live}"
    assert not left, f"processes left: {left}"
    assert not started, f"threads left: {started}"


def _stays(root):
    """Whether a folder could not be removed."""
    shutil.rmtree(root, ignore_errors=True)
    return root.exists()


def _environment():
    return {name: value for name, value in os.environ.items() if name not in SET_BY_OTHERS}


def _linger(find, seconds=10):
    """What is still there after some time."""
    deadline = time.monotonic() + seconds
    while (found := find()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


@pytest.fixture
def data_root():
    """The folder of real data sets; tests that need it are skipped where there is none."""
    root = Path(os.environ.get("LEPTON_LAB_DATA", "nowhere"))
    if not (root / "MNIST" / "raw").is_dir():
        pytest.skip("no MNIST under LEPTON_LAB_DATA")
    return root


@pytest.fixture
def no_compiler(monkeypatch):
    """Without the peer that torch.compile makes, which takes seconds each time."""
    monkeypatch.setenv("CXX", "no-compiler")


@pytest.fixture
def tiny():
    """A spec whose run takes well under a second."""
    return lab.Spec(dataset="digits", model="mlp", epochs=2, batch_size=128)


@pytest.fixture
def endless():
    """A spec that trains for hours unless told otherwise, on two ranks."""
    return lab.Spec(
        dataset="digits", model="mlp", epochs=100_000, batch_size=32, world=2, eval_every=0, checkpoint_every=0
    )


def ours():
    """Live processes that this one started, and theirs."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE and "lepton_lab" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            pass
    return found


def _warm():
    return client._warm.process.pid if client._warm else None


def until(condition, seconds=30):
    """Wait for a condition to hold and return its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it never held"
        time.sleep(0.01)
    return value


def ranks_of(run):
    """Processes of a run's ranks, found by its folder's open log."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(run.folder / "logs" / "rank") in f.path for f in process.open_files()):
                found.append(process)
        except (psutil.Error, OSError):
            pass
    return found


def numbered(ranks):
    """The processes of `ranks_of` by rank."""
    return {int(next(f.path for f in p.open_files() if "logs" in f.path)[-5]): p for p in ranks}


def recorded(run, *ranks):
    """Give a run what its ranks recorded: of each the begin of its all_reduce, in ms, in a step of 10 ms."""
    for rank, begin in enumerate(ranks):
        ms = 1_000_000
        spans = [
            {"kind": "compute", "name": "forward", "begin": 0, "end": begin * ms},
            {"kind": "communication", "name": "all_reduce", "begin": begin * ms, "end": 9 * ms}
            | {"numbers": 250, "bytes": 1000},
            {"kind": "compute", "name": "update", "begin": 9 * ms, "end": 10 * ms},
        ]
        window = {"t": 0.0, "rank": rank, "parts": len(ranks), "step": 13, "seconds": 0.01}
        window |= {name: run.spec.to_dict()[name] for name in ASKED}
        window |= {"samples": 5, "bytes": 1000, "counted": "kernel", "memory": {"peak": 10}, "spans": spans}
        window |= {"steps": [[0, 10 * ms]], "links": [[7000 + rank, 7001 - rank, 1000]]}
        place = run.folder / "timeline" / "step-00000013"
        place.mkdir(parents=True, exist_ok=True)
        write_json(place / f"rank{rank}.json", window)
    return run

"""Isolation: every test has its own run root, and leaves no process, thread, port, file or environment behind."""

from __future__ import annotations

import os

# Threads of one computation wait for each other by spinning, which takes the cores from the tests beside: six times
# the CPU time on two busy cores. Here first of all, since OpenMP reads it when torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "0")
# Tests start a hundred processes: what one compiled, the next reads, whatever the environment asks of Python.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import gc
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT, ours, until
from hypothesis import HealthCheck, settings

import lepton_lab as lab
from lepton_lab.launchers.local import client
from lepton_lab.store.folder import ENDED

sys.dont_write_bytecode = False
SET_BY_OTHERS = ("PYTEST_CURRENT_TEST", "TORCHINDUCTOR_CACHE_DIR", "_TORCHINDUCTOR_PYOBJECT_TENSOR_DATA_PTR")
SET_BY_OTHERS += ("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK")  # scikit-learn's
SHARED = ROOT.parent / "shared" / "data"
# What takes longest begins first, or one process would be left with it at the end.
LONGEST = ("browser", "test_compressing.py", "test_artifacts.py", "test_supervisor.py", "notebooks", "strategies")

# How long an example takes depends on what else the machine does.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_configure(config):
    # Real data, where a data root is named or lies beside the checkout.
    if "LEPTON_LAB_DATA" not in os.environ and SHARED.is_dir():
        os.environ["LEPTON_LAB_DATA"] = str(SHARED)
    os.environ["CXX"] = "no-compiler"  # compiling takes half a minute for each model
    # A shell's background job ignores interrupts, and so would all that is started here and is to be interrupted.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collectstart(collector):
    if isinstance(collector, pytest.Module):
        _seed()  # what a file draws while it is imported is the same whichever files were before it


def pytest_collection_modifyitems(items):
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: min(rank.get(part, len(rank)) for part in item.path.parts))


def pytest_collection_finish():
    # What is there by now stays: a full collection of all that takes a fifth of a second, and a measurement has three.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file at a time, but the browser's files together: one process starts JupyterLab and Chromium for them all."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduler(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return "browser" if nodeid.startswith("tests/browser/") else super()._split_scope(nodeid)

    return Scheduler(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(autouse=True, scope="session")
def standby():
    """One warm process for all launches, so that they don't each pay for a start; gone at the end."""
    yield
    client.close()
    assert not _linger(ours), f"processes left: {ours()}"


def _seed():
    """Numbers that a test draws are the same each time: one that fails, fails again."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


@pytest.fixture(autouse=True)
def seeded():
    """Every test draws the numbers that it drew the last time."""
    _seed()


@pytest.fixture(autouse=True)
def home(standby):
    """A run root of its own, short enough for any path; no rank, thread or environment variable outlives the test."""
    root = Path(tempfile.mkdtemp(prefix="lepton-lab-test-"))
    with pytest.MonkeyPatch.context() as own:
        own.setenv("LEPTON_LAB_HOME", str(root))
        own.setenv("XDG_RUNTIME_DIR", str(root))  # leases of its own
        environment, threads, there = _environment(), set(threading.enumerate()), ours()
        yield root
        assert _environment() == environment
        live = [run for run in lab.runs() if run.state not in ENDED]
        for run in live:
            run.stop()
            run.wait(60)
    left = _linger(lambda: [p for p in ours() if p not in there and p.pid != _warm()])
    started = _linger(lambda: [t for t in threading.enumerate() if t not in threads])
    kept = _linger(lambda: _stays(root))  # a supervisor on its way out may be writing still
    assert not kept, f"files left: {kept}"
    assert not live, f"runs left live: {live}"
    assert not left, f"processes left: {left}"
    assert not started, f"threads left: {started}"


@pytest.fixture(scope="session")
def _stock(tmp_path_factory):
    """Folders of runs that were made once, by who made them and of what."""
    return tmp_path_factory.mktemp("stock"), {}


@pytest.fixture
def once(home, _stock):
    """
    Function that gives the run that `make(*values)` returns, made by the first test that asks.

    Every test gets a copy in its own root, with the runs it descends from: it may change what it likes.
    """
    folder, made = _stock

    def once(make, *values):
        key = f"{make.__module__}.{make.__qualname__}{values}"
        if key not in made:
            run = make(*values)
            until(lambda: not run.store.alive)  # its last process may be writing
            made[key] = [run.id, *_ancestors(run)]
            for id in made[key]:
                shutil.copytree(home / "runs" / id, folder / id, dirs_exist_ok=True)
        for id in made[key]:
            if not (home / "runs" / id).exists():
                shutil.copytree(folder / id, home / "runs" / id)
        return lab.attach(made[key][0])

    return once


def _ancestors(run):
    while run.spec.parent:
        run = lab.attach(run.spec.parent)
        yield run.id


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


@pytest.fixture(scope="module")
def one_core(standby):
    """Bit for bit holds with one thread a rank: world 1 gets it by a single core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    with pytest.MonkeyPatch.context() as own:
        own.setenv("LEPTON_LAB_MAX_WORKERS", "2")
        yield
    os.sched_setaffinity(0, cores)


@pytest.fixture
def data_root():
    """The folder of real data sets; tests that need it are skipped where there is none."""
    root = Path(os.environ.get("LEPTON_LAB_DATA", "nowhere"))
    if not (root / "MNIST" / "raw").is_dir():
        pytest.skip("no MNIST under LEPTON_LAB_DATA")
    return root


@pytest.fixture
def compiler(home, monkeypatch):
    """With the peer that torch.compile makes of each model that is measured."""
    from torch._inductor import config

    monkeypatch.delenv("CXX")
    client.close()  # the warm process has read it, and this one may have
    with config.patch({"cpp.cxx": (None, "g++")}):
        yield
    client.close()


@pytest.fixture(scope="module")
def one_thread():
    """Matrices as small as in tests are done sooner by one thread, above all where others compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


def _warm():
    return client._warm.process.pid if client._warm else None

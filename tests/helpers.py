"""What several files of tests use: waiting, processes of runs, the command line in this process, small models."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import random
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from array import array
from html.parser import HTMLParser
from pathlib import Path

import psutil
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from lepton_lab.cli import main
from lepton_lab.engine.tracing.costs import ASKED
from lepton_lab.files import write_json
from lepton_lab.models import MODELS
from lepton_lab.store.objects.bucket import Bucket

ROOT = Path(__file__).parents[1]  # of the checkout
PLAIN = [name for name, maker in MODELS.items() if not maker.tasks]
"""Models of the table that are called with x alone and score classes; tests of the others are by their tasks."""
# Of each of these: the shape of a sample, classes, and the vocabulary of tokens.
SHAPES = {"mlp": ((1, 8, 8), 10, 0), "cnn": ((1, 8, 8), 10, 0), "mnist_cnn": ((1, 28, 28), 10, 0)}
SHAPES |= {"lenet": ((1, 16, 16), 10, 0)}
SHAPES |= {"transformer": ((1, 8, 8), 10, 0), "gpt": ((16,), 50, 50), "rnn": ((1, 8, 8), 10, 0)}
SHAPES |= {"resnet": ((1, 8, 8), 10, 0)}
WHOLE = ["rnn"]
"""Models whose layers lead into each other, of which prune can take nothing, and says so."""
ENDLESS = ["run", "--model", "mlp", "--epochs", "100000", "--eval-every", "0", "--checkpoint-every", "0"]


class Late:
    """A module that is imported when something of it is asked for, by the one process whose tests need it."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, attribute):
        if attribute.startswith("_"):  # which pytest looks for in whatever a file of tests has
            raise AttributeError(attribute)
        return getattr(importlib.import_module(self._name), attribute)


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


def until(condition, seconds=60):
    """Wait for a condition to hold and return its value; beside other work a moment may be long."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it never held"
        time.sleep(0.02)
    return value


def free_ports(count):
    """Ports of the loopback that nobody has; the kernel gives none of these to who asks for any, as others do."""
    with contextlib.ExitStack() as stack:
        found = []
        for port in random.Random().sample(range(20_000, 30_000), 100):
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
                found.append(port)
            if len(found) == count:
                return found
    raise AssertionError("there are no free ports")


def ranks_of(run):
    """Processes of a run's ranks, found by the open log in its folder, or in a copy of it."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(f"/{run.id}/logs/rank" in f.path for f in process.open_files()):
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


def gone(processes):
    return not any(alive(p) for p in processes)


def alive(process):
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it went between the two questions
        return False


def started(run, steps=5):
    until(lambda: len(run.rows("train")) > steps)
    return ranks_of(run)


def call(*words, code=0):
    """What a command prints: (stdout, stderr)."""
    result = CliRunner().invoke(main, [str(word) for word in words], prog_name="lepton-lab", terminal_width=80)
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def start(*words):
    command = [sys.executable, "-m", "lepton_lab", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def unpack(block):
    """What `pack` packed: {(run, metric, split, rank): (version, start, steps, values)}."""
    if not block:
        return {}
    (size,) = struct.unpack_from("<I", block)
    at, found = 4 + size, {}
    for run, metric, split, rank, version, start, count in json.loads(block[4:at]):
        x, y = array("d", block[at : at + 8 * count]), array("d", block[at + 8 * count : at + 16 * count])
        found[run, metric, split, rank] = version, start, list(x), list(y)
        at += 16 * count
    assert at == len(block)
    return found


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text = [], ""
        self.source = path.read_text()
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


class Noisy(nn.Module):
    """
    Dropout and batch norm: random state of each rank, buffers that drift apart.

    It takes its time, so that the end is some way off when a test stops or kills it.
    """

    def __init__(self, shape, classes):
        super().__init__()
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), 32), nn.BatchNorm1d(32), nn.ReLU())
        self.out = nn.Sequential(nn.Dropout(0.2), nn.Linear(32, classes))

    def forward(self, x):
        if self.training:
            time.sleep(0.01)
        return self.out(self.hidden(x))


class Slope(nn.Module):
    """A model whose loss falls by the same whatever the weights: each gradient of the weight is 1."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x):
        return self.weight.expand(len(x))


def height(output, target):
    return output.mean()


def execute(path, folder, **parameters):
    """Outputs of a notebook's cells, with these parameters put in."""
    given = [word for name, value in parameters.items() for word in ("-p", name, json.dumps(value).strip('"'))]
    command = [sys.executable, "-m", "papermill", str(path), "out.ipynb", "--no-progress-bar", *given]
    one = {**os.environ, "OMP_NUM_THREADS": "1"}  # several run at once: a second thread would spin
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=one)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert ("injected-parameters" in (folder / "out.ipynb").read_text()) == bool(given)
    cells = json.loads((folder / "out.ipynb").read_text())["cells"]
    found = [output for cell in cells if cell["cell_type"] == "code" for output in cell["outputs"]]
    assert not [output for output in found if output["output_type"] == "error"]
    return found


@contextlib.contextmanager
def s3(host, buckets):
    """A server of S3's at an address, and the way to it in the environment; its port is its process's last word."""
    with socket.create_server((host, 0)) as listening:  # so that nobody else takes the port meanwhile
        port, fd = listening.getsockname()[1], listening.fileno()
        silent = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        words = [sys.executable, ROOT / "tests" / "store" / "s3.py", str(fd), str(port)]
        server = subprocess.Popen(words, pass_fds=[fd], **silent)
    try:
        with pytest.MonkeyPatch.context() as own:
            own.setenv("AWS_ACCESS_KEY_ID", "me")
            own.setenv("AWS_SECRET_ACCESS_KEY", "mine")
            own.setenv("AWS_DEFAULT_REGION", "us-east-1")
            own.setenv("AWS_EC2_METADATA_DISABLED", "true")
            own.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
            until(lambda: _answers(host, port))
            files = Bucket(f"s3://{buckets[0]}").files
            for name in buckets:
                files.mkdir(name)
            yield server
    finally:
        server.kill()
        server.wait()


def _answers(host, port):
    with contextlib.suppress(OSError):
        return urllib.request.urlopen(f"http://{host}:{port}/", timeout=5).status == 200

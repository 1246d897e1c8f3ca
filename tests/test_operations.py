"""What the flight recorder and the stack tell of operations between ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from lepton_lab import operations

ALONE = """
import json, os, sys, threading, time, torch, torch.distributed as dist
from lepton_lab import operations
assert operations.recorded() == [] and operations.waiting() == ""
operations.record()
dist.init_process_group("gloo", store=dist.FileStore(sys.argv[1], 1), rank=0, world_size=1)
dist.all_reduce(torch.ones(3, 5))
dist.barrier()
try:
    raise RuntimeError("Connection closed by peer")
except RuntimeError as error:
    broken = operations.broken(error)
for _ in range(500):  # a thread of torch notes what has ended
    if not operations.waiting():
        break
    time.sleep(0.01)
entries = operations.recorded()
names = [operations.named(entry) for entry in entries]
print(json.dumps([names, operations.waiting(), broken, operations.sent(entries[0], 4)]))
sys.stdout.flush()
os._exit(0)
"""


def test_operations_are_recorded_by_name_and_size(tmp_path):
    words = [sys.executable, "-c", ALONE, str(tmp_path / "store")]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment, check=True)
    names, waiting, broken, sent = json.loads(done.stdout)
    assert names == [["all_reduce", 15], ["barrier", 0]]
    assert waiting == "" and broken == "barrier"
    assert sent == 2 * 3 / 4 * 60


@pytest.mark.parametrize(
    ("name", "kind", "ranks", "sent"),
    [
        ("nccl:all_reduce", "Float", 2, 400),
        ("nccl:_all_gather_base", "BFloat16", 4, 600),
        ("nccl:_reduce_scatter_base", "Double", 4, 600),
        ("nccl:send 0->1", "Half", 2, 200),
        ("nccl:recv 0<-1", "Half", 2, 0),
        ("nccl:barrier", "Float", 2, 0),
    ],
)
def test_sizes_tell_what_is_sent(name, kind, ranks, sent):
    entry = {"profiling_name": name, "input_sizes": [[10, 10]], "input_dtypes": [kind]}
    assert operations.sent(entry, ranks) == sent

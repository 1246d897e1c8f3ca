"""Facts of this machine: what memory there is, and what of it is given back."""

import subprocess
import sys

import pytest

from lepton_lab.host import memory_left, memory_let

HELD = """
from lepton_lab.host import keep_memory, memory, release_memory
keep_memory()
parts = [bytearray(b"x") * 1_000_000 for _ in range(200)]
last = bytearray(b"x") * 1_000_000  # at the end of the heap, where malloc would give back by itself
full = memory()
del parts
kept = memory()
release_memory()
print(full - kept, kept - memory())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc")
def test_a_rank_keeps_what_is_freed_until_it_gives_it_back():
    told = subprocess.run([sys.executable, "-c", HELD], capture_output=True, check=True, text=True, timeout=60).stdout
    freed, released = map(int, told.split())
    assert freed < 20e6 and released > 150e6


def test_memory_is_what_the_machine_has_or_a_hub_lets_its_kernels_take(monkeypatch):
    monkeypatch.delenv("MEM_LIMIT", raising=False)
    free, total = memory_left()
    assert 0 < free <= total
    for told, most in (
        ("1000000", 1_000_000),
        ("1e6", 1_000_000),
        ("0", total),
        ("two", total),
        ("-1", total),
        ("inf", total),
        (str(2 * total), total),
    ):
        monkeypatch.setenv("MEM_LIMIT", told)
        assert memory_let() == most

"""Bytes that a rank sends, by the kernel's own count: for tests and benchmarks."""

import contextlib
import itertools
import os
import socket
import stat
import statistics
import struct

import torch
from torch import nn
from torch.nn import functional

SENT = 200  # where tcpi_bytes_sent lies in the kernel's struct tcp_info


class Counting(nn.Module):
    """Cross entropy that prints, in training, the bytes that this process has sent so far."""

    def forward(self, output, target):
        if torch.is_grad_enabled():
            print("sent", sum(map(sent, os.listdir("/proc/self/fd"))), flush=True)
        return functional.cross_entropy(output, target)


def sent(descriptor):
    """Bytes sent over a TCP socket; 0 for what is none."""
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.fstat(int(descriptor)).st_mode):
            with socket.socket(fileno=os.dup(int(descriptor))) as end:
                if end.family in (socket.AF_INET, socket.AF_INET6):
                    told = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
                    return struct.unpack_from("=Q", told, SENT)[0]
    return 0


def per_step(run):
    """Bytes that rank 0 sent in most steps of a run whose loss was Counting."""
    lines = (run.folder / "logs" / "rank0.log").read_text().splitlines()
    counts = [int(line.split()[1]) for line in lines if line.startswith("sent")]
    return statistics.median(b - a for a, b in itertools.pairwise(counts))

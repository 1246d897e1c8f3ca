"""Hosts for runs on several machines."""

import os
import shutil
import subprocess

import pytest


@pytest.fixture(scope="module")
def hosts():
    """Two hosts made of network namespaces: their names, and their network, in which this one is .1, they .2 and .3."""
    if shutil.which("ip") is None or os.geteuid():
        pytest.skip("network namespaces need ip and root")
    bridge, network = f"lep{os.getpid()}", f"10.77.{os.getpid() % 250}"  # other sessions have their own
    names = [f"{bridge}{letter}" for letter in "ab"]
    begin = [
        f"ip link add {bridge} type bridge",
        f"ip addr add {network}.1/24 dev {bridge}",
        f"ip link set {bridge} up",
    ]
    for number, name in enumerate(names, 2):
        begin += [
            f"ip netns add {name}",
            f"ip link add {name} type veth peer name eth0 netns {name}",
            f"ip link set {name} master {bridge} up",
            f"ip -n {name} addr add {network}.{number}/24 dev eth0",
            f"ip -n {name} link set eth0 up",
            f"ip -n {name} link set lo up",
        ]
    try:
        for command in begin:
            subprocess.run(command.split(), check=True, capture_output=True)
        yield names, network
    finally:
        for command in [*(f"ip netns del {name}" for name in names), f"ip link del {bridge}"]:
            subprocess.run(command.split(), check=False, capture_output=True)

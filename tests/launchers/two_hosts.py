"""What tests of two hosts ask of them, and of runs that they share."""

import subprocess

import psutil
from helpers import until


def whole(run):
    """Wait until ranks of both hosts are at work."""
    until(lambda: run.state == "running" and run.facts["world"] == 2, 180)
    until(lambda: sum(not each["lost"] for each in run.facts["nodes"]) == 2)


def processes(host):
    """Those of a host."""
    told = subprocess.run(["ip", "netns", "pids", host], check=True, capture_output=True, text=True)
    return [psutil.Process(int(word)) for word in told.stdout.split()]


def losses(run, last):
    """Mean over ranks of the loss of each of the first steps."""
    return run.frame("train").query("step <= @last").groupby("step").loss.mean().tolist()


def stop(run, nodes):
    run.stop()
    assert run.wait(60) == "stopped"
    assert [each.wait(30) for each in nodes] == [0, 0]

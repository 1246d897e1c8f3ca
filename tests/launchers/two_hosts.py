"""What tests of two hosts ask of them, and of runs that they share."""

import signal
import subprocess
import time

import psutil
from helpers import gone, until


def whole(run):
    """Wait until ranks of both hosts are at work."""
    until(lambda: run.state == "running" and run.facts["world"] == 2, 180)
    until(lambda: sum(not each["lost"] for each in run.facts["nodes"]) == 2)


def processes(host):
    """Those of a host."""
    told = subprocess.run(["ip", "netns", "pids", host], check=True, capture_output=True, text=True)
    return [psutil.Process(int(word)) for word in told.stdout.split()]


def killed(run, host, node, victim):
    """Kill a host's ranks, agent or all of it, and wait for ranks to begin again; returns whether its node went."""
    ranks = until(lambda: [each for each in processes(host) if each.name().startswith("lepton-rank")])
    attempt, there = run.facts["attempt"], processes(host)
    for each in {"rank": ranks, "agent": [psutil.Process(node.pid)], "host": there}[victim]:
        each.kill()
    until(lambda: run.facts["attempt"] > attempt and run.state == "running", 120)
    if victim == "rank":
        return False
    assert node.wait(30) == -signal.SIGKILL
    until(lambda: gone(there))
    return True


def losses(run, last):
    """Mean over ranks of the loss of each of the first steps."""
    return run.frame("train").query("step <= @last").groupby("step").loss.mean().tolist()


def cut(run, host):
    """Cut a host's link for 5 seconds, in which a run of timeout 15 waits, and for 60, in which the other goes on."""
    link = ["ip", "link", "set", host]
    for seconds, life in ((5, 1), (60, 2)):
        subprocess.run([*link, "down"], check=True)
        time.sleep(seconds)
        assert run.facts["attempt"] == life, "a life more only after the timeout"
        subprocess.run([*link, "up"], check=True)
        step = run.store.story().step
        until(lambda step=step: run.facts["world"] == 2 and run.store.story().step > step, 120)
    whole(run)


def stop(run, nodes):
    run.stop()
    assert run.wait(60) == "stopped"
    assert [each.wait(30) for each in nodes] == [0, 0]

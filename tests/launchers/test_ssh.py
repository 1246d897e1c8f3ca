"""Nodes that are started over real ssh, by a server of our own on this machine; Debian's is openssh-server."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from helpers import free_ports, gone, until

import lepton_lab as lab

pytestmark = pytest.mark.slow
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
PRIVILEGES = Path("/run/sshd")  # without which root's sshd does not start


@pytest.fixture
def server(tmp_path):
    """A server that lets in one key, and knows nothing of the user's own."""
    if SSHD is None or not all(shutil.which(name) for name in ("ssh", "ssh-keygen")):
        pytest.skip("there is no sshd here: apt-get install openssh-server")
    made = os.geteuid() == 0 and not PRIVILEGES.exists()
    if made:
        PRIVILEGES.mkdir(mode=0o755)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    (port,) = free_ports(1)
    options = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": tmp_path / "host",
        "AuthorizedKeysFile": tmp_path / "user.pub",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
    }
    (tmp_path / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    with (tmp_path / "sshd.log").open("w") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", tmp_path / "sshd_config"], stderr=log)
    until(lambda: "Server listening" in (tmp_path / "sshd.log").read_text() or process.poll() is not None)
    yield port
    process.terminate()
    process.wait()
    if made:
        PRIVILEGES.rmdir()


@pytest.fixture
def hosts(server, tmp_path, monkeypatch):
    """Two names of this machine, as a user's configuration of ssh has them; ssh itself asks for no HOME."""
    key = (tmp_path / "host.pub").read_text()
    (tmp_path / "known").write_text(f"[127.0.0.1]:{server} {key}")
    options = {
        "HostName": "127.0.0.1",
        "Port": server,
        "IdentityFile": tmp_path / "user",
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": tmp_path / "known",
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
    }
    text = "".join(f"  {name} {value}\n" for name, value in options.items())
    (tmp_path / "config").write_text(f"Host node1 node2\n{text}Host unknown\n{text}  HostKeyAlias other\n")
    script = tmp_path / "bin" / "ssh"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {tmp_path / "config"} "$@"\n')
    script.chmod(0o755)
    with monkeypatch.context() as own:
        own.setenv("PATH", str(script.parent), prepend=os.pathsep)
        yield ["node1", "node2"]


def nodes(run):
    """What is known of a run's two nodes, once both are at work."""
    until(lambda: run.facts.get("world") == 2 and run.state == "running", 180)
    return until(lambda: two if len(two := [each for each in run.facts["nodes"] if not each["lost"]]) == 2 else None)


def test_a_run_over_ssh_outlives_a_node_a_connection_and_its_supervisor(endless, hosts):
    spec = endless.replace(strategy="ddp", checkpoint_every=1, batch_size=128)
    run = lab.launch(spec, on=lab.Torchrun(nodes="1:2", hosts=hosts, address="127.0.0.1"))
    until(lambda: run.store.checkpoints())
    for victim in ("node", "connection"):
        attempt = run.facts["attempt"]
        node = psutil.Process(nodes(run)[1]["pid"])
        connection = node.parent()
        assert "sshd" in connection.name()
        os.kill((node if victim == "node" else connection).pid, signal.SIGKILL)
        until(lambda node=node: gone([node]))
        until(lambda attempt=attempt: run.facts["attempt"] > attempt)
    last = [psutil.Process(each["pid"]) for each in nodes(run)]
    last += [rank for node in last for rank in node.children(recursive=True)]
    supervisor = next(each for each in psutil.Process().children(recursive=True) if _leads(each, run))
    supervisor.kill()
    until(lambda: gone(last))
    assert run.state == "interrupted"
    step = run.store.story().step
    run.resume()
    until(lambda: run.store.story().step > step)
    run.stop()
    assert run.wait(60) == "stopped"
    stayed = lab.launch(spec.replace(epochs=1, checkpoint_every=0))
    assert stayed.wait(60) == "done"
    moved, alone = (each.frame("train").groupby("step").loss.mean() for each in (run, stayed))
    assert moved[: len(alone)].tolist() == pytest.approx(alone.tolist(), rel=1e-5)


def _leads(process, run):
    return any(file.path == str(run.folder / "logs" / "supervisor.log") for file in process.open_files())


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("unknown", "Host key verification failed; see that ssh reaches it without asking anything"),
        ("no.such.host.invalid", "Could not resolve hostname no.such.host.invalid: .*; name the machine as ssh knows"),
    ],
)
def test_what_ssh_refuses_ends_the_run_with_a_sentence(endless, hosts, host, words):
    run = lab.launch(endless, on=lab.Torchrun(nodes=2, hosts=[hosts[0], host], address="127.0.0.1"))
    assert run.wait(60) == "failed"
    assert re.search(words, run.failure.message), run.failure.message

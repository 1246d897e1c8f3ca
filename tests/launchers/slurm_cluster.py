"""A Slurm of two nodes on this machine: Debian's slurmctld, slurmd and munged, with files and ports of their own."""

import contextlib
import os
import shutil
import socket
import subprocess

import pytest
from helpers import free_ports, until

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch")
NODES = ("one", "two")
INSTALL = "apt-get install slurmctld slurmd slurm-client munge"
CONFIG = """\
ClusterName=lepton
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthInfo=socket={root}/munge,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
KillWait=2
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4
PartitionName=debug Nodes=one,two Default=YES MaxTime=INFINITE State=UP
"""


def missing():
    """Why it can't be started here, and what helps; "" if it can."""
    if absent := [name for name in DAEMONS if _path(name) is None]:
        return f"{', '.join(absent)} not found: {INSTALL}"
    return "Slurm's daemons are to be root's" if os.geteuid() else ""


@contextlib.contextmanager
def cluster(root):
    """Start it; within, SLURM_CONF in the environment names it."""
    (root / "state").mkdir(parents=True)
    (root / "key").write_bytes(os.urandom(1024))
    (root / "key").chmod(0o400)
    config = root / "slurm.conf"
    config.write_text(CONFIG.format(root=root, host=socket.gethostname().split(".")[0], ports=free_ports(3)))
    munge = [
        f"--{name}={root}/munge{end}"
        for name, end in {"socket": "", "pid-file": ".pid", "log-file": ".log", "seed-file": ".seed"}.items()
    ]
    commands = [["munged", "--foreground", "--force", f"--key-file={root}/key", *munge]]
    commands += [["slurmctld", "-D", "-i"], *(["slurmd", "-D", "-N", node] for node in NODES)]
    daemons = []
    with pytest.MonkeyPatch.context() as own, (root / "output").open("w") as output:
        own.setenv("SLURM_CONF", str(config))
        try:
            for name, *words in commands:
                daemons.append(subprocess.Popen([_path(name), *words], stdout=output, stderr=output))
                if name == "munged":
                    until(lambda: (root / "munge").exists())
            until(lambda: said("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == str(len(NODES)))
            yield
        finally:
            for daemon in reversed(daemons):
                daemon.terminate()
            for daemon in daemons:
                daemon.wait(30)


def said(*command):
    """What a command of Slurm's prints."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _path(name):
    return shutil.which(name, path=f"{os.environ['PATH']}{os.pathsep}/usr/sbin")

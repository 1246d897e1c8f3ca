"""Where a run's figures come from: versions, seed, device, git revision, where the data are from, how to repeat it."""

from __future__ import annotations

import json
import platform
import shlex
import subprocess
from typing import Any

from .. import host
from ..datasets import origin
from ..files import write_json
from ..spec import Spec
from .folder import RunFolder

PACKAGES = ("lepton-lab", "torch", "numpy", "pydantic", "cloudpickle", "scikit-learn")


def write(folder: RunFolder, device: str, cwd: str) -> None:
    """Write `provenance.json` into a run folder."""
    write_json(
        folder.path / "provenance.json",
        {
            "versions": {"python": platform.python_version(), **{name: host.version(name) for name in PACKAGES}},
            "seed": folder.spec.seed,
            "device": device,
            "processor": processor(),
            "cores": host.cores(),
            "platform": platform.platform(),
            "git": _git(cwd),
            "data": {} if "dataset" in folder.spec.own else origin(folder.spec.dataset),
            "command": command(folder.spec, folder.id),
        },
    )


def command(spec: Spec, id: str, on: str = "") -> str:
    """The command line that repeats a run; `on` is where, if not on the machine that gives it."""
    words, place = ["lepton-lab", "run"], ["--on", on] if on else []
    if spec.own:
        return shlex.join([*words, "--like", id, *place])
    for name, value in spec.to_dict().items():
        if name == "options":
            words += [word for key, item in value.items() for word in ("--option", f"{key}={json.dumps(item)}")]
        elif name == "metrics" and value:
            words += ["--metrics", ",".join(value)]
        elif value != Spec.model_fields[name].default:
            text = json.dumps(value) if isinstance(value, bool | list | dict) else str(value)
            words += [f"--{name.replace('_', '-')}", text]
    return shlex.join([*words, *place])


def processor() -> str:
    """This machine's processor, as it names itself."""
    return host.processor("model name") or platform.processor() or platform.machine()


def _git(cwd: str) -> dict[str, Any] | None:
    """Revision of the working directory's repository, and whether it had changes; None outside of one."""
    words = ["git", "--no-optional-locks", "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        status = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=4)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = status.stdout.splitlines()
    revision = next((line.split()[2] for line in lines if line.startswith("# branch.oid ")), "(initial)")
    if status.returncode or revision == "(initial)":
        return None
    return {"revision": revision, "dirty": any(not line.startswith("#") for line in lines)}

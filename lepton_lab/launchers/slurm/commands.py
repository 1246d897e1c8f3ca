"""Slurm's own commands: what sbatch is asked for a run, and what they say."""

from __future__ import annotations

import re
import subprocess
from typing import Any

LATER = re.compile(r"busy|not available now|down|in use|sbatch: Job \d+ to start", re.IGNORECASE)  # it may queue
PATIENCE = 30  # seconds for an answer


def asked(asks: dict[str, Any], ranks: int, device: str) -> dict[str, Any]:
    """What is asked of sbatch, by the names of its options: of a launcher's facts, for so many ranks a node."""
    options = {name: asks[name] for name in ("partition", "account", "qos") if asks[name]}
    options |= {"time": asks["time"], "nodes": asks["nodes"], "ntasks_per_node": 1}
    options |= {"cpus_per_task": asks["cpus"] * ranks}
    options |= {"gpus_per_node": ranks} if device == "cuda" else {}
    return options | ({"mem": f"{asks['memory']}G"} if asks["memory"] else {})


def refused(options: dict[str, Any]) -> str:
    """Why such a job can't be submitted, in Slurm's own words; "" if it can, and may start now or later."""
    flags = [f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}") for name, value in options.items()]
    command = ["sbatch", "--test-only", *flags, "--wrap", "true"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return f"sbatch did not answer within {PATIENCE} s: see whether sinfo does"
    if answer.returncode == 0 or LATER.search(answer.stderr):
        return ""
    return f"Slurm does not take such a job: {sentence(answer.stderr)}"


def sentence(words: str) -> str:
    """What sbatch says of an error, in one line."""
    lines = [line.strip().removeprefix("sbatch: ").removeprefix("error: ") for line in words.splitlines()]
    return "; ".join(line for line in lines if line and not line.startswith("Try "))


def said(*command: str) -> str | None:
    """What a command prints, "" where it says that there is no such job; None where it does not answer."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if answer.returncode == 0:
        return answer.stdout
    return "" if "Invalid job id" in answer.stderr else None


def cancel(number: str) -> None:
    """End a job, of which there may be nothing left."""
    said("scancel", number)


def first_node(partition: str) -> list[str]:
    """The address of some node of a partition; none where Slurm does not say."""
    return (said("sinfo", "-h", "-N", "-o", "%o", *within(partition)) or "").split()[:1]


def within(partition: str) -> list[str]:
    """The words by which a command keeps to a partition, where one is named."""
    return ["-p", partition] if partition else []

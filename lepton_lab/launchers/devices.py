"""Which devices there are, and which a spec asks for; found without touching CUDA."""

from __future__ import annotations

import contextlib
import os
import sys
from importlib import metadata

from ..errors import SpecError
from ..host import cores, processor
from ..spec import Spec
from ..tables import table

METHODS = ("fork", "spawn")  # ways of starting ranks
WEEK = 7 * 86_400  # seconds; a system's wait takes no more than 24 days


def gpus() -> list[str]:
    """
    UUIDs of the GPUs that CUDA_VISIBLE_DEVICES leaves: one name for each, however that variable names it.

    Asked of NVML, since CUDA would spoil a later fork.
    """
    if not _built_for_cuda():
        return []
    with contextlib.suppress(Exception):  # no driver, no library: no GPUs
        import pynvml

        pynvml.nvmlInit()
        try:
            handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
            uuids = [pynvml.nvmlDeviceGetUUID(handle) for handle in handles]
        finally:
            pynvml.nvmlShutdown()
        return visible(uuids, os.environ.get("CUDA_VISIBLE_DEVICES"))
    return []


def visible(uuids: list[str], variable: str | None) -> list[str]:
    """
    Of some GPUs those that a value of CUDA_VISIBLE_DEVICES leaves, in its order; all if there is none.

    A name is a number in the order of the bus, the beginning of a UUID, or a part of a GPU (MIG), which stays as it is.
    As for CUDA, the first that names nothing ends the list.
    """
    if variable is None:
        return uuids
    names: list[str] = []
    for name in (name.strip() for name in variable.split(",")):
        if name.startswith("MIG-"):
            names.append(name)
        elif name.isdecimal() and int(name) < len(uuids):
            names.append(uuids[int(name)])
        elif name.startswith("GPU-") and (matches := [uuid for uuid in uuids if uuid.startswith(name)]):
            names.append(matches[0])
        else:
            break
    return names


def _built_for_cuda() -> bool:
    """Whether the torch that is installed can use a GPU, told by its version so that it need not be imported."""
    if torch := sys.modules.get("torch"):
        return torch.version.cuda is not None
    return not metadata.version("torch").endswith("+cpu")


def workers() -> int:
    """
    Most ranks of one run on this machine's CPU: LEPTON_LAB_MAX_WORKERS, else its cores, but two at least.

    Raises
    ------
    SpecError
        If the variable is no whole number above 0.
    """
    limit = os.environ.get("LEPTON_LAB_MAX_WORKERS")
    if limit and not (limit.isdecimal() and int(limit)):
        raise SpecError(f"LEPTON_LAB_MAX_WORKERS={limit!r}: must be a whole number of processes, 1 or more")
    return int(limit) if limit else max(2, cores())


def standby() -> float:
    """
    Seconds that the warm process waits for more runs once its own have ended: LEPTON_LAB_STANDBY, else for ever.

    Raises
    ------
    SpecError
        If the variable is no number of seconds, 0 or more.
    """
    asked = os.environ.get("LEPTON_LAB_STANDBY") or "inf"
    with contextlib.suppress(ValueError):
        if (seconds := float(asked)) >= 0:
            return seconds if seconds < WEEK else float("inf")
    raise SpecError(f"LEPTON_LAB_STANDBY={asked!r}: must be a number of seconds, 0 or more")


def bf16_may_win() -> bool:
    """Whether this machine computes in bfloat16, so that it is worth to time it: a GPU, or a CPU with AVX512_BF16."""
    return "avx512_bf16" in processor("flags") or bool(gpus())


def choose(spec: Spec) -> str:
    """
    "cuda" or "cpu" for a spec on this machine.

    Raises
    ------
    SpecError
        If it has too few devices or cores for the spec's world.
    """
    count = len(gpus()) if "strategy" in spec.own or table("strategy")[spec.strategy].gpus else 0
    if spec.device == "cuda" and count < spec.world:
        raise SpecError(
            f"world={spec.world} with device='cuda': this machine shows {count} GPUs; "
            f"take world={count} or less, or device='cpu'"
            if count
            else "device='cuda': this machine shows no GPU; take device='cpu' or 'auto'"
        )
    if spec.device == "cuda" or (spec.device == "auto" and count >= spec.world):
        return "cuda"
    if spec.world > workers():
        raise SpecError(
            f"world={spec.world}: at most {workers()} on this machine ({cores()} cores); to run more processes than "
            f"cores, slowly, set the environment variable LEPTON_LAB_MAX_WORKERS={spec.world}"
        )
    return "cpu"


def elsewhere(spec: Spec) -> str:
    """ "cuda" or "cpu" for a spec on other machines; "auto" takes them to be like this one."""
    takes = "strategy" in spec.own or table("strategy")[spec.strategy].gpus
    return "cuda" if spec.device == "cuda" or (spec.device == "auto" and takes and gpus()) else "cpu"


def slots(device: str) -> list[str]:
    """Names of what can be leased: each GPU; on the CPU room for two full runs, so that a long one blocks nobody."""
    return [f"gpu{name}" for name in gpus()] if device == "cuda" else [f"cpu{i}" for i in range(2 * workers())]


def start_method(safe: bool = True) -> str:
    """
    How ranks are started: as LEPTON_LAB_START_METHOD says, else by fork where that is safe.

    Raises
    ------
    SpecError
        If the variable names no such way.
    """
    method = os.environ.get("LEPTON_LAB_START_METHOD")
    if method and method not in METHODS:
        raise SpecError(f"LEPTON_LAB_START_METHOD={method!r}: must be {' or '.join(map(repr, METHODS))}; or unset it")
    return method or METHODS[not safe]

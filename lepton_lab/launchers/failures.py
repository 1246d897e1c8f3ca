"""Which rank failed first, and why: the rank to blame, not those that its end took along."""

from __future__ import annotations

import re
import signal
import sysconfig
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from .. import operations
from ..engine.faults import Fault
from ..files import read_json, write_json
from ..store import shipping
from ..store.failure import Failure
from ..store.folder import RunFolder
from ..store.story import Story
from . import resources

GRACE = 2.0  # seconds that the other ranks have to report after one failed
STILL = 10.0  # seconds without a step after which that is said
NEWEST = 4096  # bytes at the end of a rank's events that hold the last of them
LONGEST = 2000  # characters of a message that are kept
CALLS = 4  # last calls that a failure shows

# What a rank says whose peer is gone.
VICTIM = re.compile(
    r"Connection (reset|closed|refused)|closed by (the )?peer|Broken pipe|Timed out waiting|"
    r"remote process exited|NCCL communicator was aborted|Socket Timeout|wait timeout|"
    r"Connection was likely closed|Connection timed out|No route to host|client socket has (timed out|failed)",
    re.IGNORECASE,
)

HEAD = "Traceback (most recent call last):\n"
FRAME = re.compile(r'^  File "(.+)", line (\d+), in (.+)\n((?:    .*\n)*)', re.MULTILINE)  # as Python prints a call


def report(folder: RunFolder, rank: int, error: BaseException, step: int, waits: str = "") -> None:
    """
    Write a rank's error where the supervisor looks for it.

    Parameters
    ----------
    step
        Optimizer steps that the rank had done.
    waits
        What it was last seen to wait in, if it had stood still for a while.
    """
    fault = Fault.of(error)
    kind, message = resources.explained(fault, folder.spec, folder.path)
    record = {
        "t": time.time(),
        "rank": rank,
        "type": kind,
        "message": cut(message, LONGEST),
        "where": nearest(folder, fault.frames),
        "step": step,
        "traceback": cut(fault.text, 10 * LONGEST),
        "waits": (waits or operations.broken(error)) if VICTIM.search(message) else "",
    }
    resources.pressed(folder.path, lambda: write_json(folder.path / "errors" / f"rank{rank}.json", record))


def nearest(folder: RunFolder, frames: Iterable[tuple[str, int]]) -> str:
    """
    The user's line nearest to an error, of files and lines of which the innermost comes last; "" if there is none.

    It is one of a shipped cell, else of a file that is neither installed nor ours.
    """
    cells = (read_json(folder.path / "code" / "cells.json") or {}).keys()
    ours = (sysconfig.get_paths()["purelib"], sysconfig.get_paths()["stdlib"], str(Path(__file__).parents[1]), "<")
    frames = list(frames)
    user = [f for f in frames if f[0] in cells] or [f for f in frames if not f[0].startswith(ours)]
    return shipping.place(folder, *user[-1]) if user else ""


def standing(folder: RunFolder) -> str:
    """What this rank's main thread waits in, else the user's line that it is at; "" if neither can be told."""
    frames = [(frame.f_code.co_filename, line) for frame, line in operations.stack()]
    return operations.waiting() or nearest(folder, reversed(frames))


def stall(folder: RunFolder) -> str:
    """Since when no step was done, and where each rank is, as a sentence; "" where the last one is not long ago."""
    newest = {rank: (folder.latest(rank, NEWEST) or [{}])[-1] for rank in range(folder.spec.world)}
    began = folder.facts["t"]  # its state: rows before it are of another life, or of before a pause
    since = max([began, *(row.get("since", row["t"]) for row in newest.values() if row)])
    seconds = time.time() - since
    if seconds < STILL:
        return ""
    ranks: dict[str, list[str]] = {}
    for rank, row in newest.items():
        silent = row and time.time() - row["t"] > STILL
        place = "an unknown place, saying nothing" if silent else row.get("waits", "")
        ranks.setdefault(place, []).append(str(rank))
    places = [f"rank {', '.join(names)} in {place}" for place, names in ranks.items() if place]
    begun = time.strftime("%H:%M:%S", time.localtime(since))
    during = " while it evaluates" if folder.facts.get("evaluating") else ""
    return f"no step since {begun} ({seconds:.0f} s){during}{': ' * bool(places)}{'; '.join(places)}"


def cut(message: str, longest: int) -> str:
    """A text with its middle left out where it is too long for a card; the rank's log has all of it."""
    if len(message) <= longest:
        return message
    return f"{message[: longest // 2]} [... {len(message) - longest:,} characters ...] {message[-longest // 2 :]}"


def calls(folder: RunFolder, failure: Failure) -> tuple[str, list[str]]:
    """The calls that a failure ended in, as text: the user's own nearest to it, or "", and the last of the others."""
    last = failure.traceback.rpartition(HEAD)[2]  # of errors that caused each other, the last
    places, texts = [], []
    for filename, line, function, code in FRAME.findall(last):
        places.append(shipping.place(folder, filename, int(line)))
        first_line = code.strip().split("\n")[0].strip()
        texts.append(f"{places[-1]}, in {function}" + (f"\n    {first_line}" if first_line else ""))
    own = next((i for i in reversed(range(len(places))) if places[i] == failure.where), None)
    return "" if own is None else texts[own], [text for i, text in enumerate(texts) if i != own][-CALLS:]


def reports(folder: RunFolder) -> dict[int, dict[str, Any]]:
    """What ranks reported of their errors, by rank."""
    errors = (read_json(path) for path in (folder.path / "errors").glob("rank*.json"))
    return {report["rank"]: report for report in errors if report}


def began(errors: dict[int, dict[str, Any]]) -> float | None:
    """When the first rank failed of itself, and not for the end of another; None if none did."""
    return min((report["t"] for report in errors.values() if not VICTIM.search(report["message"])), default=None)


def blamed(folder: RunFolder) -> Failure | None:
    """The failure of a rank that no other's end explains, once the others had time to report theirs."""
    errors = reports(folder)
    since = began(errors)
    if since is None or time.time() < since + GRACE:
        return None
    return first(folder, {rank: (1, report["t"]) for rank, report in errors.items()}, set())


def first(
    folder: RunFolder, ended: dict[int, tuple[int, float]], killed: set[int], orderly: Collection[int] = ()
) -> Failure:
    """
    The failure to show for a run whose ranks ended otherwise than as done.

    Parameters
    ----------
    ended
        Exit code and time by rank.
    killed
        Ranks that the supervisor itself killed.
    orderly
        Ranks that ended as they should, which are not to blame.
    """
    candidates, waits = [], {}
    for rank, (code, t) in ended.items():
        error = read_json(folder.path / "errors" / f"rank{rank}.json")
        if error is None and rank not in killed:
            error = {"t": t, "rank": rank, **_exit(code, folder.path / "logs" / f"rank{rank}.log")}
        if error is not None:
            candidates.append(error)
        if operation := (error or {}).get("waits") or folder.system(rank).get("waits"):
            waits[rank] = operation
    cause = min(candidates, key=lambda e: (e["rank"] in orderly, bool(VICTIM.search(e["message"])), e["t"]))
    ranks = Story.of(folder.spec).add(row for rank in ended for row in folder.latest(rank)).ranks
    steps = {rank: ranks[rank].step if rank in ranks else 0 for rank in ended}
    if killed and VICTIM.search(cause["message"]):
        # All who spoke had waited for another in vain, and we had to kill that one: it is the one to blame.
        stuck = min(killed, key=lambda rank: steps[rank])
        operation = waits.get(cause["rank"], cause["message"].strip())
        message = f"it did not answer for {folder.spec.timeout:g} s"
        message += f" and was in {waits[stuck]}" if stuck in waits else ""
        message += f"; rank {cause['rank']} waited for it in {operation}"
        cause = {"rank": stuck, "type": "Stuck", "message": message, "traceback": cause["traceback"]}
    saved = folder.checkpoints()
    return Failure(
        rank=cause["rank"],
        type=cause["type"],
        message=cause["message"],
        where=cause.get("where", ""),
        step=cause.get("step", steps[cause["rank"]]),
        checkpoint=saved[-1] if saved else None,
        others={str(rank): step for rank, step in steps.items() if rank != cause["rank"]},
        waits={str(rank): what for rank, what in waits.items() if rank != cause["rank"]},
        traceback=cause.get("traceback", ""),
    )


def _exit(code: int, log: Path) -> dict[str, Any]:
    if code >= 0:
        lines = log.read_text(errors="replace").split("\n") if log.exists() else []
        last = next((f"; it said last: {line.strip()}" for line in reversed(lines) if line.strip()), "")
        return {"type": "SystemExit", "message": f"the process ended by itself with exit code {code}{last}"}
    name = signal.Signals(-code).name
    hint = " (if nobody did it by hand, the system was probably out of memory)" if name == "SIGKILL" else ""
    return {"type": name, "message": f"the process was killed by {name}{hint}"}

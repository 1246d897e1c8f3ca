"""What a run's steps cost each rank: the ranks' recordings put together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from statistics import mean
from typing import Any

from ...files import read_json
from ...store.folder import RunFolder
from .recording import cut, subtract, union

Span = dict[str, Any]

ASKED = ("strategy", "world", "options")  # what costs follow from, and may change when a run goes on


def recorded(folder: RunFolder) -> list[dict[str, Any]]:
    """What each rank recorded of the latest few steps, in order of rank; none from before a change of ASKED."""
    spec = folder.spec.to_dict()
    firsts = [path for place in (folder.path / "timeline").glob("step-*") if (path := place / "rank0.json").exists()]
    for first in sorted(firsts, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        windows = [read_json(first.with_name(f"rank{rank}.json")) for rank in range(spec["world"])]
        if all(window and all(window.get(name) == spec[name] for name in ASKED) for window in windows):
            return windows
    return []


def timeline(windows: list[dict[str, Any]]) -> list[Span]:
    """
    What each rank did over the steps that `recorded` gives.

    Returns
    -------
    list of dict
        Spans with rank, kind, name, begin and end (seconds since the first rank began the first of the steps). kind is
        "compute" (name: forward, backward or update), "communication" or "waiting" (for another rank to take part
        in the operation); of the latter two also bytes (what this rank puts in) and ranks (all that take part, or the
        sender and the receiver).
    """
    origin = min((window["steps"][0][0] for window in windows), default=0)
    spans = []
    for span in _meetings(windows):
        last = span.pop("last")
        span.pop("first", None)
        if span["kind"] == "compute":
            spans.append(span)
            continue
        # Data moves once the last of them is here; who came before waits.
        moves = min(max(span["begin"], last), span["end"])
        if moves > span["begin"] and span["name"] != "send":  # what it sends lies ready, and it goes on
            spans.append({**span, "kind": "waiting", "end": moves})
        spans.append({**span, "begin": moves})
    spans = [{**s, "begin": (s["begin"] - origin) / 1e9, "end": (s["end"] - origin) / 1e9} for s in spans]
    return sorted(spans, key=lambda span: (span["rank"], span["begin"]))


def costs(windows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    What a step costs each rank, as means over the steps that `recorded` gives.

    Returns
    -------
    list of dict
        Of each rank: rank; step (the last one recorded); seconds a step, which are the sum of compute (operators, and
        Python between them), communication (data moves and the rank does not compute) and idle (it waits for others,
        or for something else); behind (seconds that it comes later to a collective operation than the first, None if
        there was none); share (of the samples, 0 to 1); bytes (sent a step); counted ("kernel": by the kernel on each
        connection, "sizes": estimated by the sizes of the operations); to (bytes by receiving rank, where known);
        memory (bytes at the highest moment: parameters, gradients, optimizer, activations and other temporary memory,
        and their sum, peak).
    """
    late: dict[int, list[int]] = defaultdict(list)
    for span in _meetings(windows):
        if span.get("first") is not None:
            late[span["rank"]].append(span["begin"] - span["first"])
    spans = timeline(windows)
    origin = min((window["steps"][0][0] for window in windows), default=0)
    samples = sum(window["samples"] for window in windows)
    rows = []
    for window in windows:
        rank, n = window["rank"], len(window["steps"])
        steps = union(((begin - origin) / 1e9, (end - origin) / 1e9) for begin, end in window["steps"])
        work, moves = (
            union((s["begin"], s["end"]) for s in spans if s["rank"] == rank and s["kind"] == kind)
            for kind in ("compute", "communication")
        )
        whole, compute = _length(steps), _length(work)
        moving = _length(cut(subtract(moves, work), steps))
        rows.append(
            {
                "rank": rank,
                "step": window["step"],
                "seconds": whole / n,
                "compute": compute / n,
                "communication": moving / n,
                "idle": max(whole - compute - moving, 0.0) / n,
                "behind": mean(late[rank]) / 1e9 if late[rank] else None,
                "share": window["samples"] * len(windows) / (window["parts"] * samples) if samples else None,
                "bytes": window["bytes"],
                "counted": window["counted"],
                "to": _receivers(window, windows),
                "memory": window["memory"],
            }
        )
    return rows


def _meetings(windows: list[dict[str, Any]]) -> list[Span]:
    """
    The spans of all ranks, with `last`: the moment when the last rank of the operation had come to it.

    The k-th operation that some ranks do together is the k-th of that name on each of them. A collective's span gets
    `first` too, the moment when the first rank came.
    """
    everyone = tuple(range(len(windows)))
    spans: list[Span] = []
    meetings: dict[Any, list[Span]] = defaultdict(list)
    for window in windows:
        counts: dict[Any, int] = defaultdict(int)
        for recorded_span in window["spans"]:
            span = {**recorded_span, "rank": window["rank"], "last": recorded_span["begin"]}
            spans.append(span)
            if span["kind"] == "communication":
                peer = span.pop("peer", None)
                together = peer is None
                if not together:
                    span["ranks"] = [span["rank"], peer] if span["name"] == "send" else [peer, span["rank"]]
                ranks = span.setdefault("ranks", list(everyone))
                key = (span["name"] if together else "send", *ranks), together
                meetings[key, counts[key, span["name"]]].append(span)
                counts[key, span["name"]] += 1
    for ((_, together), _), group in meetings.items():
        if len(group) == len(set(group[0]["ranks"])):
            for span in group:
                span["last"] = max(s["begin"] for s in group)
                if together and len(group) > 1:
                    span["first"] = min(s["begin"] for s in group)
                elif span["name"] == "send":  # torch counts it as open until somebody asks for it
                    span["end"] = min(span["end"], *(max(s["end"], span["begin"]) for s in group if s is not span))
    return spans


def _receivers(window: dict[str, Any], windows: list[dict[str, Any]]) -> dict[int, float]:
    """Bytes a step to each other rank: a connection's two ends know each other by their ports."""
    ends = {(ours, theirs): other["rank"] for other in windows for ours, theirs, _ in other["links"]}
    received: dict[int, float] = defaultdict(float)
    for ours, theirs, sent in window["links"]:
        if (theirs, ours) in ends and sent:
            received[ends[theirs, ours]] += sent
    return dict(received)


def _length(spans: Iterable[tuple[float, float]]) -> float:
    return sum(end - begin for begin, end in spans)

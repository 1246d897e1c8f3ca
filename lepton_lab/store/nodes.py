"""The machines of a run that is on several: how each stands and which ranks it has, said once for all views."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from .tracks import Rank

THERE, LOST, LEFT = "there", "lost", "left"
"""How a machine stands; those of a run that has ended have left."""
MOST = 6  # machines that a sentence names


def nodes(facts: Mapping[str, Any], ranks: Mapping[int, Rank]) -> list[dict[str, Any]]:
    """
    Machines, each with `host`, `state`, `ranks`, these as `text`, and `count` (nodes on it); [] of a run on this one.

    Parameters
    ----------
    facts
        Of the run's folder, whose `nodes` a launcher keeps while the run is live: of each `host`, whether it is `lost`,
        and its `ranks` if the launcher knows them.
    ranks
        Those that there are, as `Story.present` has them; one that is not on the launching machine says its `host`.
    """
    if not facts.get("launcher"):
        return []
    told = list(facts.get("nodes") or ())
    where = {number: host for number, rank in ranks.items() if (host := rank.facts.get("host"))}
    hosts = dict.fromkeys([*(node["host"] for node in told), *where.values()])
    return [_node(host, [node for node in told if node["host"] == host], where) for host in hosts]


def _node(host: str, told: list[dict[str, Any]], where: Mapping[int, str]) -> dict[str, Any]:
    here = [node for node in told if not node.get("lost")]  # one that came back is there beside itself, lost before
    if told and not here:
        return {"host": host, "state": LOST, "count": 1, "ranks": [], "text": LOST}
    known = sorted({number for node in here for number in node.get("ranks", ())})
    numbers = known or [number for number, name in where.items() if name == host]
    state, text = THERE if here else LEFT, _numbered(numbers)
    return {"host": host, "state": state, "count": max(1, len(here)), "ranks": numbers, "text": text}


def named(machines: list[dict[str, Any]]) -> str:
    """Machines in words, lost ones first: "node2 lost, node1 with ranks 0-3"; "" of none."""
    ordered = sorted(machines, key=lambda node: node["state"] != LOST)
    more = f" and {len(ordered) - MOST} more" if len(ordered) > MOST else ""
    return ", ".join(_words(node) for node in ordered[:MOST]) + more


def _words(node: Mapping[str, Any]) -> str:
    host = node["host"] + (f" ×{node['count']}" if node["count"] > 1 else "")
    return f"{host} with {node['text']}" if node["ranks"] else f"{host} {node['text']}".rstrip()


def _numbered(numbers: Sequence[int]) -> str:
    """Ranks by their numbers, those that follow each other as one: "ranks 0-3, 8"; "" of none."""
    pieces = []
    for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        pieces.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
    return f"rank{'s' if len(numbers) > 1 else ''} {', '.join(pieces)}" if numbers else ""

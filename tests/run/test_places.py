"""Where runs go: what several of one call do that share a place, and what views are told of its machines."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
from helpers import until
from hypothesis import given
from hypothesis import strategies as st

import lepton_lab as lab
from lepton_lab.errors import SpecError
from lepton_lab.launchers.local import leases
from lepton_lab.reports import grids
from lepton_lab.reports.grids.running import Execution
from lepton_lab.store.nodes import named, nodes
from lepton_lab.store.tracks import Rank

NOWHERE = lab.Torchrun(nodes=2, address="127.0.0.1")
"""Nodes that nobody starts, so that what a run waits for can be looked at."""


def test_a_list_of_specs_is_a_run_each_and_they_wait_for_each_other_in_the_queue(endless, monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_MAX_WORKERS", "1")  # room for two
    runs = lab.launch([endless.replace(world=1, seed=seed) for seed in range(4)])
    assert [run.spec.seed for run in runs] == [0, 1, 2, 3]
    until(lambda: [run.state for run in runs] == ["running", "running", "queued", "queued"])
    until(lambda: "waits for 1 free cpu slot" in runs[3].remark)
    assert "in the queue before it" not in runs[2].remark and runs[3].remark.endswith("; 1 in the queue before it")
    for run in reversed(runs):
        run.stop()
    assert [run.wait(60) for run in runs] == ["stopped"] * 4


def test_several_runs_on_nodes_without_a_queue_take_turns_whoever_starts_them(endless):
    spec = endless.replace(strategy="ddp")
    runs = lab.launch([spec, spec.replace(lr=0.1)], on=NOWHERE)
    race = lab.race(spec, ["ddp", "local_sgd"], on=NOWHERE)
    assert race.refused == {}
    repeated = lab.repeat(runs[0], on=NOWHERE)
    everything = [*runs, *race.runs, repeated]
    assert {run.facts["launcher"]["name"] for run in everything} == {"torchrun"}
    until(lambda: all("waits for nodes" in run.remark for run in (runs[0], race.runs[0], repeated)))
    assert {run.remark for run in (runs[1], race.runs[1])} == {"waits for its turn"}
    for run in reversed(everything):
        run.stop()
    assert [run.wait(60) for run in everything] == ["stopped"] * 5


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda spec: lab.launch([], on=NOWHERE), "spec=[]"),
        (lambda spec: lab.launch([spec, spec.replace(world=3)], on=NOWHERE), "world=3 on 2 nodes"),
        (lambda spec: lab.launch([spec, "ddp"]), "launch takes a Spec, not a str"),
        (lambda spec: lab.launch([spec, spec.replace(world=32)]), "world=32: at most"),
        (lambda spec: lab.race(spec, ["hogwild"], on=NOWHERE), "strategy='hogwild': its ranks share the memory"),
        (lambda spec: lab.race(spec, on="cluster"), "on='cluster'"),
        (lambda spec: lab.find_lr(spec.replace(world=3), on=NOWHERE), "world=3 on 2 nodes"),
    ],
)
def test_what_can_t_be_done_there_is_refused_before_anything_starts(endless, call, words):
    with pytest.raises(SpecError) as refused:
        call(endless)
    assert words in str(refused.value)
    assert lab.runs() == []


def test_a_grid_says_where_its_runs_go(tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text("base: {model: mlp, world: 2}\nseeds: [0, 1]\non: {torchrun: {nodes: 2, address: 127.0.0.1}}")
    grid = grids.read(file)
    assert grid.on == NOWHERE
    execution = Execution(grid, tmp_path / "out", print)
    first, second = execution._jobs
    execution._begin(first)
    assert first.run.facts["launcher"] == NOWHERE.facts
    assert not execution._fits(second.cell), "they take turns"
    first.run.stop()
    assert first.run.wait(60) == "stopped"


def of(*hosts, **ranks):
    """What views are told of nodes, by name, of which those in capitals are lost, and of ranks on hosts."""
    told = [{"host": host.lower(), "lost": host.isupper()} for host in hosts]
    known = {}
    for number, host in ranks.items():
        known[int(number[1:])] = Rank()
        known[int(number[1:])].facts["host"] = host
    return nodes({"launcher": {"name": "torchrun"}, "nodes": told or None}, known)


def test_machines_are_told_by_host_with_their_ranks_and_lost_ones_first():
    assert named(of("a", "B", r0="a", r1="a", r2="b")) == "b lost, a with ranks 0-1"
    assert named(of("a", "A", "a", r0="a")) == "a ×2 with rank 0", "it came back"
    assert [(node["state"], node["ranks"]) for node in of(r0="a", r1="b")] == [("left", [0]), ("left", [1])]
    assert named(of(*map("n{}".format, range(9)))).endswith("n5 and 3 more")
    assert nodes({"nodes": None}, {}) == [] and named([]) == ""


@given(st.sets(st.integers(0, 40), min_size=1))
def test_numbers_of_ranks_are_told_short_and_whole(numbers):
    (machine,) = of(**{f"r{number}": "a" for number in sorted(numbers)})
    said = machine["text"].split(" ", 1)[1]
    ends = [[int(end) for end in piece.split("-")] for piece in said.split(", ")]
    assert {number for piece in ends for number in range(piece[0], piece[-1] + 1)} == numbers
    assert all(after[0] > before[-1] + 1 for before, after in pairwise(ends))


def test_a_ticket_tells_how_many_are_before_it(tmp_path):
    held = [leases.Queue("cpu", str(tmp_path), since=since, label={"run": str(since)}) for since in (1, 2, 3)]
    ahead = [leases.ahead(queue.folder, {"run": str(since)}) for since, queue in enumerate(held, 1)]
    assert ahead == [0, 1, 2] and leases.ahead(held[0].folder, {"run": "other"}) == 0
    held[0].release()
    assert leases.ahead(held[1].folder, {"run": "3"}) == 1
    for queue in held[1:]:
        queue.release()
    assert not any(name.isdigit() for name in os.listdir(held[0].folder))

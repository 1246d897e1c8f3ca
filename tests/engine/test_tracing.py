"""What ranks record of their steps: pure reduction of events, and real runs."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from types import SimpleNamespace

import pytest
from helpers import recorded, until
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import lepton_lab as lab
from lepton_lab.charts.series import footprint
from lepton_lab.engine.tracing.recording import MARK, Recording, cut, subtract, union
from lepton_lab.store.folder import RunFolder
from lepton_lab.studies.advice import measured

US = 1000


def event(name, begin, duration, thread=1, device="CPU", **values):
    """An event as torch's recorder gives it; microseconds."""
    known = {"nbytes": 0, "shapes": [], "dtypes": [], "concrete_inputs": []} | values
    return SimpleNamespace(
        name=lambda: name,
        start_ns=lambda: begin * US,
        duration_ns=lambda: duration * US,
        start_thread_id=lambda: thread,
        device_type=lambda: SimpleNamespace(name=device),
        **{key: lambda value=value: value for key, value in known.items()},
    )


def spans(*events, first=0):
    found = Recording(events, "cpu").spans(first)
    return [(s["kind"], s["name"], s["begin"] // US, s["end"] // US) for s in found]


times = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)).map(lambda t: (t[0], t[0] + t[1])), max_size=12)


def moments(found):
    return {t for begin, end in found for t in range(begin, end)}


@given(times, times)
def test_spans_add_and_subtract_like_sets(a, b):
    a, b = union(a), union(b)
    assert moments(subtract(a, b)) == moments(a) - moments(b)
    assert moments(cut(a, b)) == moments(a) & moments(b)
    assert all(end < begin for (_, end), (begin, _) in pairwise(a))


def test_python_between_operators_is_work_but_a_wait_is_not():
    step = event(MARK, 0, 10_000)
    assert spans(step, event("aten::mm", 0, 100), event("aten::mm", 300, 100)) == [("compute", "forward", 0, 400)]
    alone = spans(step, event("aten::mm", 0, 100), event("aten::mm", 5000, 100))
    assert alone == [("compute", "forward", 0, 100), ("compute", "forward", 5000, 5100)]
    waited = spans(
        step, event("aten::mm", 0, 100), event("gloo:all_reduce", 150, 200, thread=2), event("aten::mm", 400, 100)
    )
    assert [s[:3] for s in waited] == [
        ("compute", "forward", 0),
        ("communication", "all_reduce", 150),
        ("compute", "forward", 350),
    ]


def test_work_is_told_by_the_part_of_the_step():
    found = spans(
        event(MARK, 0, 1000),
        event("aten::mm", 0, 200),
        event("autograd::engine::evaluate_function: MmBackward0", 200, 300),
        event("aten::mm", 200, 300),
        event("aten::copy_", 500, 100),
        event("Optimizer.step#Adam.step", 600, 300),
        event("aten::_fused_adam_", 600, 300),
    )
    assert found == [
        ("compute", "forward", 0, 200),
        ("compute", "backward", 200, 500),
        ("compute", "update", 500, 900),
    ]


def test_steps_that_are_shorter_than_what_counts_as_work_between_operators_keep_their_parts():
    events = []
    for begin in (0, 300, 600):
        events += [event(MARK, begin, 290), event("aten::mm", begin, 100)]
        events += [event("autograd::engine::evaluate_function: MmBackward0", begin + 100, 80)]
        events += [event("aten::mm", begin + 100, 80), event("Optimizer.step#SGD.step", begin + 180, 100)]
        events += [event("aten::add_", begin + 180, 100)]
    one = [("compute", "forward", 0, 100), ("compute", "backward", 100, 180), ("compute", "update", 180, 280)]
    found = [(*span[:2], span[2] % 300, span[2] // 300) for span in spans(*events, first=1)]
    assert found == [(*span[:3], step) for step in (1, 2) for span in one]


def test_what_is_outside_the_steps_or_on_other_threads_does_not_count():
    step = event(MARK, 100, 100)
    assert spans(step, event("aten::mm", 0, 50), event("aten::mm", 120, 10, thread=5)) == []
    assert spans(step, event(MARK, 300, 100), event("aten::mm", 120, 10), first=1) == []


def test_a_transfer_knows_its_peer_and_its_size():
    recording = Recording(
        [
            event(MARK, 0, 100),
            event("c10d::send", 1, 5, concrete_inputs=[None, None, 3, 0]),
            event("gloo:send", 2, 3, shapes=[[10, 2]], dtypes=["double"]),
        ],
        "cpu",
    )
    assert recording.operations == [
        {"name": "send", "begin": 2 * US, "end": 5 * US, "numbers": 20, "bytes": 160, "peer": 3}
    ]


def test_memory_rises_by_what_the_last_step_holds_at_once():
    def allocated(t, size):
        return event("[memory]", t, 0, nbytes=size)

    events = [event(MARK, 0, 10), event(MARK, 20, 10)]
    events += [allocated(t, size) for t, size in ((1, 900), (21, 50), (22, 70), (23, -50), (24, 10), (40, 999))]
    assert Recording(events, "cpu").rise() == 120


@pytest.fixture
def pair():
    return lab.Spec(dataset="digits", model="mlp", epochs=2, batch_size=64, world=2, eval_every=0)


def test_two_ranks_tell_what_a_step_costs(pair):
    run = lab.launch(pair.replace(epochs=5))
    assert run.wait(60) == "done"
    costs = run.costs()
    assert [cost["rank"] for cost in costs] == [0, 1]
    assert {row["step"] for row in run.rows("cost")} == {13, 103} and costs[0]["step"] == 103
    numbers = sum(p.numel() for p in run.model().parameters())
    for cost in costs:
        assert cost["seconds"] == pytest.approx(cost["compute"] + cost["communication"] + cost["idle"])
        assert min(cost["compute"], cost["communication"]) > 0 and cost["idle"] >= 0
        assert cost["share"] == 0.5
        # Two ranks that reduce: each sends its gradient once, and a little around it.
        assert cost["counted"] == "kernel" and cost["bytes"] == pytest.approx(4 * numbers, rel=0.1)
        assert cost["to"] == {1 - cost["rank"]: pytest.approx(cost["bytes"], abs=1)}
        memory = cost["memory"]
        assert memory["parameters"] == memory["gradients"] == 4 * numbers
        assert memory["optimizer"] == pytest.approx(8 * numbers, rel=0.01)
        assert memory["peak"] == sum(memory[name] for name in memory if name != "peak")
        assert memory["activations"] > 0
    assert min(cost["behind"] for cost in costs) >= 0 and max(cost["behind"] for cost in costs) > 0
    assert sum(path.stat().st_size for path in run.folder.glob("timeline/*/*")) < 200_000
    assert "profiler_start" not in (run.folder / "logs" / "rank0.log").read_text()


def test_a_timeline_shows_that_data_moves_when_the_last_rank_is_there(pair):
    run = lab.launch(pair, model=Slow)
    assert run.wait(60) == "done"
    spans = run.timeline()
    assert {span["kind"] for span in spans} == {"compute", "communication", "waiting"}
    waits = [span for span in spans if span["kind"] == "waiting" and span["rank"] == 0]
    assert sum(span["end"] - span["begin"] for span in waits) > 0.02
    moves = [[s["begin"] for s in spans if s["rank"] == r and s["name"] == "all_reduce"][-1] for r in (0, 1)]
    assert moves[0] == pytest.approx(moves[1])
    behind = [cost["behind"] for cost in run.costs()]
    assert behind[1] > 0.01 > behind[0]
    json.dumps(spans)


class Slow(nn.Module):
    """Rank 1 comes late by 50 ms, in which it does nothing."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        import torch.distributed as dist

        if dist.get_rank():
            time.sleep(0.05)
        return self.layer(x.flatten(1))


class Sends(Slow):
    """Rank 0 sends to rank 1 in each step."""

    def forward(self, x):
        import torch
        import torch.distributed as dist

        if self.training and dist.get_rank():
            dist.recv(torch.zeros(1000), 0)
        elif self.training:
            time.sleep(0.01)
            dist.send(torch.zeros(1000), 1)
        return self.layer(x.flatten(1))


def test_a_transfer_is_drawn_from_its_sender_to_its_receiver(pair):
    run = lab.launch(pair, model=Sends)
    assert run.wait(60) == "done"
    sends = [s for s in run.timeline() if s["name"] == "send" and s["kind"] == "communication"]
    assert len(sends) == 2 and all(s["rank"] == 0 and s["ranks"] == [0, 1] and s["bytes"] == 4000 for s in sends)
    waits = [s for s in run.timeline() if s["name"] == "recv" and s["kind"] == "waiting"]
    assert all(s["rank"] == 1 and s["ranks"] == [0, 1] for s in waits) and len(waits) == 2
    first, second = run.costs()
    assert first["to"][1] - second["to"][0] == pytest.approx(4000, rel=0.1)


class Grouped(Slow):
    """Rank 0 reduces within a group of its own too."""

    def forward(self, x):
        import torch
        import torch.distributed as dist

        if not hasattr(self, "group"):
            self.group = dist.new_group([0])
        if self.training and dist.get_rank() == 0:
            dist.all_reduce(torch.zeros(7), group=self.group)
        return self.layer(x.flatten(1))


def test_operations_of_a_group_of_ranks_name_its_ranks(pair):
    run = lab.launch(pair, model=Grouped)
    assert run.wait(60) == "done"
    met = {(s["rank"], s["numbers"], tuple(s["ranks"])) for s in run.timeline() if s["name"] == "all_reduce"}
    assert met == {(0, 7, (0,)), (0, 650, (0, 1)), (1, 650, (0, 1))}


class Stops(Slow):
    """Rank 0 sends nothing more from the fifth step on."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def forward(self, x):
        import torch
        import torch.distributed as dist

        self.seen += 1
        if dist.get_rank():
            dist.recv(torch.zeros(1000), 0)
        elif self.seen < 5:
            dist.send(torch.zeros(1000), 1)
        else:
            time.sleep(600)
        return self.layer(x.flatten(1))


def test_a_hang_in_a_transfer_names_the_transfer(endless):
    run = lab.launch(endless.replace(timeout=3), model=Stops)
    assert run.wait(60) == "failed"
    assert (run.failure.rank, run.failure.type) == (0, "Stuck")
    assert "rank 1 waited for it in recv from rank 0" in run.failure.message
    assert run.failure.waits == {"1": "recv from rank 0"}


def test_one_rank_is_recorded_once(tiny):
    run = lab.launch(tiny.replace(batch_size=16))
    assert run.wait(60) == "done"
    assert [row["step"] for row in run.rows("cost")] == [13]
    (cost,) = run.costs()
    assert (cost["bytes"], cost["to"], cost["behind"], cost["share"]) == (0, {}, None, 1.0)
    assert {span["name"] for span in run.timeline()} == {"forward", "backward", "update"}


def test_a_short_run_has_nothing_to_tell(tiny):
    run = lab.launch(tiny.replace(epochs=1, batch_size=512))
    assert run.wait(60) == "done"
    assert run.costs() == run.timeline() == []


def test_a_resumed_run_is_recorded_anew(endless):
    run = lab.launch(endless)
    until(lambda: len(run.rows("cost")) >= 2)
    run.stop()
    run.wait(30)
    stopped = run.rows("train")[-1]["step"]
    run.resume(world=1, strategy="single")
    until(lambda: len(run.costs()) == 1)
    assert run.costs()[0]["step"] == stopped + 13
    run.stop()
    assert run.wait(30) == "stopped"


def test_what_was_recorded_under_another_strategy_is_not_told_as_this_one_s():
    spec = lab.Spec(model="mlp", strategy="fsdp", world=2)
    folder = RunFolder.create(spec)
    run = recorded(lab.attach(folder.id), 4, 7)
    assert footprint(run).sent == 1000
    for changes in ({"strategy": "ddp"}, {"world": 1}, {"options": {"gather": "bf16"}}):
        folder.rewrite(spec.replace(**changes))
        assert run.costs() == run.timeline() == []
        assert footprint(run).sent is None and measured(run) == {}


class Watched(nn.Linear):
    """Its user records steps by himself."""

    def forward(self, x):
        from torch.profiler import ProfilerActivity, profile

        if not hasattr(self, "own"):
            self.own = profile(activities=[ProfilerActivity.CPU])
            self.own.start()
        return super().forward(x.flatten(1))


def test_a_user_who_records_by_himself_is_let_alone(tiny):
    run = lab.launch(tiny.replace(batch_size=64), model=Watched(64, 10))
    assert run.wait(60) == "done"
    assert run.costs() == []

"""Figures of a run agree wherever they stand: one clock, one speed, one name."""

import json
import os
import time

import pytest
from helpers import until
from hypothesis import example, given
from hypothesis import strategies as st
from lepton_widgets import Live
from lepton_widgets.shelf import Catalogue

import lepton_lab as lab
from lepton_lab.cli import main
from lepton_lab.store.folder import RunFolder
from lepton_lab.store.naming import differing, labels, title
from lepton_lab.store.pace import WINDOW, Pace, epoch, seconds_left, speed


@given(
    st.lists(st.tuples(st.floats(0.01, 3), st.floats(0, 5), st.integers(1, 99)), min_size=2, max_size=60),
    st.floats(0, 1e9),
)
@example([(1.0, 0.0, 1)] * 40 + [(1.0, 0.0, 99)] * 20, 0.0)
def test_the_pace_is_that_of_the_last_seconds_of_training(steps, begin):
    pace, t, took = Pace(), begin, []
    pace.step(t, 1)
    for seconds, rest, samples in steps:
        pace.rest(rest)
        t += seconds + rest
        pace.step(t, samples)
        took.append((seconds, samples))
    rates = [sum(n for _, n in took[i:]) / sum(s for s, _ in took[i:]) for i in range(len(took))]
    lasted = [sum(s for s, _ in took[i:]) for i in range(len(took))]
    # To the length of a step; of a shorter training, all of it.
    within = [rate for i, rate in enumerate(rates) if (i == 0 or lasted[i] > WINDOW - 3) and lasted[i] < WINDOW + 7]
    assert min(within) * 0.99 <= pace.rates["samples_per_s"] <= max(within) * 1.01


def test_a_pace_is_not_known_before_the_second_step_and_forgets_no_training():
    pace = Pace()
    assert pace.rates == {}
    pace.step(0.0, 5)
    assert pace.rates == {}
    pace.step(0.5, 5)
    assert pace.rates == {"samples_per_s": 10.0, "steps_per_s": 2.0}
    pace.begin()  # after a pause of a minute
    pace.step(60.0, 5)
    assert pace.rates == {"samples_per_s": 10.0, "steps_per_s": 2.0}
    pace.step(61.0, 20)
    assert pace.rates["samples_per_s"] == pytest.approx(25 / 1.5)


def test_progress_in_figures():
    assert speed([], 2) is None and speed([None, 300.0], 2) == 600.0 and speed([200.0, 300.0], 2) == 500.0
    assert speed([200.0, 200.0], 1) == 200.0  # ranks that compute the same samples
    assert [epoch(step, 30, 3) for step in (0, 1, 10, 11, 30)] == [0, 1, 1, 2, 3] and epoch(5, None, 3) == 0
    assert seconds_left(10, 30, 2.0) == 10.0 and seconds_left(10, None, 2.0) is seconds_left(10, 30, None) is None


def test_only_time_at_work_counts():
    folder = RunFolder.create(lab.Spec())
    state = lambda **facts: folder.path.joinpath("state.json").write_text(json.dumps(facts))  # noqa: E731
    now, lock = time.time(), folder.lock()
    state(state="queued", t=now - 900)
    folder.set_state("starting")
    assert folder.worked < 60
    state(state="running", t=now - 100, worked=0.0)
    assert 100 <= folder.worked < 160
    folder.set_state("paused")
    state(**{**folder.facts, "t": now - 5000})
    assert 100 <= folder.worked < 160
    folder.set_state("running")
    folder.set_state("failed")
    state(**{**folder.facts, "t": now - 5000})
    folder.set_state("queued")  # a resume, an hour later
    assert 100 <= folder.worked < 160
    os.close(lock)


def test_a_run_that_died_counts_until_its_last_event():
    folder = RunFolder.create(lab.Spec())
    now = time.time()
    (folder.path / "state.json").write_text(json.dumps({"state": "running", "t": now - 5000, "worked": 10.0}))
    events = folder.path / "events" / "rank0.jsonl"
    events.touch()
    os.utime(events, (now - 4900, now - 4900))
    assert folder.state == "interrupted" and folder.worked == pytest.approx(110, abs=1)
    folder.set_state("queued")
    assert folder.worked == pytest.approx(110, abs=1)


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """A run that was paused, stopped and resumed, as each of its views tells it: head, shelf, summary, show, report."""
    from click.testing import CliRunner

    from lepton_lab.reports.sections import heading, timings

    root = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as own:
        own.setenv("LEPTON_LAB_HOME", str(root))
        own.setenv("XDG_RUNTIME_DIR", str(root))
        spec = lab.Spec(dataset="digits", model="mlp", batch_size=32, world=2, epochs=100_000, eval_every=0)
        run = lab.launch(spec.replace(checkpoint_every=0))
        until(lambda: run.summary()["samples_per_s"], 60)
        run.pause()
        until(lambda: run.state == "paused")
        time.sleep(1.5)
        run.resume()
        until(lambda: run.state == "running")
        run.stop()
        run.wait(60)
        time.sleep(1.5)
        live = Live(run)
        shown = CliRunner().invoke(main, ["show", run.id]).output
        yield {
            "head": live.header or live._feed.heads()[0],
            "shelf": Catalogue(root / "runs").look()[0],
            "summary": run.summary(),
            "show": shown,
            "run": run,
            "report": heading([run]).text + timings([run]).text,
            "wall": run.facts["t"] - run.summary()["created"],
        }
        live.close()


def test_every_view_tells_the_same_time_and_speed(figures):
    head, summary, shelf = figures["head"], figures["summary"], figures["shelf"]
    assert summary == shelf
    for name in ("seconds", "samples_per_s", "epoch", "step", "steps", "title", "seconds_left"):
        assert head[name] == summary[name], name
    assert head["label"] == (summary["name"] or summary["title"])
    assert 0 < summary["seconds"] < figures["wall"] - 1.4, "the pause counts"
    assert f"{summary['seconds']:.1f} s" in figures["show"] and f"in {summary['seconds']:.3g} s" in figures["report"]
    ranks = sum(rank["samples_per_s"] for rank in head["ranks"])
    assert summary["samples_per_s"] == pytest.approx(ranks)


def test_every_view_calls_a_run_the_same(figures):
    run = figures["run"]
    assert labels([run]) == [title(run.spec)] == ["mlp on digits"] == [figures["head"]["title"]]
    assert "mlp on digits" in repr(run) and "mlp on digits" in figures["report"]


def test_a_title_has_model_data_and_chain():
    assert title(lab.Spec(model="cell:Buggy", dataset="cell:Mine")) == "Buggy on Mine"
    assert title(lab.Spec(parent="any", compress=[("prune", 0.5), "quantize"])) == "cnn on digits, prune 0.5, quantize"


class Named:
    """A run as far as its label goes."""

    def __init__(self, id, name="", **fields):
        self.id, self.name, self.spec = id, name, lab.Spec(**fields)


def test_labels_say_what_sets_runs_apart():
    runs = [Named("a-0001"), Named("b-0002", lr=0.01), Named("c-0003", options={"dropout": 0.5})]
    told = ["lr=0.001", "lr=0.01", "lr=0.001, dropout=0.5"]
    assert labels(runs) == told
    assert labels([*runs, Named("d-0004", lr=0.01)]) == [told[0], "lr=0.01, 0002", told[2], "lr=0.01, 0004"]
    assert labels([Named("a-0001", "demo"), Named("b-0002", "demo", lr=0.01)]) == ["demo, lr=0.001", "demo, lr=0.01"]
    assert labels([Named("a-0001", "demo"), Named("b-0001", "demo")]) == ["a-0001", "b-0001"]
    chained = {"parent": "a-0001", "model": "mlp", "lr": 0.01, "epochs": 1}
    small = [Named(f"b-{i}", compress=[link], **chained) for i, link in enumerate((("prune", 0.5), "distill"))]
    rest = "model=mlp, lr=0.01, epochs=1"
    assert labels([Named("a-0001"), *small]) == [
        "model=cnn, lr=0.001, epochs=5",
        f"prune 0.5, {rest}",
        f"distill, {rest}",
    ]
    assert labels([Named("a-0001", model="cell:A"), Named("b-0002", model="cell:B")]) == ["model=A", "model=B"]
    long = Named("e-0005", dataset="mnist", model="gpt", optimizer="adamw", strategy="fsdp", world=4, seed=9)
    assert all(len(label) <= 50 for label in labels([runs[0], long]))


def test_what_differs_is_told_of_options_too():
    specs = [lab.Spec(options={"dropout": 0.5}, name="a"), lab.Spec(lr=0.01, name="b")]
    assert differing(specs) == [{"lr": 0.001, "options.dropout": 0.5}, {"lr": 0.01, "options.dropout": None}]
    assert differing(specs[:1]) == [{}]

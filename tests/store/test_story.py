"""Figures of a run agree wherever they stand: one clock, one speed, one name."""

import json
import os
import time
from random import Random

import pytest
from helpers import until
from hypothesis import example, given
from hypothesis import strategies as st
from lepton_widgets import Live
from lepton_widgets.catalogue import Catalogue
from lepton_widgets.feed import Feed

import lepton_lab as lab
from lepton_lab.cli import main
from lepton_lab.store.folder import RunFolder
from lepton_lab.store.naming import differing, labels, title
from lepton_lab.store.pace import WINDOW, Pace
from lepton_lab.store.story import Story


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
    pace.rest(None)  # after a pause of a minute
    pace.step(60.0, 5)
    assert pace.rates == {"samples_per_s": 10.0, "steps_per_s": 2.0}
    pace.step(61.0, 20)
    assert pace.rates["samples_per_s"] == pytest.approx(25 / 1.5)


def standing(*speeds, parts=1, step=0, steps=None, steps_per_s=None):
    """A story of three epochs in which each rank told its speed."""
    state = {"kind": "state", "rank": 0, "t": 0.0, "state": "running", "parts": parts, "steps": steps}
    told = {"kind": "system", "t": 1.0, "step": step, "steps_per_s": steps_per_s}
    story = Story(len(speeds), 3).add([state])
    return story.add({**told, "rank": rank, "samples_per_s": speed} for rank, speed in enumerate(speeds))


def test_progress_in_figures():
    assert standing(parts=2).speed is None and standing(None, 300.0, parts=2).speed == 600.0
    assert standing(200.0, 300.0, parts=2).speed == 500.0
    assert standing(200.0, 200.0).speed == 200.0  # ranks that compute the same samples
    assert [standing(9.0, step=step, steps=30).epoch for step in (0, 1, 10, 11, 30)] == [0, 1, 1, 2, 3]
    assert standing(9.0, step=5).epoch == 0
    assert standing(9.0, step=10, steps=30, steps_per_s=2.0).seconds_left == 10.0
    assert standing(9.0, step=10, steps_per_s=2.0).seconds_left is None
    assert standing(9.0, step=10, steps=30).seconds_left is None


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
        until(lambda: run.summary()["samples_per_s"])
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
    assert summary | {"standing": ""} == shelf  # which waits for nothing
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


def test_numbers_in_names_have_at_most_four_digits():
    lr = 10**-2.5
    runs = [Named("a-0001", lr=lr), Named("b-0002", lr=1e-05), Named("c-0003", lr=lr + 1e-12)]
    assert labels(runs) == ["lr=0.003162, 0001", "lr=1e-05", "lr=0.003162, 0003"]
    assert runs[0].spec.lr == lr
    chain = [{"prune": {"ratio": 1 / 3, "rounds": 2}}, {"distill": {"alpha": 2 / 3, "temperature": 4.0}}]
    assert title(lab.Spec(parent="any", compress=chain)).endswith(
        ", prune 0.3333 (rounds=2), distill 0.6667 (temperature=4.0)"
    )


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


def row(kind, rank, t, **values):
    return {"kind": kind, "rank": rank, "t": float(t), **values}


def history(random):
    """Files of ranks, by rank: of a run that was resumed with other worlds, and whose ranks ended each at its step."""
    files, t, step, end = {}, 0, 0, 0
    told = random.random() < 0.7  # else of an older run, whose notes don't tell the world
    worlds = [random.randint(1, 4) for _ in range(random.randint(1, 4))]
    for life, world in enumerate(worlds):
        if life:
            step = random.randint(0, end)
            note = {"rewind": step, "text": "goes on", **({"world": world} if told else {})}
            for rank in {*range(world), *files}:
                files.setdefault(rank, []).append(row("note", rank, t, **note))
        last = {rank: step + random.randint(0, 6) for rank in range(world)}
        end = min(last.values())
        files.setdefault(0, []).append(row("state", 0, t, state="running", step=step, steps=99, parts=world))
        for rank in range(world):
            for at in range(step + 1, last[rank] + 1):
                t += 1
                loss, samples = random.choice([None, random.uniform(-9, 9), 0.5, 1.0]), random.randint(0, 3)
                values = {"epoch": at // 4, "loss": loss, "samples": samples, "lr": 0.1}
                files.setdefault(rank, []).append(row("train", rank, t, step=at, **values))
                if rank == 0 and at % 3 == 0:
                    values = {"loss": float(t), "samples": 5, "seconds": 0.1}
                    files[0].append(row("eval", 0, t, step=at, epoch=0, split="val", **values))
                    files[0].append(row("note", 0, t, step=at, command="set", lr=t / 100))
    return files, worlds[-1]


def told_by(files, world):
    """What `Story` says of rows, written down without a thought of speed."""
    steps, reach, notes = {}, {}, []
    for rank, rows in files.items():
        floor, gone = -1, False
        for event in rows:
            if "rewind" in event:
                floor, gone = event["rewind"], event.get("world", world) <= rank
                steps = {key: value for key, value in steps.items() if key[0] != rank or key[1] <= floor}
                notes = [note for note in notes if note["rank"] != rank or note["step"] <= floor]
            elif event["kind"] == "train":
                steps[rank, event["step"]] = event
            elif "command" in event:
                notes.append(event)
        mine = [step for owner, step in steps if owner == rank]
        if mine or floor >= 0:
            reach[rank] = float("inf") if gone else max([floor, *mine])
    losses = {}
    for step in sorted({step for _, step in steps if step <= min(reach.values(), default=0)}):
        voters = [event for (_, at), event in sorted(steps.items()) if at == step and event["samples"]]
        if voters and all(event["loss"] is not None for event in voters):
            weight = sum(event["samples"] for event in voters)
            losses[step] = sum(event["loss"] * event["samples"] for event in voters) / weight
    return losses, notes


def tellings(story):
    """All that views take from a story."""
    notes = sorted((note["t"], note["rank"]) for note in story.notes)
    figures = (story.step, story.epoch, story.steps, story.first, story.lr, story.figures, story.evaluating)
    return story.curves, story.intervals, story.clock, notes, figures, sorted(story.present)


@given(st.integers(0, 2**32))
def test_a_story_read_in_any_portions_is_that_of_all_rows_at_once(seed):
    random = Random(seed)
    files, world = history(random)
    whole = Story(world, epochs=5)
    for rows in files.values():
        whole.add(rows)
    story, left = Story(world, epochs=5), {rank: list(rows) for rank, rows in files.items()}
    while left := {rank: rows for rank, rows in left.items() if rows}:
        rank = random.choice([*left])
        size = random.choice([1, 1, 2, 5, 99])
        story.add(left[rank][:size])
        del left[rank][:size]
        if random.random() < 0.5:
            assert list(story.training.x) == sorted({*story.training.x})
    assert tellings(story) == tellings(whole)
    losses, notes = told_by(files, world)
    curve = whole.curves.get("loss", ([], []))
    assert dict(zip(*curve, strict=True)) == pytest.approx(losses)
    assert [note for note in whole.notes if "command" in note] == notes


@pytest.mark.parametrize("size", [150, 333, 1000, 2**20])
def test_no_step_is_lost_where_a_portion_ends(size):
    run = lab.Run(RunFolder.create(lab.Spec(world=2, strategy="ddp")))
    for rank in (0, 1):
        step = [row("train", rank, at, step=at, epoch=0, loss=1.0, samples=8, lr=0.1) for at in range(1, 41)]
        note = row("note", rank, 41, rewind=20, world=2, text="goes on")
        path = run.folder / "events" / f"rank{rank}.jsonl"
        path.write_text("".join(json.dumps(event) + "\n" for event in [*step, note, *step[20:]]))
    story, tail = Story(2), run.tail()
    while portions := list(tail.portions(size)):
        for rows in portions:
            story.add(rows)
        assert list(story.training.x) == [*range(1, len(story.training) + 1)]
    assert len(story.training) == 40


def test_a_view_follows_a_run_into_other_worlds(monkeypatch):
    """A view that was open all the time, and a fresh one, show each step once, whatever ranks made it."""
    monkeypatch.setenv("LEPTON_LAB_MAX_WORKERS", "4")
    spec = lab.Spec(dataset="digits", model="mlp", strategy="ddp", world=2, epochs=100_000, eval_every=0)
    run = lab.launch(spec.replace(checkpoint_every=0))
    open_view, seen, worlds = Feed([run]), {}, [2, 4, 1]
    for world in worlds:
        if world != run.spec.world:
            run.resume(world=world)
        begin = open_view.stories[0].step

        def on(begin=begin):
            open_view.poll()
            return len(open_view.stories[0].training) >= begin + 20

        until(on, 90)
        assert len(open_view.heads()[0]["ranks"]) == open_view.heads()[0]["world"] == world
        run.stop()
        assert run.wait(60) == "stopped", run.failure
        seen[world] = run.facts["checkpoint"]
        while open_view.poll():
            pass
    fresh = Feed([run])
    while fresh.poll():
        pass
    curves = run.store.story().curves
    for feed in (open_view, fresh):
        assert feed.learning()[0] == {
            name: curve for name, curve in curves.items() if name not in ("lr", "samples_per_s")
        }
        assert list(feed.stories[0].training.x) == [*range(1, seen[1] + 1)]
    assert curves["loss rank 3"].x == [*range(seen[2] + 1, seen[4] + 1)]
    whole = spec.batch_size
    assert {each.samples for each in run.store.story().intervals} <= {whole, run.facts["samples"] % whole}


def test_samples_a_second_are_those_that_a_step_takes():
    """Under gd, and where the batch is larger than the data, a step takes all samples there are."""
    spec = lab.Spec(dataset="digits", model="mlp", epochs=100_000, eval_every=0, checkpoint_every=0)
    runs = [lab.launch(spec.replace(**fields)) for fields in ({"optimizer": "gd"}, {"batch_size": 9999})]
    for run in runs:
        until(lambda run=run: run.summary()["samples_per_s"])
        run.stop()
        assert run.wait(60) == "stopped"
        view, samples = Feed([run]), run.facts["samples"]
        while view.poll():
            pass
        rates = run.store.story().curves["samples_per_s"].y
        assert samples > 1000 and {event["samples"] for event in run.rows("train")} == {samples}
        for speed_told in (view.heads()[0]["samples_per_s"], run.summary()["samples_per_s"]):
            assert min(rates) / 2 < speed_told < 2 * max(rates)

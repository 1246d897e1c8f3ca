"""The widgets without a browser: curves, status, feed, and what the kernel's side of each widget does."""

import contextlib
import gc
import json
import re
import struct
import threading
import time
from dataclasses import replace

import pytest
from helpers import recorded, unpack, until
from lepton_widgets import Compression, Learner, Live, Shelf, Workbench, media
from lepton_widgets.catalogue import Catalogue
from lepton_widgets.curves import ALL, pack, series
from lepton_widgets.feed import Feed
from lepton_widgets.frame import STATIC, VIEW
from lepton_widgets.status import Status

import lepton_lab as lab
from lepton_lab.run.handle import Run
from lepton_lab.spec import Spec
from lepton_lab.store.failure import Failure
from lepton_lab.store.folder import RunFolder
from lepton_lab.store.log import Log
from lepton_lab.store.notes import rewound
from lepton_lab.store.story import Story


def train(step, rank=0, loss=1.0, samples=32, t=None, **more):
    """A training event."""
    return {
        "kind": "train",
        "t": step if t is None else t,
        "rank": rank,
        "step": step,
        "loss": loss,
        "samples": samples,
        **more,
    }


def points(story, metric="loss", split="train", rank=ALL):
    """(step, value) pairs of a series."""
    return list(zip(*dict(series(story))[metric, split, rank].points(metric), strict=True))


class View:
    """Puts blocks together by the rules that live.js follows."""

    def __init__(self):
        self.series = {}

    def take(self, block):
        for key, (version, start, x, y) in unpack(block).items():
            known, xs, ys = self.series.get(key, (version, [], []))
            if version < known:
                continue
            if version > known:
                assert start == 0, "a cut series must come whole"
                xs, ys = [], []
            assert start <= len(xs), "a gap"
            skip = len(xs) - start
            self.series[key] = version, xs + x[skip:], ys + y[skip:]


class TestCurves:
    def test_merged_value_is_weighted_mean_once_all_ranks_reported(self):
        story = Story(world=2)
        story.add([train(1, 0, 1.0, samples=30), train(2, 0, 5.0), train(1, 1, 4.0, samples=10)])
        assert points(story) == [(1, (1.0 * 30 + 4.0 * 10) / 40)]
        assert points(story, rank=0) == [(1, 1.0), (2, 5.0)]
        assert points(story, rank=1) == [(1, 4.0)]

    def test_one_rank_is_its_own_mean(self):
        story = Story()
        story.add([train(1, loss=2.0, accuracy=0.5), train(2, loss=1.0)])
        assert points(story) == [(1, 2.0), (2, 1.0)]
        assert points(story, "accuracy") == [(1, 0.5)]
        assert ("loss", "train", 0) not in dict(series(story))

    def test_loss_that_is_no_number_is_left_out(self):
        story = Story(world=2)
        story.add([train(1, 0), train(1, 1, loss=None), train(2, 0), train(2, 1)])
        assert points(story) == [(2, 1.0)]

    def test_validation_and_test_but_not_the_epochs_training_mean(self):
        evals = [
            {"kind": "eval", "t": 1, "rank": 0, "step": 5, "split": s, "loss": 0.1} for s in ("train", "val", "test")
        ]
        story = Story(world=2)
        story.add(evals)
        assert set(dict(series(story))) == {("loss", "val", ALL), ("loss", "test", ALL)}

    def test_rewind_equals_what_the_folder_says(self):
        # Each rank voids its own rows, also rows that the other rank never answered.
        note = {"kind": "note", "step": 2, "rewind": 2}
        rows = [train(s, r, loss=10 * r + s, t=s) for s in (1, 2, 3) for r in (0, 1)] + [train(4, 1, loss=99, t=4)]
        rows += [{**note, "t": 10, "rank": 0}, train(3, 0, loss=0.3, t=11), {**note, "t": 11.5, "rank": 1}]
        rows += [train(4, 0, loss=0.4, t=12), train(3, 1, loss=0.5, t=12.5), train(4, 1, loss=0.6, t=13)]
        live, after = Story(world=2), Story(world=2)
        for row in rows:
            live.add([row])
        after.add(rewound(rows))
        assert points(live) == points(after) == [(1, 6.0), (2, 7.0), (3, 0.4), (4, 0.5)]
        assert points(live, rank=1) == points(after, rank=1)

    def test_deltas_add_up_to_the_snapshot(self):
        story, given, view = Story(world=2), [{}], View()
        for step in range(1, 40):
            story.add([train(step, rank, loss=step + rank, accuracy=0.5) for rank in (0, 1)])
            if step % 7 == 0:
                view.take(pack([story], given))
            if step == 20:
                story.add([{"kind": "note", "t": 0, "rank": rank, "rewind": 12} for rank in (0, 1)])
        view.take(pack([story], given))
        whole = View()
        whole.take(pack([story]))
        assert view.series == whole.series
        assert pack([story], given) == b""

    def test_repeated_points_are_skipped(self):
        story, given, view = Story(), [{}], View()
        story.add([train(1), train(2)])
        early = [dict(given[0])]
        view.take(pack([story], given))
        story.add([train(3)])
        view.take(pack([story], early))
        view.take(pack([story], given))
        assert view.series[0, "loss", "train", ALL][1] == [1, 2, 3]

    def test_values_are_aligned(self):
        story = Story()
        story.add([train(1)])
        block = pack([story])
        assert (4 + struct.unpack_from("<I", block)[0]) % 8 == 0


@pytest.fixture
def run(home):
    """A run whose folder the test itself writes: no process stands behind it."""
    folder = RunFolder.create(Spec(world=2, epochs=4, batch_size=64, lr=1e-3))
    folder.set_state("running")
    lock = folder.lock()  # held as by a supervisor, so that it reads as running
    run = lab.Run(folder)
    run.end = lambda state, **facts: folder.set_state(state, **facts)
    yield run
    folder.set_state("done")
    import os

    os.close(lock)


def write(run, *rows):
    """Append events to the files of their ranks."""
    for row in rows:
        name = f"rank{row['rank']}" if row["rank"] >= 0 else "supervisor"
        with (run.folder / "events" / f"{name}.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")


class TestStatus:
    def test_progress_speed_and_time_left(self, run):
        status = Status(run)
        status.story.add([{"kind": "state", "t": 0, "rank": 0, "state": "running", "steps": 100, "parts": 2}])
        status.story.add([train(s, t=s * 0.1, lr=1e-3) for s in range(1, 51)])
        rates = {"kind": "system", "t": 5.0, "steps_per_s": 10.0}
        status.story.add([rates | {"rank": rank, "samples_per_s": rate} for rank, rate in enumerate((310.0, 330.0))])
        head = status.head()
        assert head["remark"] == run.remark == ""
        assert (head["epoch"], head["step"], head["steps"]) == (2, 50, 100)
        assert head["samples_per_s"] == pytest.approx(640)
        assert head["seconds_left"] == pytest.approx(5.0)
        assert 0 < head["seconds"] <= run.seconds
        json.dumps(head)

    @pytest.mark.parametrize("state", ["queued", "starting", "paused", "stopping"])
    def test_no_speed_is_claimed_of_a_run_that_rests(self, run, state):
        status = Status(run)
        status.story.add([train(s, t=s * 0.1) for s in range(1, 11)])
        status.story.add([{"kind": "system", "t": 2.0, "rank": 1, "samples_per_s": 320.0, "memory": 5}])
        head = status.head()
        assert head["samples_per_s"] and head["ranks"][1]["samples_per_s"] == 320.0
        run.end(state)
        head = status.head()
        assert head["samples_per_s"] is head["seconds_left"] is head["ranks"][1]["samples_per_s"] is None
        assert head["ranks"][1]["memory"] == 5
        run.end("done")
        assert status.head()["ranks"][1]["samples_per_s"] == 320.0

    def test_commands_become_marks_and_rewind_takes_them_back(self, run):
        status = Status(run)
        status.story.add([{"kind": "note", "t": 1, "rank": 0, "command": "set", "step": 5, "lr": 5e-4}])
        status.story.add([{"kind": "note", "t": 2, "rank": 0, "command": "stop", "step": 9}])
        assert status.marks == [{"step": 5, "text": "lr=0.0005"}, {"step": 9, "text": "stop"}]
        assert status.head()["base_lr"] == 5e-4
        status.story.add([{"kind": "note", "t": 3, "rank": 0, "rewind": 6}])
        assert [mark["step"] for mark in status.marks] == [5]

    def test_links_become_marks_and_the_one_at_hand_is_told(self, run):
        status = Status(run)
        note = {"kind": "note", "t": 1, "rank": 0, "links": 2}
        status.story.add([note | {"link": "prune", "number": 1, "step": 0, "text": "prune: begins", "parameters": 5}])
        assert status.head()["link"] == "prune, link 1 of 2" and "prune, link 1 of 2" in str(status)
        status.story.add([note | {"link": "prune", "number": 1, "step": 8, "text": "prune: done", "t": 2}])
        status.story.add([note | {"link": "mask", "number": 2, "round": 1, "step": 8, "text": "mask: begins", "t": 3}])
        status.story.add([{"kind": "note", "t": 4, "rank": 0, "command": "set", "step": 8, "lr": 5e-4}])
        assert status.head()["link"] == "mask 1, link 2 of 2"
        assert status.marks == [{"step": 0, "text": "prune"}, {"step": 8, "text": "mask 1, lr=0.0005"}]
        control = {"kind": "note", "t": 5, "rank": 0, "step": 9, "link": "control"}
        status.story.add([control | {"text": "dense control: trains the parent on for 2 epochs, to compare with"}])
        assert status.head()["link"] == "dense control"
        status.story.add([control | {"t": 6, "text": "dense control: done"}])
        assert status.head()["link"] == "measuring"
        status.story.add(
            [{"kind": "note", "t": 7, "rank": 0, "step": 9, "text": "artifact.lepton: 5 bytes", "artifact": {}}]
        )
        assert status.head()["link"] == ""

    def test_epochs_are_those_of_all_links(self, run):
        chain = [{"prune": {"ratio": 0.5}}, {"distill": {"epochs": 3}}, {"quantize": {}}]
        folder = RunFolder.create(Spec(epochs=2, parent=run.id, compress=chain))
        child = lab.Run(folder)
        assert Status(child).head()["epochs"] == child.summary()["epochs"] == 5

    def test_failure_names_the_rank(self, run):
        failure = Failure(rank=1, type="ValueError", message="no", where="cell In[4], line 2", step=7, others={"0": 8})
        from dataclasses import asdict

        run.end("failed", failure=asdict(failure))
        head = Status(run).head()
        assert head["failure"]["where"] == "cell In[4], line 2"
        assert [rank["state"] for rank in head["ranks"]] == ["ended", "failed"]

    def test_costs_and_waits_stand_with_their_rank(self, run):
        status = Status(run)
        recorded(run, 4, 7)
        status.story.add([{"kind": "cost", "t": 1, "rank": 1, "step": 13}])
        system = {"kind": "system", "t": 2, "rank": 0, "step": 13, "memory": 1}
        status.story.add([system | {"waits": "all_reduce of 250 numbers"}])
        first, second = status.head()["ranks"]
        assert first["cost"]["idle"] == pytest.approx(0.003) and second["cost"]["behind"] == pytest.approx(0.003)
        assert first["waits"] == "all_reduce of 250 numbers"
        status.story.add([system | {"t": 3}])
        assert status.head()["ranks"][0]["waits"] is None


class TestFeed:
    def test_follows_until_the_run_has_ended(self, run):
        feed, view = Feed([run]), View()
        write(run, train(1, 0), train(1, 1))
        assert feed.poll()
        view.take(feed.delta())
        write(run, train(2, 0), train(2, 1))
        run.end("done")
        assert feed.poll(), "what was written before the end must be shown"
        view.take(feed.delta())
        assert not feed.poll()
        assert view.series[0, "loss", "train", ALL][1] == [1, 2]

    def test_snapshot_goes_with_the_deltas_that_follow(self, run):
        feed, view = Feed([run]), View()
        write(run, train(1, 0), train(1, 1))
        feed.poll()
        block, given = feed.snapshot()
        view.take(block)
        write(run, train(2, 0), train(2, 1))
        feed.poll()
        feed.delta()  # lost on the way
        feed.go_back(given)
        view.take(feed.delta())
        assert view.series[0, "loss", "train", ALL][1] == [1, 2]


@pytest.fixture
def views():
    """Function that keeps a widget to close it at the end."""
    kept = []
    yield lambda view: kept.append(view) or view
    for view in kept:
        view.close()


@pytest.fixture
def sent(monkeypatch):
    """Messages that views send."""
    messages = []
    monkeypatch.setattr(Live, "send", lambda self, content, buffers=None: messages.append((content, buffers or [])))
    return messages


class TestLive:
    def test_streams_what_the_run_writes(self, run, views, sent):
        write(run, train(1, 0), train(1, 1))
        live, view = views(Live(run)), View()
        view.take(live.get_state("snapshot")["snapshot"])
        write(run, train(2, 0), train(2, 1))

        def arrived():
            while sent:
                for block in sent.pop(0)[1]:
                    view.take(block)
            return view.series[0, "loss", "train", ALL][1] == [1, 2]

        until(arrived)
        assert live.get_state("header")["header"]["runs"][0]["step"] == 2

    def test_thread_ends_with_the_view(self, run):
        live = Live(run)
        assert any(thread.name == "lepton-live" for thread in threading.enumerate())
        live.close()
        assert not any(thread.name.startswith("lepton-live") for thread in threading.enumerate())

    def test_thread_ends_with_the_run(self, run, views, monkeypatch):
        monkeypatch.setattr("lepton_widgets.live.CATCH_UP", ())
        live = views(Live(run))
        run.end("done")
        until(lambda: not live._thread.is_alive())

    def test_buttons_reach_the_run(self, run, views, sent):
        live = views(Live(run))
        live._handle_custom_msg({"command": "pause", "values": {}}, [])
        live._handle_custom_msg({"command": "set", "values": {"lr": 5e-4}}, [])
        live._handle_custom_msg({"command": "rm", "values": {}}, [])
        found = [json.loads(path.read_text()) for path in sorted((run.folder / "control").iterdir())]
        assert [entry["command"] for entry in found] == ["pause", "set"]
        assert found[1]["lr"] == 5e-4

    def test_refusal_is_shown_not_raised(self, run, views, sent):
        live = views(Live(run))
        live._handle_custom_msg({"command": "set", "values": {"lr": -1}}, [])
        refused = next(content for content, _ in sent if content["type"] == "refused")
        assert "lr=-1" in refused["text"]

    def test_a_broken_folder_does_not_end_the_view(self, run, views, sent, monkeypatch):
        live = views(Live(run))
        tail = live._feed._tails[0]
        monkeypatch.setattr(tail, "read", lambda: 1 / 0)
        time.sleep(0.2)
        assert live._thread.is_alive()

    def test_text_says_how_it_stands(self, run, views):
        write(run, {"kind": "state", "t": 0, "rank": 0, "state": "running", "steps": 8}, train(2, 0), train(2, 1))
        write(run, {"kind": "eval", "t": 3, "rank": 0, "step": 2, "split": "val", "loss": 0.25, "accuracy": 0.9})
        text = views(Live(run)).still()["text/plain"]
        assert f"{run.id}, running, epoch 1 of 4, step 2 of 8, val loss 0.25, val accuracy 0.9" in text

    def test_a_run_shows_itself(self, run, monkeypatch):
        displayed = []
        monkeypatch.setattr("IPython.display.display", lambda data, **options: displayed.append(data))
        run._ipython_display_()
        (data,) = displayed
        assert VIEW in data and run.id in data["text/html"] and run.id in data["text/plain"]
        close_all()

    def test_charts_follow_what_the_run_says_it_has(self, run, views, sent):
        """A view that is opened before the ranks start learns of players' losses; what is chosen holds in the next."""
        live = views(Live(run))
        assert live.metrics["shown"] == ["loss", "accuracy"]
        look = {"title": "generator loss", "form": ".4g", "higher": False}
        told = {"loss": {}, "r2": {}, "mae": {}, "generator_loss": look}
        run.store.note(metrics=told, charts=["loss", "r2"])
        until(lambda: live.metrics["shown"] == ["loss", "r2"])
        assert {"mae", "generator_loss"} <= {metric["name"] for metric in live.metrics["drawn"]}
        live.charts = ["loss", "generator_loss"]
        assert views(Live(run)).charts == ["loss", "generator_loss"]
        assert views(Live(run, metrics=["mae", "gate"])).charts == ["mae", "own/gate"], "gate may yet be logged"
        run.end("done")
        with pytest.raises(lab.SpecError, match=r"metrics='gate': unknown metric.*generator_loss"):
            Live(run, metrics=["gate"])

    def test_needs_a_run(self):
        with pytest.raises(ValueError, match="at least one run"):
            Live()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Live(3), "Live takes runs, not a int: Live(lab.attach())"),
        (lambda: Workbench(3), "Workbench takes a Spec, not a int"),
        (lambda: Learner(3), "Learner takes a Spec, not a int"),
        (lambda: Learner(lr="fast"), "lr='fast': must be a number"),
        (lambda: Compression(3), "run 3 does not exist"),
        (lambda: Compression("nix"), "run 'nix' does not exist"),
    ],
)
def test_a_widget_that_is_refused_says_so_in_one_sentence(home, make, sentence, capsys):
    with pytest.raises(lab.LabError, match=re.escape(sentence)):
        make()
    gc.collect()
    assert capsys.readouterr().err == "", "what was refused could not be closed"


def close_all():
    """Close the views that were made by showing something."""
    from ipywidgets.widgets.widget import _instances

    for widget in list(_instances.values()):
        if isinstance(widget, Live):
            widget.close()


def figured(spec, **figures):
    """A run that is done, with these figures of its validation set."""
    folder = RunFolder.create(spec)
    (folder.path / "events").mkdir(exist_ok=True)
    with contextlib.closing(Log(folder.path / "events" / "rank0.jsonl", 0)) as log:
        log.start()
        log.evaluation("val", 10, 0, loss=1.0, **figures)
    folder.note(metrics={name: {} for name in ("loss", *figures)})
    folder.set_state("done")
    return folder


class TestShelf:
    def test_ended_runs_are_read_once(self, home, monkeypatch):
        folders = [RunFolder.create(Spec(seed=i)) for i in range(3)]
        for folder in folders:
            folder.set_state("done")
        reads = []
        monkeypatch.setattr(lab.Run, "summary", counted(lab.Run.summary, reads))
        catalogue = Catalogue(home / "runs")
        assert len(catalogue.look()) == 3
        assert catalogue.look() == [] and len(reads) == 3
        folders[0].set_state("failed")
        assert [row["state"] for row in catalogue.look()] == ["failed"]

    def test_newest_come_first_the_rest_follows(self, home):
        for seed in range(5):
            folder = RunFolder.create(Spec(seed=seed))
            folder.set_state("done")
            folder.path.rename(home / "runs" / f"20260101-00000{seed}-aaaa")
        catalogue = Catalogue(home / "runs")
        assert [row["id"][14] for row in catalogue.look(limit=2)] == ["4", "3"] and catalogue.more
        assert len(catalogue.look(limit=2)) == 2 and len(catalogue.look(limit=2)) == 1 and not catalogue.more

    def test_runs_come_and_go(self, home, views, tiny):
        shelf = views(Shelf())
        assert shelf.table.ordered() == []
        folder = RunFolder.create(tiny)
        folder.set_state("done")
        until(lambda: [row["id"] for row in shelf.table.ordered()] == [folder.id])
        assert folder.id in repr(shelf)
        folder.path.rename(home / "elsewhere")
        until(lambda: shelf.table.ordered() == [])

    def test_columns_are_of_what_all_runs_have_and_what_was_asked_for_until_others_are_chosen(self, home, views):
        """Of runs of several tasks a column for each metric of any would be more than a page has room for."""
        figured(Spec(name="old"), r2=0.5, mae=0.1, accuracy=0.1)
        figured(Spec(metrics=["f1"]), accuracy=0.7, f1=0.6)
        figured(Spec(), accuracy=0.9, precision=0.2)
        shelf = views(Shelf())
        until(lambda: len(shelf.table.ordered()) == 3)
        until(lambda: shelf.table.metrics["shown"] == ["loss", "accuracy", "f1"])
        assert {"r2", "mae", "precision"} <= {metric["name"] for metric in shelf.table.metrics["drawn"]}
        saved = shelf.still()["text/html"]
        assert "validation accuracy" in saved and "60.00%" in saved and "MAE" not in saved
        shelf.table.columns = ["mae"]
        saved = views(Shelf()).still()["text/html"]
        assert "validation MAE" in saved and "accuracy" not in saved

    def test_ticked_runs_are_overlaid_the_live_one_first(self, run, views):
        ended = RunFolder.create(Spec(seed=7))
        ended.set_state("done")
        shelf = views(Shelf())
        shelf.table.selected = [ended.id, run.id]
        assert [shown.id for shown in shelf.live.runs] == [run.id, ended.id]
        assert shelf.children[1] is shelf.live
        shelf.table.selected = []
        assert shelf.live is None and len(shelf.children) == 1

    def test_what_the_page_asks_for_is_done_or_refused_in_place(self, run, views, monkeypatch):
        ended = RunFolder.create(Spec(seed=7, name="first"))
        ended.set_state("done")
        sent = []
        monkeypatch.setattr("lepton_widgets.shelf.Table.send", lambda self, content, buffers=None: sent.append(content))
        shelf = views(Shelf())
        ask = lambda **content: shelf.table._handle_custom_msg(content, [])  # noqa: E731
        row = lambda: shelf.table.catalogue.rows[ended.id]  # noqa: E731
        ask(action="describe", ids=[ended.id], name="better", tags=["a", "b"], note="keep")
        until(lambda: (row()["name"], row()["tags"], row()["note"]) == ("better", ["a", "b"], "keep"))
        ask(action="archive", ids=[ended.id], archived=True)
        until(lambda: row()["archived"])
        shelf.table.selected = [ended.id, run.id]
        ask(action="delete", ids=[run.id])
        assert {"refused": f"run {run.id!r} is running: stop it first, then delete it"} in sent
        assert shelf.table.selected == [ended.id, run.id], "a run that stays leaves the overlay"
        shelf.table.selected = [ended.id]
        ask(action="delete", ids=[ended.id])
        until(lambda: ended.id not in shelf.table.catalogue.rows)
        assert not ended.path.exists() and shelf.table.selected == [] and shelf.live is None

    def test_a_page_that_begins_to_show_it_gets_every_row(self, home, views, monkeypatch):
        """What was sent before the page listened is lost."""
        for seed in range(20):
            RunFolder.create(Spec(seed=seed)).set_state("done")
        sent = []
        monkeypatch.setattr("lepton_widgets.shelf.Table.send", lambda self, content, buffers=None: sent.append(content))
        shelf = views(Shelf())
        until(lambda: sent and len(sent[-1]["order"]) == 20)
        sent.clear()
        shelf.table._handle_custom_msg({"action": "show"}, [])
        until(lambda: sent and len(sent[-1]["rows"]) == len(sent[-1]["order"]) == 20)

    def test_what_is_no_run_is_passed_over(self, home):
        (home / "runs" / "notes").mkdir(parents=True)
        (home / "runs" / "file").write_text("")
        assert Catalogue(home / "runs").look() == []


def counted(function, calls):
    """The function, noting each call."""
    return lambda *args: calls.append(args) or function(*args)


def test_scripts_are_self_contained():
    for path in STATIC.glob("*.js"):
        text = path.read_text()
        assert not re.search(r"^\s*import\b|\bimport\(", text, re.MULTILINE), path
        assert "http" not in text.replace("http://www.w3.org/2000/svg", ""), path


def test_failure_fields_are_those_the_card_reads():
    card = (STATIC / "tables.js").read_text()
    for field in replace(Failure(0, "E", "m")).__dataclass_fields__:
        assert f"failure.{field}" in card, field


def test_logged_numbers_are_series_and_of_two_ranks_each_point_is_sent_once():
    view, story, marks = View(), Story(2), [{}]
    for step in range(1, 6):
        for rank in (0, 1):
            logged = {"kind": "logged", "t": step, "rank": rank, "step": step, "split": "train", "gate": step + rank}
            story.add([train(step, rank), logged])
            view.take(pack([story], marks))
    story.add([{"kind": "state", "t": 9, "rank": -1, "state": "done"}])
    view.take(pack([story], marks))
    version, xs, ys = view.series[0, "own/gate", "train", ALL]
    assert xs == [1, 2, 3, 4, 5] and ys == [1.5, 2.5, 3.5, 4.5, 5.5]
    assert version == 1  # never begun anew


def test_media_are_listed_and_sent_when_new_or_asked_for():
    run = Run(RunFolder.create(Spec()))
    place = run.folder / "logged"
    place.mkdir()
    story = Story()
    for step in range(1, 131):
        (place / f"{step}.txt").write_text(f"at {step}")
        story.add([{"kind": "media", "t": 0, "rank": 0, "step": step, "split": "train", "name": "words"}
                   | {"media": "text", "file": f"{step}.txt"}])  # fmt: skip
    head = Status(run, story=story).head()
    ((entries),) = [each["entries"] for each in head["media"]]
    assert len(entries) <= media.STEPS and entries[-1]["step"] == 130 and head["dropped"] == 0
    files = media.Files([run])
    assert list(files.newest([head])) == [(run.id, ["130.txt"], [b"at 130"])]
    assert list(files.newest([head])) == []
    (run.folder / "spec.json").touch()
    assert files.asked(run.id, ["4.txt", "gone.txt", "../spec.json"]) == (run.id, ["4.txt"], [b"at 4"])
    assert files.asked("another", ["4.txt"]) == ("another", [], [])

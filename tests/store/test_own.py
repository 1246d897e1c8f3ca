"""Figures that a user's code logs: numbers of ranks put together, media as files, bounds, and what is refused."""

import io
import json
import wave

import numpy as np
import pytest
import torch
import torch.distributed as dist
from helpers import until
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.distributed.tensor import Replicate, Shard, distribute_tensor
from torch.utils.checkpoint import checkpoint

import lepton_lab as lab
from lepton_lab.store import media, recorder
from lepton_lab.store.figures import VALUE
from lepton_lab.store.folder import RunFolder
from lepton_lab.store.log import Log
from lepton_lab.store.recorder import Recorder
from lepton_lab.store.story import Story

VALUES = st.dictionaries(st.integers(1, 8), st.integers(-50, 50), max_size=8)
COMBINED = {"mean": lambda values: sum(values) / len(values), "sum": sum, "max": max}


def told(rank, values, steps=8, reduce="mean"):
    """A rank's rows in the order of its file: what it logged in a step comes before the next step."""
    extra = {} if reduce == "mean" else {"reduce": {"gate": reduce}}
    for step in range(1, steps + 1):
        yield {"kind": "train", "t": 0.0, "rank": rank, "step": step, "samples": 1, "loss": 1.0}
        if step in values:
            yield {
                "kind": "logged",
                "t": 0.0,
                "rank": rank,
                "step": step,
                "split": "train",
                "gate": values[step],
            } | extra


def points(story):
    track = story.logged.get(("gate", "train"))
    return dict(zip(track.x, track.columns[VALUE], strict=True)) if track else {}


def expected(ranks, reduce):
    if reduce == "rank0":
        return dict(ranks[0])
    steps = sorted({step for values in ranks for step in values})
    return {step: COMBINED[reduce]([values[step] for values in ranks if step in values]) for step in steps}


@given(st.lists(VALUES, min_size=1, max_size=3), st.sampled_from(recorder.REDUCTIONS), st.data())
def test_numbers_of_ranks_are_put_together_by_step_however_their_rows_are_mixed(ranks, reduce, data):
    files = [list(told(rank, values, reduce=reduce)) for rank, values in enumerate(ranks)]
    story, seen = Story(len(ranks)), {}
    while any(files):
        file = data.draw(st.sampled_from([file for file in files if file]))
        story.add(file[: (count := data.draw(st.integers(1, len(file))))])
        del file[:count]
        now = points(story)
        if len(ranks) > 1 and reduce != "rank0":
            assert seen.items() <= now.items(), "a point that a view was given has changed"
            seen = now
    story.add([{"kind": "state", "t": 1.0, "rank": -1, "state": "done"}])
    assert points(story) == pytest.approx(expected(ranks, reduce))


@given(VALUES, VALUES, VALUES, VALUES, st.integers(0, 8), st.sampled_from(("mean", "sum", "max")))
def test_a_rewind_voids_what_was_logged_after_it(a, b, again_a, again_b, step, reduce):
    story = Story(2)
    for rank, values in enumerate((a, b)):
        story.add(told(rank, values, reduce=reduce))
    points(story)
    after = {}
    for rank, (values, again) in enumerate(((a, again_a), (b, again_b))):
        story.add([{"kind": "note", "t": 2.0, "rank": rank, "rewind": step, "world": 2, "text": ""}])
        story.add(row for row in told(rank, again, reduce=reduce) if row["step"] > step)
        after[rank] = {s: v for s, v in values.items() if s <= step} | {s: v for s, v in again.items() if s > step}
    story.add([{"kind": "state", "t": 1.0, "rank": -1, "state": "done"}])
    assert points(story) == pytest.approx(expected([after[0], after[1]], reduce))


def test_a_file_of_several_ranks_is_the_first_rank_s():
    row = {"kind": "media", "t": 0.0, "step": 3, "split": "train", "name": "x", "media": "text"}
    story = Story(2).add(
        [{**row, "rank": 1, "file": "b"}, {**row, "rank": 0, "file": "a"}, {**row, "rank": 1, "step": 4}]
    )
    assert [(row["step"], row["rank"]) for row in story.own.media] == [(3, 0), (4, 1)]


def test_images_are_those_that_pillow_reads():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 7), dtype=np.uint8)
    body, facts = media.image(pixels)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(body))), pixels.transpose(1, 2, 0))
    assert facts == {"width": 7, "height": 5}

    def grey(values):
        return np.asarray(Image.open(io.BytesIO(media.image(np.array(values))[0]))).tolist()

    assert grey([[0.0, 0.5], [1.0, 0.25]]) == [[0, 128], [255, 64]]
    assert grey([[[-2.0, 0.0], [2.0, np.nan]]]) == [[0, 128], [255, 0]]  # stretched
    assert grey([[3.0, 3.0]]) == [[0, 0]] and grey([[np.inf, np.nan]]) == [[0, 0]]


def test_sounds_are_wav_files_and_histograms_count():
    body, facts = media.audio(np.array([[0.0, 1.0, -2.0], [0.5, 0.0, 0.0]]), 8000)
    with wave.open(io.BytesIO(body)) as sound:
        assert (sound.getnchannels(), sound.getframerate(), sound.getnframes()) == (2, 8000, 3)
        assert np.frombuffer(sound.readframes(3), "<i2").tolist() == [0, 16384, 32767, 0, -32767, 0]
    assert facts == {"rate": 8000, "seconds": 0.0004}
    counted = json.loads(media.histogram(np.array([0.0, 1.0, 1.0, np.nan]))[0])
    assert sum(counted["counts"]) == 3 and counted["counts"][-1] == 2 and counted["left_out"] == 1
    assert counted["edges"][0] == 0.0 and counted["edges"][-1] == 1.0 and len(counted["edges"]) == 65
    assert media.histogram(np.array([np.nan]))[0]


@pytest.fixture
def log():
    """A rank's log with what its code logs, of a run that nobody trains."""
    folder = RunFolder.create(lab.Spec())
    log = Log(folder.path / "events" / "rank0.jsonl", 0)
    log.own = Recorder(folder.path, log, 1, True)
    log.folder = folder
    with recorder.recording(log.own):
        yield log


def rows(log, kind):
    return [row for row in log.folder.rows(kind)]


def test_calls_of_a_step_become_one_number_and_a_tensor_counts_as_it_was(log):
    gate = torch.nn.Parameter(torch.tensor([2.0]))
    log.own.place = (1, "train")
    for value in (gate, torch.tensor(4), 6.0, np.float32(8)):
        lab.log("gate", value)
        lab.log("most", value, "max")
        lab.log("all", value, reduce="sum")
        lab.log("last", value, "rank0")
    with torch.no_grad():
        gate.zero_()
    lab.log("odd", float("nan"))
    lab.log("meta", torch.zeros((), device="meta"))
    log.flush()
    assert rows(log, "logged") == []  # the step is not over
    log.own.place = (1, "val")
    lab.log("gate", 1)
    log.own.place = (2, "train")
    log.flush()
    train, val = rows(log, "logged")
    assert {name: train[name] for name in ("gate", "most", "all", "last", "odd")} == {
        "gate": 5.0, "most": 8.0, "all": 20.0, "last": 8.0, "odd": None,
    }  # fmt: skip
    assert train["step"] == 1 and train["reduce"] == {"most": "max", "all": "sum", "last": "rank0"}
    assert (val["split"], val["step"], val["gate"]) == ("val", 1, 1.0) and "meta" not in train
    log.close()


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_is_computed_again_is_logged_once(log, reentrant):
    def layer(x):
        lab.log("calls", 1.0, "sum")
        lab.log_text("words", "of a layer")
        return x.sin() * x

    x = torch.ones(3, requires_grad=True)
    hidden = x * 2
    hidden.register_hook(lambda gradient: lab.log("gradient", gradient.norm(), "sum"))
    checkpoint(layer, hidden, use_reentrant=reentrant).sum().backward()
    log.own.save()
    log.flush(all_of_them=True)
    (row,) = rows(log, "logged")
    assert row["calls"] == 1.0 and row["gradient"] > 0
    assert len(rows(log, "media")) == 1
    log.close()


def test_what_a_run_may_not_keep_is_dropped_and_counted(log, monkeypatch):
    monkeypatch.setattr(recorder, "NAMES", 2)
    monkeypatch.setattr(recorder, "HELD", 5000)
    log.own._files_left = 300
    for name in ("a", "b", "c", "a"):
        lab.log(name, 1.0)
    lab.log_text("long", "x" * 6000)  # more than may wait
    lab.log_text("one", "y" * 200)
    lab.log_text("two", "z" * 200)  # more than is left
    log.own.medium("samples", "shown", np.zeros(9000, np.uint8))  # the run's own, which take nothing of it
    log.own.save()
    assert log.own._files_left == 100
    log.own.resume(0)
    assert log.own._files_left == -100  # as in another life of the run
    log.own._numbers_left = 10
    log.flush(all_of_them=True)
    lab.log("a", 1.0)
    assert log.own.dropped == 4 and log.own.facts["dropped"] == 4
    log.start()
    log.close()
    assert [row["name"] for row in rows(log, "media")] == ["one", "shown"]
    assert [set(row) & {"a", "b", "c"} for row in rows(log, "logged")] == [{"a", "b"}]
    (note,) = rows(log, "note")
    assert "dropped from here on" in note["text"] and "64 MiB" in note["text"]
    assert log.folder.glance().ranks[0].facts["dropped"] == 4


def test_a_life_that_goes_on_forgets_the_files_after_its_step(log):
    for step in (1, 2, 3):
        log.own.place = (step, "train")
        lab.log_text("words", f"at {step}")
    log.own.save()
    log.own.resume(2)
    files = sorted(path.read_text() for path in (log.folder.path / "logged").iterdir())
    assert files == ["at 1", "at 2"]
    log.close()


def test_a_disk_that_takes_no_file_fails_nothing(log):
    (log.folder.path / "logged").write_text("in the way")
    lab.log_text("words", "none")
    log.start()
    until(lambda: log.own.dropped == 1)
    log.close()
    assert "dropped" in rows(log, "note")[0]["text"]


REFUSED = [
    (lambda: lab.log(3, 1.0), "log(3, ...): a name must be text"),
    (lambda: lab.log("", 1.0), "a name must be text"),
    (lambda: lab.log("step", 1.0), "log('step'): rows of events have that name"),
    (lambda: lab.log("gate", 1.0, reduce="avg"), "reduce='avg' must be one of mean, sum, max, rank0"),
    (lambda: lab.log("gate", 1.0, reduce="means"), "did you mean 'mean'?"),
    (lambda: lab.log("gate", torch.ones(3)), "shape (3,) is not one number; log its mean or norm, or all of it with"),
    (lambda: lab.log("gate", "high"), "'high' is no number; texts go to lab.log_text"),
    (lambda: lab.log_image("x", torch.ones(8, 8, 3)), "shape (8, 8, 3) must be (H, W), (1, H, W) or (3, H, W); bring"),
    (lambda: lab.log_image("x", torch.ones(2, 3, 8, 8)), "give one of a batch, such as images[0]"),
    (lambda: lab.log_image("x", [1]), "list is neither a tensor nor a numpy array"),
    (lambda: lab.log_audio("x", torch.ones(8)), "rate=None must be samples a second, such as 16000"),
    (lambda: lab.log_audio("x", torch.ones(4, 8), rate=8), "shape (4, 8) must be (T,), (1, T) or (2, T)"),
    (lambda: lab.log_text("x", 5), "5 is no text; give str(...) of it"),
    (lambda: lab.log_histogram("x", torch.ones(0)), "shape (0,) holds no number"),
    (lambda: lab.log_histogram("x", torch.ones(2, dtype=torch.complex64)), "are no real numbers"),
]


@pytest.mark.parametrize(("call", "sentence"), REFUSED)
def test_what_can_t_be_logged_is_refused_in_a_sentence_also_where_no_run_trains(call, sentence):
    with pytest.raises(lab.SpecError) as refused:
        call()
    assert sentence in str(refused.value)


def test_steps_of_which_nothing_was_counted_may_lie_among_others(log):
    for step, counts in enumerate((None, torch.tensor(3.0), None), 1):
        log.train(step, 0, torch.tensor(1.0), counts, 4, 0.1)
    log.flush()
    log.close()
    assert [row.get("accuracy") for row in rows(log, "train")] == [None, 0.75, None]


@pytest.fixture
def ranks():
    """A group of two of which this process is one, and the other never comes."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield dist.device_mesh.init_device_mesh("cpu", (2,))
    dist.destroy_process_group()


def test_what_is_spread_over_ranks_is_refused_and_never_put_together(log, ranks):
    weight = distribute_tensor(torch.ones(4, 2), ranks, [Shard(0)])
    for call in (lambda: lab.log("norm", weight.norm()), lambda: lab.log_histogram("weights", weight)):
        with pytest.raises(lab.SpecError, match=r"each rank has a part of this tensor.*full_tensor\(\), computed on"):
            call()
    lab.log("whole", distribute_tensor(torch.tensor(2.0), ranks, [Replicate()]))
    log.flush(all_of_them=True)
    log.close()
    assert [row["whole"] for row in rows(log, "logged")] == [2.0]


def test_where_no_run_trains_nothing_happens():
    assert lab.log("gate", torch.ones(1)) is None and lab.log_image("x", torch.ones(2, 2)) is None


def test_a_name_is_reduced_in_one_way(log):
    lab.log("gate", 1.0)
    with pytest.raises(lab.SpecError, match="was 'mean' before; take one of them, or two names"):
        lab.log("gate", 1.0, reduce="sum")
    log.close()

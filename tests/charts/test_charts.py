"""Charts: the pure functions from rows to curves, and what is drawn of them."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import resource
import sys

import numpy as np
import pytest
from helpers import ROOT, recorded
from hypothesis import given
from hypothesis import strategies as st

import lepton_lab as lab
from lepton_lab.charts import CHARTS, curves, descent, looks, placement, training
from lepton_lab.charts.drawing import COLORS
from lepton_lab.charts.heat import Matrix
from lepton_lab.charts.series import HIGHER, contestants, diverged, number, reduce
from lepton_lab.errors import SpecError
from lepton_lab.files import write_json
from lepton_lab.metrics import Figure
from lepton_lab.reports.index import curves as curves_of_groups
from lepton_lab.store.folder import RunFolder
from lepton_lab.store.naming import labels
from lepton_lab.store.story import Story
from lepton_lab.store.tracks import Curve


def train(step, loss=1.0, *, rank=0, t=None, epoch=0, samples=10, **values):
    t = step * 0.1 if t is None else t
    return {
        "kind": "train",
        "t": t,
        "rank": rank,
        "step": step,
        "epoch": epoch,
        "loss": loss,
        "samples": samples,
        "lr": 0.1,
    } | values


def evaluation(step, split="val", **values):
    return {"kind": "eval", "t": step * 0.1, "rank": 0, "step": step, "epoch": 0, "split": split, "samples": 4} | values


def written(rows, spec=None, **facts):
    """A run as its folder tells it, without a process."""
    spec = spec or lab.Spec(model="mlp", world=2)
    folder = RunFolder.create(spec)
    (folder.path / "events" / "rank0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_json(folder.path / "state.json", {"state": "done", "t": folder.created + 2, **facts})
    return lab.attach(folder.id)


def trained(spec=None, steps=30):
    rows = [train(i, 2 / i, accuracy=1 - 1 / (i + 1)) for i in range(1, steps + 1)]
    rows += [
        evaluation(steps, loss=0.5, accuracy=0.8),
        evaluation(steps, "test", loss=0.4, accuracy=0.75, confusion=[[2, 1], [0, 1]]),
    ]
    run = recorded(written(rows, spec, classes=["cat", "dog"]), 4, 7)
    (run.folder / "predictions").mkdir()
    said = {
        "scores": [[2.0, 0.0], [0.0, 1.0], [0.5, 0.0], [0.0, 3.0]],
        "targets": [0, 0, 0, 1],
        "losses": [0.1, 1.3, 0.5, 0.1],
    }
    np.savez(run.folder / "predictions" / "test.npz", samples=np.arange(4), **said)
    return run


def test_training_is_merged_over_ranks_by_their_samples():
    rows = [train(1, 1.0, samples=30, accuracy=0.5), train(1, 2.0, rank=1, samples=10, accuracy=0.1), train(2, 3.0)]
    curves = Story().add(rows).curves
    assert curves["loss"] == ([1], [1.25])  # the other rank has not told of the second step
    assert curves["accuracy"].y == [pytest.approx(0.4)]
    assert curves["loss rank 0"] == ([1, 2], [1.0, 3.0])
    assert curves["loss rank 1"] == ([1], [2.0])


def test_one_rank_has_no_curve_beside_the_merged_one():
    assert set(Story().add([train(1)]).curves) == {"loss", "lr"}


def test_what_is_not_a_number_or_has_no_samples_is_left_out():
    curves = Story().add([train(1, 1.0), train(2, None), train(3, 9.0, samples=0), train(4, 2.0)]).curves
    assert curves["loss"] == ([1, 4], [1.0, 2.0])


def test_evaluations_are_curves_of_their_own():
    story = Story().add(
        [evaluation(5, loss=0.5, accuracy=0.9), evaluation(5, "train", loss=0.7), evaluation(9, "test", loss=0.4)]
    )
    curves = story.curves
    assert curves["val_loss"] == ([5], [0.5])
    assert curves["val_accuracy"] == ([5], [0.9])
    assert curves["train_loss"] == ([5], [0.7])
    assert curves["test_loss"] == ([9], [0.4])
    assert "train_accuracy" not in curves


def test_nothing_gives_no_curve():
    assert Story().curves == {}


def test_throughput_counts_all_ranks_and_leaves_out_pauses_and_epoch_ends():
    rows = [train(i, t=i * 0.5, rank=r) for i in range(1, 5) for r in (0, 1)]
    rows.append({"kind": "state", "t": 2.1, "rank": 0, "state": "paused"})
    rows += [{"kind": "note", "t": 50.0, "rank": r, "rewind": 4, "world": 1, "text": "goes on"} for r in (0, 1)]
    rows += [train(5, t=60.0), train(6, t=60.5), train(7, t=90.0, epoch=1), train(8, t=90.5, epoch=1)]
    taken = [(each.step, each.samples) for each in Story().add(rows).intervals]
    assert taken == [
        (2, 20),
        (3, 20),
        (4, 20),
        (6, 10),
        (8, 10),
    ]
    assert Story().add(rows).curves["samples_per_s"] == ([8], [pytest.approx(80 / 2.5)])


def test_the_clock_runs_in_training_only():
    rows = [{"kind": "state", "t": 10.0, "rank": 0, "state": "running", "steps": 6}]
    rows += [train(1, t=12.0), train(2, t=12.5), train(3, t=13.0)]
    rows += [train(4, t=60.0, epoch=1), train(5, t=60.5, epoch=1), train(5, t=60.6, epoch=1, rank=1)]
    steps, seconds = Story().add(rows).clock
    assert steps == [1, 2, 3, 4, 5]
    assert seconds == pytest.approx([2.0, 2.5, 3.0, 3.5, 4.1])  # a first step whole, an epoch's first as the others
    assert Story().clock == ([], [])


def test_contestants_are_named_by_strategy_ranks_and_options():
    spec = lab.Spec(model="mlp", strategy="single", options={"hidden": 8})
    specs = [spec, spec.replace(strategy="ddp", world=2), spec]
    assert contestants([written([], s) for s in specs]) == ["single (1)", "ddp x 2", "single (2)"]
    options = {"hidden": 8, "find_unused_parameters": True}
    ddp = written([], spec.replace(strategy="ddp", options=options))
    assert contestants([ddp]) == ["ddp, find_unused_parameters=True"]


def test_throughput_of_a_long_run_is_a_curve():
    rows = [train(i, t=i * (0.1 if i < 500 else 0.2)) for i in range(1, 1001)]
    curve = Story().add(rows).curves["samples_per_s"]
    assert len(curve.x) == 40
    assert curve.y[0] == pytest.approx(100)
    assert curve.y[-1] == pytest.approx(50)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(1, 40))
def test_reduction_keeps_both_ends_and_both_extremes(values, columns):
    curve = Curve([float(i) for i in range(len(values))], values)
    x, y = reduce(curve, columns)
    assert (x[0], y[0], x[-1], y[-1]) == (0, values[0], len(values) - 1, values[-1])
    assert (min(y), max(y)) == (min(values), max(values))
    assert x == sorted(set(x))
    assert len(x) <= max(2 * columns + 4, min(len(values), 2 * columns))


def test_labels_say_what_sets_runs_apart():
    spec = lab.Spec(model="mlp")
    a, b, c, named = (
        written([], s) for s in (spec, spec.replace(lr=0.01), spec.replace(lr=0.01), spec.replace(name="best"))
    )
    assert labels([a]) == ["mlp on digits"]
    assert labels([a, b]) == ["lr=0.001", "lr=0.01"]
    assert labels([a, b, c]) == ["lr=0.001", f"lr=0.01, {b.id[-4:]}", f"lr=0.01, {c.id[-4:]}"]
    assert labels([a, named]) == ["mlp on digits", "best"]


def test_a_chart_is_saved_as_its_ending_says(tmp_path):
    chart = curves("Names", {"a": [1.0, 2.0]}, y="loss")
    assert chart.save(tmp_path / "a.png").read_bytes() == chart.png()
    assert b"</svg>" in chart.save(str(tmp_path / "a.svg")).read_bytes()
    page = chart.save(tmp_path / "a.html").read_text()
    assert "Plotly.newPlot" in page and 'src="http' not in page, "it would need the network"
    with pytest.raises(lab.SpecError, match=r"a.gif'?: must end in .png, .svg, .html"):
        chart.save(tmp_path / "a.gif")
    with pytest.raises(lab.LabError, match=r"can't be written \(No such file"):
        chart.save(tmp_path / "none" / "a.png")


def test_a_full_disk_leaves_the_chart_that_stood_there(tmp_path):
    path = curves("Names", {"a": [1.0, 2.0]}, y="loss").save(tmp_path / "a.svg")
    older, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(lab.LabError, match=r"can't be written \(no file may be larger than 1000 bytes"):
            curves("Others", {"b": [2.0, 1.0]}, y="loss").save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == older and list(tmp_path.iterdir()) == [path]


def test_a_single_point_is_drawn_and_no_accuracy_above_one():
    chart = training("accuracy", ["it"], [{"accuracy": Curve([1.0], [1.0]), "val_accuracy": Curve([1.0], [0.5])}])
    described = chart.plotly()
    assert all("markers" in trace["mode"] for trace in described["data"])
    assert described["layout"]["yaxis"]["autorangeoptions"]["maxallowed"] < 1.05


def test_the_live_view_has_the_colours_of_the_charts():
    from lepton_widgets.frame import STATIC

    light = re.search(r"light: (\[.*?\])", (STATIC / "base.js").read_text())[1]
    assert tuple(json.loads(light)) == COLORS


def test_labels_stay_short():
    long = lab.Spec(model="mlp", optimizer="adamw", weight_decay=0.25, schedule="one_cycle", momentum=0.5, warmup=17)
    assert all(len(label) <= 44 for label in labels([written([]), written([], long)]))


@pytest.mark.parametrize("name", [name for name in CHARTS if name != "pareto"])  # that is in test_estimates.py
def test_a_chart_is_interactive_a_picture_and_text(name):
    other = trained(lab.Spec(model="mlp", name="$x_1$ <b> _ 日本"))
    chart = CHARTS[name]([other, trained()])
    data, metadata = chart._repr_mimebundle_()
    assert set(data) == {"application/vnd.plotly.v1+json", "image/png", "text/html", "text/plain"}
    assert f'alt="{html.escape(chart.text)}"' in data["text/html"], "nbconvert would say that there is no description"
    drawn = data["application/vnd.plotly.v1+json"]
    assert not drawn["config"]["responsive"], "it would fold up when the theme changes"
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert len(data["image/png"]) < 150_000
    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert picture.width == metadata["image/png"]["width"]  # JupyterLab would cut off what is more
    assert (drawn["layout"]["width"], drawn["layout"]["height"]) == picture.size, "it would jump when pointed at"
    assert metadata["image/png"]["alt"] == data["text/plain"] == chart.text
    described = json.dumps(data["application/vnd.plotly.v1+json"])
    assert "http" not in described
    assert "<b>" not in described
    config = data["application/vnd.plotly.v1+json"]["config"]
    assert config["displaylogo"] is config["showSendToCloud"] is False
    assert len(chart.figure().data) >= 1  # plotly accepts every name and value


@pytest.mark.parametrize("name", [name for name in CHARTS if name != "pareto"])  # that is in test_estimates.py
def test_a_run_with_nothing_to_show_says_so(name):
    run = written([])
    chart = CHARTS[name]([run])
    data, _ = chart._repr_mimebundle_()
    assert "image/png" not in data
    named = "mlp on digits" if name in ("loss", "accuracy", "timeline") else run.id
    assert named in data["text/plain"]
    assert re.search(r"no run has any|no predictions of|no confusion matrix|were recorded yet", data["text/plain"])
    assert chart.figure().data == ()
    assert chart.png().startswith(b"\x89PNG")


def test_loss_has_a_log_scale_where_it_falls_far():
    assert "log" in CHARTS["loss"]([trained(steps=300)]).y
    assert "log" not in CHARTS["loss"]([trained(steps=20)]).y
    assert "log" not in CHARTS["accuracy"]([trained(steps=300)]).y


def test_a_run_that_diverged_leaves_the_shape_of_the_others():
    """On both scales, in plotly and in the picture, in the chart of a report, of an index and of a race."""
    bad = written([train(i, 10.0**i) for i in range(1, 9)], lab.Spec(model="mlp", name="bad"))
    waits = written([], lab.Spec(model="mlp", name="waits"))
    for steps, log in ((20, False), (300, True)):
        good = trained(lab.Spec(model="mlp", name="good"), steps)
        index = curves_of_groups({"good": [good], "bad": [bad]}, Figure("loss"))
        for chart in (CHARTS["loss"]([good, waits, bad]), index, CHARTS["race"]([good, bad])):
            assert chart.log is log and chart.span == pytest.approx((2 / steps, 2))
            low, high = chart.plotly()["layout"]["yaxis"]["range"]
            assert (10**low < 2 / steps and 2 < 10**high < 3) if log else (-1 < low < 2 / steps and 2 < high < 3)
            figure = chart._drawn(50).figure
            assert 2 < figure.axes[0].get_ylim()[1] < 3
            assert "Above the picture: " in chart.title and chart.text.count("Above the picture: ") == 1
    assert CHARTS["loss"]([bad]).span is None and CHARTS["loss"]([good, waits]).span is None
    assert CHARTS["accuracy"]([trained(steps=20), bad]).span is None


def test_the_live_view_and_the_charts_agree_on_what_diverged():
    source = (ROOT / "widgets" / "lepton_widgets" / "static" / "chart.js").read_text()
    assert f"const HIGHER = {HIGHER};" in source
    assert diverged([[1, 2], [16.1], [], [3]]) == []
    assert diverged([[1, 2], [], [25], [3]]) == [2]
    assert diverged([]) == diverged([[]]) == []


def test_interventions_are_marked_on_a_run_shown_alone():
    note = {"kind": "note", "t": 1.0, "rank": 0, "command": "set", "step": 10, "lr": 0.05}
    run = written([train(i) for i in range(1, 30)] + [note])
    assert CHARTS["loss"]([run]).marks == ((10.0, "lr=0.05"),)
    assert CHARTS["loss"]([run, trained()]).marks == ()
    assert CHARTS["loss"]([run]).plotly()["layout"]["annotations"][0]["text"] == "lr=0.05"


def test_links_of_a_chain_are_marked_where_they_begin():
    link = {"kind": "note", "t": 1.0, "rank": 0, "links": 3}
    notes = [
        link | {"link": "prune", "number": 1, "round": 1, "step": 0, "text": "prune: begins"},
        link | {"link": "prune", "number": 1, "round": 1, "step": 0, "text": "prune: before fine-tuning"},
        link | {"link": "prune", "number": 1, "round": 2, "step": 10, "text": "prune: begins"},
        link | {"link": "distill", "number": 2, "step": 20, "text": "distill: begins"},
        link | {"link": "quantize", "number": 3, "step": 20, "text": "quantize: begins"},
        {"kind": "note", "t": 1.0, "rank": 0, "step": 20, "link": "control", "text": "dense control: trains on"},
    ]
    run = written([train(i) for i in range(1, 21)] + notes)
    chart = CHARTS["loss"]([run])
    assert chart.marks == ((0.0, "prune 1"), (10.0, "prune 2"), (20.0, "distill, quantize"))
    assert [mark["xanchor"] for mark in chart.plotly()["layout"]["annotations"]] == ["left", "right", "right"]
    assert chart.png().startswith(b"\x89PNG")


@pytest.mark.parametrize("n", [1, 20, 200])
def test_a_confusion_is_one_picture_with_few_ticks(n):
    from matplotlib.figure import Figure

    counts = [[9 if i == j else (i + j) % 3 for j in range(n)] for i in range(n)]
    figure = Figure()
    Matrix("title", "text", counts, [f"class {i}" for i in range(n)])._draw(figure)
    (axes,) = figure.axes
    assert not axes.patches and len(axes.images) == 1
    assert axes.images[0].get_array().shape == (n, n)
    assert 1 <= len(axes.get_xticks()) <= 20
    assert len(axes.texts) == (sum(count > 0 for row in counts for count in row) if n <= 20 else 0)


def test_confusion_tells_how_many_and_which():
    chart = CHARTS["confusion"]([trained()])
    assert "3 of 4 right" in chart.title
    assert "cat taken for dog 1 times" in chart.text
    assert chart.counts == [[2, 1], [0, 1]]


def test_a_timeline_tells_who_waits_for_whom_and_who_sends_what():
    chart = CHARTS["timeline"]([trained()])
    assert "steps 12 and 13" in chart.title
    assert "Rank 0: compute 50%, communication 20%, idle 30%; sends 1 kB to rank 1 a step" in chart.text
    assert "Rank 1: compute 80%, communication 20%, idle 0%; sends 1 kB to rank 0 a step" in chart.text
    names = [trace["name"] for trace in chart.plotly()["data"]]
    assert names == ["forward", "update", "communication", "waiting"]
    (waiting,) = (trace for trace in chart.plotly()["data"] if trace["name"] == "waiting")
    assert (waiting["y"], waiting["base"], waiting["x"]) == ([0], [4.0], [3.0])
    assert waiting["customdata"] == ["waits for all_reduce of 1 kB, ranks 0, 1"]
    (line,) = chart.plotly()["layout"]["annotations"]
    assert line["x"] == line["ax"] == 7.0 and line["arrowhead"] == 0


def test_a_transfer_is_an_arrow():
    run = recorded(trained(), 4, 7)
    for rank, name in enumerate(("send", "recv")):
        path = run.folder / "timeline" / "step-00000013" / f"rank{rank}.json"
        window = json.loads(path.read_text())
        window["spans"][1] |= {"name": name, "peer": 1 - rank}
        write_json(path, window)
    (arrow,) = CHARTS["timeline"]([run]).plotly()["layout"]["annotations"]
    assert (arrow["ax"], arrow["x"], arrow["arrowhead"]) == (7.0, 9.0, 2)
    assert arrow["y"] > arrow["ay"]
    assert [cost["behind"] for cost in run.costs()] == [None, None]


def test_a_step_that_is_an_epoch_has_its_time_without_evaluations():
    rows = [train(step, 1.0, epoch=step - 1, t=float(step), samples=100) for step in range(1, 4)]
    rows += [evaluation(step, loss=1.0, seconds=0.25, t=step + 0.5) for step in range(1, 4)]
    assert Story().add(rows).intervals == [(2, 100, 0.75), (3, 100, 0.75)]
    assert Story().add(rows).clock.y == [0.75, 1.5, 2.25]


def test_placement_of_one_rank_and_of_no_strategy_that_is_known():
    chart = placement(lab.Spec(model="mlp", strategy="fsdp_tensor"))
    assert chart.held == [dict.fromkeys(("batch", "parameters", "gradients", "optimizer"), (0.0, 1.0))]
    with pytest.raises(SpecError, match="^strategy='cell:Own': what ranks hold is known of single, ddp, "):
        placement(lab.Spec(strategy="cell:Own", world=2))


def test_a_race_shows_measured_memory_and_bytes_of_the_largest_rank(monkeypatch):
    told = [{"memory": {"peak": 3e6}, "bytes": 5e5}, {"memory": {"peak": 2e6}, "bytes": 7e5}]
    monkeypatch.setattr(lab.Run, "costs", lambda run: told)
    chart = CHARTS["race"]([trained()])
    assert chart.memory == "MB of tensors, largest rank"
    assert (chart.racers[0].memory, chart.racers[0].sent) == (3.0, 0.7)
    bars = chart.plotly()["data"][-2:]
    assert [bar["x"] for bar in bars] == [[3.0], [0.7]]


def test_a_race_of_many_tells_them_apart():
    described = CHARTS["race"]([trained() for _ in range(8)]).plotly()
    lines = described["data"][:8]
    assert len({(line["line"]["color"], line["line"]["dash"]) for line in lines}) == 8
    assert len({line["line"]["width"] for line in lines}) == 8  # equal curves show as stripes


def test_curves_of_one_s_own_end_where_they_are_no_longer_numbers():
    chart = curves("Two ways", {"good": [4.0, 2.0, 1.0], "bad": [4.0, float("nan"), 1.0]}, y="loss")
    good, bad = chart.plotly()["data"]
    assert good["y"] == [4, 2, 1] and bad["y"] == [4]
    assert chart.text == "Two ways. good: 4 to 1. bad: 4 to 4, and no number from steps 1 on."
    assert chart.plotly()["layout"]["xaxis"]["title"]["text"] == "steps"
    json.dumps(chart.plotly(), allow_nan=False)
    assert chart.png().startswith(b"\x89PNG")


def test_curves_of_one_s_own_stand_where_they_are_said_to_and_on_a_log_scale_where_they_fall_far():
    chart = curves("Falls", {"it": [1.0, 1e-4]}, y="loss", x="seconds", at=[0.5, 1.5], marks=((1.0, "half"),))
    described = chart.plotly()
    assert described["data"][0]["x"] == [0.5, 1.5]
    assert (
        described["layout"]["yaxis"]["type"] == "log" and "log scale" in described["layout"]["yaxis"]["title"]["text"]
    )
    assert described["layout"]["annotations"][0]["text"] == "half"
    figure = curves("One", {"it": [3.0]}, y="loss")._laid_out(50).figure
    ticks = figure.axes[0].get_xticklabels()
    assert len({tick.get_text() for tick in ticks}) == len(ticks) > 1
    assert "nothing" in curves("None", {"it": [float("inf")]}, y="loss")._repr_mimebundle_()[0]["text/html"]


def test_a_descent_moves_in_plotly_and_in_its_picture():
    import torch
    from PIL import Image

    ways = {"far": [torch.tensor([i / 500 - 2, 1.0]) for i in range(1001)], "near": [torch.zeros(2), torch.ones(2)]}
    chart = descent("Down", lambda w: (w**2).sum(), ways)
    described = chart.plotly()
    json.dumps(described, allow_nan=False)
    far = described["data"][1]
    assert (far["x"][0], far["x"][-1]) == (-2, 0) and len(far["x"]) < 300  # both ends, and few between
    assert described["frames"][-1]["data"][0]["x"] == far["x"] and described["frames"][0]["data"][1]["x"] == [0]
    assert described["layout"]["updatemenus"][0]["buttons"][0]["method"] == "animate"
    assert "far: 1000 steps, loss 5 to 1" in chart.text and "near: 1 steps" in chart.text
    data = chart.png()
    assert base64.b64encode(data).decode() == chart._repr_mimebundle_()[0]["image/png"]
    assert len(data) < 300_000
    with Image.open(io.BytesIO(data)) as moving:
        assert moving.is_animated and moving.n_frames > 20 and moving.info["loop"] == 3
        still = moving.convert("RGB").tobytes()
        moving.seek(moving.n_frames - 1)
        assert moving.convert("RGB").tobytes() == still  # where PNGs don't move, the whole picture is seen


def test_a_live_run_is_read_again_when_it_has_more():
    run = written([train(1)])
    assert "at step 1 " in CHARTS["loss"]([run]).text
    with (run.folder / "events" / "rank0.jsonl").open("a") as file:
        file.write(json.dumps(train(2)) + "\n")
    assert "at step 2 " in CHARTS["loss"]([run]).text


def test_a_long_run_stays_small():
    run = written([train(i, 1 + i % 7) for i in range(1, 20_001)])
    assert len(json.dumps(CHARTS["loss"]([run]).plotly())) < 40_000


def test_pyplot_is_left_alone():
    before = "matplotlib.pyplot" in sys.modules
    CHARTS["loss"]([trained()]).png()
    assert ("matplotlib.pyplot" in sys.modules) == before


@pytest.mark.parametrize(
    ("value", "text"), [(0.123456, "0.1235"), (12345.6, "12,346"), (1e30, "1e+30"), (0, "0"), (999.5, "999.5")]
)
def test_numbers_read_well(value, text):
    assert number(value) == text


def test_looks_name_what_each_word_gives_most_to_even_where_a_word_comes_twice():
    drawn = looks("Attention", np.array([[0.1, 0.9, 0.0], [0.6, 0.2, 0.2]]), ["el", "<b>"], ["the", "cat", "the"])
    assert drawn.text == "Attention. Most of each: el cat (90%); <b> the (60%)."
    data, _ = drawn._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    (trace,) = drawn._traces(layout := {"xaxis": {}, "yaxis": {}})
    assert trace["x"] == [0, 1, 2] and layout["xaxis"]["ticktext"] == ["the", "cat", "the"]
    assert layout["yaxis"]["ticktext"] == ["el", "&lt;b&gt;"] and trace["z"][1] == [0.6, 0.2, 0.2]
    with pytest.raises(SpecError, match="1 rows of 2 do not fit 1 names of rows and 3 of columns"):
        looks("x", [[1, 0]], ["a"], ["b", "c", "d"])

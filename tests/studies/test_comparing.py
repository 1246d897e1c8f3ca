"""Arms over seeds: the statistics, the sentence, the figures, and what is refused; on real runs."""

from __future__ import annotations

import math
import random

import pytest
from helpers import Late, until
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import lepton_lab as lab
from lepton_lab.charts import trends
from lepton_lab.errors import LabError
from lepton_lab.stats import interval
from lepton_lab.studies.comparing import FIGURES, check_seeds

stats = Late("scipy.stats")
VALUES = st.lists(st.floats(-1e6, 1e6).map(lambda value: round(value, 3)), min_size=2, max_size=12)
EXAMPLES = settings(deadline=None, max_examples=60)
PAIRS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=2, max_size=8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, standby):
    """Runs of two arms over two seeds, and one that diverged, under a root of their own."""
    spec = lab.Spec(dataset="digits", model="mlp", epochs=1, strategy="single")
    with pytest.MonkeyPatch.context() as own:
        root = tmp_path_factory.mktemp("arms")
        own.setenv("LEPTON_LAB_HOME", str(root))
        own.setenv("XDG_RUNTIME_DIR", str(root))
        arms = {
            name: [lab.launch(spec.replace(optimizer=name, lr=lr, seed=seed)) for seed in (1, 0)]
            for name, lr in (("adam", 1e-2), ("sgd", 1e-3))
        }
        diverged = lab.launch(spec.replace(optimizer="sgd", lr=1e30))
        for run in (*arms["adam"], *arms["sgd"], diverged):
            run.wait(60)
        yield root, arms, diverged


@pytest.fixture
def arms(home, trained, monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_HOME", str(trained[0]))
    return trained[1]


def numbers(**arms):
    """Figures of no run: arm -> seed -> number."""
    return {name: dict(enumerate(values)) for name, values in arms.items()}


# The statistics


@pytest.mark.parametrize(("values", "half"), [([0, 1], 6.3531), ([1, 2, 3, 4, 5], 1.9632), ([*range(10)], 2.1658)])
def test_an_interval_is_that_of_printed_tables(values, half):
    """Student's t at 97.5 %: 12.706, 2.776 and 2.262 for 1, 4 and 9 degrees of freedom."""
    found = interval(values)
    assert (found.mean - found.low, found.high - found.mean) == pytest.approx((half, half), abs=2e-4)


@EXAMPLES
@given(VALUES, st.floats(0.5, 0.999))
def test_an_interval_is_that_of_scipy(values, level):
    found = interval(values, level)
    assume(found.spread)
    low, high = stats.t.interval(level, len(values) - 1, loc=found.mean, scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-6, abs=1e-6)


@EXAMPLES
@given(VALUES, st.floats(0.01, 100), st.integers(-1000, 1000))
def test_an_interval_moves_and_grows_with_its_values(values, factor, shift):
    found, other = interval(values), interval([factor * value + shift for value in values])
    width = (found.high - found.low) * factor
    assert other.mean == pytest.approx(factor * found.mean + shift, rel=1e-9, abs=1e-6)
    assert other.high - other.low == pytest.approx(width, rel=1e-6, abs=1e-4)
    assert found.scaled(2.0).high == 2 * found.high and found.scaled(2.0).n == found.n


def test_nineteen_of_twenty_intervals_hold_the_truth():
    draw = random.Random(0)
    found = [interval([draw.gauss(3.0, 2.0) for _ in range(4)]) for _ in range(4000)]
    assert 0.94 < sum(one.low <= 3.0 <= one.high for one in found) / len(found) < 0.96


@EXAMPLES
@given(PAIRS)
def test_seeds_decide_as_the_paired_t_test_does(pairs):
    ours, theirs = ([pair[i] / 300 for pair in pairs] for i in (0, 1))
    comparison = lab.compare(numbers(a=ours, b=theirs), "test_accuracy")
    gap, turned = comparison.differences["b"], lab.compare(numbers(b=theirs, a=ours)).differences["a"]
    assert (turned.mean, turned.low, turned.high) == pytest.approx((-gap.mean, -gap.high, -gap.low), abs=1e-12)
    if gap.spread:
        p = stats.ttest_rel(theirs, ours).pvalue
        assume(abs(p - 0.05) > 1e-6)
        assert gap.decided == (p < 0.05)
        assert ("do not decide" in comparison.sentence) == (p >= 0.05)
    else:
        assert not gap.decided


def test_pairs_decide_what_means_do_not():
    """One seed is harder than the next; the difference is nearly the same with each."""
    found = lab.compare(numbers(a=[0.7, 0.8, 0.9], b=[0.711, 0.81, 0.909]))
    assert found.means["a"].low < found.means["b"].mean < found.means["a"].high
    assert found.differences["b"].decided


def test_several_differences_hold_at_once():
    found = lab.compare(numbers(a=[1, 2, 4], b=[2, 4, 5], c=[5, 5, 5]), "figs").differences
    low, high = stats.t.interval(0.975, 2, loc=4 / 3, scale=stats.sem([1, 2, 1]))
    assert (found["b"].low, found["b"].high) == pytest.approx((low, high))
    assert found["c"].mean == pytest.approx(8 / 3)


# The sentence


@pytest.mark.parametrize(
    ("ours", "theirs", "figure", "sentence"),
    [
        (
            [0.95, 0.96, 0.955],
            [0.91, 0.921, 0.914],
            "test_accuracy",
            "The test accuracy is 4.00 points lower with b than with a (95 % interval -4.25 to -3.75 points; paired "
            "over 3 seeds).",
        ),
        (
            [0.95, 0.96],
            [0.96, 0.95],
            "val_accuracy",
            "These 2 seeds do not decide whether the validation accuracy is higher with b or with a: the difference "
            "is 0.00 points, and its 95 % interval -12.71 to +12.71 points holds zero.",
        ),
        (
            [0.95, 0.96],
            [0.95, 0.96],
            "val_accuracy",
            "The validation accuracy is the same with b as with a for each of 2 seeds, which tell no difference.",
        ),
        (
            [5000, 5000, 5000],
            [7048, 7048, 7048],
            "file_bytes",
            "The size of the file is 2,048 bytes higher with b than with a for each of 3 seeds, without any spread.",
        ),
        (
            [1.0, 1.2, 1.1],
            [2.0, 2.3, 2.1],
            "hunger",
            "The hunger is 1.033 higher with b than with a (95 % interval +0.8899 to +1.177; paired over 3 seeds).",
        ),
    ],
)
def test_the_sentence_says_what_the_seeds_decide(ours, theirs, figure, sentence):
    assert lab.compare(numbers(a=ours, b=theirs), figure).sentence == sentence


def test_of_several_arms_each_is_told():
    found = lab.compare(numbers(a=[1, 2, 3], b=[1, 2, 4], c=[9, 10, 11.5]), "figs")
    assert found.sentence.count("joint 95 % interval") == 2
    assert "do not decide whether the figs is higher with b" in found.sentence
    assert "higher with c than with a" in found.sentence


# Real runs


def test_runs_are_paired_by_their_seeds(arms):
    found = lab.compare(arms, "test_accuracy")
    assert list(found.values["adam"]) == found.seeds == [0, 1]
    for name, runs in arms.items():
        for run in runs:
            assert found.values[name][run.spec.seed] == run.summary()["test_accuracy"]
    assert found.differences["sgd"].mean < 0
    ids = {name: [run.id for run in runs] for name, runs in arms.items()}
    assert lab.compare(ids, "test_accuracy").values == found.values


def test_a_frame_has_a_line_for_each_arm(arms):
    frame = lab.compare(arms).frame()
    assert list(frame.arm) == ["adam", "sgd"] and list(frame.seeds) == [2, 2]
    assert frame.difference[1] == pytest.approx(frame["mean"][1] - frame["mean"][0])
    assert frame.difference_low[1] < frame.difference[1] < frame.difference_high[1]
    assert math.isnan(frame.difference[0])


def test_a_notebook_shows_the_sentence_the_figure_and_a_table(arms):
    found = lab.compare({"<adam>": arms["adam"], "sgd": arms["sgd"]}, "seconds")
    shown = found._repr_mimebundle_()
    assert shown["text/plain"].startswith(found.sentence)
    assert "&lt;adam&gt;" in shown["text/html"] and "<adam>" not in shown["text/html"]
    assert shown["text/html"].count("<img") == 1 and "alt=" in shown["text/html"] and "<table" in shown["text/html"]
    assert found.sentence in repr(found)


def test_the_figure_draws_seeds_means_and_differences(arms):
    found = lab.compare(arms, "val_accuracy")
    chart = found.figure()
    assert found.sentence in chart.text
    data = chart.figure().data
    assert len(data) == 2 + 1 + 2 + 1  # lines of the seeds, their points, means, differences
    assert data[3].x[0] == pytest.approx(100 * found.means["adam"].mean)
    assert data[5].error_x.array[0] == pytest.approx(
        100 * (found.differences["sgd"].high - found.differences["sgd"].mean)
    )
    assert chart.png().startswith(b"\x89PNG")


@pytest.mark.parametrize("figure", [name for name in FIGURES if not name.startswith("file")])
def test_every_figure_of_a_training_run_is_known(arms, figure):
    assert all(math.isfinite(found.mean) for found in lab.compare(arms, figure).means.values())


@pytest.mark.slow
def test_the_file_of_a_chain_is_compared(home):
    spec = lab.Spec(dataset="digits", model="mlp", epochs=1, strategy="single")
    arms = {"bf16": [], "int8": []}
    for seed in (0, 1):
        parent = lab.launch(spec.replace(seed=seed))
        parent.wait(60)
        for name, runs in arms.items():
            runs.append(lab.compress(parent, [("quantize", name)]))
            assert runs[-1].wait(120) == "done", runs[-1].failure
    found = lab.compare(arms, "file_bytes")
    assert found.differences["int8"].mean < 0
    assert found.values["int8"][0] == (arms["int8"][0].folder / "artifact.lepton").stat().st_size
    assert 0.5 < lab.compare(arms, "file_accuracy").means["int8"].mean <= 1


# What is refused


def refused(arms, figure="val_accuracy"):
    """The sentence that it is refused with."""
    with pytest.raises(LabError) as caught:
        lab.compare(arms, figure)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_one_seed_gives_no_interval(arms):
    for one in ({name: runs[:1] for name, runs in arms.items()}, {name: runs[0] for name, runs in arms.items()}):
        assert refused(one) == "seeds=[1]: from one seed only no interval can be given; add more, such as 2"


def test_seeds_are_checked_before_anything_runs():
    check_seeds([0, 1])
    for seeds, part in (([], "such as 0"), ([7], "such as 8"), ([0, 1, 0], "each must be there once")):
        with pytest.raises(LabError, match=part):
            check_seeds(seeds)


def test_seeds_must_match(arms):
    assert "'sgd' has the seeds 1 and 'adam' 0, 1" in refused({"adam": arms["adam"], "sgd": arms["sgd"][:1]})


def test_runs_that_failed_are_named(arms, trained):
    text = refused({"adam": arms["adam"], "wild": [trained[2]]})
    assert f"{trained[2].id!r} (failed, NonFinite" in text and "'wild'" in text


def test_a_run_that_goes_on_is_named(home, endless):
    run = lab.launch(endless)
    try:
        until(lambda: run.state == "running")
        assert f"{run.id!r} (still running)" in refused({"a": [run], "b": [run]})
    finally:
        run.stop()
        run.wait(60)
    assert f"{run.id!r} (stopped)" in refused({"a": [run], "b": [run]})


def test_the_runs_of_an_arm_differ_in_the_seed_alone(arms):
    mixed = [arms["adam"][0], arms["sgd"][1]]
    assert "differ in optimizer ('adam' and 'sgd')" in refused({"mixed": mixed, "sgd": arms["sgd"]})
    twice = [arms["adam"][0], arms["adam"][0]]
    assert "more than one run with seed=1" in refused({"twice": twice, "sgd": arms["sgd"]})


def test_an_unknown_figure_names_the_nearest(arms):
    assert "did you mean 'val_accuracy'" in refused(arms, "val_acuracy")
    assert "has none" in refused(arms, "file_bytes")


@pytest.mark.parametrize(
    ("arms", "part"),
    [
        ({}, "two ways or more"),
        ({"a": {0: 1, 1: 2}}, "two ways or more"),
        ([1, 2], "two ways or more"),
        ({"a": {0: 1, 1: 2}, "b": []}, "'b' has no runs"),
        ({"a": {0: 1, 1: 2}, "b": [3, 4]}, "'b' holds 3"),
        ({"a": {0: 1, 1: 2}, "b": None}, "'b' holds None"),
        ({"a": {0: 1, 1: 2}, "b": {0: 1, 1: math.nan}}, "seed 1 of 'b' has val_accuracy=nan"),
        ({"a": {0: 1, 1: 2}, "b": {0: 1, 1: "x"}}, "seed 1 of 'b' has val_accuracy='x'"),
        ({"a": {}, "b": {}}, "seeds=[]: from one seed only"),
    ],
)
def test_bad_arms_are_refused_in_one_sentence(arms, part):
    assert part in refused(arms)


def test_an_unknown_run_is_refused(arms):
    assert "nothing-like-it" in refused({"a": ["nothing-like-it"], "b": arms["sgd"]})


# Trends


def test_trends_leave_out_what_diverged():
    values = {"small": {0.01: [1.0, 1.1], 0.1: [0.3, 0.5], 1.0: [math.inf, 0.2]}, "one seed": {0.1: [0.3]}}
    chart = trends("Loss by rate", values, "learning rate", "loss")
    assert list(chart.series) == ["small"] and list(chart.series["small"]) == [0.01, 0.1]
    described = chart.plotly()
    assert described["layout"]["xaxis"]["type"] == "log" and "type" not in described["layout"]["yaxis"]
    assert described["data"][0]["y"] == pytest.approx([1.05, 0.4])
    assert "small: 1.05 at 0.01, 0.4 at 0.1" in chart.text
    assert chart.png().startswith(b"\x89PNG")


def test_on_a_log_scale_intervals_that_hold_zero_leave_the_chart():
    chart = trends("Loss by rate", {"a": {1: [0.1, 0.3], 2: [9.0, 9.1]}}, "rate", "loss")
    assert chart.series["a"][1].low < 0
    described = chart.plotly()
    (error,) = (trace["error_y"] for trace in described["data"])
    assert described["layout"]["yaxis"]["range"] == [pytest.approx(-1), None]
    assert error["arrayminus"][0] == pytest.approx(0.1) and error["array"][0] > 1
    assert chart.png().startswith(b"\x89PNG")


def test_series_of_trends_stand_a_little_apart():
    line = {x: [1.0, 2.0] for x in (1, 2, 3)}
    first, second = trends("Both", {"a": line, "b": line}, "x", "y").plotly()["data"]
    assert all(0 < b - a < 0.1 for a, b in zip(first["x"], second["x"], strict=True))


def test_trends_of_nothing_say_so():
    chart = trends("Loss", {"a": {0.1: [math.nan, math.nan]}}, "rate", "loss")
    assert "no setting has two finite figures" in chart.text

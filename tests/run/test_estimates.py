"""Estimates beside what they estimate: files really written, operators really counted, runs that really compressed."""

import itertools
import json
from itertools import pairwise

import pytest
import torch
from helpers import call, until

import lepton_lab as lab
from benchmarks.latency import fit, keep
from lepton_lab import artifacts
from lepton_lab.artifacts import counting, manifest
from lepton_lab.artifacts.schemes import SCHEMES
from lepton_lab.charts import CHARTS
from lepton_lab.charts.pareto import Pareto, Point, chain_name, front
from lepton_lab.compressors import rehearse
from lepton_lab.files import write_json
from lepton_lab.measures import TRAINED_ON, latency, sizes
from lepton_lab.models import MODELS
from lepton_lab.reports import compressions
from lepton_lab.run.estimates import estimated, measured
from lepton_lab.studies.searching import values

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
SHAPE, CLASSES = (1, 28, 28), [str(i) for i in range(10)]
CHAINS = {"as it is": [], "pruned": [("prune", 0.5)], "thin": [("low_rank", 0.25)]}


def trained(spec):
    run = lab.launch(spec)
    assert run.wait() == "done", run.failure
    return run


def compressed(parent):
    run = lab.compress(parent, [("prune", 0.5), ("quantize", "int8")], epochs=1)
    assert run.wait() == "done", run.failure
    return run


@pytest.fixture
def parent(tiny, once):
    return once(trained, tiny)


@pytest.fixture
def child(parent, once):
    return once(compressed, parent)


def made(name, chain, **options):
    """A module whose weights mean nothing, but none is 0."""
    torch.manual_seed(0)
    module = MODELS[name](SHAPE, 10, 0, **options).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, 0, 0.05)
    if not chain:
        return module
    return rehearse(module, lab.Spec(dataset="digits", model=name, parent="any", compress=chain), SHAPE, 10, 0)


def about():
    return lab.About("any", SHAPE, "uint8", CLASSES, mean=(0.13,), std=(0.31,))


FILES = list(itertools.product(("mnist_cnn", "mlp", "cnn", "transformer"), CHAINS, SCHEMES))
# Every scheme with convolutions, every chain with matrices.
SOON = [
    (name, chain, s)
    for name, chain, s in FILES
    if (name, chain) == ("mnist_cnn", "pruned") or (name, s) == ("mlp", "fp32")
]


@pytest.mark.parametrize(
    ("name", "chain", "scheme"),
    [file if file in SOON else pytest.param(*file, marks=pytest.mark.slow) for file in FILES],
)
def test_bytes_are_within_two_percent_of_the_file(name, chain, scheme, tmp_path):
    module = made(name, CHAINS[chain])
    calibration = about().samples(8) if SCHEMES[scheme].calibrated else None
    file = artifacts.write(tmp_path / "it.lepton", module, about(), scheme, calibration)
    found = latency.work(module, torch.zeros(1, *SHAPE))
    assert sizes.predict(module, about(), scheme, file.runtime, found) == pytest.approx(file.bytes, rel=0.02)


def test_bytes_are_the_same_at_any_time(monkeypatch):
    """The manifest tells when it was written, and digits deflate to one length or another."""
    build, times = manifest.build, iter(f"2026-11-27T11:{i:02}:{7 * i % 60:02}+00:00" for i in range(60))
    monkeypatch.setattr(manifest, "build", lambda *values: {**build(*values), "created": next(times)})
    module = made("mlp", [])
    found = latency.work(module, torch.zeros(1, *SHAPE))
    assert len({sizes.predict(module, about(), "fp32", "onnxruntime", found) for _ in range(60)}) == 1


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("name", ["mnist_cnn", "cnn", "mlp", "transformer"])
def test_multiply_adds_are_those_that_the_meters_count(name, chain):
    module = made(name, CHAINS[chain])
    sample = torch.zeros(1, *SHAPE)
    assert latency.work(module, sample).multiply_adds == counting.multiply_adds(module, sample)


def test_multiply_adds_of_a_transposed_convolution_too():
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3, 2, 1), torch.nn.ConvTranspose2d(8, 6, 4, 2, groups=2)).eval()
    sample = torch.zeros(1, *SHAPE)
    assert latency.work(module, sample).multiply_adds == counting.multiply_adds(module, sample)


def test_the_law_finds_the_constants_that_made_its_data():
    truth = [1e-5, 0, 2e-6, 0, 0, 1e-11, 2e-11, 3e-11, 0, 0, 1e-9, 0, 0]
    rows = []
    for name in ("mnist_cnn", "mlp", "cnn", "transformer"):
        for chain in CHAINS.values():
            found = latency.work(made(name, chain), torch.zeros(1, *SHAPE))
            for batch in (1, 64):
                features = found.features(batch)
                rows.append((features, sum(c * f for c, f in zip(truth, features, strict=True))))
    constants = fit(rows)
    for features, seconds in rows:
        assert sum(c * f for c, f in zip(constants, features, strict=True)) == pytest.approx(seconds, rel=1e-3)


def test_constants_of_this_machine_take_the_place_of_ours(home):
    found = latency.work(made("mlp", []), torch.zeros(1, *SHAPE))
    before = latency.predict(found, "fp32", "onnxruntime", 64)
    assert before > 0 and latency.place().startswith("Intel")
    keep("here", {"fp32 onnxruntime": [1.0] + [0.0] * (len(latency.NAMES) - 1)})
    assert latency.predict(found, "fp32", "onnxruntime", 64) == 1.0 and latency.place() == "here"


def test_what_a_run_makes_equals_its_estimate(parent, child):
    chain = [("prune", 0.5), ("quantize", "int8")]
    lab.estimate(parent, chain)
    guess = lab.estimate(parent.id, chain)
    told = measured(child)["artifact"]
    assert guess.parameters == told["parameters"] < guess.dense.parameters
    assert guess.multiply_adds == told["multiply_adds"]
    assert guess.bytes == pytest.approx(told["bytes"], rel=0.02)
    errors = guess.errors(told)
    assert errors["parameters"] == 0 and abs(errors["bytes"]) <= 0.02 and set(errors) >= {"latency 1", "latency 64"}
    assert estimated(child).figures() == guess.figures()
    assert guess.to_dict()["dense"]["parameters"] == guess.dense.parameters
    assert "prediction" in str(guess) and "prediction" in guess._repr_html_()


def test_an_estimate_refuses_what_compress_refuses(parent):
    for chain, said in (
        ([("prune", 1.5)], "ratio"),
        ([("quantize", "int8"), ("prune", 0.5)], "quantize must be the last link"),
        ([("prune", {"ratios": {"nowhere": 0.5}})], "nowhere"),
        ("prun", "prune"),
    ):
        with pytest.raises(lab.SpecError, match=said):
            lab.estimate(parent, chain)
    with pytest.raises(lab.LabError, match="does not exist"):
        lab.estimate("nobody", [("prune", 0.5)])


def test_a_report_tells_estimate_beside_measured(child, parent):
    section = compressions([parent, child])
    for words in ("error of the estimate", "prune 0.5, quantize int8", "accuracy of the control", "multiply-adds"):
        assert words in section.text and words in section.html
    assert compressions([parent]).text == ""


def test_peers_are_told_and_the_fastest_is_marked(child):
    told = measured(child)
    slower = dict(told["artifact"], name="dense, eager", peers=[])
    slower["latency"] = {b: {**t, "median": t["median"] * 3} for b, t in told["artifact"]["latency"].items()}
    told["artifact"]["peers"] = [slower]
    write_json(child.folder / "measures.json", told)
    text = compressions([child]).text
    assert "3.00x the fastest peer" in text and "(fastest peer)" in text


def test_pareto_joins_seeds_and_says_the_command(child):
    chart = CHARTS["pareto"]([child])
    assert isinstance(chart, Pareto)
    dense, control, point = chart.points
    assert dense.name == "as trained" and "on for as long" in control.name and point.name == "prune 0.5, quantize int8"
    assert point.command == child.command
    hover = " ".join(trace.get("hovertemplate", "") for trace in chart.plotly()["data"])
    assert "lepton-lab run --model mlp" in hover and f"parent={child.spec.parent}" in hover.replace(" ", "=")
    assert chart.png().startswith(b"\x89PNG") and chart.figure().data and "accuracy" in chart.text
    assert "no run here" in CHARTS["pareto"]([]).text


@pytest.mark.slow  # six runs
def test_pareto_keeps_models_apart(child, tiny):
    other = lab.launch(tiny.replace(options={"hidden": 16}, seed=1))
    seed = lab.launch(tiny.replace(seed=1))
    assert other.wait() == seed.wait() == "done"
    runs = [child]
    for parent, ratio in ((other, 0.5), (seed, 0.5), (seed, 0.25)):
        runs.append(lab.compress(parent, [("prune", ratio), ("quantize", "int8")], epochs=1))
        assert runs[-1].wait() == "done"
    points = CHARTS["pareto"](runs).points
    assert len({point.name for point in points}) == len(points) == 7
    counts = [len(point.accuracy) for point in points]
    assert sorted(counts[:2]) == sorted(counts[2:4]) == [1, 2] and sorted(counts[4:]) == [1, 1, 2]


def test_pareto_s_line_joins_what_nothing_beats():
    assert front([(3, 0.9), (1, 0.5), (2, 0.4), (4, 0.95), (4, 0.8)]) == [(1, 0.5), (3, 0.9), (4, 0.95)]
    seeds = Point("one", "it", (0.9, 0.8), ((1.0, 3.0), (1.0, 1.0), ()))
    data = Pareto("title", "text", (seeds,)).plotly()["data"]
    (trace,) = [t for t in data if t["mode"] == "markers" and t["xaxis"] == "x"]
    assert trace["x"] == [2.0] and trace["error_y"]["array"][0] == pytest.approx(0.0707, abs=1e-4)
    assert chain_name([{"prune": {"ratio": 0.5, "rounds": 2}}, {"distill": {}}]) == "prune 0.5 (rounds=2), distill"


@pytest.mark.parametrize("high", [0.0205, 0.05, 0.15, 0.3, 4.0])
def test_pareto_s_ticks_have_room(high):
    points = tuple(Point(f"at {x}", "it", (0.9,), ((x,),) * 3) for x in (0.0168, high))
    for axes in Pareto("title", "text", points)._drawn(100).figure.axes:
        low, high = axes.get_xlim()
        ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        boxes = [label.get_window_extent() for at, label in ticks if low <= at <= high]
        assert len(boxes) > 1 and all(a.x1 + 3 < b.x0 for a, b in pairwise(boxes)), boxes


def test_sensitivity_compresses_one_layer_at_a_time(parent):
    found = lab.sensitivity(parent, ratios=(0.25, 0.9), samples=100)
    (layer,) = found.pruned
    assert set(found.pruned[layer]) == {0.25, 0.9} and found.samples == 100
    assert found.pruned[layer][0.9] <= found.whole + 0.05
    assert set(found.rounded) == {"1", "4"} and found.left  # the layer of the answers can't be pruned
    assert found.ratios(drop=1.0) == {layer: 0.9} and found.worst(drop=1.0) == []
    assert lab.estimate(parent, [("prune", {"ratios": found.ratios(1.0)})]).parameters < found_parameters(parent)
    chart = found.figure()
    assert layer in chart.text and chart.png().startswith(b"\x89PNG") and chart.figure().data
    for values_, said in (
        ({"ratios": (1.0,)}, r"^ratios=\[1.0\]: must be a list of fractions"),
        ({"ratios": 0.5}, "^ratios=0.5: must be a list of fractions"),
        ({"ratios": ["a"]}, "^ratios=.* each between 0 and 1$"),
        ({"importance": "taylor"}, "importance"),
        ({"samples": 0}, "^samples=0: must be a whole number, at least 1"),
        ({"samples": 2.5}, "^samples=2.5: must be a whole number"),
    ):
        with pytest.raises(lab.SpecError, match=said):
            lab.sensitivity(parent, **values_)
    for ask in (found.worst, found.ratios):
        for drop in ("a", None, True, -1):
            with pytest.raises(lab.SpecError, match=f"^drop={drop!r}: must be from 0 to 1"):
                ask(drop)
    for batches, said in ((0, "batches=0: must be a list"), ((), r"batches=\(\): must be a"), (["a"], "batches='a'")):
        with pytest.raises(lab.SpecError, match=f"^{said}"):
            lab.estimate(parent, batches=batches)


def test_sensitivity_tells_what_a_model_s_code_can_t_do_without(tiny):
    class Fixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = torch.nn.Linear(64, 32), torch.nn.Linear(32, 16), torch.nn.Linear(16, 10)

        def forward(self, x):
            return self.c(self.b(self.a(x.flatten(1)).view(-1, 32).relu()).relu())

    # Options of its strategy are in nobody's way who looks at its samples.
    run = lab.launch(tiny.replace(strategy="local_sgd", options={"every": 2}), model=Fixed)
    assert run.wait() == "done"
    found = lab.sensitivity(run, ratios=(0.5,), int8=False)
    assert set(found.pruned) == {"b"} and "can't do without" in found.left["a"]


def found_parameters(run):
    return sum(p.numel() for p in run.model().parameters())


def test_a_search_finds_what_meets_its_budget(parent):
    dense = lab.estimate(parent)
    found = lab.search(parent, {"bytes": dense.bytes / 3, "accuracy_drop": 0.5}, trials=2, seed=1, epochs=1)
    found.wait(240)
    assert not found.going and found.failure is None, found.failure
    assert found.best is not None, found.verdict
    assert found.best.values["bytes"] <= dense.bytes / 3 and "meets the budget" in found.verdict
    assert found.runs == [trial.run for trial in found.trials] and all(run.state == "done" for run in found.runs)
    assert "meets it" in found._repr_mimebundle_()["text/plain"]


@pytest.mark.slow
def test_a_search_tries_links_whose_latency_has_no_law(parent):
    """They are measured."""
    limits = {"bytes": lab.estimate(parent, ["share"]).bytes, "latency": 1.0}
    found = lab.search(parent, limits, trials=3, links=("share",), epochs=1).wait(120)
    assert not found.failure and found.trials
    assert all("share" in trial.chain[0] and trial.values["latency"] < 1.0 for trial in found.trials)


@pytest.mark.slow
def test_a_search_says_that_nothing_meets_its_budget(parent):
    found = lab.search(parent, {"bytes": 100}, trials=1).wait(120)
    assert found.best is None and not found.trials and found.skipped
    assert found.verdict.startswith("Nothing found meets the budget")
    assert call("search", "--bytes", 100, "--trials", 1, code=1)[0] == f"{found.verdict}\n"


def test_the_terminal_estimates_and_searches_as_python_does(parent):
    found = lab.estimate(parent, [("prune", 0.5), "quantize"], epochs=3)
    words = ("prune:0.5", "quantize", "--epochs", 3)
    told = call("estimate", *words, "--parent", parent.id[:-1])[0]
    assert told.split() == str(found).split()
    assert json.loads(call("estimate", *words, "--json")[0]) == found.to_dict()
    assert "did you mean 'prune'" in call("estimate", "prun", code=2)[1]
    limits = ("--bytes", lab.estimate(parent).bytes / 2, "--accuracy-drop", 0.5)
    out, err = call("search", *limits, "--trials", 1, "--epochs", 1, "--json")
    told = json.loads(out)
    (trial,) = told["trials"]
    assert told["best"] == trial["id"] == lab.attach().id and "meets the budget" in told["verdict"]
    assert lab.attach().spec.epochs == 1 and trial["bytes"] <= limits[1]
    assert err.startswith("1 of 1: ") and trial["id"] in err
    assert "must hold at least one of bytes" in call("search", code=2)[1]


def test_a_search_that_is_stopped_starts_no_other(parent):
    found = lab.search(parent, {"accuracy_drop": 0.0}, trials=20, epochs=100_000, links=("prune",))
    until(lambda: found.runs and found.runs[0].state == "running")
    found.stop()
    found.wait(60)
    assert not found.going and len(found.runs) == 1


def test_budgets_that_are_none_are_refused(parent):
    for budget, said in (
        ({}, "at least one"),
        ({"byte": 1}, "bytes"),
        ({"bytes": -1}, "above 0"),
        ({"bytes": "x"}, "must be a number above 0"),
        ({"accuracy_drop": 5}, "must be a number from 0 to 1"),
    ):
        with pytest.raises(lab.SpecError, match=said):
            lab.search(parent, budget)
    with pytest.raises(lab.SpecError, match="trials"):
        lab.search(parent, {"bytes": 1}, trials=0)
    with pytest.raises(lab.SpecError, match="links"):
        lab.search(parent, {"bytes": 1}, links=("prun",))
    for arguments, said in (
        ({"epochs": 0}, "^epochs=0"),
        ({"strategy": "pipeline"}, "pipeline"),
        ({"seed": "a"}, "seed"),
    ):
        with pytest.raises(lab.SpecError, match=said):
            lab.search(parent, {"bytes": 1e9}, **arguments)  # each chain would be refused


def test_a_regression_has_no_accuracy_to_lose(tiny):
    x = torch.randn(64, 4)
    run = lab.launch(tiny, data=((x, x[:, :1]), (x, x[:, :1])))
    assert run.wait() == "done", run.failure
    with pytest.raises(lab.SpecError, match="is a regression"):
        lab.search(run, {"accuracy_drop": 0.1})


def test_what_a_budget_limits_is_read_from_what_was_measured():
    told = {
        "artifact": {"bytes": 10, "accuracy": 0.9, "latency": {"1": {"median": 1e-3}, "64": {"median": 2e-3}}},
        "dense": {"accuracy": 0.93},
        "control": {"test": {"accuracy": 0.95}},
    }
    found = values(told)
    assert found.pop("accuracy_drop") == found.pop("quality_drop") == pytest.approx(0.05)
    assert found == {"bytes": 10.0, "latency": 2e-3, "latency_1": 1e-3}
    told["artifact"] |= {"metric": "perplexity", "figures": {"perplexity": 7.5}}
    told["control"]["test"] = {"perplexity": 6.0}
    assert values(told)["quality_drop"] == 1.5
    # What the control has on the same samples, batches and draws as the file comes before its own evaluation.
    told["artifact"]["peers"] = [{"name": "dense, eager"}, {"name": TRAINED_ON, "figures": {"perplexity": 7.0}}]
    assert values(told)["quality_drop"] == 0.5


def test_what_can_t_be_told_of_a_run_meets_no_budget(tiny):
    x = torch.randn(8, 4)  # too few to hold some out
    run = lab.launch(tiny.replace(batch_size=4), data=(x, torch.arange(8) % 2))
    assert run.wait() == "done", run.failure
    found = lab.search(run, {"quality_drop": 0.1}, trials=1, links=("quantize",), epochs=1).wait(120)
    assert found.failure is None and found.best is None and len(found.runs) == 1
    assert found.verdict.startswith("Nothing found meets the budget: quality_drop is not known")
    assert found.rows()[0][-1].startswith("quality_drop is not known")

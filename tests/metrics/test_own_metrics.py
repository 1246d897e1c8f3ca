"""A metric of one's own: counted on whole splits, the same for any world, and known to every view."""

import pytest
import torch
from click.testing import CliRunner
from lepton_widgets.live import Live

import lepton_lab as lab
from lepton_lab.charts import chart
from lepton_lab.cli import main
from lepton_lab.errors import SpecError
from lepton_lab.metrics.own import members

SAMPLES = 49  # in batches of 16: of the last, a single sample, two of three ranks have nothing


def gap(output, target):
    """Depends on the order of samples and on all of them, so that no sum over batches could be it."""
    assert output.shape == (SAMPLES, 3) and output.device.type == "cpu" and target.dtype == torch.int64
    right = output.gather(1, target[:, None])[:, 0]
    return (right.median() + right[7] - right[SAMPLES - 1]).abs()


gap.higher, gap.form, gap.title = False, ".3f", "Gap"


class Zeros(lab.Metric):
    """Sums: how many targets are the first class."""

    title = short = axis = "Zeros"

    def update(self, output, target):
        return torch.stack([(target == 0).sum(), torch.tensor(len(target))]).double()

    def finish(self, sums):
        return (sums[0] / sums[1]).item()


def data():
    torch.manual_seed(0)
    x, y = torch.randn(3, SAMPLES, 2**14), torch.randint(3, (3, SAMPLES))
    return tuple(zip(x, y, strict=True))


def launched(own, world=1, **fields):
    torch.manual_seed(0)
    model = torch.nn.Linear(2**14, 3)
    spec = lab.Spec(epochs=1, batch_size=16, strategy="ddp", world=world, lr=1e-4, **fields)
    return lab.launch(spec, model=model, data=data(), metrics=own)


def test_the_same_for_any_world_and_known_to_every_view(monkeypatch, tmp_path):
    from sklearn.metrics import roc_auc_score

    monkeypatch.setenv("LEPTON_LAB_MAX_WORKERS", "3")
    own = {"gap": gap, "zeros": Zeros}
    runs = [launched(own, world, metrics=["roc_auc"]) for world in (1, 3)]
    for run in runs:
        assert run.wait(120) == "done", run.failure
    for name in ("gap", "zeros", "roc_auc"):
        figures = [[row[name] for row in run.rows("eval") if row["split"] != "train"] for run in runs]
        assert figures[1] == pytest.approx(figures[0], abs=1e-5)
    run, (x, y) = runs[1], data()[2]
    with torch.no_grad():
        scores = run.model()(x)
    summary = run.summary()
    assert summary["test_gap"] == pytest.approx(gap(scores, y).item(), abs=1e-5)
    assert summary["test_zeros"] == (y == 0).double().mean().item()
    area = roc_auc_score(y, scores.softmax(1), multi_class="ovr")
    assert summary["test_roc_auc"] == pytest.approx(area, abs=1e-6)
    assert list(run.metrics) == ["loss", "accuracy", "roc_auc", "gap", "zeros"] and not run.metrics["gap"].higher
    shown(run, summary, tmp_path)


def shown(run, summary, folder):
    """The metric is where any other is."""
    assert run.frame("eval")["gap"].iloc[-1] == summary["test_gap"] and lab.table(run)["val_gap"].notna().all()
    picture = chart("gap", [run])
    assert "Gap by optimizer step" in picture.text and "validation" in picture.text
    page = lab.report(run, folder / "report.html").read_text()
    assert "validation gap" in page and "--figure gap" in page and "--figure roc_auc" in page
    output = CliRunner().invoke(main, ["show", run.id]).output
    assert "validation gap" in output and "test ROC AUC" in output
    assert "test gap" in CliRunner().invoke(main, ["list"], env={"COLUMNS": "300"}).output
    live = Live(run)
    state, still = live.get_state(), live.still(picture=False)
    live.close()
    drawn = {metric["name"]: metric["higher"] for metric in state["metrics"]["drawn"]}
    assert drawn == {"loss": False, "accuracy": True, "roc_auc": True, "gap": False, "zeros": True}
    assert b'"gap","val"' in bytes(state["snapshot"]) and f"{summary['val_gap']:.3f}" in still["text/html"]


def test_one_that_can_t_be_found_ends_the_run_before_its_first_step():
    def broken(output, target):
        raise ValueError("nothing here")

    run = launched({"broken": broken})
    assert run.wait(60) == "failed" and run.summary()["step"] == 0
    assert str(run.failure.message) == "metrics: 'broken' has no figure of the val set: ValueError: nothing here"


def test_what_is_no_number_is_refused_with_the_remedy():
    metric = members({"wide": lambda output, target: output[:, 0], "words": lambda output, target: "good"})
    for name, said in (
        ("wide", r"a Tensor of shape \(4,\), and .* one number; take its mean"),
        ("words", "a str, and"),
    ):
        own = metric[name](None, None)
        with pytest.raises(SpecError, match=f"^it gives {said}"):
            own.finish(own.update(torch.rand(4, 2), torch.zeros(4)))


def test_one_that_raises_later_is_told_and_the_run_goes_on():
    def brittle(output, target):
        if len(output) < SAMPLES:
            raise ValueError("too few")  # of the first batch, which therefore does not decide
        return [0.5][int(output[0, 0] == target[0])] if not hits.append(1) and len(hits) < 3 else {}["gone"]

    hits = []
    run = launched({"brittle": brittle})
    assert run.wait(60) == "done", run.failure
    rows = {row["split"]: row for row in run.rows("eval")}
    assert rows["val"]["brittle"] == 0.5 and rows["test"]["brittle"] is None
    assert run.rows("note")[-1]["text"] == "brittle of the test set has no figure: KeyError: 'gone'"


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ([gap], "must be functions by name"),
        ({"f1": gap}, "'f1' is one of the table's"),
        ({"samples": gap}, "'samples' must be a word of its own"),
        ({"my gap": gap}, "'my gap' must be a word of its own"),
        ({"gap": lambda output: 1.0}, "can't be called with (output, target)"),
        ({"gap": 3}, "'gap' is 3"),
        ({"gap": torch.nn.Linear}, "no subclass of lab.Metric"),
    ],
)
def test_what_is_no_metric_is_refused(metrics, words):
    with pytest.raises(SpecError) as refused:
        launched(metrics)
    assert words in str(refused.value)


def test_a_look_that_no_view_can_take_is_refused():
    def odd(output, target):
        return 0.0

    odd.form = "q"
    with pytest.raises(SpecError, match="formats no number"):
        launched({"odd": odd})


def test_a_metric_without_a_meaning_is_refused_before_anything_starts():
    x = torch.randn(60, 2)
    with pytest.raises(SpecError, match="'roc_auc' needs scores of classes or .*and those of this run are numbers"):
        lab.launch(lab.Spec(metrics=["roc_auc"]), model=torch.nn.Linear(2, 1), data=(x, x[:, :1]))
    with pytest.raises(SpecError, match="'perplexity' needs scores of tokens"):
        lab.launch(lab.Spec(metrics=["perplexity"]))


def test_lists_of_samples_are_given_as_lists():
    from lepton_lab.metrics.own import members

    def count(output, target):
        assert isinstance(output, list) and output[0]["boxes"].shape == (2, 4) and target[1] == {"labels": [3]}
        return len(output)

    metric = members({"count": count})["count"].of(None, None)
    answers = [{"boxes": torch.zeros(2, 4)}, {"boxes": torch.zeros(0, 4)}], [{"labels": [1, 2]}, {"labels": [3]}]
    assert metric.over([answers, answers]) == 4


class OnOneRank(Zeros):
    """Found where it is not asked for alone: another rank's outputs tell nothing."""

    def update(self, output, target):
        return super().update(output, target) if torch.distributed.get_rank() == 0 else None


def test_one_that_a_rank_can_t_find_is_no_figure_of_any():
    run = launched({"odd": OnOneRank, "zeros": Zeros}, world=2)
    assert run.wait(90) == "failed"
    assert "metrics: 'odd' has no figure" in run.failure.message

"""Metrics: what each counts adds up, nothing else spells their names, and another one is two edits."""

import ast
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import ROOT
from torch.nn import functional

from lepton_lab import metrics
from lepton_lab.datasets import from_user
from lepton_lab.metrics import METRICS, SPLITS
from lepton_lab.objectives import Criterion
from lepton_lab.spec import Spec

PARTS = {
    "lepton_lab/charts/samples.py",
    "lepton_lab/engine/baseline.py",
    "lepton_lab/engine/gallery.py",
    "lepton_lab/launchers/rank.py",
    "lepton_lab/measures/candidates.py",
    "lepton_lab/reports/predictions.py",
    "lepton_lab/run/checks/compressing.py",
    "lepton_lab/run/predictions.py",
    "lepton_lab/tasks/keywords.py",
    "lepton_lab/store/shipping.py",
    "lepton_lab/studies/sensitivity.py",
    "widgets/lepton_widgets/advisor.py",
    "widgets/lepton_widgets/workbench.py",
}
"""Where `loss` is the name of what a user gives to `launch`, beside model and data, or of what one sample has."""
EXAMPLES = {
    "lepton_lab/watched.py": {"loss", "val_loss"},
    "widgets/lepton_widgets/form.py": {"val_accuracy"},
}
"""Where figures are defaults or examples of what a field takes."""


def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 3, generator=generator)
    return from_user(((x, (x.sum(1) > 0).long()),) * 3, 0)


@pytest.mark.parametrize("name", [name for name, member in METRICS.items() if member.usual])
def test_what_is_counted_adds_up(name):
    given = data()
    metric = METRICS[name].of(given, Criterion(functional.cross_entropy, given))
    x, y = given.test
    output = torch.stack([-x.sum(1), x.sum(1) - 1], 1)
    if metric is None or (whole := metric.update(output, y)) is None:
        assert name == "bits_per_byte"  # of texts, where it follows from the loss
        return
    parts = metric.update(output[:7], y[:7]) + metric.update(output[7:], y[7:])
    assert whole.dtype == torch.float64 and whole.dim() == 1 and torch.allclose(whole, parts)
    figure = metric.finish(whole)
    right = (output.argmax(1) == y).float().mean().item()
    expected = {"loss": functional.cross_entropy(output, y).item(), "accuracy": right}
    if METRICS[name].curve:
        assert math.isclose(figure, expected[name], rel_tol=1e-6)
        assert METRICS[name].title and METRICS[name].axis and METRICS[name].text(figure)
    else:
        assert sum(map(sum, figure)) == 60 and (figure[0][0] + figure[1][1]) / 60 == pytest.approx(right)


def names():
    own = set(METRICS) - set(Spec.model_fields)  # precision is one of these, too
    return own | {f"{split}_{name}" for split in SPLITS for name in METRICS}


def words(node):
    """Texts in a piece of code, without those of a task's `metrics = ...`, which says what is counted unasked."""
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "metrics":
        return set()
    own = {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()
    return own.union(*map(words, ast.iter_child_nodes(node)))


def spelled():
    """Files, and the names of metrics in them."""
    for path in (*ROOT.glob("lepton_lab/**/*.py"), *ROOT.glob("widgets/**/*.py")):
        if path.parent.name != "metrics":
            yield path, words(ast.parse(path.read_text())) & names()
    for path in ROOT.glob("widgets/lepton_widgets/static/*.js"):
        code = re.sub(r"(^|\s)//.*", "", path.read_text())
        yield path, set(re.findall(rf"[\"'`.]({'|'.join(names())})\b", code))


def test_no_other_file_spells_the_name_of_a_metric():
    for path, found in spelled():
        allowed = {"loss"} if (name := path.relative_to(ROOT).as_posix()) in PARTS else EXAMPLES.get(name, set())
        assert found <= allowed, path
    assert all((ROOT / part).exists() for part in PARTS)


AUC = '''
import torch

from .base import Metric

BINS = 4096


class AUC(Metric):
    """The area under the ROC curve of two classes, from scores in bins."""

    title = "AUC"
    short = "auc"
    axis = "area under the ROC curve"
    highest = 1.0
    splits = ("val", "test")

    @classmethod
    def of(cls, data, criterion, **options):
        return cls(data, criterion) if len(data.classes) == 2 else None

    def update(self, output, target):
        bins = (output.softmax(1)[:, 1] * (BINS - 1)).long() + BINS * target
        counts = torch.zeros(2 * BINS, dtype=torch.float64, device=output.device)
        return counts.index_add_(0, bins, counts.new_ones(len(bins)))

    def finish(self, sums):
        negatives, positives = sums.view(2, -1)
        below = negatives.cumsum(0) - negatives / 2
        return ((positives * below).sum() / (positives.sum() * negatives.sum())).item()
'''
SCRIPT = """
import json
import torch
from click.testing import CliRunner
import lepton_lab as lab
from lepton_lab.charts import chart
from lepton_lab.cli import main

from lepton_widgets.live import Live

x = torch.randn(240, 2, generator=torch.Generator().manual_seed(0))
y = (x.sum(1) + torch.randn(240, generator=torch.Generator().manual_seed(1)) > 0).long()
data = (x[:80], y[:80]), (x[80:160], y[80:160]), (x[160:], y[160:])
spec = lab.Spec(epochs=2, batch_size=16, strategy="ddp", world=2, metrics=["auc"])
run = lab.launch(spec, model=torch.nn.Linear(2, 2), data=data)
assert run.wait(120) == "done", run.failure
with torch.no_grad():
    scores = run.model()(x[160:])
scores = scores[:, 1] - scores[:, 0]
pairs = scores[y[160:] == 1][:, None] - scores[y[160:] == 0]
live = Live(run)
state = live.get_state()
live.close()
found = {
    "area": (pairs > 0).float().mean().item(),
    "rows": {row["split"]: row.get("auc") for row in run.rows("eval")},
    "summary": run.summary(),
    "chart": chart("auc", [run]).text,
    "report": lab.report(run, "report.html").read_text(),
    "list": CliRunner().invoke(main, ["list"]).output,
    "drawn": [metric["name"] for metric in state["metrics"]["drawn"]],
    "figures": state["header"]["runs"][0]["figures"],
    "block": b'"auc","val"' in bytes(state["snapshot"]),
}
print(json.dumps(found))
"""


@pytest.mark.slow
def test_another_metric_is_two_edits(tmp_path):
    for folder in ("lepton_lab", "widgets/lepton_widgets"):
        shutil.copytree(ROOT / folder, tmp_path / Path(folder).name, ignore=shutil.ignore_patterns("__pycache__"))
    room = tmp_path / "lepton_lab" / "metrics"
    (room / "auc.py").write_text(AUC)
    text = (room / "__init__.py").read_text()
    text = text.replace("from .base import KINDS", "from .auc import AUC\nfrom .base import KINDS")
    (room / "__init__.py").write_text(
        text.replace('    "accuracy": Accuracy,\n', '    "accuracy": Accuracy,\n    "auc": AUC,\n')
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    area = found["rows"]["test"]
    assert found["rows"]["train"] is None and area == pytest.approx(found["area"], abs=2e-3) and 0 < area < 1
    assert found["summary"]["test_auc"] == area and found["summary"]["val_auc"] == found["rows"]["val"]
    assert "AUC by optimizer step" in found["chart"] and "validation" in found["chart"]
    assert "test AUC" in found["report"] and "--figure auc" in found["report"]
    assert "test auc" in found["list"] and f"{area:.4f}" in found["list"]
    assert found["drawn"] == ["loss", "accuracy", "auc"] and found["figures"]["test_auc"] == area and found["block"]


def test_views_have_one_main_metric():
    assert metrics.main() == "accuracy" and metrics.judges() == ["accuracy", "loss"]
    listed = [key for key, figure in metrics.summarised().items() if not figure.averaged]
    assert listed == ["loss", "accuracy", "val_loss", "val_accuracy", "test_accuracy"]

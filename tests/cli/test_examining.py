"""lepton-lab quality and labels, as a person types them."""

import json

from helpers import call


def test_quality_says_whether_data_are_ready(tmp_path):
    told, _ = call("quality", "--dataset", "digits", "--out", tmp_path / "quality.html")
    assert "digits is ready" in told and "✓ duplicates" in told
    assert "digits is ready" in (tmp_path / "quality.html").read_text()
    kept = json.loads(call("quality", "--dataset", "digits", "--json")[0])
    assert kept["ready"] and {check["verdict"] for check in kept["checks"]} <= {"good", "look", "not looked at"}


def test_label_errors_are_listed_and_decided_in_a_file(tmp_path):
    words = ["--dataset", "digits", "--model", "mlp", "--epochs", 6, "--lr", "3e-3", "--folds", 2]
    out = tmp_path / "decisions.json"
    told, _ = call("labels", *words, "--out", out, "--action", "drop")
    assert "training labels are wrong (an estimate)" in told and "suggested" in told
    decisions = json.loads(out.read_text())
    assert {one["action"] for one in decisions["each"]} == {"drop"} and decisions["dataset"] == "digits"
    assert "must be one of keep, relabel, drop" in call("labels", *words, "--action", "burn", code=2)[1]

"""Applications: each runs in its tiny profile on what is embedded or made, without a network; in smoke on real data."""

import ast

import pytest
from helpers import ROOT, execute

import lepton_lab as lab
from benchmarks import applications
from lepton_lab.datasets import WEIGHTS

BOOKS = sorted((ROOT / "notebooks" / "applications").glob("*.ipynb"))
NOWHERE = "http://127.0.0.1:9"  # a port that nobody listens at


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """No data, and a network in which nothing answers."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("LEPTON_LAB_DATA", str(tmp_path / "data"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, NOWHERE)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("LEPTON_LAB_PROFILE", "tiny")
    return tmp_path


def told(outputs):
    return "".join("".join(output.get("data", {}).get("text/plain", output.get("text", ""))) for output in outputs)


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_an_application_runs_with_nothing_but_the_library(path, alone):
    outputs = execute(path, alone)
    assert {run.state for run in lab.runs()} <= {"done", "stopped"}
    assert any("image/png" in output.get("data", {}) for output in outputs), "no picture"
    assert "lepton-lab data get" in told(outputs), "what is missing is not said"
    assert [*(alone / "data").iterdir()] == [], "something was downloaded"


@pytest.mark.slow  # full sizes are the limits' test
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_an_application_runs_on_what_data_there_are(path, tmp_path, monkeypatch):
    monkeypatch.setenv("LEPTON_LAB_PROFILE", "smoke")
    execute(path, tmp_path)
    assert {run.state for run in lab.runs()} <= {"done", "stopped"}


def test_what_is_not_here_is_named_with_the_command_that_brings_it(alone, capsys, monkeypatch):
    found = lab.available({"sst2": "made reviews", "minilm": "no third bar", "tokenizers": "words"})
    lines = capsys.readouterr().out.splitlines()
    assert found == {"tokenizers"} and len(lines) == 2
    assert lines[0].startswith("sst2 is not here (`lepton-lab data get sst2` brings it, ")
    assert lines[0].endswith("): made reviews.") and "minilm is not here" in lines[1]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert lab.available({"tokenizers": "words", "digits": "nothing, since they are always here"}) == {"digits"}
    assert "`pip install 'lepton-lab[nlp]'` brings it): words" in capsys.readouterr().out
    with pytest.raises(lab.SpecError, match="'sst3'.*did you mean 'sst2'"):
        lab.available({"sst3": "nothing"})


def test_what_takes_more_memory_than_there_is_counts_as_not_here(alone, capsys, monkeypatch):
    monkeypatch.setenv("MEM_LIMIT", "2000000000")
    asked = {"digits": "small numbers", "sst2": "made reviews"}
    assert lab.available(asked, memory={"digits": 2.5, "sst2": 2.5}) == set()
    told = capsys.readouterr().out
    assert (
        told.splitlines()[0] == "digits is left out (it takes 2.5 GB of memory, and there are 2.0 here): small numbers."
    )
    assert told.count("sst2") == 1 and "get sst2" not in told  # it would be brought for nothing
    assert lab.available(asked, memory={"digits": 2.0}) == {"digits"}
    with pytest.raises(lab.SpecError, match="memory: 'digit': .*did you mean 'digits'"):
        lab.available(asked, memory={"digit": 2.5})
    for wrong in (["digits"], 4, {"digits": "4"}, {"digits": None}, {"digits": float("nan")}, {"digits": -1}):
        with pytest.raises(lab.SpecError, match="^memory.*: must be a (dict|number)"):
            lab.available(asked, memory=wrong)
    monkeypatch.setenv("MEM_LIMIT", "0")  # of a hub that sets none
    assert lab.available(asked, memory={"digits": 1e-3}) == {"digits"}


def test_what_is_here_is_not_talked_about(alone, capsys):
    folder = alone / "data" / WEIGHTS["smollm2"].folder
    folder.mkdir(parents=True)
    for file in WEIGHTS["smollm2"].files():
        (folder / file).touch()
    assert lab.available({"smollm2": "nothing is written"}) == {"smollm2"} and capsys.readouterr().out == ""


def names(code, context):
    """Variables that code reads, or that it leaves, imports and functions among these."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Name):
            found |= {node.id} if isinstance(node.ctx, (context, ast.Store)) else set()
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.alias):
            found.add(node.asname or node.name)
    return found


def test_claims_are_measured_over_seeds_and_an_interruption_loses_none(tmp_path, monkeypatch):
    assert {path.stem for path in BOOKS} == set(applications.NEEDS) == set(applications.CLAIMS)
    measured, broken = [], []

    def run(path, asked, parameters, quick):
        if parameters["seed"] == 4 and not broken:
            broken.append(path)
            raise KeyboardInterrupt
        left = names("\n".join(applications.sources(path)), ast.Store) | {"sum"}
        for what, expression in asked.items():
            assert names(expression, ast.Load) <= left, f"{path.name} leaves nothing for {what!r}"
        measured.append((path.stem, parameters["seed"]))
        return {**dict.fromkeys(asked, 100.0 * parameters["seed"]), "seconds": 1.0}

    monkeypatch.setattr(applications, "KEPT", tmp_path)
    monkeypatch.setattr(applications, "run", run)
    monkeypatch.setattr(lab, "available", set)  # all is here
    with pytest.raises(KeyboardInterrupt):
        applications.measure(quick=False)
    assert len(broken) == 1
    rows = {row.what: row for row in applications.measure(quick=False)}
    assert len(measured) == 5 * len(BOOKS) == len(set(measured)), "one was measured twice"
    assert rows["sentiment: from scratch"].cells()[1:] == ("200 (0 to 400) %", "", "", ">= 77 %", "yes")
    assert rows["rows of words by CTC: word errors"].cells()[4:] == ("<= 4 %", "NO")
    assert rows["vision: the notebook, on all cores"].ours == [1.0], "others share them"

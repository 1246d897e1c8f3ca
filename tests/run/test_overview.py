"""Many runs: found by their labels, told apart in a table, and what the command line does with them."""

import os

import pandas as pd
import pytest
from click.testing import CliRunner

import lepton_lab as lab
from lepton_lab.cli import main
from lepton_lab.cli.options import link
from lepton_lab.cli.racing import parsed
from lepton_lab.datasets import SOURCES, check
from lepton_lab.errors import LabError, SpecError
from lepton_lab.store.folder import RunFolder


def call(*words, status=0, typed=None):
    result = CliRunner().invoke(main, list(words), input=typed)
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture
def three():
    """Runs that nobody has trained."""
    specs = [lab.Spec(lr=0.1), lab.Spec(lr=0.01, options={"dropout": 0.5}), lab.Spec(lr=0.01, model="mlp")]
    return [lab.attach(RunFolder.create(spec).id) for spec in specs]


def test_a_table_shows_what_runs_differ_in_and_nothing_that_they_share(three):
    frame = lab.table(three)
    assert list(frame.index) == [run.id for run in three] and frame.index.name == "id"
    assert list(frame.columns) == ["model", "lr", "dropout", "state", "step", "seconds"]
    assert frame["lr"].tolist() == [0.1, 0.01, 0.01] and frame["model"].tolist() == ["cnn", "cnn", "mlp"]
    assert frame["dropout"].isna().tolist() == [True, False, True] and set(frame["state"]) == {"interrupted"}
    three[0].rename("best")
    three[2].archive()
    assert lab.table()["name"].to_dict() == {three[0].id: "best", three[1].id: ""}
    assert list(lab.table([three[0].id]).columns) == ["name", "state", "step", "seconds"]
    assert isinstance(lab.table([]), pd.DataFrame) and len(lab.table([])) == 0
    with pytest.raises(SpecError, match="table takes runs or their ids, not a int"):
        lab.table([3])
    with pytest.raises(SpecError, match="table takes runs or their ids, not a int"):
        lab.table(3)


def test_figures_stand_in_the_table_and_an_ended_run_saves_no_more(tiny):
    run = lab.launch(tiny)
    assert run.wait(60) == "done", run.failure
    (row,) = lab.table([run]).to_dict("records")
    summary = run.summary()
    assert row == {name: summary[name] for name in row} and row["test_accuracy"] > 0.5 and row["seconds"] > 0
    with pytest.raises(LabError, match=r"has ended \(done\).*last checkpoint is of step \d+: run.model\(\)"):
        run.checkpoint()


def test_runs_are_found_by_label(three):
    three[0].tag("paper", "baseline")
    three[1].tag("paper")
    three[1].archive()
    assert set(lab.runs("paper")) == set(three[:2])
    assert lab.runs(tag="baseline") == [three[0]] and lab.runs(archived=True) == [three[1]]
    assert set(lab.runs(archived=False)) == {three[0], three[2]} and set(lab.runs()) == set(three)
    assert lab.runs("paper", archived=False) == [three[0]]


def test_labels_that_would_steer_a_terminal_are_refused_and_the_others_stay(three):
    run = three[0]
    run.tag("paper")
    run.annotate("two\n\tlines")
    for wrong in ("\x1b[31mred", "half \ud83d", "a\u202eb"):
        for act in (run.rename, run.tag, run.annotate):
            with pytest.raises(SpecError, match="must (have no control or other invisible characters|be text)"):
                act(wrong)
    with pytest.raises(SpecError, match="such as '.n'"):
        run.tag("a\nb")
    assert (run.name, run.tags, run.note) == ("", ["paper"], "two\n\tlines")


def test_the_command_line_labels_lists_and_deletes(three):
    first, second, third = (run.id for run in three)
    assert call("rename", first, "wide net") == f"{first}  wide net\n"
    assert call("tag", "wide net", "paper", "x") == f"{first}  paper, x\n"
    assert call("note", first, "as in the talk") == f"{first}  as in the talk\n" and three[0].note == "as in the talk"
    assert call("archive", second) == f"{second}  archived\n"
    shown = call("list")
    assert "wide net" in shown and second not in shown and third in shown
    assert second in call("list", "--archived") and third not in call("list", "--tag", "paper")
    shown = call("show", first)
    assert f"{first}  wide net  interrupted" in shown and "Tags: paper, x" in shown and "as in the talk" in shown
    assert "no runs with tag 'none' outside the archive." in call("list", "--tag", "none")
    assert call("archive", second, "--undo") == f"{second}  not archived\n"
    assert call("tag", first) == f"{first}  has no tags\n" and call("rename", first, "") == f"{first}  has no name\n"
    call("delete", second, typed="n\n", status=1)
    assert three[1].folder.exists()
    assert call("delete", second, "--yes") == f"{second}  deleted\n" and not three[1].folder.exists()
    assert "deleted" in call("delete", third, typed="y\n") and set(lab.runs()) == {three[0]}
    assert "Missing argument" in call("delete", status=2)
    lock = RunFolder(three[0].folder).lock()
    assert "stop it first, then delete it" in call("delete", first, status=2), "it asked before it refused"
    assert "No run is archived." in call("list", "--archived")
    three[0].archive()
    assert "All runs are archived: lepton-lab list --archived" in call("list")
    os.close(lock)


def test_the_tab_key_offers_the_public_names_alone():
    assert dir(lab) == sorted(lab.__all__)
    assert not {"Any", "TYPE_CHECKING", "annotations", "importlib"} & set(dir(lab))


def test_commas_in_brackets_part_no_options_in_any_command():
    text = 'any:opt={"a": 1, "b": [2, 3]},x=1'
    assert parsed(text) == {"strategy": "any", "options": {"opt": {"a": 1, "b": [2, 3]}, "x": 1}}
    assert link(text) == ("any", {"opt": {"a": 1, "b": [2, 3]}, "x": 1})


def test_every_source_names_what_looks_at_its_files(tmp_path):
    for name, source in SOURCES.items():
        for file in source.files():
            path = tmp_path / source.folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"no data")
        with pytest.raises(SpecError):
            check(name, tmp_path)

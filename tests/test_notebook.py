"""A notebook's parameters: text becomes what is annotated, and what is wrong is refused before anything starts."""

from __future__ import annotations

import json
import math
import string
import subprocess
import sys
from typing import Annotated, Literal

import pytest
import yaml
from helpers import Late, ours
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

import lepton_lab as lab
from lepton_lab.notebook import PROFILE

nbformat = Late("nbformat")
TEXT = st.text(string.printable + "éλ—")
SIMPLE = [
    (int, st.integers()),
    (float, st.floats(allow_nan=False, allow_infinity=False)),
    (bool, st.booleans()),
    (str, TEXT),
    (list[int], st.lists(st.integers())),
    (list[float], st.lists(st.floats(allow_nan=False, allow_infinity=False))),
    (list[str], st.lists(TEXT)),
    (tuple[int, float], st.tuples(st.integers(), st.floats(-1e9, 1e9))),
    (dict[str, float], st.dictionaries(TEXT, st.floats(-1e9, 1e9))),
    (float | None, st.one_of(st.none(), st.floats(-1e9, 1e9))),
]
TYPED = st.sampled_from(SIMPLE).flatmap(lambda pair: st.tuples(st.just(pair[0]), pair[1]))


def notebook(hint, value, name="given", cells=()):
    return {"__annotations__": {name: hint}, name: value, "_ih": list(cells)}


def told(value):
    """A value as YAML, papermill and a shell may pass it: as text."""
    return value if isinstance(value, str) or value is None else json.dumps(value)


@given(TYPED)
def test_a_value_stays_what_it_is(typed):
    hint, value = typed
    assert lab.parameters(notebook(hint, value)) == {"given": value}


@given(TYPED)
def test_text_becomes_what_is_annotated(typed):
    hint, value = typed
    namespace = notebook(hint, told(value))
    found = lab.parameters(namespace)["given"]
    assert found == value and type(found) is type(value) and namespace["given"] is found


@given(st.floats(1e-300, 1e300))
def test_numbers_as_yaml_reads_them(value):
    for text in (f"{value:e}", f"{value!r}"):
        found = lab.parameters(notebook(float, yaml.safe_load(text)))["given"]
        assert math.isclose(found, value, rel_tol=1e-6)


@settings(max_examples=300)
@given(st.sampled_from([hint for hint, _ in SIMPLE]), TEXT | st.text("[]{}:,0123456789.e-+\"' nulltruefas"))
def test_any_text_is_taken_or_refused_in_a_sentence(hint, text):
    namespace = notebook(hint, text)
    try:
        found = lab.parameters(namespace)["given"]
    except lab.SpecError as error:
        assert str(error).startswith("given") and ": must be " in str(error)
        assert namespace["given"] == text
    else:
        assert lab.parameters(notebook(hint, found)) == {"given": found}  # what was taken is of the type


@pytest.mark.parametrize(
    ("hint", "value", "sentence"),
    [
        (int, 1.5, "given=1.5: must be a whole number (a parameter of this notebook)"),
        (int, True, "must be a whole number"),
        (float, True, "must be a number"),
        (float, "nan", "must be a finite number"),
        (float, "fast", "given='fast': must be a number"),
        (bool, "perhaps", "must be true or false"),
        (str, 5, "must be text (a parameter of this notebook; `papermill -r given TEXT` keeps text as it is)"),
        (list[int], "[0, x]", "given[1]='x': must be a whole number"),
        (list, "abc", "given='abc': must be a list"),
        (list, 3, "given=3: must be a list"),
        (dict, "[1]", "must be pairs of name and value"),
        (Literal["sum", "mean"], "men", "must be 'sum' or 'mean'; did you mean 'mean'?"),
        (float | None, "x", "given='x': must be a number or None (a parameter"),
        (float | None, math.inf, "given=inf: must be a finite number or None"),  # as papermill passes `-p given inf`
        (list[float] | int, "inf", "must be a list or a whole number"),
        (Literal["sum", "mean"] | None, "men", "must be 'sum' or 'mean' or None"),
        (Annotated[int, Field(ge=1, lt=9)], 9, "must be at least 1 and less than 9"),
    ],
)
def test_what_is_ill_typed_is_refused(hint, value, sentence):
    with pytest.raises(lab.SpecError) as refused:
        lab.parameters(notebook(hint, value))
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("name", "hint", "value", "sentence"),
    [
        ("lr", float, "-1", "lr=-1.0: must be greater than 0 (Learning rate, above 0; the peak"),
        ("model", str, "mpl", "model='mpl': unknown model; did you mean 'mlp'?"),
        ("precision", str, "bf61", "precision='bf61': must be 'fp32', 'bf16', 'fp16' or 'auto'; did you mean 'bf16'?"),
        ("epochs", int, 0, "epochs=0: must be at least 1"),
        ("compress", list, '["dstil"]', "did you mean 'distill'?"),
    ],
)
def test_fields_of_spec_are_held_to_its_checks(name, hint, value, sentence):
    with pytest.raises(lab.SpecError) as refused:
        lab.parameters(notebook(hint, value, name))
    assert sentence in str(refused.value)


def test_fields_that_depend_on_others_are_left_to_the_spec():
    namespace = {"__annotations__": {"world": int, "strategy": str, "options": dict}, "_ih": []}
    namespace |= {"world": 200, "strategy": "pipeline", "options": "{microbatches: 4}"}  # whatever the batch will be
    assert lab.parameters(namespace)["options"] == {"microbatches": 4}
    assert lab.parameters(notebook(list, '["distill"]', "compress"))["compress"] == [{"distill": {}}]


def test_all_that_is_wrong_is_told_at_once_and_nothing_is_changed():
    namespace = {"__annotations__": {"a": int, "b": float, "c": int}, "a": "1", "b": "x", "c": "y"}
    before = dict(namespace)
    with pytest.raises(lab.SpecError) as refused:
        lab.parameters(namespace)
    assert [line[:6] for line in str(refused.value).splitlines()] == ["b='x':", "c='y':"]
    assert namespace == before


def test_what_papermill_injects_must_be_known():
    cells = ["", "lr: float = 1.0", "# Parameters\nlr = 0.5\nlearning_rat = 2\n", "lab.parameters(globals())"]
    namespace = notebook(float, 0.5, "lr", cells) | {"learning_rat": 2}
    with pytest.raises(lab.SpecError, match=r"learning_rat=2: unknown parameter \(known: lr\)"):
        lab.parameters(namespace)
    cells.append("# Parameters\nlr = 0.25\n")  # put right, by hand
    assert lab.parameters(notebook(float, 0.25, "lr", cells)) == {"lr": 0.25}


@pytest.mark.parametrize(
    "cell", ["# Parameters\nx = 1\nprint(x)", "# Parameters of mine\nx = 1", "# Parameters\nx = ("]
)
def test_cells_of_the_user_s_own_are_not_taken_for_papermill_s(cell):
    assert lab.parameters(notebook(int, 1, cells=[cell])) == {"given": 1}


def test_other_names_are_none_of_its_business():
    namespace = notebook(int, "3") | {"__annotations__": {"given": int, "_private": int}, "_private": "x", "other": 1}
    assert lab.parameters(namespace) == {"given": 3}


def test_annotations_may_be_text():
    assert lab.parameters(notebook("list[int]", "[1]")) == {"given": [1]}


def test_a_parameter_without_a_default_must_be_given():
    with pytest.raises(lab.SpecError, match="given: has no default.*-p given VALUE"):
        lab.parameters({"__annotations__": {"given": int}})


def test_the_smoke_profile_shrinks_defaults_alone(monkeypatch, capsys):
    def cells(injected=""):
        found = {"__annotations__": {"epochs": int, "seeds": list[int]}, "epochs": 20, "seeds": [0, 1, 2]}
        return found | {"_ih": ["", injected]}

    small = {"epochs": 1, "seeds": [0]}
    assert lab.parameters(cells(), smoke=small) == {"epochs": 20, "seeds": [0, 1, 2]}
    assert capsys.readouterr().out == ""
    monkeypatch.setenv(PROFILE, "smoke")
    assert lab.parameters(cells(), smoke=small) == small
    assert "epochs=1, seeds=[0]" in capsys.readouterr().out
    injected = cells("# Parameters\nepochs = 7") | {"epochs": 7}
    assert lab.parameters(injected, smoke=small) == {"epochs": 7, "seeds": [0]}
    assert lab.parameters(cells()) == {"epochs": 20, "seeds": [0, 1, 2]}
    assert lab.parameters(cells(), smoke=small, tiny={"epochs": 2}) == small
    monkeypatch.setenv(PROFILE, "tiny")
    assert lab.parameters(cells(), smoke={"seeds": [0], "epochs": 5}, tiny={"epochs": 2}) == {"epochs": 2, "seeds": [0]}
    assert "LEPTON_LAB_PROFILE=tiny: " in capsys.readouterr().out
    monkeypatch.setenv(PROFILE, "smoke")
    with pytest.raises(lab.SpecError, match="epoch=1: unknown parameter; did you mean 'epochs'"):
        lab.parameters(cells(), smoke={"epoch": 1})
    monkeypatch.setenv(PROFILE, "smok")
    with pytest.raises(lab.SpecError, match="LEPTON_LAB_PROFILE='smok': must be full or smoke or tiny; did you mean"):
        lab.parameters(cells())


BOOK = (
    "lr: float = 1e-3  # learning rate\nepochs: int = 1  # passes\nseeds: list[int] = [0]  # one run each",
    "import lepton_lab as lab\nlab.parameters(globals(), smoke={'epochs': 1})",
    "runs = [lab.launch(lab.Spec(model='mlp', lr=lr, epochs=epochs, seed=seed)) for seed in seeds]",
    "[run.wait() for run in runs]",
)


@pytest.fixture
def papermill(tmp_path):
    """Run the notebook above with parameters, as by the command line; returns the process and the code cells."""
    cells = [nbformat.v4.new_code_cell(source) for source in BOOK]
    cells[0].metadata["tags"] = ["parameters"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "book.ipynb")

    def call(*words):
        command = [sys.executable, "-m", "papermill", "book.ipynb", "out.ipynb", "--no-progress-bar", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        return done, nbformat.read(tmp_path / "out.ipynb", 4).cells

    return call


def test_papermill_stops_at_what_is_unknown_or_ill_typed_before_anything_starts(papermill, tmp_path, home):
    there = ours()
    (tmp_path / "wrong.yaml").write_text("learning_rate: 1e-3\nepochs: two\nseeds: [0, 1]\n")
    done, cells = papermill("-f", "wrong.yaml")
    assert done.returncode == 1
    assert "learning_rate='1e-3': unknown parameter; did you mean 'lr'? (known: lr, epochs, seeds)" in done.stderr
    assert "epochs='two': must be a whole number" in done.stderr
    assert cells[-1].execution_count is None
    assert not (home / "runs").exists() and ours() == there


@pytest.mark.slow
def test_papermill_passes_text_from_yaml(papermill, tmp_path, home):
    (tmp_path / "right.yaml").write_text("lr: 1e-2\nseeds: [3]\n")
    done, _ = papermill("-f", "right.yaml", "-r", "epochs", "2")
    assert done.returncode == 0, done.stderr
    run = lab.attach()
    assert (run.spec.lr, run.spec.epochs, run.spec.seed, run.state) == (0.01, 2, 3, "done")

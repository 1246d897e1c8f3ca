"""The form's data set: names of the table, and paths with completion."""

import numpy as np
import pytest
from helpers import Late
from lepton_widgets import Workbench
from lepton_widgets.sources import Source, completions

Image = Late("PIL.Image")


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(6):
            Image.fromarray(np.full((8, 8), 100 * label + i, np.uint8)).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


def test_completions_are_names_of_the_folder(photos):
    (photos.parent / "phone.csv").write_text("a,b\n1,2\n")
    (photos.parent / ".hidden").mkdir()
    assert completions("pho") == ["photos/", "phone.csv"] and completions("") == ["photos/", "phone.csv"]
    assert completions("photos/") == ["photos/cat/", "photos/dog/"]
    assert completions(f"{photos}/c") == [f"{photos}/cat/"]
    assert completions("none/") == [] == completions("x\0/")


def test_a_source_is_a_name_or_a_kind_and_a_path(photos):
    source = Source([("digits", "digits"), ("mnist", "mnist")], "digits", "Data set")
    heard = []
    source.observe(lambda change: heard.append(change["new"]), names="value")
    assert source.path.layout.display == "none"
    source.choice.value = "images:"
    assert source.value == "images:" and source.path.layout.display is None
    source.path.value = "photos/"
    assert source.value == "images:photos/" and "photos/cat/" in source.path.options
    source.value = "table:a.csv"
    assert (source.choice.value, source.path.value) == ("table:", "a.csv")
    source.options = [("digits", "digits")]
    assert source.options == (("digits", "digits"),) and source.value == "table:a.csv"
    source.choice.value = "digits"
    assert source.value == "digits" and heard == ["images:", "images:photos/", "table:a.csv", "digits"]


@pytest.fixture
def bench(photos):
    bench = Workbench(epochs=1, model="mlp", device="cpu")
    yield bench
    bench.close()


def test_the_form_takes_a_path_and_shows_what_lies_there(photos, bench):
    assert bench._seen.value == ""
    control = bench._form.controls["dataset"]
    control.choice.value = "images:"
    assert bench._button.disabled and "did you mean &#x27;images:PATH&#x27;?" in bench._error.value
    control.path.value = "fotos"
    assert "did you mean &#x27;photos&#x27;?" in bench._error.value and "ll-refused" in control.path._dom_classes
    control.path.value = "photos/"
    assert not bench._button.disabled and bench.spec.dataset == "images:photos/"
    assert "ll-refused" not in control.path._dom_classes
    assert bench._seen.value.count("<img") == 5 and "2 classes" in bench._seen.value
    size = bench._form.controls["options"].fields["size"]
    size.value = "16"
    control.path.value = f"{photos}"
    assert bench._form.controls["options"].fields["size"].value == "16", "what was typed stays"
    assert bench.spec.options == {"size": 16} and "16 x 16" in bench._seen.value
    assert f"images:{photos}" in bench._repeat.value
    bench.spec = bench.spec.replace(dataset="digits", options={})
    assert control.choice.value == "digits" and bench._seen.value == ""

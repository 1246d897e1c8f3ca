"""Transforms in the form: chips, a control for each parameter, samples before and after; the newest wish counts."""

import threading

import pytest
from helpers import until
from lepton_widgets import Workbench
from lepton_widgets.fitting import Fitting
from lepton_widgets.newest import Newest
from lepton_widgets.ranges import Range

import lepton_lab as lab
from lepton_lab.run.own import Own
from lepton_lab.spec import Spec
from lepton_lab.tables import keywords, table

CHAIN = [{"standardise": {}}, {"rotate": {"degrees": 30.0, "fill": "reflect"}}, {"flip": {"alternate": True}}]


@pytest.fixture
def bench():
    view = Workbench(Spec(transforms=CHAIN))
    yield view
    until(lambda: not view._form.controls["transforms"]._newest.busy)
    view.close()


@pytest.fixture
def steps(bench):
    return bench._form.controls["transforms"]


def test_a_list_is_shown_and_read_again_and_each_parameter_has_a_control(bench, steps):
    assert bench.spec.transforms == CHAIN and steps._chips.value == ["standardise", "rotate", "flip"]
    assert steps._controls["rotate"]["degrees"].value == 30 and steps._controls["flip"]["alternate"].value is True
    for name in table("transform"):
        steps._chips.value = [name]
        rules = keywords(table("transform")[name])
        assert set(steps._controls[name]) == set(rules)
        for option, control in steps._controls[name].items():
            assert control.tooltip and control.description == option.replace("_", " ")
            if isinstance(control, Range):
                assert control.min <= rules[option].default <= control.max and control.step > 0
    bench.spec = Spec()
    assert steps._chips.value == [] and bench.spec.transforms == []


def test_chips_and_sliders_change_the_spec_and_what_makes_data_once_comes_first(bench, steps):
    bench.spec = Spec()
    for name in ("flip", "standardise", "crop"):
        steps._chips._chips[name].value = True
    assert bench.spec.transforms == [{"standardise": {}}, {"flip": {}}, {"crop": {}}]
    steps._controls["crop"]["padding"].value = 2
    steps._controls["flip"]["probability"].value = 0.25
    assert bench.spec.transforms == [{"standardise": {}}, {"flip": {"probability": 0.25}}, {"crop": {"padding": 2}}]
    assert "transforms=[{'standardise': {}}" in bench._repeat.value.replace("&#x27;", "'")
    steps._controls["flip"]["probability"].value = 0.5  # its default
    assert bench.spec.transforms[1] == {"flip": {}}


def test_only_transforms_that_fit_the_data_are_offered(bench, steps):
    bench.spec = Spec(dataset="blobs", model="mlp")
    assert {"standardise", "mixup"} <= set(steps._chips._chips) and "rotate" not in steps._chips._chips
    bench._form.controls["dataset"].value = "digits"
    assert "rotate" in steps._chips._chips


def test_samples_are_drawn_before_and_after_and_again_when_a_slider_moves(bench, steps):
    bench.spec = Spec(transforms=[{"cutout": {"size": 1}}])
    assert not steps._drawn.value
    steps._button.click()
    until(lambda: steps._drawn.value)
    first = steps._drawn.value
    assert first.count("<figure") == 10 and first.count("<img") == 20
    steps._controls["cutout"]["size"].value = 6
    until(lambda: steps._drawn.value != first)
    bench._form.controls["dataset"].value = "blobs"
    steps.redraw()
    until(lambda: "is for pictures" in steps._why.value)
    steps._button.click()
    assert not steps._drawn.value and not steps._why.value


def test_of_many_wishes_the_newest_is_answered_last_and_others_are_passed_over():
    begun, go, answered = threading.Event(), threading.Event(), []

    def work(wish):
        begun.set()
        go.wait(60)
        if wish == 3:
            raise lab.LabError("three")
        return wish

    newest = Newest(work, lambda result, error: answered.append((result, str(error or ""))), "lepton-lab-test")
    newest.ask(0)
    begun.wait(60)
    for wish in (1, 2):
        newest.ask(wish)
    go.set()
    until(lambda: answered)
    assert answered == [(2, "")]
    until(lambda: not newest.busy)
    newest.ask(3, wait=True)
    assert answered[1:] == [(None, "three")]


def test_what_is_offered_follows_the_transforms_that_are_chosen():
    fitting = Fitting({}, Own(), None)
    assert "speech_recogniser" in fitting.models("auto", "tones") and "spec_augment" not in fitting.transforms("tones")
    fitting.chosen = [{"mel": {"bands": 20}}]
    assert "speech_recogniser" not in fitting.models("auto", "tones")
    assert {"mel", "spec_augment"} <= {*fitting.transforms("tones")}
    fitting.chosen = [{"flip": {}}]  # which sounds have no use for
    assert "speech_recogniser" in fitting.models("auto", "tones")

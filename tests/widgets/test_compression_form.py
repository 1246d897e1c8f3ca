"""The form of a compression without a browser: its estimate at once, a launch, and what was measured beside it."""

import itertools

import pytest
from helpers import until
from lepton_widgets import Compression
from lepton_widgets.compression import _times

import lepton_lab as lab
from lepton_lab.run.estimates import measured


@pytest.fixture
def parent(tiny):
    run = lab.launch(tiny)
    assert run.wait() == "done"
    return run


@pytest.fixture
def form(parent):
    form = Compression(parent, epochs=1)
    yield form
    form.close()
    until(lambda: not form._newest.busy)


def test_it_shows_an_estimate_at_once_and_follows_its_controls(form, parent):
    assert form.chain == [{"prune": {"ratio": 0.5}}, {"quantize": {"scheme": "int8"}}]
    before = form.estimate
    assert f"{before.parameters:,}" in form._figures.value and f"{before.bytes:,}" in repr(form)
    form._controls["prune"][0].widget.value = 0.75
    until(lambda: form.estimate is not before and form.estimate.chain == form.chain)
    until(lambda: f"{form.estimate.parameters:,}" in form._figures.value)
    assert form.estimate.parameters < before.parameters
    assert f"lab.compress(lab.attach('{parent.id}'), " in form._repeat.value.replace("&#x27;", "'")


def test_an_older_estimate_can_t_come_after_a_newer(form, monkeypatch):
    tell, alone = form._tell, []
    monkeypatch.setattr(form, "_tell", lambda: alone.append(form._newest._lock.locked()) or tell())
    form._controls["prune"][0].widget.value = 0.25
    until(lambda: alone and not form._newest.busy)
    assert all(alone), "another wish could be taken before this one was shown"
    assert "Removes channels" in form._about.value and "Link 2" in form._about.value


def test_more_is_not_called_less():
    assert [_times(less) for less in (2.5, 1.001, 0.5)] == ["2.5x less", "as before", "2x more"]


def test_every_control_has_a_name(form):
    for control in itertools.chain(*form._controls.values()):
        assert control.widget.description
    assert 'scope="col"' in form._figures.value and "role='region'" in form._figures.value


def test_what_can_t_be_done_is_said_in_place(form):
    form._controls["prune"][0].widget.value = 0.0
    form._controls["low_rank"][0].widget.value = 0.95  # saves nothing
    until(lambda: "role='alert'" in form._error.value and form._button.disabled)
    until(lambda: "bytes of the file" in form._figures.value and "less" not in form._figures.value)
    form._controls["low_rank"][0].widget.value = 0.0
    until(lambda: not form._error.value and not form._button.disabled)


def test_after_the_run_the_measured_stands_beside_the_estimate(form):
    run = form.launch()
    assert run is not None, form._error.value
    assert run.wait() == "done"
    until(lambda: "accuracy" in form._figures.value)
    told = measured(run)["artifact"]
    assert f"{told['bytes']:,}" in form._figures.value and "%" in form._figures.value


def test_chains_that_the_form_can_t_show_are_refused(parent):
    with pytest.raises(lab.SpecError, match="more than this form shows"):
        Compression(parent, [("prune", {"ratio": 0.5, "rounds": 2})], epochs=2)
    with pytest.raises(lab.SpecError, match="quantize must be the last"):
        Compression(parent, ["quantize", "prune"])


def test_every_compressor_with_a_knob_has_its_controls(parent):
    assert form_of(parent, [("prune", {"ratio": 0.25, "importance": "taylor"}), "distill", ("quantize", "bf16")]) == [
        {"prune": {"ratio": 0.25, "importance": "taylor"}},
        {"distill": {}},
        {"quantize": {"scheme": "bf16"}},
    ]
    assert form_of(parent, ["prune", ("share", 3)]) == [{"prune": {"ratio": 0.5}}, {"share": {"bits": 3}}]
    assert form_of(parent, ["prune", "quantize"]) == [{"prune": {"ratio": 0.5}}, {"quantize": {"scheme": "int8"}}]
    with pytest.raises(lab.SpecError, match="more than this form shows"):
        form_of(parent, [("quantize", "int8_static")])


def form_of(parent, chain):
    """The chain that a form shows which is given one."""
    form = Compression(parent, chain, epochs=1)
    form.close()
    until(lambda: not form._newest.busy)
    return form.chain

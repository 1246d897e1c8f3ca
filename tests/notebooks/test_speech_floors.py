"""Speech on real recordings reaches what the application says of it, in half of its epochs and so a little less."""

import pytest
import torch

import lepton_lab as lab
from lepton_lab.datasets import load
from lepton_lab.datasets.files import missing
from lepton_lab.files import data_root
from lepton_lab.spectra import griffin_lim, si_sdr, stretched
from lepton_lab.tasks.enhancement import mixed
from lepton_lab.transforms.speech import log_mel

FIELDS = {"optimizer": "adamw", "schedule": "one_cycle", "batch_size": 32, "eval_every": 0, "device": "cpu"}
HEAR = ["mel", {"speed": {"slowest": 0.8, "fastest": 1.25}}, "time_shift", {"frequency_warp": {"most": 0.12}}]
SECONDS = {"seconds": 0.72}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def recordings():
    if missing("fsdd", data_root()):
        pytest.skip("the recordings are not here: lepton-lab data get fsdd")


def done(**fields):
    run = lab.launch(lab.Spec(dataset="fsdd", **{**FIELDS, **fields}))
    assert run.wait(280) == "done", run.failure
    return run


def recogniser(**options):
    fields = {"transforms": [*HEAR, "spec_augment"], "lr": 8e-3, "weight_decay": 0.02, "epochs": 12}
    return done(model="speech_recogniser", options={**SECONDS, **options}, **fields)


def test_a_word_is_heard_and_less_well_of_a_new_voice_or_in_noise_and_a_model_is_understood():
    """One recogniser for all that is judged by it."""
    run = recogniser()
    official = run.rows("eval")[-1]["accuracy"]
    assert official >= 0.96
    assert recogniser(speaker="jackson").rows("eval")[-1]["accuracy"] <= official - 0.1
    judge, data, raw = run.model().eval(), load(run.spec), load(run.spec.replace(transforms=[]))

    def heard(sounds):
        with torch.no_grad():
            return judge((log_mel(sounds, 8000)[:, None] - data.mean[0]) / data.std[0]).argmax(1)

    fields = {"options": {"label": "both"}, "transforms": ["spectrum"], "lr": 3e-3, "epochs": 12}
    told = done(model="speech_synthesiser", task="variational", **fields)
    spectra = load(told.spec)
    classes = torch.arange(len(spectra.classes))
    with torch.no_grad():
        pictures = told.model().eval().decode(classes, torch.zeros(len(classes), 8))
    said = torch.zeros(len(classes), raw.shape[0])
    for row, picture in zip(said, pictures, strict=True):
        wave = griffin_lim(stretched(picture[0] * spectra.std[0] + spectra.mean[0], 54)[None])[0]
        row[: len(wave)] = wave
    right = torch.tensor([int(name.split()[0]) for name in spectra.classes])
    assert (heard(said) == right).float().mean() >= 0.9

    fields = {"options": {"seconds": 0.9}, "batch_size": 16, "lr": 2e-3, "epochs": 6}
    mask = done(model="enhancer", task="enhancement", **fields).model().eval()
    x, y = raw.test
    for decibels in (0.0, 10.0):
        noisy = mixed(x, torch.randn(x.shape), decibels)
        with torch.no_grad():
            clean = mask(noisy)
        assert (si_sdr(clean, x) - si_sdr(noisy, x)).mean() >= 7
        before, after, best = ((heard(sounds) == y).float().mean() for sounds in (noisy, clean, x))
        assert before + 0.1 < after < best  # and so decibels are not words


def test_rows_of_digits_are_read():
    fields = {"transforms": ["strings", "mel", {"frequency_warp": {"most": 0.12}}], "weight_decay": 0.02, "epochs": 12}
    fields |= {"options": SECONDS, "batch_size": 16, "lr": 4e-3, "metrics": ["word_error_rate"]}
    run = done(model="speech_recogniser", task="ctc", **fields)
    assert run.rows("eval")[-1]["word_error_rate"] <= 0.04

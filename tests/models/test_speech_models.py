"""Sounds from spectra, rows of words, and the models that hear, speak and take noise away."""

from pathlib import Path

import pytest
import torch

import lepton_lab as lab
from lepton_lab.datasets import DATASETS
from lepton_lab.datasets.files import missing
from lepton_lab.errors import SpecError
from lepton_lab.files import data_root
from lepton_lab.models import MODELS, make
from lepton_lab.spectra import griffin_lim, magnitudes, si_sdr, stretched
from lepton_lab.tasks.enhancement import mixed
from lepton_lab.transforms import TRANSFORMS
from lepton_lab.transforms.speech import LOUD, spoken
from lepton_lab.transforms.strings import BLANK

NOWHERE = Path("unused")
SEEN = {"speech_recogniser": (1, 30, 40), "speech_synthesiser": (1, 24, 33), "enhancer": (1000,)}
DROPS = {"speech_recogniser": {"dropout": 0.0}}  # which ranks of a pipeline draw in their own way
RUNS = {
    "speech_recogniser": {"transforms": ["strings", "mel"], "task": "ctc"},
    "speech_synthesiser": {"transforms": ["spectrum"], "task": "variational"},
    "enhancer": {"task": "enhancement"},
}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def vowels():
    return DATASETS["vowels"](NOWHERE, 0, samples=60)


def test_a_sound_is_made_of_its_magnitudes_alone(vowels):
    x = vowels.train[0][:4]
    seen = magnitudes(x)
    again = griffin_lim(seen)
    assert again.shape == (4, 62 * 64) and not torch.allclose(again, x[:, : again.shape[1]], atol=0.01)
    loud = seen > seen.max() - 4
    assert (magnitudes(again) - seen)[loud].abs().mean() < 0.25
    noise = griffin_lim(torch.randn(seen.shape))  # which no sound has
    assert (magnitudes(noise) - seen)[loud].abs().mean() > 1


def test_frames_are_stretched_from_end_to_end():
    frames = torch.arange(5.0)[:, None].expand(5, 3)
    assert torch.allclose(stretched(frames, 9)[:, 1], torch.arange(9) / 2) and stretched(frames, 2)[1, 0] == 4


def test_the_transform_of_the_enhancer_is_undone_by_its_inverse():
    x = torch.randn(3, 1000)
    transform = MODELS["enhancer"]((1000,), 0, width=8).transform
    assert torch.allclose(transform.inverse(*transform(x))[:, :1000], x, atol=1e-4)
    real, imaginary = transform(x)
    theirs = torch.stft(
        torch.nn.functional.pad(x, (256, 256)), 256, 64, None, torch.hann_window(256), False, return_complex=True
    )
    assert torch.allclose(torch.complex(real, imaginary), theirs, atol=1e-3)


@pytest.mark.parametrize("decibels", [-5.0, 10.0])
def test_noise_is_measured_by_what_is_heard_of_a_word(decibels):
    word = torch.zeros(2, 4000)
    word[:, 500:1500] = torch.randn(2, 1000)
    noisy = mixed(word, torch.randn(2, 4000), decibels)
    rest = noisy - word
    ratio = 10 * (word[:, 500:1500].square().mean(1) / rest.square().mean(1)).log10()
    assert ratio.tolist() == pytest.approx([decibels] * 2, abs=0.01)
    assert si_sdr(3 * noisy, word).tolist() == pytest.approx(si_sdr(noisy, word).tolist(), abs=1e-3)


def test_rows_of_words_are_of_one_voice_and_of_their_own_split(vowels):
    made = TRANSFORMS["strings"](vowels, 0, shortest=2, longest=3)
    assert made.sample == TRANSFORMS["strings"].sees(*vowels.sample, longest=3) and made.classes[0] == BLANK
    for part in ("train", "test"):
        (x, y), (rows, labels) = getattr(vowels, part), getattr(made, part)
        speakers = vowels.about[part]["speaker"]
        for row, said in zip(rows[:6], labels[:6], strict=True):
            said = said[said > 0] - 1
            words = [(row.unfold(0, 40, 1) == one[1000:1040]).all(1).any() for one in x]
            there = [place for place, found in enumerate(words) if found]
            assert set(y[there].tolist()) == set(said.tolist()) and len({speakers[place] for place in there}) == 1
    with pytest.raises(SpecError, match="shortest=4: must be at most longest=3"):
        TRANSFORMS["strings"](vowels, 0, shortest=4, longest=3)


def test_a_spectrum_is_of_what_is_heard_whatever_its_place_and_loudness(vowels):
    x = vowels.train[0][:8, :3968]
    data = TRANSFORMS["spectrum"](vowels, 0, frames=32)
    assert data.sample == ((1, 32, 129), 6, 0) and len(data.about["train"]["seconds"]) == len(data.train[1])
    later = torch.zeros(8, 6000)
    later[:, 640:4608] = 0.3 * x
    for one, other in zip(x, later, strict=True):
        assert spoken(other).square().mean().sqrt() == pytest.approx(LOUD)
        assert torch.allclose(spoken(one), spoken(other), atol=1e-4)


@pytest.mark.slow  # reads all of them
def test_a_digit_may_be_labelled_by_who_says_it():
    with pytest.raises(SpecError, match="'label': 'voice'}: must be 'digit', 'speaker' or 'both'"):
        lab.Spec(dataset="fsdd", options={"label": "voice"})
    if missing("fsdd", data_root()):
        pytest.skip("its recordings are not here")
    data = DATASETS["fsdd"](data_root(), 0, label="both")
    assert len(data.classes) == 60 and data.classes[3] == "0 nicolas"
    number, who = data.train[1][5], data.about["train"]["speaker"][5]
    assert data.classes[number].endswith(who)


@pytest.mark.parametrize("name", SEEN)
def test_a_model_of_sounds_gives_what_its_task_takes(name):
    task = RUNS[name]["task"]
    torch.manual_seed(0)
    model = make(lab.Spec(model=name, task=task), (SEEN[name], 5, 0))
    x = torch.randn(3, *SEEN[name])
    if name == "speech_recogniser":
        assert model(x).shape == (3, 8, 5) and make(lab.Spec(model=name), (SEEN[name], 5, 0))(x).shape == (3, 5)
        model.eval()
        assert torch.allclose(model(x), model(x + torch.randn(40)), atol=1e-3)  # another microphone
    elif name == "enhancer":
        assert model(x).shape == x.shape and torch.allclose(model(5 * x), 5 * model(x), atol=0.05)  # however loud
    else:
        word, noise = torch.tensor([0, 1, 4]), torch.randn(3, 8)
        again, mean, spread = model(x, word, noise)
        assert again.shape == x.shape and mean.shape == spread.shape == (3, 8)
        assert torch.equal(model.decode(word, mean + noise * (spread / 2).exp()), again)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"model": "enhancer"}, "is for task='enhancement', and task='classification' needs others"),
        (
            {"model": "cnn", "task": "variational", "transforms": ["spectrum"]},
            "task='variational' needs others; take model='speech_synthesiser'",
        ),
        ({"model": "speech_recogniser", "task": "ctc"}, "takes pictures of spectra"),
        ({"model": "speech_recogniser", "transforms": [{"mel": {"window": 4096}}]}, "longer than a sound"),
        ({"model": "enhancer", "task": "enhancement", "transforms": ["mel"]}, "takes sounds of at least"),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_sentence(fields, sentence):
    with pytest.raises(SpecError) as error:
        lab.launch(lab.Spec(dataset="vowels", **fields))
    assert sentence in str(error.value) and "\n" not in str(error.value)


def launched(name, world=1, **changes):
    fields = {
        "options": {"samples": 120, **DROPS.get(name, {})},
        "batch_size": 16,
        "lr": 3e-3,
        "epochs": 2,
        "optimizer": "adamw",
    }
    return lab.launch(
        lab.Spec(dataset="vowels", model=name, world=world, device="cpu", **{**RUNS[name], **fields, **changes})
    )


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "speech_recogniser")) for name in SEEN]
)
def test_a_model_of_sounds_learns_from_the_name_of_a_set(name):
    run = launched(name)
    assert run.wait(120) == "done", run.failure
    losses = [row["loss"] for row in run.rows("eval") if row["split"] == "train"]
    assert losses[-1] < losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "zero", "fsdp", "pipeline", "tensor"])
@pytest.mark.parametrize("name", SEEN)
def test_a_model_of_sounds_trains_alike_under_a_strategy_or_says_why_not(name, strategy):
    try:
        two = launched(name, 2, strategy=strategy)
        assert two.wait(120) == "done" or strategy in ("pipeline", "tensor"), two.failure
    except SpecError as error:
        assert strategy in ("pipeline", "tensor") and strategy in str(error)
        return
    if two.state != "done":
        assert "strategy='" in two.failure.message or "take strategy" in two.failure.message, two.failure
        return
    one = launched(name)
    assert one.wait(120) == "done", one.failure
    ours, theirs = ([row["loss"] for row in run.rows("eval")] for run in (one, two))
    assert theirs == pytest.approx(ours, rel=2e-2)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
@pytest.mark.parametrize("name", SEEN)
def test_a_model_of_sounds_is_exported(name, runtime, tmp_path):
    run = launched(name, epochs=1)
    assert run.wait(120) == "done", run.failure
    lab.export(run, tmp_path / "model.lepton", runtime=runtime)  # which holds the file to the model
    assert lab.load(tmp_path / "model.lepton").signature.inputs

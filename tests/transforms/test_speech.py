"""Spectra and cepstra as Kaldi has them, and what is done to sounds and spectra in training."""

from pathlib import Path

import kaldi_native_fbank
import numpy as np
import pytest
import torch

import lepton_lab as lab
from lepton_lab.datasets import DATASETS
from lepton_lab.errors import SpecError
from lepton_lab.preparation import kind, outlined
from lepton_lab.transforms import TRANSFORMS, Draws
from lepton_lab.transforms.hearing import frequency_warp, spec_augment, speed, time_shift, white_noise
from lepton_lab.transforms.speech import cepstra, log_mel, mfcc

SOUND = torch.randn(3, 4000, generator=torch.Generator().manual_seed(0)).cumsum(1) / 50
SPECTRA = torch.rand(4, 1, 30, 20, generator=torch.Generator().manual_seed(1))
PLACES = torch.arange(4)


def kaldi(maker, options, x, rate):
    options.frame_opts.dither, options.frame_opts.samp_freq = 0, rate
    made = maker(options)
    made.accept_waveform(rate, x.tolist())
    made.input_finished()
    return np.stack([made.get_frame(i) for i in range(made.num_frames_ready)])


@pytest.mark.parametrize(("rate", "window", "hop", "bands"), [(8000, 200, 80, 40), (16000, 400, 160, 23)])
def test_mel_spectra_are_kaldi_s(rate, window, hop, bands):
    options = kaldi_native_fbank.FbankOptions()
    options.mel_opts.num_bins = bands
    theirs = kaldi(kaldi_native_fbank.OnlineFbank, options, SOUND[0], rate)
    ours = log_mel(SOUND, rate, bands, window, hop)
    assert ours.shape[1:] == theirs.shape and np.abs(ours[0].numpy() - theirs).max() < 1e-3


def test_cepstra_are_kaldi_s():
    options = kaldi_native_fbank.MfccOptions()
    options.use_energy, options.num_ceps, options.mel_opts.num_bins = False, 13, 23
    theirs = kaldi(kaldi_native_fbank.OnlineMfcc, options, SOUND[1], 8000)
    ours = cepstra(SOUND, 8000, 13, 23)
    assert ours.shape[1:] == theirs.shape and np.abs(ours[1].numpy() - theirs).max() < 2e-3


@pytest.mark.parametrize("name", ["mel", "mfcc"])
def test_sounds_become_pictures_that_a_model_of_the_table_takes(name):
    data, member = DATASETS["tones"](Path("unused"), 0, samples=60), TRANSFORMS[name]
    made = member(data, 0)
    assert member.sees(*data.sample) == made.sample and kind(made) == "spectra" and made.unit == 1
    assert made.train[0].mean() == pytest.approx(made.mean[0], abs=1e-4)
    assert torch.equal(made.test[1], data.test[1]) and torch.isfinite(made.test[0]).all()
    assert not TRANSFORMS["spec_augment"].refuse(*made.sample)
    assert "longer than a sound" in member.refuse((100,), 2, 0)


@pytest.mark.parametrize("name", ["time_shift", "speed", "frequency_warp", "spec_augment"])
def test_a_picture_of_something_else_is_no_spectrum(name):
    with pytest.raises(SpecError, match=f"'{name}': is for .*pictures of spectra, and dataset='digits' has pictures"):
        lab.launch(lab.Spec(dataset="digits", transforms=[name]))
    heard = lab.Spec(dataset="tones", transforms=["mel", name, "cutout"], model="cnn")
    assert outlined(heard) == ((1, 48, 40), 6, 0)


def test_sounds_of_a_dataset_are_read_and_must_be_alike():
    data = DATASETS["tones"](Path("unused"), 0, samples=60)
    whole = mfcc(data, 0)
    data.train = torch.utils.data.TensorDataset(*data.train)
    assert torch.equal(mfcc(data, 0).train[0], whole.train[0])
    data.val = [(SOUND[0], 1), (SOUND[0, :3000], 1)]
    with pytest.raises(SpecError, match="as many samples"):
        mfcc(data, 0)
    with pytest.raises(SpecError, match="coefficients=30: must be at most bands=23"):
        mfcc(data, 0, coefficients=30)


@pytest.mark.parametrize("decibels", [-5.0, 10.0, 30.0])
def test_noise_is_as_loud_as_was_said(decibels):
    x = SOUND.repeat(2, 1)[:4]
    noisy, _ = white_noise(x, PLACES, Draws(0, 0, PLACES), low=decibels, high=decibels)
    ratio = 10 * (x.square().mean(1) / (noisy - x).square().mean(1)).log10()
    assert ratio.tolist() == pytest.approx([decibels] * 4, abs=1e-2)


def test_a_shift_moves_all_of_a_sound_by_as_much():
    x = torch.arange(1.0, 101).repeat(4, 1)
    for values, spread in ((x, lambda y: y), (x[:, None, :, None].expand(4, 1, 100, 3), lambda y: y[:, 0, :, 0])):
        moved = spread(time_shift(values, PLACES, Draws(0, 0, PLACES), most=0.3)[0])
        silence = 0 if values.dim() == 2 else 1
        steps = [int((row - row[40]).abs().argmin()) for row in moved]
        assert steps == [40] * 4
        by = (41 - moved[:, 40]).long()
        assert by.abs().max() <= 30 and len(set(by.tolist())) > 1
        for row, move in zip(moved, by.tolist(), strict=True):
            kept = row[max(move, 0) : 100 + min(move, 0)]
            assert torch.equal(kept, torch.arange(1.0, 101)[max(-move, 0) : 100 - max(move, 0)])
            assert (row[: max(move, 0)] == silence).all() and (row[100 + min(move, 0) :] == silence).all()


def test_a_faster_sound_has_a_higher_pitch_and_its_spectrum_is_shorter():
    time = torch.arange(4000) / 8000
    x = (2 * torch.pi * 400 * time).sin().repeat(4, 1)
    fast, _ = speed(x, PLACES, Draws(0, 0, PLACES), slowest=1, fastest=1.5)
    peaks = torch.fft.rfft(fast * torch.hann_window(4000)).abs().argmax(1) * 2  # Hz
    assert peaks.min() >= 398 and peaks.max() <= 602 and len(peaks.unique()) > 1
    same, _ = speed(x, PLACES, Draws(0, 0, PLACES), slowest=1, fastest=1)
    assert torch.equal(same, x)
    slow, _ = speed(SPECTRA, PLACES, Draws(0, 0, PLACES), slowest=0.5, fastest=1)
    assert slow.shape == SPECTRA.shape and not torch.equal(slow, SPECTRA) and slow.max() <= 1


def test_bands_are_stretched_from_the_lowest():
    x = torch.arange(20.0).expand(4, 1, 30, 20)
    warped, _ = frequency_warp(x, PLACES, Draws(0, 0, PLACES), most=0.1)
    factors = warped[:, 0, 0, 10] / 10
    assert (factors - 1).abs().max() <= 0.1 and len(factors.unique()) == 4
    assert torch.allclose(warped[:, 0, :, 5], 5 * factors[:, None].expand(4, 30), atol=1e-4)


def test_masks_are_whole_bands_and_frames_no_wider_than_was_said():
    masked, _ = spec_augment(SPECTRA, PLACES, Draws(0, 3, PLACES), frames=0.5, bands=0.5)
    changed = masked != SPECTRA
    assert changed.any()
    for one in changed[:, 0]:
        frames, bands = one.all(1), one.all(0)
        assert torch.equal(one, frames[:, None] | bands)  # nothing else
        assert frames.sum() <= 15 and bands.sum() <= 10
    assert torch.equal(spec_augment(SPECTRA, PLACES, Draws(0, 3, PLACES), frames=0, bands=0)[0], SPECTRA)


@pytest.mark.parametrize("name", ["white_noise", "time_shift", "speed", "frequency_warp", "spec_augment"])
def test_a_sample_is_changed_alike_whatever_the_others_are(name):
    member = TRANSFORMS[name]
    x = SPECTRA if "sound" not in member.kinds else torch.cat([SOUND, SOUND[:1]])
    y, draws = PLACES, Draws(5, 2, PLACES)
    whole, _ = member(x, y, draws)
    half, _ = member(x[2:], y[2:], Draws(5, 2, PLACES[2:]))
    again, _ = member(x, y, Draws(5, 2, PLACES))
    later, _ = member(x, y, Draws(5, 3, PLACES))
    assert torch.allclose(half, whole[2:], atol=1e-6) and torch.equal(again, whole) and not torch.equal(later, whole)


def test_vowels_are_told_apart_by_their_spectra():
    """Of voices that were never heard; a run from the name of the set to what it reached."""
    spec = lab.Spec(
        dataset="vowels",
        model="mlp",
        transforms=["mfcc", "spec_augment"],
        options={"samples": 300},
        epochs=3,
        batch_size=16,
        lr=5e-3,
        optimizer="adam",
        device="cpu",
    )
    run = lab.launch(spec)
    assert run.wait(90) == "done", run.failure
    assert run.rows("eval")[-1]["accuracy"] >= 0.5

"""Augmentation: signals and labels stay in step."""

import numpy as np
import pytest
import torch

from altpo_model.augmentation import Augment, draw_donors, remix, shift_pitch, transpose
from altpo_model.config import Augmentation, ConfigError
from altpo_model.model import Batch
from altpo_model.notes import NO_PITCH, Note, frame_targets

RATE, HOP = 16000, 256


def sine(pitch: float, samples: int) -> torch.Tensor:
    return 0.3 * torch.sin(2 * torch.pi * 440 * 2 ** ((pitch - 69) / 12) * torch.arange(samples) / RATE)


def frequency(signal: torch.Tensor) -> float:
    """Of the strongest partial, in Hz, to 0.1 Hz."""
    spectrum = np.abs(np.fft.rfft(signal.numpy() * np.hanning(len(signal)), 10 * RATE))
    return float(spectrum.argmax() / 10)


def song_batch() -> Batch:
    """Two songs of 2 and 1 s with a note each (the voice) and a low tone (the accompaniment), and 2 s of speech."""
    waveforms = torch.zeros(3, 2, 2 * RATE)
    num_samples = torch.tensor([2 * RATE, RATE, 2 * RATE])
    pitch = torch.full((3, 125), NO_PITCH)
    onset = torch.zeros(3, 125)
    for i, (note, low) in enumerate(((Note(0.5, 1.5, 69), 40), (Note(0.25, 0.75, 60), 45))):
        n = int(num_samples[i])
        at = slice(int(note.onset * RATE), int(note.offset * RATE))
        waveforms[i, 0, at] = sine(note.pitch, at.stop - at.start)
        waveforms[i, 1, :n] = waveforms[i, 0, :n] + sine(low, n)
        frames = n // HOP
        targets = frame_targets([note], frames, HOP / RATE)
        pitch[i, :frames], onset[i, :frames] = map(torch.from_numpy, targets)
    waveforms[2] = 0.1 * torch.randn(2 * RATE, generator=torch.Generator().manual_seed(0))
    return Batch(waveforms, num_samples, torch.tensor([True, True, False]), pitch=pitch, onset=onset)


@pytest.mark.parametrize("semitones", [-12, -3, -1, 1, 3, 7, 12])
def test_shifted_note_has_the_frequency_of_its_shifted_label_in_both_signals(semitones):
    batch = transpose(song_batch(), torch.tensor([semitones] * 3))
    for i in range(2):
        frames = torch.nonzero(batch.pitch[i] != NO_PITCH)[:, 0]
        labels = batch.pitch[i, frames].unique()
        assert len(labels) == 1
        at = slice(int(frames[0]) * HOP + 1600, int(frames[-1]) * HOP - 1600)
        vocals, mixture = batch.waveforms[i]
        for heard, label in ((vocals, int(labels)), (mixture - vocals, (40, 45)[i] + semitones)):
            assert 12 * np.log2(frequency(heard[at]) / 440) + 69 == pytest.approx(label, abs=0.1)


@pytest.mark.parametrize("semitones", [-4, 4])
def test_shifted_note_begins_and_ends_when_its_label_does(semitones):
    batch = transpose(song_batch(), torch.tensor([semitones] * 3))
    for i in range(2):
        loud = batch.waveforms[i, 0].unfold(0, HOP, HOP).abs().amax(1) > 0.15  # by frame
        heard, label = torch.nonzero(loud)[:, 0], torch.nonzero(batch.pitch[i] != NO_PITCH)[:, 0]
        assert abs(int(heard[0] - label[0])) <= 1 and abs(int(heard[-1] - label[-1])) <= 1
        assert torch.nonzero(batch.onset[i])[:, 0].tolist() == [int(label[0])]


def test_each_clip_is_shifted_by_its_own_semitones():
    before, after = song_batch(), transpose(song_batch(), torch.tensor([0, 2, -2]))
    torch.testing.assert_close(after.waveforms[0], before.waveforms[0], atol=1e-6, rtol=0)
    assert torch.equal(after.pitch[0], before.pitch[0])
    assert sorted(after.pitch[1].unique().tolist()) == [62, NO_PITCH]
    assert after.pitch[2].unique().tolist() == [NO_PITCH], "speech has no notes, whatever its shift"
    assert torch.equal(after.waveforms[2, 0], after.waveforms[2, 1]), "speech still stands in both channels"
    assert not torch.equal(after.waveforms[2], before.waveforms[2])


def test_notes_that_leave_midis_range_are_no_notes_and_have_no_onset():
    batch = song_batch()
    batch.pitch = torch.tensor([[0, 1, 126, 127, NO_PITCH]])
    batch.onset = torch.ones(1, 5)
    batch.waveforms, batch.num_samples = batch.waveforms[:1], batch.num_samples[:1]
    up, down = transpose(batch, torch.tensor([1])), transpose(batch, torch.tensor([-1]))
    assert up.pitch.tolist() == [[1, 2, 127, NO_PITCH, NO_PITCH]] and up.onset.tolist() == [[1, 1, 1, 0, 1]]
    assert down.pitch.tolist() == [[NO_PITCH, 0, 125, 126, NO_PITCH]] and down.onset.tolist() == [[0, 1, 1, 1, 1]]


@pytest.mark.parametrize("samples", [1, 255, 4000, 4001])
def test_shifted_signal_is_as_long_as_before(samples):
    for semitones in (-5, -1, 1, 5):
        assert shift_pitch(torch.randn(2, 3, samples), semitones).shape == (2, 3, samples)


def test_gain_is_of_the_vocals_alone_and_speech_stays():
    before = song_batch()
    after = remix(before, torch.tensor([6.0, -6.0, 6.0]), torch.arange(3))
    for i, factor in enumerate((1.9953, 0.50119)):  # 6 dB, by hand
        torch.testing.assert_close(after.waveforms[i, 0], factor * before.waveforms[i, 0], atol=1e-4, rtol=1e-4)
        accompaniment = (x.waveforms[i, 1] - x.waveforms[i, 0] for x in (before, after))
        torch.testing.assert_close(*accompaniment, atol=1e-5, rtol=0)
    assert torch.equal(after.waveforms[2], before.waveforms[2])
    assert torch.equal(after.pitch, before.pitch) and torch.equal(after.onset, before.onset)


def test_accompaniment_of_another_song_is_repeated_or_cut_to_the_songs_length():
    before = song_batch()
    after = remix(before, torch.zeros(3), torch.tensor([1, 0, 2]))
    assert torch.equal(after.waveforms[:, 0], before.waveforms[:, 0])
    low_40, low_45 = sine(40, RATE), sine(45, RATE)
    accompaniment = after.waveforms[:, 1] - after.waveforms[:, 0]
    torch.testing.assert_close(accompaniment[0], torch.cat([low_45, low_45]), atol=1e-5, rtol=0)  # 1 s, twice
    torch.testing.assert_close(accompaniment[1, :RATE], low_40, atol=1e-5, rtol=0)  # the first of 2 s
    assert after.waveforms[1, :, RATE:].abs().max() == 0
    assert torch.equal(after.waveforms[2], before.waveforms[2])


def test_donors_are_other_songs_for_the_share_that_is_asked_for():
    torch.manual_seed(0)
    is_song = torch.arange(1000) % 5 > 0  # four songs to one of speech, as in training
    donors = draw_donors(is_song, 0.3)
    changed = donors != torch.arange(1000)
    assert not changed[~is_song].any() and is_song[donors[is_song]].all()
    assert changed[is_song].float().mean() == pytest.approx(0.3, abs=0.05)
    assert (draw_donors(is_song, 1.0) != torch.arange(1000))[is_song].all()
    assert draw_donors(torch.tensor([False, True]), 1.0).tolist() == [0, 1], "a single song keeps its own"


def test_random_changes_are_within_their_bounds_and_repeat_with_torchs_seed():
    options = Augmentation(vocals_gain=6.0, other_accompaniment=0.5, pitch_shift=2)
    shifts, gains = set(), []
    for seed in range(12):
        torch.manual_seed(seed)
        batch = Augment(options)(song_batch())
        torch.manual_seed(seed)
        assert torch.equal(Augment(options)(song_batch()).waveforms, batch.waveforms)
        shifts.add(int(batch.pitch[0].min()) - 69)
        torch.manual_seed(seed)
        louder = Augment(Augmentation(vocals_gain=6.0))(song_batch()).waveforms[0, 0].abs().max() / 0.3
        gains.append(20 * np.log10(float(louder)))
    assert shifts == {-2, -1, 0, 1, 2}
    assert -6.01 < min(gains) < -3 and 3 < max(gains) < 6.01


def test_without_options_a_batch_is_the_same_one_and_no_random_number_is_drawn():
    batch, state = song_batch(), torch.get_rng_state()
    for options in (None, Augmentation()):
        assert Augment(options)(batch) is batch
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("change", [{"vocals_gain": -1.0}, {"other_accompaniment": 1.5}, {"pitch_shift": -1}])
def test_values_that_cannot_be_are_refused(change):
    with pytest.raises(ConfigError, match="augmentation: "):
        Augment(Augmentation(**change))

"""Augmentation of batched waveforms in training: the voice against its accompaniment, other accompaniments, other keys.

The accompaniment is what the mixture has beyond the separated vocals, with what the separator left of the voice in it.
Random numbers are drawn from torch's own generator on the CPU, whose state a training run keeps in its checkpoints.
"""

from dataclasses import replace
from fractions import Fraction

import torch
import torchaudio
from torch import Tensor

from altpo_model.config import Augmentation, ConfigError
from altpo_model.features import frame_mask
from altpo_model.model import Batch
from altpo_model.notes import NO_PITCH, NUM_PITCHES

WINDOW, HOP = 1024, 256  # samples, of the phase vocoder


class Augment:
    """A batch as it is, or changed at random as the conf says; raises ConfigError for values that cannot be."""

    def __init__(self, options: Augmentation | None):
        self.options = options or Augmentation()
        if (
            self.options.vocals_gain < 0
            or self.options.pitch_shift < 0
            or not 0 <= self.options.other_accompaniment <= 1
        ):
            raise ConfigError(
                "augmentation: vocals_gain and pitch_shift are not negative, other_accompaniment is 0 to 1"
            )

    def __call__(self, batch: Batch) -> Batch:
        options, device = self.options, batch.waveforms.device
        size = len(batch.waveforms)
        if options.vocals_gain or options.other_accompaniment:
            decibels = options.vocals_gain * (2 * torch.rand(size) - 1)
            batch = remix(
                batch, decibels.to(device), draw_donors(batch.is_song.cpu(), options.other_accompaniment).to(device)
            )
        if options.pitch_shift:
            semitones = torch.randint(-options.pitch_shift, options.pitch_shift + 1, (size,))
            batch = transpose(batch, semitones.to(device))
        return batch


def draw_donors(is_song: Tensor, share: float) -> Tensor:
    """(B,) for each clip, the clip whose accompaniment it gets: itself, or for that share of the songs another song."""
    donors = torch.arange(len(is_song))
    songs = torch.nonzero(is_song)[:, 0]
    if len(songs) > 1:
        others = songs[(torch.arange(len(songs)) + torch.randint(1, len(songs), (len(songs),))) % len(songs)]
        donors[songs] = torch.where(torch.rand(len(songs)) < share, others, songs)
    return donors


def remix(batch: Batch, decibels: Tensor, donors: Tensor) -> Batch:
    """Vocals amplified by ``decibels`` (B,), over the accompaniment of the songs ``donors`` (B,); speech as it is.

    An accompaniment that is shorter than the song begins again, one that is longer is cut off.
    """
    vocals, mixture = batch.waveforms.unbind(dim=1)  # (B, N) each
    inside = frame_mask(batch.num_samples, vocals.shape[1])
    time = torch.arange(vocals.shape[1], device=vocals.device) % batch.num_samples[donors][:, None]  # (B, N)
    accompaniment = (mixture - vocals)[donors].gather(1, time)
    louder = vocals * 10 ** (decibels[:, None] / 20)
    changed = torch.stack([louder, louder + accompaniment], dim=1) * inside[:, None]
    return replace(batch, waveforms=torch.where(batch.is_song[:, None, None], changed, batch.waveforms))


def transpose(batch: Batch, semitones: Tensor) -> Batch:
    """Vocals, accompaniment and notes of each clip shifted by ``semitones`` (B,) int64, in the same time.

    The mixture is the sum of both, so that it has the very vocals of the other channel. Notes that leave MIDI's range
    are no notes.
    """
    vocals, mixture = batch.waveforms.unbind(dim=1)
    parts = torch.stack([vocals, mixture - vocals])  # (2, B, N)
    for shift in semitones.unique().tolist():
        if shift:
            parts[:, semitones == shift] = shift_pitch(parts[:, semitones == shift], shift)
    waveforms = torch.stack([parts[0], parts.sum(dim=0)], dim=1)
    pitch = batch.pitch + semitones[:, None]
    is_note = (batch.pitch != NO_PITCH) & (pitch >= 0) & (pitch < NUM_PITCHES)
    lost = (batch.pitch != NO_PITCH) & ~is_note
    pitch = pitch.where(is_note, torch.full_like(pitch, NO_PITCH))
    return replace(batch, waveforms=waveforms, pitch=pitch, onset=batch.onset.masked_fill(lost, 0.0))


def shift_pitch(waveforms: Tensor, semitones: int) -> Tensor:
    """(..., N) -> (..., N), shifted by some semitones, within 2 cents: stretched in time, then resampled.

    As `torchaudio.functional.pitch_shift`, but with a ratio of small whole numbers, without which resampling is slow.
    """
    ratio = Fraction(2 ** (semitones / 12)).limit_denominator(100)
    window = torch.hann_window(WINDOW, device=waveforms.device)
    num_samples = waveforms.shape[-1]
    spectrum = torch.stft(
        waveforms.reshape(-1, num_samples), WINDOW, HOP, window=window, pad_mode="constant", return_complex=True
    )
    advance = torch.linspace(0, torch.pi * HOP, spectrum.shape[1], device=waveforms.device)[:, None]
    spectrum = torchaudio.functional.phase_vocoder(spectrum, float(1 / ratio), advance)
    stretched = torch.istft(
        spectrum, WINDOW, HOP, window=window, length=-(-num_samples * ratio.numerator // ratio.denominator)
    )
    shifted = torchaudio.functional.resample(stretched, ratio.numerator, ratio.denominator)
    return shifted[:, :num_samples].reshape(waveforms.shape)

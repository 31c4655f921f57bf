"""Mixtures with their true vocals, in MUSDB18-HQ's layout: ``<part>/<track>/{mixture,vocals}.wav``."""

import functools
from dataclasses import dataclass
from pathlib import Path

import soundfile
import torch
import torchaudio

from altpo_model.errors import UserError


@dataclass
class Stems:
    """One track, mono: float tensors of shape (samples,)."""

    name: str
    mixture: torch.Tensor
    vocals: torch.Tensor

    @functools.cached_property
    def accompaniment(self) -> torch.Tensor:
        return self.mixture - self.vocals


def read_stems(folder: str | Path, sample_rate: int) -> list[Stems]:
    """The tracks of one part, sorted by name, mono at ``sample_rate`` Hz. Raises UserError when there is none."""
    folder = Path(folder)
    names = sorted(path.parent.name for path in folder.glob("*/mixture.wav")) if folder.is_dir() else []
    if not names:
        raise UserError(
            f"{folder}: no <track>/mixture.wav in it; set separation.training.stems_dir to stems in MUSDB18-HQ's layout"
        )
    tracks = []
    for name in names:
        mixture, vocals = (_read_mono(folder / name / f"{part}.wav", sample_rate) for part in ("mixture", "vocals"))
        length = min(len(mixture), len(vocals))
        tracks.append(Stems(name, mixture[:length], vocals[:length]))
    return tracks


def _read_mono(path: Path, sample_rate: int) -> torch.Tensor:
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    return torchaudio.functional.resample(torch.from_numpy(samples.mean(axis=1)), rate, sample_rate)

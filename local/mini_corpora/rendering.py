"""What a worker process does: it takes a shard of the plan and writes the audio files of it.

A shard is made by one fresh process, in order, because espeak-ng repeats itself only so; shards do not depend on the
number of processes, and so neither does any byte of the corpora.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

from mini_corpora import accompaniment
from mini_corpora.composition import Song
from mini_corpora.espeak import SAMPLE_RATE, Engine
from mini_corpora.plan import Utterance
from mini_corpora.singing import sing

SPEECH_RATE = 16000  # Hz, of LibriSpeech
MP3_RATE = 44100  # Hz
SPEECH_PEAK = (0.3, 0.8)
SPEECH_MARGIN = (0.1, 0.3)  # seconds of silence before and after an utterance
SONG_PEAK = 0.9


@dataclass(frozen=True)
class SpeechJob:
    """An utterance and the FLAC file that it becomes."""

    utterance: Utterance
    path: Path


@dataclass(frozen=True)
class SongJob:
    """A song and the files that it becomes; the suffix names the format."""

    song: Song
    mixture: Path
    vocals: Path | None
    accompaniment_db: float  # level over that of the vocals while they sing


Job = SpeechJob | SongJob


def render_shard(jobs: list[Job]) -> list[float]:
    """Write the files of each job; return the seconds of audio of each. For one fresh process."""
    engine = Engine()
    return [_speech(job, engine) if isinstance(job, SpeechJob) else _song(job, engine) for job in jobs]


def _speech(job: SpeechJob, engine: Engine) -> float:
    rng = np.random.default_rng(job.utterance.seed)
    spoken = engine.say(job.utterance.text, job.utterance.voice.name, job.utterance.rate).samples
    resampled = resample_poly(spoken, 320, 441)  # 22.05 kHz -> 16 kHz
    resampled *= rng.uniform(*SPEECH_PEAK) / np.abs(resampled).max()
    before, after = (np.zeros(round(rng.uniform(*SPEECH_MARGIN) * SPEECH_RATE)) for _ in range(2))
    samples = np.concatenate([before, resampled, after])
    _write(job.path, samples, SPEECH_RATE)
    return len(samples) / SPEECH_RATE


def _song(job: SongJob, engine: Engine) -> float:
    vocals = sing(job.song, engine)
    played = accompaniment.render(accompaniment.arrange(job.song), job.song.duration)
    singing = np.concatenate([_between(vocals, line.start, line.end) for line in job.song.lines])
    played *= _rms(singing) / _rms(played) * 10 ** (job.accompaniment_db / 20)
    mixture = vocals + played
    gain = SONG_PEAK / max(np.abs(mixture).max(), np.abs(vocals).max())
    _write(job.mixture, gain * mixture, SAMPLE_RATE)
    if job.vocals is not None:
        _write(job.vocals, gain * vocals, SAMPLE_RATE)
    return len(mixture) / SAMPLE_RATE


def _between(samples: np.ndarray, start: float, end: float) -> np.ndarray:
    return samples[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(samples**2)))


def _write(path: Path, samples: np.ndarray, rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mp3":
        # At 44.1 kHz, as the real ones are; at half of it libmpg123 complains on standard error at each seek.
        soundfile.write(path, resample_poly(samples, MP3_RATE // rate, 1), MP3_RATE)
    else:
        soundfile.write(path, samples, rate, subtype="PCM_16")

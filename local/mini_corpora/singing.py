"""A song sung: each line is spoken by espeak-ng, analysed by WORLD, and put together again at its notes.

WORLD parts a voice into pitch, spectral envelope and aperiodicity (Morise, Yokomori and Ozawa 2016), in frames of 5 ms.
Each spoken syllable is moved to its notes: consonants and the transitions at the edges of the vowel keep their length,
the core of the vowel is stretched; the pitch is replaced by that of the notes; unvoiced frames stay unvoiced.
"""

import warnings

import numpy as np

from mini_corpora.composition import Line, Note, Song
from mini_corpora.espeak import SAMPLE_RATE, Engine
from mini_corpora.syllables import SpokenSyllable, spoken_syllables

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pyworld 0.3.5 imports pkg_resources, which warns that it is going away
    import pyworld

FRAME = 0.005  # seconds
FFT_SIZE = 1024  # of the envelope: enough for voices down to 65 Hz at 22.05 kHz
F0_RANGE = (65.0, 400.0)  # Hz, of the speech
RATE = 150  # words a minute of the speech
PITCH, PITCH_RANGE = 65, 25  # of the speech, as espeak-ng counts them: high and flat suits the analysis
TRANSITION_IN, TRANSITION_OUT = 0.02, 0.05  # seconds of a vowel's edges that are not stretched
FIXED_SHARE = 0.6  # of a syllable's sung length that is not stretched, at most
PORTAMENTO = 0.03  # seconds from one pitch to the next
VIBRATO_RATE = (5.0, 6.2)  # Hz
VIBRATO_DEPTH = (0.1, 0.25)  # semitones
VIBRATO_DELAY = 0.2  # seconds from the start of a note
DIP, DIP_WIDTH = 0.5, 0.015  # the voice is that much softer, for that many seconds, where a syllable starts
RELEASE = 0.03  # seconds in which the voice fades after the last note of a line
LEVEL = 0.1  # RMS of a line


def sing(song: Song, engine: Engine) -> np.ndarray:
    """The voice alone. Returns (N,) float64 at 22.05 kHz, N = the song's duration; RMS of a line 0.1."""
    rng = np.random.default_rng(song.seed)
    vocals = np.zeros(round(song.duration * SAMPLE_RATE))
    for line in song.lines:
        sung = _sing_line(line, song.voice.name, engine, rng)
        start = round(line.start * SAMPLE_RATE)
        end = min(start + len(sung), len(vocals))
        vocals[start:end] += sung[: end - start]
    return vocals


def _sing_line(line: Line, voice: str, engine: Engine, rng: np.random.Generator) -> np.ndarray:
    """(N,) float64 from the line's start to a little after its end."""
    speech = engine.say(line.text, voice, RATE, PITCH, PITCH_RANGE)
    spoken = spoken_syllables(speech, [len(word.syllables) for word in line.words])
    cores = [_core(syllable) for syllable in spoken]
    f0, envelope, aperiodicity = _analyse(speech.samples, cores)

    count = round((line.end + RELEASE - line.start) / FRAME) + 1
    times = np.arange(count) * FRAME  # (F,) sung, from the start of the line
    source, in_core = np.zeros(count), np.zeros(count, dtype=bool)  # (F,) spoken time; inside the core of a vowel
    for sung, syllable, core in zip(line.syllables, spoken, cores, strict=True):
        start, end = sung.start - line.start, sung.end - line.start
        into, out = core[0] - syllable.start, syllable.end - core[1]
        shrink = min(1.0, FIXED_SHARE * (end - start) / max(into + out, FRAME))
        knots = [start, start + into * shrink, end - out * shrink, end]
        inside = times >= start - 1e-9
        source[inside] = np.interp(times[inside], knots, [syllable.start, *core, syllable.end])
        in_core[inside] = (times[inside] >= knots[1]) & (times[inside] <= knots[2])

    place = np.clip(source / FRAME, 0, len(f0) - 1)  # (F,) frames of the speech
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, len(f0) - 1)
    share = (place - low)[:, None]
    log_envelope = np.log(envelope)
    sung_envelope = np.exp((1 - share) * log_envelope[low] + share * log_envelope[high])  # (F, 513)
    sung_aperiodicity = (1 - share) * aperiodicity[low] + share * aperiodicity[high]  # (F, 513)
    voiced = in_core | (f0[np.rint(place).astype(int)] > 0)
    pitch = _pitch(line.notes, line.start, times, rng)
    sung_f0 = np.where(voiced, 440.0 * 2 ** ((pitch - 69) / 12), 0.0)

    sound = pyworld.synthesize(
        np.ascontiguousarray(sung_f0), sung_envelope, sung_aperiodicity, SAMPLE_RATE, FRAME * 1000.0
    )
    sound *= _loudness(line, np.arange(len(sound)) / SAMPLE_RATE)
    return sound * LEVEL / max(np.sqrt(np.mean(sound**2)), 1e-6)


def _core(syllable: SpokenSyllable) -> tuple[float, float]:
    """The part of the vowel that is stretched (spoken time): at least the middle third."""
    third = (syllable.vowel_end - syllable.vowel_start) / 3
    return syllable.vowel_start + min(TRANSITION_IN, third), syllable.vowel_end - min(TRANSITION_OUT, third)


def _analyse(samples: np.ndarray, cores: list[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pitch (T,) in Hz, 0 where unvoiced; spectral envelope (T, 513); aperiodicity (T, 513)."""
    coarse, times = pyworld.dio(samples, SAMPLE_RATE, *F0_RANGE, frame_period=FRAME * 1000.0)
    f0 = pyworld.stonemask(samples, coarse, times, SAMPLE_RATE)
    # The core of a vowel is voiced; where the analysis has missed it, the pitch comes from the frames beside it.
    vowel = np.zeros(len(f0), dtype=bool)
    for start, end in cores:
        vowel |= (times >= start) & (times <= end)
    known = np.flatnonzero(f0 > 0)
    missed = np.flatnonzero(vowel & (f0 == 0))
    if len(known):
        f0[missed] = np.interp(missed, known, f0[known])
    envelope = pyworld.cheaptrick(samples, f0, times, SAMPLE_RATE, fft_size=FFT_SIZE)
    aperiodicity = pyworld.d4c(samples, f0, times, SAMPLE_RATE, fft_size=FFT_SIZE)
    return f0, envelope, aperiodicity


def _pitch(notes: list[Note], origin: float, times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The sung pitch (F,) in semitones (MIDI) at ``times`` (seconds after ``origin``)."""
    pitch = np.full(len(times), float(notes[0].pitch))
    rate, depth, phase = rng.uniform(*VIBRATO_RATE), rng.uniform(*VIBRATO_DEPTH), rng.uniform(0, 2 * np.pi)
    vibrato = np.zeros(len(times))
    for before, note in zip([notes[0], *notes], notes, strict=False):
        since = times - (note.start - origin)
        pitch += (note.pitch - before.pitch) * np.clip(since / PORTAMENTO + 0.5, 0, 1)
        swell = np.clip((since - VIBRATO_DELAY) / VIBRATO_DELAY, 0, 1)
        inside = (since >= 0) & (times < note.end - origin)
        vibrato[inside] = (depth * swell * np.sin(2 * np.pi * rate * times + phase))[inside]
    return pitch + vibrato


def _loudness(line: Line, times: np.ndarray) -> np.ndarray:
    """Gain (N,) at ``times`` (seconds after the line's start): a dip at each syllable, fades at both ends."""
    gain = np.ones(len(times))
    for syllable in line.syllables[1:]:
        gain -= DIP * np.exp(-(((times - (syllable.start - line.start)) / DIP_WIDTH) ** 2))
    end = line.end - line.start
    return gain * np.clip(times / 0.005, 0, 1) * np.clip((end + RELEASE - times) / RELEASE, 0, 1)

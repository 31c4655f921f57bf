"""The accompaniment of a song: chords, bass, drums and sometimes a lead, as notes and as sound.

The notes follow the chords of the composition. The sound is General MIDI from the sound font that pretty_midi ships,
rendered by tinysoundfont in memory: no audio device and no pyaudio.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pretty_midi
import tinysoundfont

from mini_corpora.composition import Chord, Song

SAMPLE_RATE = 22050  # Hz
SOUND_FONT = Path(pretty_midi.__file__).parent / "TimGM6mb.sf2"
# General MIDI programs, counted from 0
CHORD_PROGRAMS = [0, 4, 16, 24, 25, 27, 48, 89]  # pianos, organ, guitars, strings, pad
BASS_PROGRAMS = [32, 33, 34, 38]
LEAD_PROGRAMS = [11, 40, 56, 73]  # vibraphone, violin, trumpet, flute
LEAD_SHARE = 0.4  # of the songs
KICK, SNARE, CLOSED_HAT, OPEN_HAT = 36, 38, 42, 46  # drum keys
DRUM_BANK, DRUM_CHANNEL = 128, 9


@dataclass(frozen=True)
class Stroke:
    """A note of an instrument, or a stroke of a drum. Times in seconds."""

    start: float
    end: float
    pitch: int  # MIDI
    velocity: int


@dataclass(frozen=True)
class Part:
    name: str  # CHORDS, BASS, DRUMS, LEAD
    program: int
    drums: bool
    strokes: tuple[Stroke, ...]


def arrange(song: Song) -> list[Part]:
    """The parts of the accompaniment, the same for the same song."""
    rng = np.random.default_rng([song.seed, 1])  # the voice draws from song.seed alone
    parts = [
        Part("CHORDS", int(rng.choice(CHORD_PROGRAMS)), False, _chords(song, int(rng.integers(3)))),
        Part("BASS", int(rng.choice(BASS_PROGRAMS)), False, _bass(song, int(rng.integers(3)))),
        Part("DRUMS", 0, True, _drums(song, int(rng.integers(3)))),
    ]
    if rng.random() < LEAD_SHARE:
        parts.append(Part("LEAD", int(rng.choice(LEAD_PROGRAMS)), False, _lead(song, rng)))
    return parts


def render(parts: list[Part], duration: float) -> np.ndarray:
    """The sound of ``parts``. Returns (N,) float64, mono at 22.05 kHz, N = duration in samples."""
    synth = tinysoundfont.Synth(samplerate=SAMPLE_RATE, gain=-12.0)
    font = synth.sfload(str(SOUND_FONT))
    events = []  # (sample, 0 off | 1 on, channel, pitch, velocity): at one time, the offs come first
    for channel, part in enumerate(parts):
        channel = DRUM_CHANNEL if part.drums else channel
        synth.program_select(channel, font, DRUM_BANK if part.drums else 0, part.program, part.drums)
        for stroke in part.strokes:
            events.append((round(stroke.start * SAMPLE_RATE), 1, channel, stroke.pitch, stroke.velocity))
            events.append((round(stroke.end * SAMPLE_RATE), 0, channel, stroke.pitch, 0))
    sound = np.zeros((round(duration * SAMPLE_RATE), 2), dtype=np.float32)
    now = 0
    for sample, on, channel, pitch, velocity in sorted(events):
        now = _play_until(synth, sound, now, sample)
        if on:
            synth.noteon(channel, pitch, velocity)
        else:
            synth.noteoff(channel, pitch)
    _play_until(synth, sound, now, len(sound))
    return sound.mean(axis=1, dtype=np.float64)


def _play_until(synth: tinysoundfont.Synth, sound: np.ndarray, now: int, then: int) -> int:
    then = min(then, len(sound))
    if then <= now:
        return now
    sound[now:then] = np.frombuffer(synth.generate_simple(then - now), dtype=np.float32).reshape(-1, 2)
    return then


def _closing(song: Song, chord: Chord) -> bool:
    return chord is song.chords[-1]


def _chords(song: Song, style: int) -> tuple[Stroke, ...]:
    """Held chords (style 0), a chord on each beat (1), or broken chords (2)."""
    strokes = []
    for chord in song.chords:
        if style == 0 or _closing(song, chord):
            strokes += [Stroke(chord.start, chord.end - 0.02, pitch, 72) for pitch in chord.pitches]
            continue
        for eighth in range(0, 8, 2 if style == 1 else 1):
            start = chord.start + eighth * song.eighth
            pitches = chord.pitches if style == 1 else (chord.pitches[(0, 1, 2, 1)[eighth % 4]],)
            length = song.eighth * (1.8 if style == 1 else 1.0)
            strokes += [Stroke(start, start + 0.95 * length, pitch, 78 if eighth % 4 == 0 else 66) for pitch in pitches]
    return tuple(strokes)


def _bass(song: Song, style: int) -> tuple[Stroke, ...]:
    """The root once a bar (style 0), on each beat (1), or root and fifth in turn (2)."""
    strokes = []
    for chord in song.chords:
        root = chord.pitches[0] - 12
        if style == 0 or _closing(song, chord):
            strokes.append(Stroke(chord.start, chord.end - 0.02, root, 84))
            continue
        for beat in range(4):
            start = chord.start + 2 * beat * song.eighth
            pitch = root + 7 if style == 2 and beat % 2 else root
            strokes.append(Stroke(start, start + 1.8 * song.eighth, pitch, 84))
    return tuple(strokes)


def _drums(song: Song, style: int) -> tuple[Stroke, ...]:
    """Kick on one and three, snare on two and four, hats on eighths (style 0), on quarters (1), open (2)."""
    strokes = []
    for chord in song.chords[:-1]:
        for eighth in range(8):
            start = chord.start + eighth * song.eighth
            keys = {0: [(KICK, 92)], 2: [(SNARE, 80)], 4: [(KICK, 84)], 6: [(SNARE, 84)]}.get(eighth, [])
            if style == 0 or (style == 1 and eighth % 2 == 0):
                keys = [*keys, (CLOSED_HAT, 60)]
            elif style == 2 and eighth % 2 == 1:
                keys = [*keys, (OPEN_HAT, 50)]
            strokes += [Stroke(start, start + 0.8 * song.eighth, key, velocity) for key, velocity in keys]
    return tuple(strokes)


def _lead(song: Song, rng: np.random.Generator) -> tuple[Stroke, ...]:
    """Long notes of the chord, an octave above it, two a bar, not in every bar."""
    strokes = []
    for chord in song.chords[:-1]:
        if rng.random() < 0.3:
            continue
        for half in range(2):
            start = chord.start + 4 * half * song.eighth
            pitch = int(rng.choice(chord.pitches)) + 24
            strokes.append(Stroke(start, start + 3.8 * song.eighth, pitch, 64))
    return tuple(strokes)

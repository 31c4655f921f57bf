"""A song on paper: words, notes, chords and all their times, before anything sounds.

All times are seconds from the start of the song and lie on the grid of its eighth notes. What is written here is the
ground truth of every annotation: the singer (`singing`) starts each syllable at the start of its first note.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mini_corpora.grammar import Sentence
from mini_corpora.voices import Voice

BAR = 8  # eighth notes
SCALES = {  # semitones above the tonic
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
}
# Degrees of the scale, a bar each
PROGRESSIONS = [(0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 0, 4), (0, 2, 3, 4), (3, 0, 4, 5)]
TEMPI = (84.0, 116.0)  # quarter notes a minute
RESTS = (0.6, 1.5)  # seconds between two lines
TYPICAL_LINE = 4.0  # seconds
MELISMA = 0.15  # share of the long syllables that get two notes
STEPS = [-2, -1, -1, 0, 0, 1, 1, 2, 3, -3]  # of the melody, in degrees of the scale


@dataclass(frozen=True)
class Note:
    start: float
    end: float
    pitch: int  # MIDI


@dataclass(frozen=True)
class Syllable:
    text: str
    notes: tuple[Note, ...]

    @property
    def start(self) -> float:
        return self.notes[0].start

    @property
    def end(self) -> float:
        return self.notes[-1].end


@dataclass(frozen=True)
class Word:
    syllables: tuple[Syllable, ...]

    @property
    def text(self) -> str:
        return "".join(syllable.text for syllable in self.syllables)

    @property
    def start(self) -> float:
        return self.syllables[0].start

    @property
    def end(self) -> float:
        return self.syllables[-1].end


@dataclass(frozen=True)
class Line:
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)

    @property
    def syllables(self) -> list[Syllable]:
        return [syllable for word in self.words for syllable in word.syllables]

    @property
    def notes(self) -> list[Note]:
        return [note for syllable in self.syllables for note in syllable.notes]

    @property
    def start(self) -> float:
        return self.words[0].start

    @property
    def end(self) -> float:
        return self.words[-1].end


@dataclass(frozen=True)
class Chord:
    start: float
    end: float
    pitches: tuple[int, int, int]  # MIDI: root (48 to 59), third, fifth


@dataclass(frozen=True)
class Song:
    title: str
    voice: Voice
    seed: int  # of all that is random in its performance
    tempo: float  # quarter notes a minute
    lines: tuple[Line, ...]
    chords: tuple[Chord, ...]
    duration: float

    @property
    def artist(self) -> str:
        return self.voice.artist

    @property
    def eighth(self) -> float:
        """Seconds of an eighth note."""
        return 30.0 / self.tempo

    @property
    def words(self) -> list[Word]:
        return [word for line in self.lines for word in line.words]

    @property
    def notes(self) -> list[Note]:
        return [note for line in self.lines for note in line.notes]


def compose(
    rng: np.random.Generator, title: str, voice: Voice, seconds: float, next_sentence: Callable[[], Sentence]
) -> Song:
    """A song of ``seconds`` or a little more: an intro of one bar, lines with rests between them, a closing chord."""
    tempo = float(rng.uniform(*TEMPI))
    eighth = 30.0 / tempo
    tonic = int(rng.integers(48, 60))
    scale = SCALES[str(rng.choice(list(SCALES)))]
    progression = PROGRESSIONS[rng.integers(len(PROGRESSIONS))]
    triads = [_triad(tonic, scale, degree) for degree in progression]
    melody = _Melody(rng, voice, {(tonic + step) % 12 for step in scale})
    outro = BAR * eighth

    position = BAR + int(rng.integers(0, 3))  # eighth notes from the start
    lines = []
    while not lines or position * eighth < seconds - outro - TYPICAL_LINE / 2:
        if lines:
            fewest, most = math.ceil(RESTS[0] / eighth), math.floor(RESTS[1] / eighth)
            position += int(rng.integers(fewest, most + 1))
        line, position = _set_to_music(rng, next_sentence(), position, eighth, melody, triads)
        lines.append(line)

    bars = math.ceil(position / BAR)
    chords = [Chord(bar * BAR * eighth, (bar + 1) * BAR * eighth, triads[bar % len(triads)]) for bar in range(bars)]
    chords.append(Chord(bars * BAR * eighth, (bars + 1) * BAR * eighth, triads[0]))
    duration = max(chords[-1].end, seconds)
    return Song(title, voice, int(rng.integers(2**31)), tempo, tuple(lines), tuple(chords), duration)


def _triad(tonic: int, scale: tuple[int, ...], degree: int) -> tuple[int, int, int]:
    """Root, third and fifth on a degree of the scale, the root within the octave of MIDI 48."""
    root, third, fifth = (tonic + scale[step % 7] + 12 * (step // 7) for step in (degree, degree + 2, degree + 4))
    down = 12 * ((root - 48) // 12)
    return root - down, third - down, fifth - down


class _Melody:
    """A random walk over the notes of the scale that the voice can sing."""

    def __init__(self, rng: np.random.Generator, voice: Voice, pitch_classes: set[int]):
        self.rng = rng
        self.pitches = [p for p in range(voice.lowest, voice.highest + 1) if p % 12 in pitch_classes]
        self.place = len(self.pitches) // 2 + int(rng.integers(-2, 3))

    def next(self, chord: tuple[int, int, int], on_chord: bool) -> int:
        """The next note (MIDI); ``on_chord`` moves it to the nearest note of the chord."""
        last = len(self.pitches) - 1
        place = self.place + STEPS[self.rng.integers(len(STEPS))]
        place = min(max(place if 0 <= place <= last else 2 * self.place - place, 0), last)
        if on_chord:
            tones = {pitch % 12 for pitch in chord}
            near = [p for p in range(last + 1) if self.pitches[p] % 12 in tones]
            place = min(near, key=lambda p: (abs(p - place), p))
        self.place = place
        return self.pitches[place]


def _set_to_music(
    rng: np.random.Generator,
    sentence: Sentence,
    position: int,
    eighth: float,
    melody: _Melody,
    triads: list[tuple[int, int, int]],
) -> tuple[Line, int]:
    """The sentence sung from ``position`` (eighth notes) on, and the position of its end."""
    words = []
    for w, lyric in enumerate(sentence):
        syllables = []
        for s, text in enumerate(lyric.syllables):
            last = w == len(sentence) - 1 and s == len(lyric.syllables) - 1
            length = int(rng.integers(2, 4)) if last else int(rng.choice([1, 2], p=[0.6, 0.4]))
            lengths = [1, length - 1] if length > 1 and rng.random() < MELISMA else [length]
            notes = []
            for i, part in enumerate(lengths):
                chord = triads[position // BAR % len(triads)]
                pitch = melody.next(chord, on_chord=last or (position % 4 == 0 and rng.random() < 0.6))
                while i > 0 and pitch == notes[-1].pitch:  # the second note of a melisma is heard by its pitch alone
                    pitch = melody.next(chord, on_chord=False)
                notes.append(Note(position * eighth, (position + part) * eighth, pitch))
                position += part
            syllables.append(Syllable(text, tuple(notes)))
        words.append(Word(tuple(syllables)))
    return Line(tuple(words)), position

"""Timed words, syllables and notes as an UltraStar song: what `altpo_model.ultrastar` reads again.

The format and its customs are described there.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Protocol

from altpo_model.ultrastar import HOLD, HYPHEN, MIDI_C4, NoteLine, TimedText, UltraStarSong, Voice

DEFAULT_BPM = 1500.0  # a tick is 10 ms
_LINE_CHARACTERS = 50  # after which a line that is written ends with the word


class TimedItem(Protocol):
    """What `ultrastar_song` takes: Lhotse's `AlignmentItem` or the like; seconds."""

    symbol: str
    start: float
    end: float


def ultrastar_song(
    words: Iterable[TimedItem],
    syllables: Iterable[TimedItem] = (),
    notes: Iterable[TimedItem] = (),
    tags: Mapping[str, str] | None = None,
    bpm: float = DEFAULT_BPM,
    pause: float = 0.5,
    shortest_freestyle: float = 0.0,
) -> UltraStarSong:
    """A song of one voice from words, syllables and notes with times, as a Lhotse supervision has them.

    words, syllables: without white space and without ``~``, which would be read as something else. The syllables that
    spell a word, letter by letter and in its time, become its notes' texts; a word that no syllables spell is one
    syllable; syllables of no word are left out. Without words each syllable is one.
    notes: ``symbol`` is the MIDI number. A note belongs to the syllable that it overlaps longest; the first of these
    carries the text, the others ``~``. A note of no syllable is a bare ``~`` that begins a line. A syllable without a
    note is a freestyle note, and so is its time before its first and after its last note.
    tags: by name; ``MP3`` names the audio file for every program.
    bpm: a tick lasts 15 / bpm seconds.
    pause: seconds between two words at which a line of the lyrics ends.
    shortest_freestyle: seconds; a shorter stretch of a syllable without a note is not written if another has one.

    `timed_lyrics` of the song gives the same words, syllables and notes. The times agree within a tick; except that
    where a note reaches out of its syllable, the syllable and its word reach as far as the note, and a syllable into
    which another's note reaches loses that part.

    Raises ValueError for times that are not finite or end before they begin.
    """
    tick = 60 / (4 * bpm)
    notes = sorted(_checked(notes), key=_start)
    words, syllables = _with_text(words), _with_text(syllables)
    units = [
        _Unit([_Part(*syllable) for syllable in word])
        for word in _spelled_words(words or syllables, syllables, tolerance=tick)
    ]
    bare = _hand_out(notes, sorted(chain.from_iterable(unit.parts for unit in units), key=_start), shortest=tick / 2)
    _double_hyphens(units)
    near = _overlap_finder(notes)
    for part in chain.from_iterable(unit.parts for unit in units):
        gaps = _gaps(part, near(part), shortest=max(tick / 2, shortest_freestyle if part.stretches else 0.0))
        part.stretches = sorted([*part.stretches, *gaps], key=lambda stretch: stretch[0])
    return UltraStarSong(
        tags={name.upper(): value for name, value in (tags or {}).items()},
        bpm=bpm,
        gap=0.0,
        voices=[_written_lines(_with_bare_notes(units, bare), tick, pause)],
    )


@dataclass
class _Part:
    """A syllable to be written; with no text, a note of no syllable."""

    text: str
    start: float  # seconds
    end: float
    stretches: list[tuple[float, float, int | None]] = field(default_factory=list)  # start, end, MIDI number if any


@dataclass
class _Unit:
    """What stays in one piece: a word, with the notes of no syllable inside of it, or one such note alone."""

    parts: list[_Part]

    @property
    def start(self) -> float:
        return self.parts[0].start

    @property
    def end(self) -> float:
        return max(part.end for part in self.parts)


def _start(item: TimedItem | _Part | _Unit) -> float:
    return item.start


def _checked(items: Iterable[TimedItem]) -> list[TimedItem]:
    items = list(items)
    for item in items:
        if not (math.isfinite(item.start) and math.isfinite(item.end) and item.start <= item.end):
            raise ValueError(f"{item.symbol!r} lasts from {item.start} s to {item.end} s")
    return items


def _with_text(items: Iterable[TimedItem]) -> list[TimedText]:
    """The items in order of their starts, with texts that fit into a line of a file; those without a text left out."""
    cleaned = (
        TimedText(" ".join(item.symbol.replace(HOLD, "").split()), item.start, item.end) for item in _checked(items)
    )
    return sorted((item for item in cleaned if item.symbol), key=_start)


def _spelled_words(
    words: Sequence[TimedText], syllables: Sequence[TimedText], tolerance: float
) -> list[list[TimedText]]:
    """The syllables of each word: those that begin in its time and spell it, or else the word itself."""
    used: set[int] = set()
    first = 0
    spelled = []
    for word in words:
        while first < len(syllables) and (first in used or syllables[first].start < word.start - tolerance):
            first += 1
        rest, found = word.symbol, []
        for index in range(first, len(syllables)):
            if not rest or syllables[index].start >= word.end:
                break
            if index not in used and rest.startswith(syllables[index].symbol):
                found.append(index)
                rest = rest.removeprefix(syllables[index].symbol)
        if rest:
            spelled.append([word])
        else:
            used.update(found)
            spelled.append([syllables[index] for index in found])
    return spelled


def _overlap_finder(items: Sequence[TimedItem | _Part]) -> Callable[[TimedItem | _Part], Sequence]:
    """Finds those of the items, which are in order of their starts, that may overlap another item."""
    starts = [item.start for item in items]
    latest = list(accumulate((item.end for item in items), max))
    return lambda other: items[bisect_right(latest, other.start) : bisect_left(starts, other.end)]


def _hand_out(notes: Iterable[TimedItem], parts: Sequence[_Part], shortest: float) -> list[_Part]:
    """Give each note to the part that it overlaps longest, and for more than ``shortest`` seconds; returns the rest."""
    near = _overlap_finder(parts)
    bare = []
    for note in notes:
        longest, owner = min(shortest, (note.end - note.start) / 2), None
        for part in near(note):
            overlap = min(note.end, part.end) - max(note.start, part.start)
            if overlap > longest:
                longest, owner = overlap, part
        if owner is None:
            owner = _Part("", note.start, note.end)
            bare.append(owner)
        owner.stretches.append((note.start, note.end, int(note.symbol)))
    return bare


def _double_hyphens(units: Iterable[_Unit]) -> None:
    """Where a reader would take the hyphens at the joints of syllables for marks and drop one, write them twice."""
    joints = [part for unit in units for part in unit.parts[:-1]]
    hyphened = [part for part in joints if part.text.endswith(HYPHEN)]
    if 2 * len(hyphened) >= len(joints):
        for part in hyphened:
            part.text += HYPHEN


def _gaps(part: _Part, notes: Iterable[TimedItem], shortest: float) -> list[tuple[float, float, None]]:
    """The stretches of a part, each of at least ``shortest`` seconds, that have no note and that its times ask for.

    These are the ones before its first and after its last note; a part that would have no stretch at all is one.
    """
    gaps, position = [], part.start
    for note in notes:
        gaps.append((position, note.start, None))
        position = max(position, note.end)
    gaps.append((position, part.end, None))
    first = min((start for start, _, _ in part.stretches), default=math.inf)
    last = max((end for _, end, _ in part.stretches), default=-math.inf)
    asked = [gap for gap in gaps if gap[1] - gap[0] >= shortest and (gap[1] <= first or gap[0] >= last)]
    return asked if asked or part.stretches else [(part.start, part.end, None)]


def _with_bare_notes(units: Sequence[_Unit], bare: Iterable[_Part]) -> list[_Unit]:
    """The units and the notes of no syllable, in order of time; a note that begins in a word's time goes into it."""
    units = sorted(units, key=_start)
    near = _overlap_finder(units)
    alone = []
    for note in bare:
        around = [unit for unit in near(note) if unit.start <= note.start < unit.end]
        if around:
            around[0].parts = sorted([*around[0].parts, note], key=_start)
        else:
            alone.append(_Unit([note]))
    return sorted([*units, *alone], key=_start)


def _written_lines(units: Iterable[_Unit], tick: float, pause: float) -> Voice:
    lines: Voice = [[]]
    sung = ""  # in the last line
    end = -math.inf
    for unit in units:
        at_pause = unit.start - end >= pause or len(sung) >= _LINE_CHARACTERS
        begins_word = True
        for part in unit.parts:
            # A bare ~ stands for no syllable only before the first text of its line.
            if lines[-1] and (at_pause or (sung and not part.text)):
                lines.append([])
                sung = ""
            at_pause = False
            text = part.text
            if text and begins_word:
                text = f" {text}" if lines[-1] else text
                begins_word = False
            sung += text
            for start, stretch_end, number in part.stretches:
                first_tick, ticks = _ticks(start, stretch_end, tick)
                kind, pitch = ("F", 0) if number is None else (":", number - MIDI_C4)
                lines[-1].append(NoteLine(kind, first_tick, ticks, pitch, text or HOLD))
                text = ""
                end = max(end, stretch_end)
    return [line for line in lines if line]


def _ticks(start: float, end: float, tick: float) -> tuple[int, int]:
    """The nearest ticks to a time: the first, and how many. What rounds to none gets one, within a tick of its ends."""
    first, last = round(start / tick), round(end / tick)
    if first == last:
        first = math.floor((start + end) / 2 / tick)
        last = first + 1
    return first, last - first

"""The UltraStar karaoke format: text to data and back, syllables to words. No files here.

The format. A text has tags, ``#KEY:VALUE``, and then a body with one note a line, ``<kind> <start> <length> <pitch>
<text>``: kind ``:`` (sung) or ``*`` (sung, more points), which have a pitch, ``F`` (freestyle), ``R`` (rap) or ``G``
(rap, more points), which have none; start and length in ticks (the specification says beats); pitch in semitones over
C4, MIDI note 60; text a syllable, blanks included. ``- <tick>`` ends a line of the lyrics, ``P1`` and ``P2`` tell whose
notes follow in a duet, ``E`` ends the song. There are four ticks to a beat of ``#BPM``, so a tick lasts 60 / (4 * BPM)
seconds, and tick 0 is ``#GAP`` milliseconds into the audio. With ``#RELATIVE:yes``, ticks count from the line's own
origin, which each line break moves on: ``- <tick> <offset>``.

Source: "The UltraStar File Format", unversioned and version 1, https://usdx.eu/format/. Where we differ, for the files
as they are:

- A line of the body that nobody can read does not spoil the song: its number goes into `UltraStarSong.unread_lines`.
- A relative song begins at tick 0. (The specification lets its origin, in ticks, begin at GAP, in milliseconds.)
- ``B <tick> <BPM>`` in the body changes the tempo, as in UltraStar Deluxe. In a relative song the tick counts from the
  first voice's origin.
- ``P3`` is both voices, unless ``#VERSION`` says that P1 to P9 are a voice each. Of a tag given twice the last counts.
- A text that is not UTF-8 and does not name its encoding is read as CP1252.

Words. The specification has notes alone. By the custom of the karaoke world, a note begins a new word when its text
begins with white space, when the text before it ended with white space, or when it is the first of its line; otherwise
it joins on to the word before it. ``~`` at the beginning of a text holds the syllable before it, and may bring the rest
of it (``te`` ``~r`` is ter); the word goes on. A bare ``~`` that is the first of its line has nothing to hold: it is a
note without a syllable. White space inside of a text divides words; a note's time is
then shared out by letters. Some files write a hyphen at the end of every syllable that goes on (``some-`` ``thing``);
hyphens at such joints are marks, not text, in a song where at least half of the joints have one.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from itertools import accumulate, chain, pairwise, zip_longest
from typing import NamedTuple

MIDI_C4 = 60
MAX_CHARACTERS = 2**20  # of one text; a long song has about 20,000
MAX_TICK = 10**9
MIN_BPM, MAX_BPM = 0.01, 1e5
MAX_GAP = 1e9  # milliseconds

PITCHED = (":", "*")
HOLD = "~"
HYPHEN = "-"
_FIELDS = ("BPM", "GAP", "RELATIVE", "ENCODING")  # tags that become fields of the song, or nothing
_FIRST_TAGS = ("VERSION", "TITLE", "ARTIST", "LANGUAGE", "MP3", "AUDIO")

_LINE_END = re.compile(r"\r\n|\r|\n")
_INTEGER = "[+-]?[0-9]{1,12}"
_DECIMAL = "[+-]?(?:[0-9]{1,12}(?:[.,][0-9]{0,400})?|[.,][0-9]{1,400})"
_NOTE = re.compile(
    rf"(?P<kind>[:*FRG])[ \t]*(?P<start>{_INTEGER})[ \t]+(?P<length>{_INTEGER})[ \t]+(?P<pitch>{_INTEGER})"
    r"(?:[ \t](?P<text>.*))?"
)
_BREAK = re.compile(rf"-[ \t]*(?:({_INTEGER})(?:[ \t]+({_INTEGER}))?)?")
_VOICE = re.compile(r"P[ \t]*([1-9])")
_TEMPO = re.compile(rf"B[ \t]*({_DECIMAL})[ \t]+({_DECIMAL})")
_ENCODING = re.compile(rb"^[ \t]*#[ \t]*ENCODING[ \t]*:[ \t]*(?:CP|WINDOWS-)?(UTF-?8|125[0-8])[ \t]*$", re.I | re.M)
_HEADER_BYTES = 2**16  # in which the tag that names the encoding is looked for


class BadUltraStar(Exception):
    """A text that is no UltraStar song; the message says why, in a few words, with the line number if there is one."""


@dataclass(frozen=True)
class NoteLine:
    """A note: ticks from the song's tick 0, semitones over C4, and the text just as it stands."""

    kind: str  # : * F R G
    start: int
    length: int
    pitch: int
    text: str


Voice = list[list[NoteLine]]  # the lines of the lyrics


@dataclass(frozen=True)
class UltraStarSong:
    """A song in absolute ticks.

    tags: by their names in capitals, without BPM, GAP, RELATIVE and ENCODING, whose meaning is in the other fields.
    """

    tags: dict[str, str]
    bpm: float  # of the tag: a quarter of the ticks a minute
    gap: float  # milliseconds
    voices: list[Voice]
    tempo_changes: list[tuple[float, float]] = field(default_factory=list)  # tick, bpm; in order of the ticks
    unread_lines: list[int] = field(default_factory=list)  # numbers, from 1, of lines that nobody could read

    def seconds(self, tick: float) -> float:
        """When a tick begins, from the beginning of the audio."""
        return self.gap / 1000 + self._elapsed(tick) - self._elapsed(0)

    def notes(self) -> list[NoteLine]:
        """The notes of all voices; one that several voices sing stands once."""
        return _together(chain.from_iterable(voice) for voice in self.voices)

    def _elapsed(self, tick: float) -> float:
        starts, elapsed, tick_lengths = self._tempo
        part = max(0, bisect_right(starts, tick) - 1)
        return elapsed[part] + (tick - starts[part]) * tick_lengths[part]

    @cached_property
    def _tempo(self) -> tuple[list[float], list[float], list[float]]:
        """Parts of one tempo: their first ticks, the seconds from the first part's beginning, the seconds of a tick."""
        tempo = {min([0, *(tick for tick, _ in self.tempo_changes)]): self.bpm, **dict(self.tempo_changes)}
        starts = sorted(tempo)
        tick_lengths = [60 / (4 * tempo[start]) for start in starts]
        lasting = ((end - start) * length for (start, end), length in zip(pairwise(starts), tick_lengths, strict=False))
        return starts, list(accumulate(lasting, initial=0.0)), tick_lengths


class TimedText(NamedTuple):
    """A word, a syllable, or a note (``symbol`` is its MIDI number); seconds."""

    symbol: str
    start: float
    end: float


@dataclass(frozen=True)
class TimedLyrics:
    """What a song has, in order of time. Numbers of notes may lie outside of MIDI's 0 to 127."""

    words: list[TimedText]
    syllables: list[TimedText]
    notes: list[TimedText]


def decode_ultrastar(data: bytes) -> str:
    """The text of a file: by its byte-order mark, by its tag ``#ENCODING``, as UTF-8, or as CP1252.

    Without a byte-order mark, what does not fit one of these is read as the next; Latin-1, which fits all, is the last.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    if data.startswith(b"\xef\xbb\xbf"):
        return data.decode("utf-8-sig", errors="replace")
    encodings = ["utf-8", "cp1252"]
    if told := _ENCODING.search(data[:_HEADER_BYTES].replace(b"\r", b"\n")):
        name = told.group(1).decode("ascii")
        encodings.insert(0, f"cp{name}" if name.isdigit() else "utf-8")
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def is_ultrastar(text: str) -> bool:
    """Whether a text claims to be an UltraStar song: it has a tag TITLE or BPM, or a note."""
    return any(_tag(line)[0] in ("TITLE", "BPM") or _NOTE.fullmatch(line) for line in _lines(text))


def parse_ultrastar(text: str) -> UltraStarSong:
    """Read a song. Raises BadUltraStar where its times cannot be known or it has no notes."""
    if len(text) > MAX_CHARACTERS:
        raise BadUltraStar(f"longer than {MAX_CHARACTERS} characters")
    tags: dict[str, tuple[str, int]] = {}  # value, line number
    body: list[tuple[int, str]] = []
    unread: list[int] = []
    for number, line in enumerate(_lines(text), start=1):
        if line.rstrip() == "E":
            break
        name, value = _tag(line)
        if name and value:
            tags[name] = (value, number)
        elif line.startswith("#") and not name:
            unread.append(number)
        elif not line.startswith("#") and line.strip():
            body.append((number, line))
    if "BPM" not in tags:
        raise BadUltraStar("no #BPM")
    bpm = _tag_number(tags, "BPM", MIN_BPM, MAX_BPM)
    gap = _tag_number(tags, "GAP", -MAX_GAP, MAX_GAP) if "GAP" in tags else 0.0
    relative = tags.get("RELATIVE", ("no",))[0].lower() in ("yes", "true", "1")
    reader = _Body(relative, versioned="VERSION" in tags)
    unread += [number for number, line in body if not reader.read(line, number)]
    voices = reader.finished_voices()
    if not voices:
        raise BadUltraStar("no notes")
    return UltraStarSong(
        tags={key: value for key, (value, _) in tags.items() if key not in _FIELDS},
        bpm=bpm,
        gap=gap,
        voices=voices,
        tempo_changes=sorted(reader.tempo_changes.items()),
        unread_lines=sorted(unread),
    )


def format_ultrastar(song: UltraStarSong) -> str:
    """The text of a song, in absolute ticks, with LF; to be written as UTF-8. `parse_ultrastar` reads the same song.

    A tag without a value is not written; a line break inside of a tag or of a note's text becomes a blank.
    """
    tags = dict(song.tags)
    if len(song.voices) > 2:
        tags.setdefault("VERSION", "1.0.0")  # without it P3 is not a third voice
    names = [name for name in _FIRST_TAGS if name in tags] + [name for name in tags if name not in _FIRST_TAGS]
    values = {name: _one_line(tags[name]).strip() for name in names if name not in _FIELDS}
    text = [f"#{_one_line(name)}:{value}" for name, value in values.items() if value]
    text += [f"#BPM:{_decimal(song.bpm)}", f"#GAP:{_decimal(song.gap)}"]
    for number, voice in enumerate(song.voices, start=1):
        if len(song.voices) > 1:
            text.append(f"P{number}")
        for line, following in zip_longest(voice, voice[1:]):
            text += [f"{note.kind} {note.start} {note.length} {note.pitch} {_one_line(note.text)}" for note in line]
            if following:
                text.append(f"- {min(max(note.start + note.length for note in line), following[0].start)}")
    # At the end: UltraStar Deluxe passes over what stands before the first note.
    text += [f"B {_decimal(tick)} {_decimal(bpm)}" for tick, bpm in song.tempo_changes]
    return "\n".join([*text, "E", ""])


def timed_lyrics(song: UltraStarSong) -> TimedLyrics:
    """Words, syllables and notes with their times, of all voices together.

    A word, syllable or note that two voices have at the same time stands once. Freestyle and rap give words and
    syllables, but no notes.
    """
    voices = [_syllables_of(voice, song.seconds) for voice in song.voices]
    joints = [before for syllables in voices for before, syllable in pairwise(syllables) if syllable.joins]
    hyphened = [syllable for syllable in joints if syllable.text.endswith(HYPHEN)]
    if 2 * len(hyphened) >= len(joints):
        for syllable in hyphened:
            syllable.text = syllable.text.removesuffix(HYPHEN)
    words = _together(map(_words_of, voices))
    merged = _together([syllable.timed() for syllable in syllables if syllable.text] for syllables in voices)
    notes = _together(
        [
            TimedText(str(MIDI_C4 + note.pitch), song.seconds(note.start), song.seconds(note.start + note.length))
            for note in chain.from_iterable(voice)
            if note.kind in PITCHED
        ]
        for voice in song.voices
    )
    return TimedLyrics(*(sorted(level, key=lambda item: item.start) for level in (words, merged, notes)))


class _Body:
    """Reads the lines of a body; keeps the voices as far as they are read."""

    def __init__(self, relative: bool, versioned: bool):
        self._relative = relative
        self._versioned = versioned
        self._voices: dict[int, Voice] = {}
        self._origins: dict[int, int] = {}  # tick of a voice's line in a relative song
        self._now = [1]  # the voices that sing
        self.tempo_changes: dict[float, float] = {}

    def read(self, line: str, number: int) -> bool:
        """Whether the line could be read."""
        if note := _NOTE.fullmatch(line):
            return self._note(note)
        line = line.rstrip(" \t")
        if line.startswith(HYPHEN):
            return self._line_break(_BREAK.fullmatch(line), number)
        if voice := _VOICE.fullmatch(line):
            return self._voice_change(int(voice.group(1)))
        if tempo := _TEMPO.fullmatch(line):
            tick, bpm = map(_number, tempo.groups())
            tick += self._origins.get(1, 0)
            if abs(tick) > MAX_TICK or not MIN_BPM <= bpm <= MAX_BPM:
                return False
            self.tempo_changes[tick] = bpm
            return True
        return False

    def finished_voices(self) -> list[Voice]:
        voices = ([line for line in self._voices[number] if line] for number in sorted(self._voices))
        return [voice for voice in voices if voice]

    def _note(self, match: re.Match) -> bool:
        start, length, pitch = (int(match[name]) for name in ("start", "length", "pitch"))
        starts = [start + self._origins.get(voice, 0) for voice in self._now]
        if length < 0 or max(length, abs(pitch), *map(abs, starts)) > MAX_TICK:
            return False
        for voice, absolute in zip(self._now, starts, strict=True):
            note = NoteLine(match["kind"], absolute, length, pitch, match["text"] or "")
            self._voices.setdefault(voice, [[]])[-1].append(note)
        return True

    def _line_break(self, match: re.Match | None, number: int) -> bool:
        for voice in self._now:
            self._voices.setdefault(voice, [[]]).append([])
        if not self._relative:
            return match is not None
        numbers = [int(value) for value in match.groups() if value] if match else []
        if not numbers or abs(numbers[-1]) > MAX_TICK:
            raise BadUltraStar(f"line {number}: a line break without its offset, in relative ticks")
        for voice in self._now:
            self._origins[voice] = self._origins.get(voice, 0) + numbers[-1]
        return True

    def _voice_change(self, number: int) -> bool:
        if number > 3 and not self._versioned:
            return False
        self._now = [1, 2] if number == 3 and not self._versioned else [number]
        return True


@dataclass
class _Syllable:
    """A syllable while it is read."""

    text: str
    start: float
    end: float
    joins: bool  # on to the word before it

    def timed(self) -> TimedText:
        return TimedText(self.text, self.start, self.end)


def _lines(text: str) -> list[str]:
    return [line.lstrip(" \t\ufeff") for line in _LINE_END.split(text)]


def _tag(line: str) -> tuple[str, str]:
    """Name and value, without white space around them; the name is empty where the line is no tag."""
    name, colon, value = line.partition(":")
    return (name[1:].strip().upper(), value.strip()) if name.startswith("#") and colon else ("", "")


def _together(voices: Iterable[Iterable[Hashable]]) -> list:
    """What the voices have, voice after voice; what several have alike is there as often as in the one with most."""
    together = []
    before: Counter = Counter()
    for voice in voices:
        here: Counter = Counter()
        for item in voice:
            here[item] += 1
            if here[item] > before[item]:
                together.append(item)
        before |= here
    return together


def _number(text: str) -> float:
    return float(text.replace(",", "."))


def _tag_number(tags: dict[str, tuple[str, int]], name: str, lowest: float, highest: float) -> float:
    value, line = tags[name]
    if not re.fullmatch(_DECIMAL, value):
        raise BadUltraStar(f"line {line}: #{name} is not a number: {value[:40]!r}")
    if not lowest <= _number(value) <= highest:
        raise BadUltraStar(f"line {line}: #{name} is {value[:40]}, not between {lowest:g} and {highest:g}")
    return _number(value)


def _decimal(value: float) -> str:
    """A number without an exponent that reads as the same number."""
    return format(Decimal(repr(value)), "f").removesuffix(".0")


def _one_line(text: str) -> str:
    return _LINE_END.sub(" ", text)


def _syllables_of(voice: Voice, seconds: Callable[[float], float]) -> list[_Syllable]:
    syllables: list[_Syllable] = []
    for line in voice:
        held: _Syllable | None = None  # what a bare ~ holds
        may_join = False
        for note in line:
            holds = note.text.strip().startswith(HOLD)
            parts = _divided(note.text, seconds(note.start), seconds(note.start + note.length))
            for index, (text, start, end) in enumerate(parts):
                if index == 0 and holds and (syllables or not text):
                    held = syllables[-1] if text else held
                    if held:
                        held.text += text
                        held.end = max(held.end, end)
                else:
                    held = _Syllable(text, start, end, index == 0 and may_join and not note.text[0].isspace())
                    syllables.append(held)
            if note.text:
                may_join = not note.text[-1].isspace()
    return syllables


def _divided(text: str, start: float, end: float) -> list[tuple[str, float, float]]:
    """The parts of a note's text that white space divides, without ``~``, each with its share of the time.

    A part without letters or digits (``you ?``, ``~ ,``) belongs to the part before it. The first part is empty when
    the text begins with ``~`` and has nothing for the syllable that it holds.
    """
    cleaned = text.strip().replace(HOLD, "")
    words = cleaned.split()
    if text.strip().startswith(HOLD) and (not words or cleaned[0].isspace()):
        words.insert(0, "")
    pieces: list[list[str]] = []
    for word in words:
        if pieces and not any(map(str.isalnum, word)):
            pieces[-1].append(word)
        else:
            pieces.append([word])
    parts = list(map("".join, pieces))
    letters = list(accumulate((max(1, len(part)) for part in parts), initial=0))
    times = [start + (end - start) * before / letters[-1] for before in letters[:-1]] + [end]
    return [(part, *span) for part, span in zip(parts, pairwise(times), strict=True)]


def _words_of(syllables: Iterable[_Syllable]) -> list[TimedText]:
    words: list[TimedText] = []
    for syllable in syllables:
        if syllable.joins and words:
            before = words[-1]
            words[-1] = TimedText(before.symbol + syllable.text, before.start, max(before.end, syllable.end))
        else:
            words.append(syllable.timed())
    return words

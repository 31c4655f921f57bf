"""From what a corpus says about words and notes to Lhotse alignments that lie inside the audio."""

import functools
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from lhotse import Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem

from altpo_model.text import normalize_text, scoring_text

_DIGITS = 6  # microseconds
OUT_OF_RANGE = "notes out of MIDI's range"  # a kind of `Losses.items`
_NOTICEABLE = 1e-3  # seconds; a change of less is rounding
_CONTINUATION = "~"  # in karaoke files and DALI: the note goes on with the syllable before it


@dataclass(frozen=True)
class Timed:
    """A word, a syllable (``symbol`` is its text) or a note (``symbol`` is its MIDI number); times in seconds."""

    symbol: str
    start: float
    end: float


@dataclass
class SongAnnotation:
    """What a corpus knows of one song, as it stands in the corpus. An empty list: the corpus has no such level."""

    id: str
    artist: str | None = None
    language: str | None = None
    words: list[Timed] = field(default_factory=list)
    syllables: list[Timed] = field(default_factory=list)
    notes: list[Timed] = field(default_factory=list)


@dataclass
class Losses:
    """What did not go into a supervision, or not as it stands in the corpus: by kind, and the dropped characters."""

    items: Counter = field(default_factory=Counter)
    changes: Counter = field(default_factory=Counter)
    characters: Counter = field(default_factory=Counter)  # of words

    def update(self, other: "Losses") -> None:
        self.items.update(other.items)
        self.changes.update(other.changes)
        self.characters.update(other.characters)


def song_supervision(
    annotation: SongAnnotation, recording: Recording, losses: Losses | None = None
) -> tuple[SupervisionSegment, Losses]:
    """The supervision of a whole song: normalised text, and its words, syllables and notes as alignments.

    losses: what the caller has already left out of the annotation.
    Returns: the supervision, and all losses. Its text is the words of the alignment in their order, joined by one
    space, each without a space of its own. ``supervision.custom["annotation"]`` tells of the annotation as it stands in
    the corpus: ``end`` (seconds; the latest of all levels), ``characters`` (of the words, without spaces), ``dropped``
    (how many of these had no place in the text), ``left_out`` and ``changed`` (items by kind).
    """
    own = Losses()
    own.update(losses or Losses())
    words = _normalised(annotation.words, "words", annotation.language, own)
    syllables_alone = Losses()  # the characters of the syllables are those of the words, already counted
    syllables = _normalised(annotation.syllables, "syllables", annotation.language, syllables_alone)
    own.items.update(syllables_alone.items)
    levels = {"word": words, "syllable": syllables, "note": annotation.notes}
    alignment = {
        name: _fitted(items, name, recording.duration, own)
        for name, items in levels.items()
        if getattr(annotation, f"{name}s")
    }
    ends = [item.end for items in levels.values() for item in items if math.isfinite(item.end)]
    told = {
        "end": round(max(ends, default=0.0), _DIGITS),
        "characters": sum(len("".join(item.symbol.split())) for item in annotation.words),
        "dropped": own.characters.total(),
        "left_out": dict(own.items),
        "changed": dict(own.changes),
    }
    supervision = SupervisionSegment(
        id=recording.id,
        recording_id=recording.id,
        start=0.0,
        duration=recording.duration,
        channel=recording.channel_ids if recording.num_channels > 1 else recording.channel_ids[0],
        text=" ".join(item.symbol for item in alignment.get("word", [])),
        language=annotation.language,
        speaker=annotation.artist,
        alignment=alignment,
        custom={"annotation": told},
    )
    return supervision, own


def midi_number(frequency: float) -> int | None:
    """The MIDI note nearest to ``frequency`` in Hz (A4 = 440 Hz = 69); None where there is none (0 to 127)."""
    if not (math.isfinite(frequency) and frequency > 0):
        return None
    number = round(69 + 12 * math.log2(frequency / 440.0))
    return number if 0 <= number <= 127 else None


def joined_syllables(notes: Iterable[Timed]) -> list[Timed]:
    """Syllables from the texts of notes: a melisma, whose later notes begin with ``~``, is one (``te ~r`` is ter)."""
    syllables: list[Timed] = []
    for note in notes:
        if note.symbol.strip().startswith(_CONTINUATION) and syllables:
            before = syllables[-1]
            symbol = before.symbol.rstrip() + note.symbol.replace(_CONTINUATION, "").strip()
            syllables[-1] = Timed(symbol, before.start, max(before.end, note.end))
        else:
            syllables.append(Timed(note.symbol.replace(_CONTINUATION, ""), note.start, note.end))
    return syllables


def _normalised(items: Iterable[Timed], level: str, language: str | None, losses: Losses) -> list[Timed]:
    """The items with normalised symbols; one whose symbol has several words shares its time out by their letters."""
    result = []
    for item in items:
        parts, dropped = _parts(item.symbol, language)
        losses.characters.update(dropped)
        if not parts:
            losses.items[f"{level} without letters"] += 1
            continue
        second = (item.end - item.start) / sum(map(len, parts))
        position = item.start
        for part in parts:
            result.append(Timed(part, position, position + second * len(part)))
            position += second * len(part)
    return result


@functools.lru_cache(maxsize=100_000)
def _parts(symbol: str, language: str | None) -> tuple[list[str], Counter]:
    """The words of a normalised symbol, and the characters that it lost."""
    text, dropped = normalize_text(symbol, language)
    return [part for part in text.split() if scoring_text(part)], dropped


def _fitted(items: Iterable[Timed], name: str, duration: float, losses: Losses) -> list[AlignmentItem]:
    """Alignment items in order of their starts, inside ``[0, duration]`` seconds, each ending by the next start.

    What lies outside the audio or has no length is left out; what sticks out of the audio or into the next is cut
    short.
    """
    inside = []
    for item in items:
        if not (math.isfinite(item.start) and math.isfinite(item.end) and item.start < item.end):
            losses.items[f"{name}s without a length"] += 1
            continue
        start, end = round(max(0.0, item.start), _DIGITS), round(min(duration, item.end), _DIGITS)
        if start >= end:
            losses.items[f"{name}s outside the audio"] += 1
            continue
        if max(start - item.start, item.end - end) > _NOTICEABLE:
            losses.changes[f"{name}s clipped to the audio"] += 1
        inside.append((start, end, item.symbol))
    inside.sort(key=lambda entry: entry[0])
    result = []
    for (start, end, symbol), following in zip(inside, [*inside, (math.inf,)][1:], strict=True):
        # Two words that start at once (two voices) keep their length: neither can give way to the other.
        if start < following[0] < end:
            if end - following[0] > _NOTICEABLE:
                losses.changes[f"{name}s cut short where the next begins"] += 1
            end = following[0]
        result.append(AlignmentItem(symbol, start, round(end - start, _DIGITS)))
    return result

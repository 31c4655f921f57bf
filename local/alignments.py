"""From what a corpus says about words and notes to Lhotse alignments that lie inside the audio."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from lhotse import Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem

from altpo_model.text import normalize_text, scoring_text

_DIGITS = 6  # microseconds


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
    """What did not go into a supervision: by reason, and the dropped characters of words."""

    items: Counter = field(default_factory=Counter)
    characters: Counter = field(default_factory=Counter)

    def update(self, other: "Losses") -> None:
        self.items.update(other.items)
        self.characters.update(other.characters)


def song_supervision(annotation: SongAnnotation, recording: Recording) -> tuple[SupervisionSegment, Losses]:
    """The supervision of a whole song: normalised text, and its words, syllables and notes as alignments.

    The text is the words of the alignment in their order, joined by one space, each without a space of its own.
    """
    losses = Losses()
    words = _normalised(annotation.words, losses, count_characters=True)
    syllables = _normalised(annotation.syllables, losses, count_characters=False)
    levels = {"word": words, "syllable": syllables, "note": annotation.notes}
    alignment = {
        name: _fitted(items, name, recording.duration, losses.items)
        for name, items in levels.items()
        if getattr(annotation, f"{name}s")
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
    )
    return supervision, losses


def midi_number(frequency: float) -> int | None:
    """The MIDI note nearest to ``frequency`` in Hz (A4 = 440 Hz = 69); None where there is none (0 to 127)."""
    if not (math.isfinite(frequency) and frequency > 0):
        return None
    number = round(69 + 12 * math.log2(frequency / 440.0))
    return number if 0 <= number <= 127 else None


def _normalised(items: Iterable[Timed], losses: Losses, count_characters: bool) -> list[Timed]:
    """The items with normalised symbols; one whose symbol has several words shares its time out by their letters."""
    result = []
    for item in items:
        text, dropped = normalize_text(item.symbol)
        if count_characters:
            losses.characters.update(dropped)
        parts = [part for part in text.split() if scoring_text(part)]
        if not parts:
            if count_characters:
                losses.items["words without letters"] += 1
            continue
        second = (item.end - item.start) / sum(map(len, parts))
        position = item.start
        for part in parts:
            result.append(Timed(part, position, position + second * len(part)))
            position += second * len(part)
    return result


def _fitted(items: Iterable[Timed], name: str, duration: float, left_out: Counter) -> list[AlignmentItem]:
    """Alignment items in order of their starts, inside ``[0, duration]`` seconds, each ending by the next start.

    What lies outside the audio or has no length is left out and counted; what sticks out is clipped.
    """
    inside = []
    for item in items:
        if not (math.isfinite(item.start) and math.isfinite(item.end) and item.start < item.end):
            left_out[f"{name}s without a length"] += 1
            continue
        start, end = round(max(0.0, item.start), _DIGITS), round(min(duration, item.end), _DIGITS)
        if start >= end:
            left_out[f"{name}s outside the audio"] += 1
            continue
        inside.append((start, end, item.symbol))
    inside.sort(key=lambda entry: entry[0])
    result = []
    for (start, end, symbol), following in zip(inside, [*inside[1:], (math.inf,)], strict=True):
        # Two words that start at once (two voices) keep their length: neither can give way to the other.
        if following[0] > start:
            end = min(end, following[0])
        result.append(AlignmentItem(symbol, start, round(end - start, _DIGITS)))
    return result

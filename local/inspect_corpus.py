"""What is in a corpus, and which of its songs to look at: figures of Lhotse manifests, before and after cutting.

    python local/inspect_corpus.py data/mini/manifests/*_supervisions_*.jsonl.gz data/mini/cuts/*.jsonl.gz

A manifest is one of supervisions or one of cuts (JSON lines, gzipped or not), in any mix. The recordings of
``<corpus>_supervisions_<split>`` are found beside it as ``<corpus>_recordings_<split>``, or are given too; recordings
given alone are paired with their supervisions in the same way. ``lhotse validate`` complements this program: it tells
whether a manifest is sound as Lhotse wants it and fits its recordings; this one tells what the annotation is worth.

A segment is one supervision of a manifest of supervisions, one cut of a manifest of cuts: a song, a part of a song or
an utterance. Alignments are in the time of the recording, in cuts too. The total over several manifests adds them up,
also where a song is in two of them. The text leaves out what a manifest has nothing for.

``--json`` writes ``{"manifests": [...], "total": {...}}``. The total and each manifest have:

    manifest, recordings_manifests   paths as text; not in the total
    segments, recordings             how many; the recordings are counted by their ids
    seconds                          of the segments
    sung_seconds                     covered by a word or, in a segment with no word times, by a note
    words, syllables, notes          how many; words by their times or, without these, of the text
    timed_words                      words with times
    words_per_second                 {"sung": of the words with times over the time that they cover,
                                      "whole": of all words over the duration of the segments that have any}
    note_range                       {"lowest", "percentile_5", "median", "percentile_95", "highest"}: MIDI numbers
    text                             {"characters": without spaces, "dropped": those with no place among the model's 33,
                                      "dropped_share", "told": segments of which the preparation has told both; of
                                      the others, the text is taken as it stands in the manifest}
    words_beside_notes               timed words in segments that have a note level: those that can lack a note
    faults                           {fault: count}
    end_difference                   {"segments", "median", "lowest": {"id", "seconds"}, "highest": the same}: the
                                     annotation's end minus the recording's, in seconds, of whole recordings
    worst                            [{"id", "score", "faults"}], the highest score first

A figure that the manifest has nothing for is null.

Faults are items (words, syllables, notes): what a preparation left out or changed, by its own names
(``supervision.custom["annotation"]``, see alignments.py; only of segments that are whole recordings), and

    words without a note             no note of the segment overlaps the word in time
    words over 10 s, words under 20 ms
    notes that overlap               begin more than 1 ms before an earlier note has ended
    notes out of MIDI's range        left out by a preparation, or with a symbol that is no number from 0 to 127

The score of a segment is its faults over its items (those left out counted in), so that a short song is worse than a
long one with as many. An item with two faults counts twice.
"""

import argparse
import gzip
import json
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lhotse import Recording, SupervisionSegment
from lhotse.cut.data import DataCut
from lhotse.serialization import deserialize_item
from lhotse.supervision import AlignmentItem
from matplotlib.figure import Figure

from alignments import OUT_OF_RANGE
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.files import write_atomically
from altpo_model.notes import NUM_PITCHES
from altpo_model.text import CHARACTERS, normalize_text

LONG_WORD = 10.0  # seconds
SHORT_WORD = 0.02
TOLERANCE = 1e-3  # seconds; less is rounding

NO_NOTE, LONG, SHORT = "words without a note", "words over 10 s", "words under 20 ms"
OVERLAP = "notes that overlap"
MEASURED = (NO_NOTE, LONG, SHORT, OVERLAP, OUT_OF_RANGE)

_TOLD = {"end", "characters", "dropped", "left_out", "changed"}  # see alignments.song_supervision
_DIGITS = 6  # microseconds, as the preparation rounds
_WITHOUT_KNOWN = str.maketrans(dict.fromkeys(CHARACTERS))
_NOTE_NAMES = "C C# D D# E F F# G G# A A# B".split()
_PERCENTILES = {"lowest": 0, "percentile_5": 5, "median": 50, "percentile_95": 95, "highest": 100}
_FIGURE_SUFFIXES = (".png", ".pdf")
_NONE = np.zeros(0, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Segment:
    """The measures of one segment; times in seconds."""

    id: str
    recording_id: str
    seconds: float
    sung: float
    words: int
    timed_words: int
    syllables: int
    notes: int
    pitches: np.ndarray  # MIDI numbers of the notes that have one
    word_lengths: np.ndarray
    words_beside_notes: int
    characters: int
    dropped: int
    is_told: bool  # characters and dropped are the preparation's
    end_difference: float | None
    faults: dict[str, int]
    items: int  # words with times, syllables, notes, and what the preparation left out

    @property
    def score(self) -> float:
        return sum(self.faults.values()) / self.items if self.items else 0.0


class Inspected(NamedTuple):
    manifest: Path
    recordings_manifests: list[Path]
    segments: list[Segment]


@exits_cleanly
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", nargs="+", type=Path, metavar="MANIFEST", help="of supervisions or of cuts")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON; - writes them in place of the text")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw histograms (.png or .pdf)")
    parser.add_argument("--worst", type=_count, default=10, metavar="N", help="songs to name (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.figure and arguments.figure.suffix.lower() not in _FIGURE_SUFFIXES:
        raise UserError(f"{arguments.figure}: a figure's name ends in {' or '.join(_FIGURE_SUFFIXES)}")
    inspected = [inspect(*pair) for pair in paired(arguments.manifests)]
    result = all_figures(inspected, arguments.worst)
    if arguments.json != "-":
        print(as_text(result))
    if arguments.json:
        text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
        if arguments.json == "-":
            sys.stdout.write(text)
        else:
            _write(Path(arguments.json), lambda path: path.write_text(text, encoding="utf-8"))
    if arguments.figure:
        figure = histograms(inspected)
        _write(arguments.figure, lambda path: figure.savefig(path, dpi=110))


def paired(manifests: Iterable[Path]) -> list[tuple[Path, list[Path]]]:
    """Each manifest of supervisions or cuts once, with the manifests of its recordings; cuts need none.

    Raises UserError where a file is no manifest, or is one of recordings alone.
    """
    kinds = {path: _kind(path) for path in manifests}
    recordings = [path for path, kind in kinds.items() if kind == "recordings"]
    pairs: dict[Path, tuple[Path, list[Path]]] = {}
    for path, kind in kinds.items():
        if kind == "cuts":
            pairs.setdefault(path.resolve(), (path, []))
        elif kind == "supervisions":
            beside = path.with_name(path.name.replace("supervisions", "recordings"))
            found = [beside] if beside != path and beside.is_file() else recordings
            pairs.setdefault(path.resolve(), (path, found))
        else:
            beside = path.with_name(path.name.replace("recordings", "supervisions"))
            if beside != path and beside.is_file():
                pairs.setdefault(beside.resolve(), (beside, [path]))
            elif "supervisions" not in kinds.values():
                raise UserError(f"{path}: holds recordings, and {beside.name} is not beside it; give the supervisions")
    return list(pairs.values())


def inspect(manifest: Path, recordings_manifests: Iterable[Path] = ()) -> Inspected:
    """Read a manifest of supervisions or cuts, and the lengths of its recordings. Raises UserError."""
    recordings_manifests = list(recordings_manifests)
    lengths = {recording.id: recording.duration for path in recordings_manifests for recording in _recordings(path)}
    segments = []
    for number, item in _items(manifest):
        where = f"{manifest}, line {number}"
        if isinstance(item, SupervisionSegment):
            length = lengths.get(item.recording_id)
            segments.append(_measured(item, [item], item.recording_id, length, where))
        elif isinstance(item, DataCut):
            recording_id = item.recording_id if item.has_recording else item.id
            length = item.recording.duration if item.has_recording else None
            segments.append(_measured(item, item.supervisions, recording_id, length, where))
        else:
            raise UserError(f"{where}: holds a {type(item).__name__}, neither a supervision nor a cut of one recording")
    return Inspected(manifest, recordings_manifests, segments)


def all_figures(inspected: Iterable[Inspected], worst: int = 10) -> dict[str, Any]:
    """What ``--json`` writes."""
    inspected = list(inspected)
    manifests = [
        {"manifest": str(part.manifest), "recordings_manifests": [str(path) for path in part.recordings_manifests]}
        | figures(part.segments, worst)
        for part in inspected
    ]
    return {"manifests": manifests, "total": figures([one for part in inspected for one in part.segments], worst)}


def figures(segments: list[Segment], worst: int = 10) -> dict[str, Any]:
    """The figures of some segments; the docstring of the module says what each is."""

    def total(name: str, of: Iterable[Segment] = segments) -> float:
        return sum(getattr(segment, name) for segment in of)

    timed = [segment for segment in segments if segment.timed_words]
    worded = [segment for segment in segments if segment.words]
    characters, dropped = total("characters"), total("dropped")
    faults = Counter(dict.fromkeys(MEASURED, 0))
    for segment in segments:
        faults.update(segment.faults)
    ranked = sorted((one for one in segments if one.score > 0), key=lambda one: (-one.score, one.id))
    return {
        "segments": len(segments),
        "recordings": len({segment.recording_id for segment in segments}),
        "seconds": round(total("seconds"), 3),
        "sung_seconds": round(total("sung"), 3),
        "words": total("words"),
        "syllables": total("syllables"),
        "notes": total("notes"),
        "timed_words": total("timed_words"),
        "words_per_second": {
            "sung": _ratio(total("timed_words"), total("sung", timed)),
            "whole": _ratio(total("words"), total("seconds", worded)),
        },
        "note_range": _note_range([segment.pitches for segment in segments]),
        "text": {
            "characters": characters,
            "dropped": dropped,
            "dropped_share": _ratio(dropped, characters),
            "told": total("is_told"),
        },
        "words_beside_notes": total("words_beside_notes"),
        "faults": dict(faults),
        "end_difference": _end_difference(segments),
        "worst": [
            {"id": segment.id, "score": round(segment.score, 4), "faults": dict(Counter(segment.faults).most_common())}
            for segment in ranked[:worst]
        ],
    }


def as_text(result: dict[str, Any]) -> str:
    """A block of lines for each manifest and, where there are several, for the total."""
    blocks = [_block(part["manifest"], part) for part in result["manifests"]]
    if len(blocks) > 1:
        blocks.append(_block(f"total of {len(blocks)} manifests", result["total"]))
    return "\n\n".join(blocks)


def histograms(inspected: list[Inspected]) -> Figure:
    """Durations, words a second, note numbers and word lengths, one line a manifest.

    Each manifest is scaled to its own sum, so that corpora of different sizes can be compared.
    """
    figure = Figure(figsize=(11, 7), layout="constrained")
    panels = figure.subplots(2, 2).flat
    measures = {
        "duration of a segment (s)": lambda one: [one.seconds],
        "words a second of whole duration, of a segment": lambda one: [one.words / one.seconds] if one.seconds else [],
        "MIDI number of a note": lambda one: one.pitches,
        "duration of a word (s)": lambda one: one.word_lengths,
    }
    word_edges = np.geomspace(SHORT_WORD / 2, 2 * LONG_WORD, 60)
    for (title, measure), panel in zip(measures.items(), panels, strict=True):
        values = [np.concatenate([_NONE, *map(measure, part.segments)]) for part in inspected]
        together = np.concatenate(values)
        panel.set(xlabel=title, ylabel="share")
        if len(together) == 0:
            panel.text(0.5, 0.5, "none", transform=panel.transAxes, ha="center")
            continue
        if measure is measures["MIDI number of a note"]:
            edges = np.arange(together.min(), together.max() + 2) - 0.5
        elif measure is measures["duration of a word (s)"]:
            edges = word_edges
            panel.set_xscale("log")
        else:
            edges = np.linspace(0, together.max(), 50)
        for part, numbers in zip(inspected, values, strict=True):
            if len(numbers):
                name = f"{part.manifest.parent.name}/{part.manifest.name.split('.')[0]}"
                shares = np.full(len(numbers), 1 / len(numbers))
                panel.hist(np.clip(numbers, edges[0], edges[-1]), edges, weights=shares, histtype="step", label=name)
        panel.legend(fontsize="small")
    return figure


def _measured(
    segment: SupervisionSegment | DataCut,
    supervisions: list[SupervisionSegment],
    recording_id: str,
    length: float | None,
    where: str,
) -> Segment:
    """The measures of a segment with its supervisions; ``length``: of its recording, in seconds, where it is known.

    Each supervision is one voice: that a word has a note, and that notes overlap, counts within one.
    """
    is_part = length is not None and (segment.start > TOLERANCE or segment.end < length - TOLERANCE)
    sums: Counter = Counter()
    faults: Counter = Counter()
    sung, ends, pitches, word_lengths = 0.0, [], [], []
    for supervision in supervisions:
        alignment = supervision.alignment or {}
        levels = [_spans(alignment.get(level), f"{where}: the {level}") for level in ("word", "syllable", "note")]
        words, syllables, notes = levels
        numbers = [number for item in alignment.get("note") or () if (number := _midi(item.symbol)) is not None]
        lengths = np.round(words[:, 1] - words[:, 0], _DIGITS)
        pitches.append(numbers)
        word_lengths.append(lengths)
        sung += _covered(words if len(words) else notes, (segment.start, segment.end))
        text = supervision.text or ""
        sums["words"] += len(words) if "word" in alignment else len(text.split())
        sums["timed words"] += len(words)
        sums["syllables"] += len(syllables)
        sums["notes"] += len(notes)
        sums["items"] += sum(map(len, levels))
        if "note" in alignment:
            sums["words beside notes"] += len(words)
            faults[NO_NOTE] += int(np.count_nonzero(~_touched(words, notes)))
        faults[LONG] += int(np.count_nonzero(lengths > LONG_WORD))
        faults[SHORT] += int(np.count_nonzero(lengths < SHORT_WORD))
        faults[OVERLAP] += _overlapping(notes)
        faults[OUT_OF_RANGE] += len(notes) - len(numbers)
        told = None if is_part else _told(supervision)
        if told:
            faults.update(told["left_out"])
            faults.update(told["changed"])
            ends.append(told["end"])
            sums["items"] += sum(told["left_out"].values())
            sums["characters"] += told["characters"]
            sums["dropped"] += told["dropped"]
            sums["told"] += 1
        else:
            ends += [float(spans[:, 1].max()) for spans in levels if len(spans)]
            sums["characters"] += len("".join(text.split()))
            sums["dropped"] += _dropped(text, supervision.language)
    return Segment(
        id=segment.id,
        recording_id=recording_id,
        seconds=segment.duration,
        sung=sung,
        words=sums["words"],
        timed_words=sums["timed words"],
        syllables=sums["syllables"],
        notes=sums["notes"],
        pitches=_joined(pitches, np.uint8),
        word_lengths=_joined(word_lengths, np.float32),
        words_beside_notes=sums["words beside notes"],
        characters=sums["characters"],
        dropped=sums["dropped"],
        is_told=sums["told"] > 0,
        end_difference=None if is_part or length is None or not ends else max(ends) - length,
        faults={fault: count for fault, count in faults.items() if count},
        items=sums["items"],
    )


def _told(supervision: SupervisionSegment) -> dict[str, Any] | None:
    """What the preparation tells of the annotation; None for a supervision that it has not made."""
    told = (supervision.custom or {}).get("annotation")
    return told if isinstance(told, dict) and told.keys() >= _TOLD else None


def _joined(parts: list, dtype: type) -> np.ndarray:
    return np.concatenate([np.asarray(part, dtype=dtype) for part in parts]) if any(map(len, parts)) else _NONE


def _spans(items: list[AlignmentItem] | None, where: str) -> np.ndarray:
    """Starts and ends (N, 2) in seconds, in order of the starts. Raises UserError for what is no time."""
    try:
        times = np.array([item[1:3] for item in items or ()], dtype=np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        raise UserError(f"{where} alignment has a time that is no number") from None
    if not np.isfinite(times).all():
        raise UserError(f"{where} alignment has a time that is not finite")
    times[:, 1] += times[:, 0]
    return np.round(times[np.argsort(times[:, 0], kind="stable")], _DIGITS)


def _midi(symbol: str) -> int | None:
    try:
        number = int(symbol)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number < NUM_PITCHES else None


def _touched(words: np.ndarray, notes: np.ndarray) -> np.ndarray:
    """Which words (N,) share time with a note."""
    if len(notes) == 0:
        return np.zeros(len(words), dtype=bool)
    before = np.searchsorted(notes[:, 0], words[:, 1])  # notes that begin before the word ends
    latest = np.concatenate([[-np.inf], np.maximum.accumulate(notes[:, 1])])
    return latest[before] > words[:, 0]


def _overlapping(notes: np.ndarray) -> int:
    if len(notes) < 2:
        return 0
    latest = np.maximum.accumulate(notes[:-1, 1])
    return int(np.count_nonzero(notes[1:, 0] < latest - TOLERANCE))


def _covered(spans: np.ndarray, within: tuple[float, float]) -> float:
    """Seconds of ``within`` that at least one of the spans covers."""
    if len(spans) == 0:
        return 0.0
    spans = np.clip(spans, *within)
    latest = np.concatenate([[-np.inf], np.maximum.accumulate(spans[:-1, 1])])
    return float(np.maximum(spans[:, 1] - np.maximum(spans[:, 0], latest), 0).sum())


def _dropped(text: str, language: str | None) -> int:
    if not text.lower().translate(_WITHOUT_KNOWN):
        return 0
    return normalize_text(text, language)[1].total()


def _ratio(number: float, of: float) -> float | None:
    return round(number / of, 4) if of else None


def _note_range(pitches: list[np.ndarray]) -> dict[str, int] | None:
    numbers = np.concatenate([_NONE, *pitches])
    if len(numbers) == 0:
        return None
    found = np.percentile(numbers, list(_PERCENTILES.values()), method="inverted_cdf")
    return {name: int(number) for name, number in zip(_PERCENTILES, found, strict=True)}


def _end_difference(segments: list[Segment]) -> dict[str, Any] | None:
    known = [(segment.end_difference, segment.id) for segment in segments if segment.end_difference is not None]
    if not known:
        return None
    ends = {
        name: {"id": at[1], "seconds": round(at[0], 3)}
        for name, at in (("lowest", min(known)), ("highest", max(known)))
    }
    return {"segments": len(known), "median": round(float(np.median([value for value, _ in known])), 3)} | ends


def _block(title: str, part: dict[str, Any]) -> str:
    lines = [title, *(f"  {name:<26}{value}" for name, value in _rows(part) if value)]
    for segment in part["worst"]:
        reasons = ", ".join(f"{count} {fault}" for fault, count in segment["faults"].items())
        lines.append(f"    {segment['score']:<8.3f}{segment['id']}: {reasons}")
    return "\n".join(lines)


def _rows(part: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, value) of the lines of a block; the value is "" where there is nothing to tell of."""
    text, faults, timed = part["text"], part["faults"], part["timed_words"]
    sung = f" ({_hours(part['sung_seconds'])} sung)" if part["sung_seconds"] else ""
    yield "segments", f"{part['segments']:,} of {part['recordings']:,} recordings, {_hours(part['seconds'])}{sung}"
    speeds = {"sung time": part["words_per_second"]["sung"], "whole duration": part["words_per_second"]["whole"]}
    speed = ", ".join(f"{value:.2f} a second of {name}" for name, value in speeds.items() if value is not None)
    yield "words", f"{part['words']:,}; {speed}" if part["words"] else ""
    yield "syllables", f"{part['syllables']:,}" if part["syllables"] else ""
    yield "notes", f"{part['notes']:,}{_range(part['note_range'])}" if part["notes"] else ""
    source = (
        f"as the preparation told of {text['told']:,} segments" if text["told"] else "in the text as it stands here"
    )
    yield "characters dropped", _share(text["dropped"], text["characters"], source)
    yield NO_NOTE, _share(faults[NO_NOTE], part["words_beside_notes"])
    yield LONG, _share(faults[LONG], timed)
    yield SHORT, _share(faults[SHORT], timed)
    yield OVERLAP, _share(faults[OVERLAP], part["notes"])
    yield OUT_OF_RANGE, f"{faults[OUT_OF_RANGE]:,}" if part["notes"] or faults[OUT_OF_RANGE] else ""
    yield "left out or changed", ", ".join(f"{n:,} {fault}" for fault, n in faults.items() if fault not in MEASURED)
    yield "annotation's end", _ends(part["end_difference"])
    if part["worst"]:
        yield "worst", "faults an item, segment: faults"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h"


def _share(count: int, of: int, source: str = "") -> str:
    return f"{count:,} of {of:,} ({100 * count / of:.2f} %) {source}".rstrip() if of else ""


def _range(found: dict[str, int] | None) -> str:
    if found is None:
        return ""
    lowest, *percentiles, highest = (f"{number} ({note_name(number)})" for number in found.values())
    return f"; MIDI numbers {lowest} to {highest}; at 5, 50 and 95 %: {', '.join(percentiles)}"


def note_name(number: int) -> str:
    """The name of a MIDI number: 60 is C4, 69 is A4."""
    return f"{_NOTE_NAMES[number % 12]}{number // 12 - 1}"


def _ends(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    lowest, highest = found["lowest"], found["highest"]
    return (
        f"{found['median']:+.2f} s from the recording's in the median; {lowest['seconds']:+.2f} s ({lowest['id']})"
        f" to {highest['seconds']:+.2f} s ({highest['id']})"
    )


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"not a number of songs: {text!r}")
    return int(text)


def _kind(path: Path) -> str:
    """recordings, supervisions or cuts, as its first line tells."""
    for _, item in _items(path):
        for kind, classes in {"recordings": Recording, "supervisions": SupervisionSegment, "cuts": DataCut}.items():
            if isinstance(item, classes):
                return kind
        raise UserError(f"{path}: holds a {type(item).__name__}, neither a supervision nor a cut of one recording")
    raise UserError(f"{path}: holds no song; it is empty")


def _recordings(path: Path) -> Iterator[Recording]:
    for number, item in _items(path):
        if not isinstance(item, Recording):
            raise UserError(f"{path}, line {number}: holds a {type(item).__name__}, not a recording")
        yield item


def _items(path: Path) -> Iterator[tuple[int, Any]]:
    """(line number, item of Lhotse) of a manifest, one at a time. Raises UserError.

    Lhotse's own lazy sets do the same but do not tell the line of a fault.
    """
    number = 0
    try:
        with open(path, "rb") as file:
            is_gzip = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rt", encoding="utf-8") if is_gzip else open(path, encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                yield number, _item(line, f"{path}, line {number}")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: broken gzip after line {number}: {error}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a manifest: no text in UTF-8 after line {number}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


def _item(line: str, where: str) -> Any:
    try:
        data = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: broken JSON: {error}; a manifest holds one JSON object a line") from None
    if not isinstance(data, dict):
        raise UserError(f"{where}: a {type(data).__name__}, not an item of a manifest")
    try:
        return deserialize_item(data)
    except Exception as error:  # Lhotse raises what the constructor of the class at hand happens to raise
        raise UserError(f"{where}: neither a supervision nor a cut: {type(error).__name__}: {error}") from None


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    try:
        with write_atomically(path) as temporary:
            write(temporary)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None


if __name__ == "__main__":
    main()

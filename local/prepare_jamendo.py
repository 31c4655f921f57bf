"""Stage 1, JamendoLyrics: Lhotse manifests with word times from the data set's present layout or its first one.

The present layout (79 songs in four languages): ``JamendoLyrics.csv``, ``lyrics/<song>.words.txt`` (a word a line),
``annotations/words/<song>.csv`` (columns ``word_start,word_end,line_end`` in seconds, a row a word) and
``mp3/<song>.mp3``. The first layout (20 English songs) is told by a table without a column ``Language``, or by
``lyrics/<song>.raw.txt`` without a table. There the words may stand in the lyrics (``<song>.raw.txt``) alone, and their
starts in ``annotations/<song>.wordonset.txt`` (a time in seconds a line, a line a word), in
``annotations/words/<song>.csv`` without ``word_end`` or nowhere. Writes
``<data_dir>/manifests/jamendo_{recordings,supervisions}_test.jsonl.gz``.

Sources: Stoller, Durand and Ewert, "End-to-end lyrics alignment for polyphonic music using an audio-to-character
recognition model" (ICASSP 2019), for the first; Durand, Stoller and Ewert, "Contrastive learning-based audio to lyrics
alignment for multiple languages" (ICASSP 2023), for the present one.
"""

import csv
import functools
import math
import unicodedata
from bisect import bisect_right
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple

from alignments import SongAnnotation, Timed, song_supervision
from altpo_model.audio_files import BrokenAudio, audio_by_name, checked_recording
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.languages import language_code, language_codes
from altpo_model.text import normalize_text
from manifests import (
    LeftOut,
    Manifests,
    Prepared,
    Report,
    existing_dir,
    finish_split,
    preparation_parser,
    run_preparation,
)
from parallel import parallel_map

_TABLE = "JamendoLyrics.csv"
_COLUMNS = ("Filepath", "Artist")
_LANGUAGE = "Language"
_RAW = ".raw.txt"
# A word whose end is not known is sung until the next one begins, but no longer than this. The present layout has the
# ends: in its 20 English songs, the mean error of this rule is 0.09 s; with 0.5 s it would be 0.13 s, with 2 s 0.10 s.
_LONGEST_WORD = 1.0  # seconds


class BadAnnotation(Exception):
    """A song whose words or times cannot be used; the message says why, in a few words."""


class Song(NamedTuple):
    """What the table or the files' names tell of a song."""

    name: str  # of its files, without suffix
    artist: str
    language: str
    first_layout: bool

    @property
    def id(self) -> str:
        return unicodedata.normalize("NFC", self.name)


def prepare_jamendo(
    corpus_dir: str | Path,
    languages: list[str] | None = None,
    output_dir: str | Path | None = None,
    num_jobs: int = 1,
    executor: Executor | None = None,
    report: Report | None = None,
) -> Manifests:
    """Prepare JamendoLyrics, in either layout.

    languages: those to take (English, French, German, Spanish), by name or code; None takes every song.
    Returns: ``{"test": {"recordings": RecordingSet, "supervisions": SupervisionSet}}``, also written to ``output_dir``.
    A song of the first layout that has no times has text and no alignment.
    Raises UserError when the folder is missing, is of neither layout or no song is left.
    """
    report = report if report is not None else Report("jamendo")
    corpus_dir = existing_dir(corpus_dir, "corpora.jamendo.dir")
    codes = language_codes(languages)
    chosen, ids = [], set()
    for song in list_songs(corpus_dir):
        if song.id in ids:
            report.leave_out(song.id, LeftOut("duplicate id", f"{song.name}, a second time"))
            continue
        ids.add(song.id)
        if codes is None or language_code(song.language) in codes:
            chosen.append(song)
        else:
            report.leave_out(song.id, LeftOut("another language", song.language))
    mp3_dir = corpus_dir / "mp3"
    audio = audio_by_name(mp3_dir) if mp3_dir.is_dir() else {}
    prepare = functools.partial(_prepare_song, corpus_dir=corpus_dir, audio=audio)
    outcomes = list(parallel_map(prepare, chosen, "JamendoLyrics", num_jobs, executor))
    songs = list(report.sort_out([song.id for song in chosen], [outcome.result for outcome in outcomes]))
    words = [outcome.words for outcome in outcomes if outcome.words is not None]
    report.remarks.append(f"{len(words)} songs with {sum(words)} words read")
    if untimed := sum(not song.supervision.alignment for song in songs):
        report.remarks.append(f"{untimed} songs have text without times")
    return {"test": finish_split("jamendo", "test", songs, output_dir, report)}


def list_songs(corpus_dir: Path) -> list[Song]:
    """The songs of either layout by id; one may be there twice. Raises UserError when the folder is of neither."""
    if (corpus_dir / _TABLE).is_file():
        songs = _read_table(corpus_dir / _TABLE)
    else:
        lyrics = corpus_dir / "lyrics"
        names = [path.name.removesuffix(_RAW) for path in lyrics.glob(f"*{_RAW}") if not path.name.startswith(".")]
        songs = [Song(name, name.partition("_-_")[0].replace("_", " "), "English", True) for name in names]
        if not songs:
            raise UserError(
                f"{corpus_dir}: neither {_TABLE} (the present layout) nor lyrics/<song>{_RAW} (the first one, of 20 "
                "English songs) is there; set corpora.jamendo.dir to the folder that holds one of them"
            )
    return sorted(songs, key=lambda song: song.id)


def read_words(corpus_dir: Path, song: str) -> list[str]:
    """The words of one song as the files have them. Raises BadAnnotation."""
    try:
        words_file = _file(corpus_dir / "lyrics", f"{song}.words.txt")
        lyrics_file = _file(corpus_dir / "lyrics", f"{song}{_RAW}")
        if words_file.is_file() or not lyrics_file.is_file():
            return [line.strip() for line in words_file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        return lyrics_file.read_text(encoding="utf-8-sig").split()
    except (OSError, ValueError) as error:
        raise BadAnnotation(f"its words cannot be read: {type(error).__name__}: {error}") from None


def read_times(corpus_dir: Path, song: str) -> list[tuple[float, float]] | None:
    """The start and end of each word in seconds; None where the song has no file of them. Raises BadAnnotation."""
    try:
        table = _file(corpus_dir / "annotations" / "words", f"{song}.csv")
        onsets = _file(corpus_dir / "annotations", f"{song}.wordonset.txt")
        if table.is_file():
            with table.open(encoding="utf-8-sig", newline="") as stream:
                rows = list(csv.DictReader(stream))
            if not rows or "word_end" in rows[0]:
                return [(float(row["word_start"]), float(row["word_end"])) for row in rows]
            starts = [float(row["word_start"]) for row in rows]
            return _with_ends(starts, [float(row.get("line_end") or math.nan) for row in rows])
        if onsets.is_file():
            starts = [float(line) for line in onsets.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
            return _with_ends(starts, [math.nan] * len(starts))
    except (OSError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise BadAnnotation(f"its times cannot be read: {type(error).__name__}: {error}") from None
    return None


def _file(folder: Path, name: str) -> Path:
    """The file of that name, its name being in whichever Unicode form."""
    names = (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))
    return next((folder / form for form in names if (folder / form).is_file()), folder / name)


def _with_ends(starts: list[float], line_ends: list[float]) -> list[tuple[float, float]]:
    """A word ends with its line, where that end is known, or else by ``_LONGEST_WORD`` or where the next one begins."""
    if not all(map(math.isfinite, starts)):
        raise ValueError("a word's start is no number")
    in_order = [*sorted(starts), math.inf]
    times = []
    for start, line_end in zip(starts, line_ends, strict=True):
        following = in_order[bisect_right(in_order, start)]
        times.append((start, line_end if line_end > start else min(following, start + _LONGEST_WORD)))
    return times


class _Outcome(NamedTuple):
    result: Prepared | LeftOut
    words: int | None = None  # read; None: its annotation could not be


def _prepare_song(song: Song, corpus_dir: Path, audio: dict[str, Path]) -> _Outcome:
    try:
        words = read_words(corpus_dir, song.name)
        times = read_times(corpus_dir, song.name)
        if times is None and not song.first_layout:
            raise BadAnnotation(f"annotations/words/{song.name}.csv: no such file")
        if times is not None and len(words) != len(times):
            raise BadAnnotation(f"its lyrics have {len(words)} words, its annotation times for {len(times)}")
    except BadAnnotation as error:
        return _Outcome(LeftOut("broken annotation", str(error)))
    if song.id not in audio:
        return _Outcome(LeftOut("no audio", f"{len(words)} words"), len(words))
    try:
        prepared = _prepared(song, words, times, audio[song.id])
    except BrokenAudio as error:
        return _Outcome(LeftOut("broken audio", f"{audio[song.id].name}, {error}"), len(words))
    if not prepared.supervision.text:
        return _Outcome(LeftOut("no words inside the audio"), len(words))
    return _Outcome(prepared, len(words))


def _prepared(song: Song, words: list[str], times: list[tuple[float, float]] | None, audio: Path) -> Prepared:
    recording = checked_recording(audio, song.id)
    annotation = SongAnnotation(song.id, song.artist, song.language)
    if times is not None:
        annotation.words = [Timed(word, start, end) for word, (start, end) in zip(words, times, strict=True)]
        return Prepared(recording, *song_supervision(annotation, recording))
    supervision, losses = song_supervision(annotation, recording)
    supervision.text, dropped = normalize_text(" ".join(words), song.language)
    supervision.custom["annotation"].update(characters=len("".join(words)), dropped=dropped.total())
    losses.characters.update(dropped)
    return Prepared(recording, supervision, losses)


def _read_table(path: Path) -> list[Song]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = [column for column in _COLUMNS if column not in (reader.fieldnames or [])]
            if missing:
                raise UserError(f"{path}: has no column {', '.join(missing)}; is it JamendoLyrics' own table?")
            first_layout = _LANGUAGE not in reader.fieldnames
            rows = [{column: (row.get(column) or "").strip() for column in (*_COLUMNS, _LANGUAGE)} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({error})") from None
    return [
        Song(Path(row["Filepath"]).stem, row["Artist"], row[_LANGUAGE] or "English" * first_layout, first_layout)
        for row in rows
        if row["Filepath"]
    ]


@exits_cleanly
def main() -> None:
    run_preparation(
        "jamendo",
        preparation_parser(__doc__).parse_args(),
        lambda jamendo, **common: prepare_jamendo(jamendo.dir, jamendo.languages, **common),
    )


if __name__ == "__main__":
    main()

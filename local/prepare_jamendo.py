"""Stage 1, JamendoLyrics: Lhotse manifests with word times from the present layout of the data set (79 songs).

The folder holds ``JamendoLyrics.csv``, ``lyrics/<song>.words.txt`` (a word a line), ``annotations/words/<song>.csv``
(columns ``word_start,word_end,line_end`` in seconds, a row a word) and ``mp3/<song>.mp3``. Writes
``<data_dir>/manifests/jamendo_{recordings,supervisions}_test.jsonl.gz``.

Source: Durand, Stoller and Ewert, "Contrastive learning-based audio to lyrics alignment for multiple languages"
(ICASSP 2023).
"""

import csv
import functools
import unicodedata
from concurrent.futures import Executor
from pathlib import Path

from alignments import SongAnnotation, Timed, song_supervision
from altpo_model.errors import UserError, exits_cleanly
from audio_files import BrokenAudio, audio_by_name, checked_recording
from manifests import LeftOut, Manifests, Prepared, Report, existing_dir, finish_split, run_preparation, write_left_out
from parallel import parallel_map

_TABLE = "JamendoLyrics.csv"
_COLUMNS = ("Filepath", "Artist", "Language")


class BadAnnotation(Exception):
    """A song whose words or times cannot be used; the message says why, in a few words."""


def prepare_jamendo(
    corpus_dir: str | Path,
    languages: list[str] | None = None,
    output_dir: str | Path | None = None,
    num_jobs: int = 1,
    executor: Executor | None = None,
    report: Report | None = None,
) -> Manifests:
    """Prepare JamendoLyrics.

    languages: those to take (English, French, German, Spanish), in any case; None takes every song.
    Returns: ``{"test": {"recordings": RecordingSet, "supervisions": SupervisionSet}}``, also written to ``output_dir``.
    Raises UserError when the folder or its table is missing or no song is left.
    """
    report = report if report is not None else Report("jamendo")
    corpus_dir = existing_dir(corpus_dir, "corpora.jamendo.dir")
    rows = _read_table(corpus_dir / _TABLE)
    wanted = None if languages is None else {name.lower() for name in languages}
    chosen = []
    for row in rows:
        if wanted is None or row["Language"].lower() in wanted:
            chosen.append(row)
        else:
            report.leave_out(_song_id(row), LeftOut("another language", row["Language"]))
    mp3_dir = corpus_dir / "mp3"
    audio = audio_by_name(mp3_dir) if mp3_dir.is_dir() else {}
    prepare = functools.partial(_prepare_song, corpus_dir=corpus_dir, audio=audio)
    results = parallel_map(prepare, chosen, "JamendoLyrics", num_jobs, executor)
    songs = report.sort_out(map(_song_id, chosen), results).values()
    write_left_out(report, output_dir)
    recordings, supervisions = ([getattr(song, kind) for song in songs] for kind in ("recording", "supervision"))
    return {"test": finish_split("jamendo", "test", recordings, supervisions, output_dir, report)}


def read_words(corpus_dir: Path, song: str) -> list[Timed]:
    """The words of one song with their times, as the files have them. Raises BadAnnotation."""
    words_file = corpus_dir / "lyrics" / f"{song}.words.txt"
    times_file = corpus_dir / "annotations" / "words" / f"{song}.csv"
    try:
        words = [line.strip() for line in words_file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        with times_file.open(encoding="utf-8-sig", newline="") as stream:
            times = [(float(row["word_start"]), float(row["word_end"])) for row in csv.DictReader(stream)]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise BadAnnotation(f"its words or times cannot be read: {type(error).__name__}: {error}") from None
    if len(words) != len(times):
        raise BadAnnotation(f"{words_file.name} has {len(words)} words, {times_file.name} times for {len(times)}")
    return [Timed(word, start, end) for word, (start, end) in zip(words, times, strict=True)]


def _prepare_song(row: dict[str, str], corpus_dir: Path, audio: dict[str, Path]) -> Prepared | LeftOut:
    song = _song_id(row)
    if song not in audio:
        return LeftOut("no audio")
    try:
        words = read_words(corpus_dir, Path(row["Filepath"]).stem)
        recording = checked_recording(audio[song], song)
    except BadAnnotation as error:
        return LeftOut("broken annotation", str(error))
    except BrokenAudio as error:
        return LeftOut("broken audio", f"{audio[song].name}, {error}")
    annotation = SongAnnotation(song, artist=row["Artist"], language=row["Language"], words=words)
    supervision, losses = song_supervision(annotation, recording)
    if not supervision.text:
        return LeftOut("no words inside the audio")
    return Prepared(recording, supervision, losses)


def _song_id(row: dict[str, str]) -> str:
    return unicodedata.normalize("NFC", Path(row["Filepath"]).stem)


def _read_table(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = [column for column in _COLUMNS if column not in (reader.fieldnames or [])]
            if missing:
                raise UserError(f"{path}: has no column {', '.join(missing)}; is it JamendoLyrics' own table?")
            rows = [{column: (row[column] or "").strip() for column in _COLUMNS} for row in reader]
    except OSError:
        raise UserError(f"{path}: no such file; set corpora.jamendo.dir to the folder that holds it") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({error})") from None
    songs: dict[str, dict[str, str]] = {}
    for row in rows:
        if row["Filepath"]:
            songs.setdefault(_song_id(row), row)
    return [songs[song] for song in sorted(songs)]


@exits_cleanly
def main() -> None:
    run_preparation(
        "jamendo", __doc__, lambda jamendo, **common: prepare_jamendo(jamendo.dir, jamendo.languages, **common)
    )


if __name__ == "__main__":
    main()

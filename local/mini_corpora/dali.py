"""DALI's layout: gzipped pickles of `DALI.Annotations.Annotations`, audio named by id, and the truth about the faults.

The structure is that of DALI v1 (package DALI-dataset 1.0): an annotation of type "horizontal" has lists of notes,
words, lines and paragraphs; each entry has its text, its time [start, end] in seconds, its frequencies in Hz, and, but
for paragraphs, the index of the entry above it. The second note of a melisma has the text "~", as in the karaoke files
that DALI was made from.
"""

import contextlib
import csv
import gzip
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path

from mini_corpora.composition import Line, Note
from mini_corpora.plan import DaliSong, Plan
from mini_corpora.rendering import SongJob

PARAGRAPH = 4  # lines
FRAMES_A_BEAT = 4  # of karaoke files


def jobs(plan: Plan, folder: Path, accompaniment_db: float) -> list[SongJob]:
    """The audio to make under ``folder``."""
    return [SongJob(item.song, folder / "audio" / f"{item.id}.flac", None, accompaniment_db) for item in plan.dali]


def write_tables(plan: Plan, folder: Path) -> None:
    """The annotation of each song, and ``ground_truth.csv``: id, shift (semitones to add to its notes), kind."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for item in plan.dali:
        data = gzip.compress(_pickled(_info(item), _annotation(plan, item)), mtime=0)
        (folder / "annotations" / f"{item.id}.gz").write_bytes(data)
    with open(folder / "ground_truth.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["id", "shift", "kind"])
        table.writerows([item.id, -item.fault.shift, item.fault.kind] for item in plan.dali)


def _info(item: DaliSong) -> dict:
    return {
        "id": item.id,
        "artist": item.song.artist,
        "title": item.song.title,
        "dataset_version": 1.0,
        "ground-truth": False,
        "scores": {"NCC": 0.9, "manual": 0},
        "audio": {"url": "None", "working": True, "path": "None"},
        "metadata": {
            "album": "None",
            "release_date": "None",
            "cover": "None",
            "genres": ["Pop"],
            "language": "english",
        },
    }


def _annotation(plan: Plan, item: DaliSong) -> dict:
    """The horizontal annotation with the song's fault in it."""
    fault = item.fault
    song = item.song if fault.of_song is None else plan.dali[fault.of_song].song
    # A faulty annotation may be longer than the recording; a line that ends after it is left out.
    lines = [line for line in song.lines if line.end + fault.delay <= item.song.duration]
    return {
        "type": "horizontal",
        "annot": _levels(lines, fault.shift, fault.delay),
        "annot_param": {"fr": FRAMES_A_BEAT * song.tempo, "offset": fault.delay},
    }


def _levels(lines: list[Line], shift: int, delay: float) -> dict[str, list[dict]]:
    notes, words, rows, paragraphs = [], [], [], []

    def entry(text: str, start: float, end: float, sung: list[Note]) -> dict:
        frequencies = [440.0 * 2 ** ((note.pitch + shift - 69) / 12) for note in sung]
        return {"text": text, "time": [start + delay, end + delay], "freq": [min(frequencies), max(frequencies)]}

    for first in range(0, len(lines), PARAGRAPH):
        part = lines[first : first + PARAGRAPH]
        for line in part:
            for word in line.words:
                for syllable in word.syllables:
                    for i, note in enumerate(syllable.notes):
                        text = syllable.text if i == 0 else "~"
                        notes.append(entry(text, note.start, note.end, [note]) | {"index": len(words)})
                sung = [note for syllable in word.syllables for note in syllable.notes]
                words.append(entry(word.text, word.start, word.end, sung) | {"index": len(rows)})
            rows.append(entry(line.text, line.start, line.end, line.notes) | {"index": len(paragraphs)})
        text = " ".join(line.text for line in part)
        sung = [note for line in part for note in line.notes]
        paragraphs.append(entry(text, part[0].start, part[-1].end, sung))
    return {"notes": notes, "words": words, "lines": rows, "paragraphs": paragraphs}


def _pickled(info: dict, annotations: dict) -> bytes:
    """The pickle that DALI's own package would write (protocol 2), without that package."""
    with _dali_package() as annotation_class:
        song = annotation_class()
        song.info, song.annotations, song.errors = info, annotations, None
        return pickle.dumps(song, protocol=2)


@contextlib.contextmanager
def _dali_package() -> Iterator[type]:
    """While it lasts, `DALI.Annotations` is a module with an empty class of that name: a pickle names its classes by
    module, and looks them up there."""
    module = types.ModuleType("DALI.Annotations")
    module.Annotations = type("Annotations", (), {"__module__": module.__name__})
    stand_ins = {"DALI": types.ModuleType("DALI"), module.__name__: module}
    before = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)
    try:
        yield module.Annotations
    finally:
        for name, installed in before.items():
            del sys.modules[name]
            if installed is not None:
                sys.modules[name] = installed

"""Reading DALI's annotation files without running what is in them.

A DALI file is a gzipped Python pickle of a `DALI.Annotations.Annotations` object, and a pickle may name any function
for the reader to call. The reader here admits that one class (as an empty shell that receives the data) and plain data;
a file that asks for anything else is refused, and nothing of it has run by then.

Source: Meseguer-Brocal, Cohen-Hadria and Peeters, "DALI: a large dataset of synchronized audio, lyrics and notes"
(ISMIR 2018), and the package DALI-dataset 1.1.
"""

import gzip
import io
import pickle
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_BYTES = 64 * 2**20  # of one unpacked file; the largest of DALI has about 1 MiB

_LEVELS = ("notes", "words")


class BadAnnotation(Exception):
    """An annotation file that cannot be used; the message says why, in a few words."""


@dataclass(frozen=True)
class Entry:
    """One note (``text`` is its syllable) or one word: times in seconds, frequencies in Hz (lowest, highest)."""

    text: str
    start: float
    end: float
    frequencies: tuple[float, float]


@dataclass(frozen=True)
class DaliAnnotation:
    id: str
    artist: str
    title: str
    language: str  # in lower case, "english"; "" where the file has none
    notes: list[Entry]
    words: list[Entry]


class _Annotations:
    """Receives the attributes of a pickled `DALI.Annotations.Annotations`."""


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        if (module.split(".")[0], name) == ("DALI", "Annotations"):
            return _Annotations
        if (module, name) in {("builtins", "object"), ("__builtin__", "object")}:
            return object
        raise BadAnnotation(f"refused: it asks for {module}.{name}, which is no annotation data")

    def persistent_load(self, pid: Any) -> Any:
        raise BadAnnotation("refused: it asks for an object outside the file")


def read_pickle(path: Path) -> Any:
    """The plain data, or the annotation shell, in a gzipped pickle. Raises BadAnnotation; runs nothing of the file."""
    try:
        with gzip.open(path, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadAnnotation(f"not a whole gzip file: {error}") from None
    if len(data) > MAX_BYTES:
        raise BadAnnotation(f"refused: it unpacks to more than {MAX_BYTES // 2**20} MiB")
    try:
        return _PlainUnpickler(io.BytesIO(data), encoding="utf-8").load()
    except BadAnnotation:
        raise
    except Exception as error:  # a broken pickle can raise nearly anything
        raise BadAnnotation(f"not a whole pickle: {type(error).__name__}: {error}") from None


def read_annotation(path: Path) -> DaliAnnotation:
    """Read one ``<dali_id>.gz`` with a horizontal annotation (a list for each level). Raises BadAnnotation."""
    song = read_pickle(path)
    if not isinstance(song, _Annotations):
        raise BadAnnotation(f"holds a {type(song).__name__}, not an annotation")
    try:
        info, annotations = song.info, song.annotations
        kind = annotations["type"]
        if kind != "horizontal":
            raise BadAnnotation(f"its annotation is {kind!r}, not 'horizontal'")
        notes, words = ([_entry(item) for item in annotations["annot"][level]] for level in _LEVELS)
        return DaliAnnotation(
            id=str(info["id"]),
            artist=str(info["artist"]),
            title=str(info["title"]),
            language=str(info["metadata"].get("language") or "").lower(),
            notes=notes,
            words=words,
        )
    except BadAnnotation:
        raise
    except Exception as error:  # a field that is missing or of another type
        raise BadAnnotation(f"not laid out as DALI: {type(error).__name__}: {error}") from None


def _entry(item: dict) -> Entry:
    start, end = item["time"]
    lowest, highest = item["freq"]
    return Entry(str(item["text"]), float(start), float(end), (float(lowest), float(highest)))

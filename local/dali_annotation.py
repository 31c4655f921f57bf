"""Reading DALI's files: annotations, corrected offsets and metadata, without running what is in them.

An annotation is a gzipped Python pickle of a `DALI.Annotations.Annotations` object, and a pickle may name any function
for the reader to call. The reader here admits that one class (as an empty shell that receives the data) and plain data;
a file that asks for anything else is refused, and nothing of it has run by then. (The loaders of mirdata and of
DALI-dataset unpickle whatever the file says, which is why neither is used.) JSON exports of DALI-dataset's
``Annotations.write_json`` are read too.

Source: Meseguer-Brocal, Cohen-Hadria and Peeters, "DALI: a large dataset of synchronized audio, lyrics and notes"
(ISMIR 2018), and the package DALI-dataset 1.1, with which `corrected` must agree.
"""

import gzip
import io
import json
import math
import pickle
import pickletools
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from altpo_model.errors import UserError

MAX_BYTES = 64 * 2**20  # of one unpacked file; the largest of DALI has about 1 MiB
MAX_ENTRIES = 50_000  # words, notes ... of one song: parts that a pickle has once may stand in many places
MAX_TEXT = 10_000  # characters of one text


class BadAnnotation(Exception):
    """A file that cannot be used; the message says why, in a few words."""


@dataclass(frozen=True)
class Entry:
    """One note (``text`` is its syllable) or one word: times in seconds, frequencies in Hz (lowest, highest)."""

    text: str
    start: float
    end: float
    frequencies: tuple[float, float]


@dataclass(frozen=True)
class Timing:
    """``annot_param`` of an annotation: the grid that its times lie on."""

    offset: float  # seconds of beat 0
    frame_rate: float  # beats a minute


@dataclass(frozen=True)
class DaliAnnotation:
    id: str
    artist: str
    title: str
    language: str  # "english"; "" where the file has none
    timing: Timing
    notes: list[Entry]
    words: list[Entry]


@dataclass(frozen=True)
class DaliInfo:
    """What DALI's metadata say of one song."""

    artist: str
    title: str
    language: str


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="utf-8")
        # A class of this file alone: a pickle can set attributes of a class, which the next file must not see.
        self.shell = type("Annotations", (), {})

    def find_class(self, module: str, name: str) -> type:
        if (module.split(".")[0], name) == ("DALI", "Annotations"):
            return self.shell
        if (module, name) in {("builtins", "object"), ("__builtin__", "object")}:
            return object
        raise BadAnnotation(f"refused: it asks for {module}.{name}, which is no annotation data")

    def persistent_load(self, pid: Any) -> Any:
        raise BadAnnotation("refused: it asks for an object outside the file")


def read_pickle(path: Path) -> Any:
    """The plain data in a gzipped pickle; of an annotation object, ``{"info": ..., "annotations": ...}``.

    Raises BadAnnotation; runs nothing of the file.
    """
    try:
        with gzip.open(path, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadAnnotation(f"not a whole gzip file: {error}") from None
    _check_size(len(data))
    unpickler = _PlainUnpickler(data)
    try:
        _check_memo(data)
        content = unpickler.load()
    except BadAnnotation:
        raise
    except Exception as error:  # a broken pickle can raise nearly anything
        raise BadAnnotation(f"not a whole pickle: {_told(error)}") from None
    return vars(content) if type(content) is unpickler.shell else content


def read_annotation(path: Path) -> DaliAnnotation:
    """Read one ``<dali_id>.gz`` or ``.json``, of the horizontal or the vertical kind. Raises BadAnnotation."""
    song = read_pickle(path) if path.suffix == ".gz" else _read_json(path)
    if not (isinstance(song, dict) and {"info", "annotations"} <= song.keys()):
        raise BadAnnotation(f"holds a {type(song).__name__} that is no annotation")
    try:
        info, annotations = song["info"], song["annotations"]
        words, notes = _levels(annotations)
        timing = annotations.get("annot_param") or {}
        return DaliAnnotation(
            id=_text(info["id"]),
            artist=_text(info["artist"]),
            title=_text(info["title"]),
            language=_text(info["metadata"].get("language") or ""),
            timing=Timing(float(timing.get("offset", 0.0)), float(timing.get("fr", 0.0))),
            notes=notes,
            words=words,
        )
    except BadAnnotation:
        raise
    except Exception as error:  # a field that is missing or of another type
        raise BadAnnotation(f"not laid out as DALI: {_told(error)}") from None


def read_ground_truth(path: str | Path) -> dict[str, Timing]:
    """The corrected timing by song id, from ``gt_v1.0_*.gz`` (a gzipped pickle). Raises UserError."""
    path = Path(path)
    try:
        content = read_pickle(path)
        return {_text(song): Timing(float(row["offset"]), float(row["fr"])) for song, row in content.items()}
    except BadAnnotation as error:
        raise UserError(f"{path}: {error}; set corpora.dali.ground_truth to DALI's gt_v1.0_*.gz, or to null") from None
    except Exception as error:
        raise UserError(f"{path}: no table of offset and fr by song id ({_told(error)})") from None


def read_metadata(path: str | Path) -> dict[str, DaliInfo]:
    """DALI's metadata by song id, from ``dali_v1_metadata.json``. Raises UserError."""
    path = Path(path)
    try:
        return {
            _text(song): DaliInfo(
                _text(row["artist"]), _text(row["title"]), _text(row.get("metadata", {}).get("language") or "")
            )
            for song, row in _read_json(path).items()
        }
    except BadAnnotation as error:
        raise UserError(f"{path}: {error}; set corpora.dali.metadata to dali_v1_metadata.json, or to null") from None
    except Exception as error:
        raise UserError(f"{path}: no table of artist, title and metadata by song id ({_told(error)})") from None


def corrected(song: DaliAnnotation, timing: Timing) -> DaliAnnotation:
    """The song with every time taken back to its beat and put on the grid of ``timing``.

    The same as ``DALI.change_time``: beat = round((time - offset) * frame_rate / 60), rounded half to even. Raises
    BadAnnotation where either grid has no positive frame rate.
    """
    for grid in (song.timing, timing):
        if not (math.isfinite(grid.frame_rate) and grid.frame_rate > 0 and math.isfinite(grid.offset)):
            raise BadAnnotation(f"no grid to correct its times on: offset {grid.offset}, frame rate {grid.frame_rate}")

    def moved(time: float) -> float:
        if not math.isfinite(time):
            return time
        beat = round((time - song.timing.offset) * (song.timing.frame_rate / 60))
        return beat / (timing.frame_rate / 60) + timing.offset

    def all_moved(entries: list[Entry]) -> list[Entry]:
        return [replace(entry, start=moved(entry.start), end=moved(entry.end)) for entry in entries]

    try:
        return replace(song, timing=timing, notes=all_moved(song.notes), words=all_moved(song.words))
    except (ArithmeticError, ValueError):  # a beat beyond every float, or none
        raise BadAnnotation(f"its times cannot be put on a grid of {song.timing} or {timing}") from None


def _read_json(path: Path) -> Any:
    try:
        _check_size(path.stat().st_size)
        return json.loads(path.read_bytes())
    except OSError as error:
        raise BadAnnotation(f"cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise BadAnnotation(f"not a whole JSON file: {_told(error)}") from None


def _levels(annotations: dict) -> tuple[list[Entry], list[Entry]]:
    """Words and notes. The horizontal kind lists each level; in the vertical one, a text is the list of its parts."""
    kind, annot = annotations["type"], annotations["annot"]
    if kind == "horizontal":
        return [_entry(item) for item in _bounded(annot["words"])], [_entry(item) for item in _bounded(annot["notes"])]
    if kind != "vertical":
        raise BadAnnotation("its annotation is neither horizontal nor vertical")
    words, notes = [], []
    for word in _vertical_words(annot["hierarchical"]):
        sung = [_entry(item) for item in _bounded(word["text"])]
        notes += sung
        _check_entries(len(notes) + sum(len(note.text) for note in sung))
        words.append(_entry({**word, "text": "".join(note.text for note in sung)}))
    return words, notes


def _vertical_words(paragraphs: list) -> Iterator[dict]:
    lines = _bounded(line for paragraph in paragraphs for line in paragraph["text"])
    return _bounded(word for line in lines for word in line["text"])


def _bounded(items: Iterable) -> Iterator:
    for number, item in enumerate(items):
        _check_entries(number)
        yield item


def _entry(item: dict) -> Entry:
    start, end = item["time"]
    lowest, highest = item["freq"]
    return Entry(_text(item["text"]), float(start), float(end), (float(lowest), float(highest)))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} where a text should be")
    if len(value) > MAX_TEXT:
        raise BadAnnotation(f"refused: a text in it has more than {MAX_TEXT} characters")
    return value.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair cannot be written


def _check_entries(number: int) -> None:
    if number > MAX_ENTRIES:
        raise BadAnnotation(f"refused: it has more than {MAX_ENTRIES} words, notes or letters in a word")


def _check_memo(data: bytes) -> None:
    """Python's unpickler makes room for the place in its memo that a pickle names, up to 64 GiB."""
    for operation, argument, _ in pickletools.genops(data):
        if operation.name in ("PUT", "LONG_BINPUT") and argument > len(data):
            raise BadAnnotation("refused: it asks for more memory than its data can need")


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise BadAnnotation(f"refused: it has more than {MAX_BYTES // 2**20} MiB")


def _told(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]

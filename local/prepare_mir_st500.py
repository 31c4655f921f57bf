"""Stage 1, MIR-ST500: Lhotse manifests with notes from the data set's JSON file and a folder of audio.

The JSON file is ``{song: [[onset, offset, MIDI number], ...]}``, times in seconds, songs "1" to "500". The audio folder
holds ``<song>.<any audio format>``, ``<song>/Mixture.<any audio format>`` or, as the authors' downloader leaves it,
``{train,test}/<song>/Mixture.<any audio format>``. Writes
``<data_dir>/manifests/mir_st500_{recordings,supervisions}_{train,test}.jsonl.gz``; the supervisions have notes and no
text.

Source: Wang and Jang, "On the preparation and validation of a large-scale dataset of singing transcription"
(ICASSP 2021).
"""

import functools
import json
import math
import re
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from alignments import OUT_OF_RANGE, Losses, SongAnnotation, Timed, song_supervision
from altpo_model.audio_files import BrokenAudio, audio_by_name, checked_recording
from altpo_model.errors import UserError, exits_cleanly
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

_HOME = "github.com/york135/singing_transcription_ICASSP2021"
_MIXTURE = "mixture"  # beside it may lie what a separator made of it: Vocal.wav, Inst.wav
_PARTS = ("train", "test")
_NUMBER = re.compile(r"[1-9][0-9]{0,5}")


class BadAnnotation(Exception):
    """A song whose notes cannot be used; the message says why, in a few words."""


def prepare_mir_st500(
    annotation: str | Path,
    audio_dir: str | Path,
    train_songs: int = 400,
    output_dir: str | Path | None = None,
    num_jobs: int = 1,
    executor: Executor | None = None,
    report: Report | None = None,
) -> Manifests:
    """Prepare MIR-ST500.

    annotation: the JSON file. audio_dir: the folder of audio.
    train_songs: songs numbered up to this train, the others test (400: the data set's own division).
    Returns: ``{"train": {...}, "test": {...}}`` with "recordings" and "supervisions", also written to ``output_dir``.
    Raises UserError when the annotation cannot be used, the folder is missing or a part has no song.
    """
    report = report if report is not None else Report("mir_st500")
    songs = read_annotation(Path(annotation))
    audio = find_audio(existing_dir(audio_dir, "corpora.mir_st500.audio_dir"))
    numbers = {}
    for song in songs:
        if _NUMBER.fullmatch(song):
            numbers[song] = int(song)
        else:
            report.leave_out(song, LeftOut("broken annotation", "its name is no number"))
    chosen = sorted(numbers, key=numbers.get)
    prepare = functools.partial(_prepare_song, audio=audio)
    results = parallel_map(prepare, [(song, songs[song]) for song in chosen], "MIR-ST500", num_jobs, executor)
    prepared = {song.recording.id: song for song in report.sort_out(map(recording_id, chosen), results)}
    manifests = {}
    for part in _PARTS:
        names = [recording_id(song) for song in chosen if (numbers[song] <= train_songs) == (part == "train")]
        kept = sorted((prepared[name] for name in names if name in prepared), key=lambda song: song.recording.id)
        manifests[part] = finish_split("mir_st500", part, kept, output_dir, report)
    return manifests


def recording_id(song: str) -> str:
    """``mir_st500_007`` of song 7."""
    return f"mir_st500_{int(song):03d}"


def read_annotation(path: Path) -> dict[str, list]:
    """The notes of every song, as they stand in the file. Raises UserError when it is not MIR-ST500's file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; set corpora.mir_st500.annotation to MIR-ST500_corrected.json, from {_HOME}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error}); fetch it again from {_HOME}") from None
    if not isinstance(content, dict) or not any(isinstance(notes, list) for notes in content.values()):
        raise UserError(f"{path}: not MIR-ST500's annotation, which is {{song: [[onset, offset, MIDI number], ...]}}")
    return content


def read_notes(notes: Any) -> tuple[list[Timed], Losses]:
    """The notes of one song (symbol: MIDI number) and those that are none. Raises BadAnnotation."""
    if not isinstance(notes, list):
        raise BadAnnotation(f"its notes are {_shown(notes)}, not a list")
    if not notes:
        raise BadAnnotation("it has no notes")
    kept, losses = [], Losses()
    for index, note in enumerate(notes, start=1):
        if not (isinstance(note, list) and len(note) == 3 and all(type(value) in (int, float) for value in note)):
            raise BadAnnotation(f"note {index} is {_shown(note)}, not [onset, offset, MIDI number]")
        onset, offset, pitch = map(_float, note)
        if not math.isfinite(pitch) or not 0 <= round(pitch) <= 127:
            losses.items[OUT_OF_RANGE] += 1
        else:
            kept.append(Timed(str(round(pitch)), onset, offset))
    return kept, losses


def find_audio(folder: Path) -> dict[str, Path]:
    """The audio files by song number, as text. Of several for one song, that in the uppermost folder is taken."""
    audio = audio_by_name(folder)
    parts = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name.lower() in _PARTS]
    for parent in [folder, *parts]:
        for song_dir in sorted(path for path in parent.iterdir() if path.is_dir() and _NUMBER.fullmatch(path.name)):
            mixtures = [path for name, path in audio_by_name(song_dir).items() if name.lower() == _MIXTURE]
            if mixtures:
                audio.setdefault(song_dir.name, mixtures[0])
    return audio


def _prepare_song(entry: tuple[str, Any], audio: dict[str, Path]) -> Prepared | LeftOut:
    song, content = entry
    try:
        notes, losses = read_notes(content)
        if song not in audio:
            return LeftOut("no audio", f"{len(content)} notes")
        recording = checked_recording(audio[song], recording_id(song))
    except BadAnnotation as error:
        return LeftOut("broken annotation", str(error))
    except BrokenAudio as error:
        return LeftOut("broken audio", f"{audio[song].name}, {error}")
    supervision, losses = song_supervision(SongAnnotation(recording.id, notes=notes), recording, losses)
    if not supervision.alignment.get("note"):
        return LeftOut("no notes inside the audio")
    return Prepared(recording, supervision, losses)


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:  # an integer beyond every float
        return math.inf


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value)
    except RecursionError:
        text = "a deep nest"
    return text if len(text) <= 40 else f"{text[:40]}..."


@exits_cleanly
def main() -> None:
    run_preparation(
        "mir_st500",
        preparation_parser(__doc__).parse_args(),
        lambda mir_st500, **common: prepare_mir_st500(
            mir_st500.annotation, mir_st500.audio_dir, mir_st500.train_songs, **common
        ),
    )


if __name__ == "__main__":
    main()

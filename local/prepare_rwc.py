"""Stage 1, RWC Popular: Lhotse manifests with notes from the audio and AIST's synchronised standard MIDI files.

The audio folder holds ``RM-P001.<any audio format>`` or, as mirdata has it, the tracks of the seven discs,
``rwc-p-m01/1.<any audio format>``; the annotation folder ``RM-P001.SMF_SYNC.MID``. Writes
``<data_dir>/manifests/rwc_{recordings,supervisions}_{train,test}.jsonl.gz``; the supervisions have notes and no text.

Source of the annotation: Goto, "AIST annotation for the RWC music database" (ISMIR 2006).
"""

import functools
import re
import unicodedata
import warnings
from concurrent.futures import Executor
from itertools import pairwise
from pathlib import Path

import pretty_midi

from alignments import SongAnnotation, Timed, song_supervision
from altpo_model.audio_files import BrokenAudio, audio_by_name, checked_recording
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.languages import language_code, language_codes
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

_MIDI_SUFFIXES = {".mid", ".midi"}
_SONG = re.compile(r"RM-P(\d{3})")
# RWC-MDB-P-2001 has 100 songs: the first 80 are sung in Japanese, the last 20 in English.
_ENGLISH, _SONGS = 81, 100
_FIRST_ON_DISC = (1, 17, 33, 49, 65, 81, 91)  # the number of each disc's first track


class BadMidi(Exception):
    """A MIDI file that cannot be used; the message says why, in a few words."""


def prepare_rwc(
    audio_dir: str | Path,
    annotation_dir: str | Path,
    melody_track: str = "melody",
    languages: list[str] | None = None,
    train_songs: int = 64,
    output_dir: str | Path | None = None,
    num_jobs: int = 1,
    executor: Executor | None = None,
    report: Report | None = None,
) -> Manifests:
    """Prepare RWC Popular.

    melody_track: the notes are those of the tracks whose name contains this, in any case.
    languages: those to take (Japanese, English), by name or code; None takes every song. The number tells the language;
    a song with another name than RM-P001 to RM-P100 has none, and only None takes it.
    train_songs: of the songs in these languages, the first so many by name train, the others test. A song that is left
    out for another reason keeps its place in the order, so that the others stay in their part.
    Returns: ``{"train": {...}, "test": {...}}`` with "recordings" and "supervisions", also written to ``output_dir``.
    Raises UserError when a folder is missing or a part has no song.
    """
    report = report if report is not None else Report("rwc")
    audio = find_audio(existing_dir(audio_dir, "corpora.rwc.audio_dir"))
    annotation_dir = existing_dir(annotation_dir, "corpora.rwc.annotation_dir")
    midi_files: dict[str, Path] = {}
    for path in sorted(annotation_dir.iterdir()):
        if path.suffix.lower() not in _MIDI_SUFFIXES or path.name.startswith("."):
            continue
        song = unicodedata.normalize("NFC", path.name.split(".")[0])
        if song in midi_files:
            report.leave_out(path.name, LeftOut("second annotation of a song", f"{midi_files[song].name} is read"))
        midi_files.setdefault(song, path)
    if not midi_files:
        raise UserError(f"{annotation_dir}: no MIDI file; set corpora.rwc.annotation_dir to RWC's SMF_SYNC folder")
    codes = language_codes(languages)
    songs = []
    for song in sorted(midi_files):
        language = language_of(song)
        if codes is None or language_code(language) in codes:
            songs.append(song)
        else:
            report.leave_out(song, LeftOut("another language", language or "unknown, not RM-P001 to RM-P100"))
    prepare = functools.partial(_prepare_song, audio=audio, midi_files=midi_files, melody_track=melody_track)
    results = parallel_map(prepare, songs, "RWC", num_jobs, executor)
    prepared = {song.recording.id: song for song in report.sort_out(songs, results)}
    manifests = {}
    for part, names in (("train", songs[:train_songs]), ("test", songs[train_songs:])):
        kept = [prepared[name] for name in names if name in prepared]
        manifests[part] = finish_split("rwc", part, kept, output_dir, report)
    return manifests


def language_of(song: str) -> str | None:
    """The language of a song by its number in RWC Popular; None where the name is not RM-P001 to RM-P100."""
    match = _SONG.fullmatch(song)
    if match is None or not 1 <= int(match[1]) <= _SONGS:
        return None
    return "English" if int(match[1]) >= _ENGLISH else "Japanese"


def find_audio(folder: Path) -> dict[str, Path]:
    """The audio files by song, named by song or lying by disc and track."""
    audio = audio_by_name(folder)
    for disc, (first, following) in enumerate(pairwise([*_FIRST_ON_DISC, _SONGS + 1]), start=1):
        disc_dir = folder / f"rwc-p-m{disc:02d}"
        tracks = audio_by_name(disc_dir) if disc_dir.is_dir() else {}
        for track, path in tracks.items():
            if track.isdecimal() and first <= first + int(track) - 1 < following:
                audio.setdefault(f"RM-P{first + int(track) - 1:03d}", path)
    return audio


def melody_notes(path: Path, melody_track: str) -> list[Timed]:
    """The notes (symbol: MIDI number) of the tracks whose name contains ``melody_track``. Raises BadMidi."""
    try:
        with warnings.catch_warnings():
            # AIST's files have tempo changes on other tracks than the first; pretty_midi reads them and warns.
            warnings.simplefilter("ignore")
            midi = pretty_midi.PrettyMIDI(str(path))
    except Exception as error:  # mido raises many types on a broken file
        raise BadMidi(f"not a whole MIDI file: {type(error).__name__}: {error}") from None
    tracks = [track for track in midi.instruments if melody_track.lower() in track.name.lower()]
    notes = [Timed(str(note.pitch), float(note.start), float(note.end)) for track in tracks for note in track.notes]
    if not notes:
        names = ", ".join(sorted({track.name or "no name" for track in midi.instruments})) or "none"
        raise BadMidi(f"no notes in a track named like {melody_track!r} (tracks with notes: {names})")
    return sorted(notes, key=lambda note: note.start)


def _prepare_song(
    song: str, audio: dict[str, Path], midi_files: dict[str, Path], melody_track: str
) -> Prepared | LeftOut:
    if song not in audio:
        return LeftOut("no audio")
    try:
        notes = melody_notes(midi_files[song], melody_track)
        recording = checked_recording(audio[song], song)
    except BadMidi as error:
        return LeftOut("broken annotation", f"{midi_files[song].name}, {error}")
    except BrokenAudio as error:
        return LeftOut("broken audio", f"{audio[song].name}, {error}")
    supervision, losses = song_supervision(SongAnnotation(song, language=language_of(song), notes=notes), recording)
    if not supervision.alignment["note"]:
        return LeftOut("no notes inside the audio")
    return Prepared(recording, supervision, losses)


@exits_cleanly
def main() -> None:
    run_preparation(
        "rwc",
        preparation_parser(__doc__).parse_args(),
        lambda rwc, **common: prepare_rwc(
            rwc.audio_dir, rwc.annotation_dir, rwc.melody_track, rwc.languages, rwc.train_songs, **common
        ),
    )


if __name__ == "__main__":
    main()

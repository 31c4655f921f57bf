"""Stage 1, RWC Popular: Lhotse manifests with notes from the audio and AIST's synchronised standard MIDI files.

The audio folder holds ``RM-P001.<any audio format>``, the annotation folder ``RM-P001.SMF_SYNC.MID``. Writes
``<data_dir>/manifests/rwc_{recordings,supervisions}_{train,test}.jsonl.gz``; the supervisions have notes and no text.

Source of the annotation: Goto, "AIST annotation for the RWC music database" (ISMIR 2006).
"""

import functools
import warnings
from concurrent.futures import Executor
from pathlib import Path

import pretty_midi

from alignments import SongAnnotation, Timed, song_supervision
from altpo_model.errors import UserError, exits_cleanly
from audio_files import BrokenAudio, audio_by_name, checked_recording
from manifests import LeftOut, Manifests, Prepared, Report, existing_dir, finish_split, run_preparation, write_left_out
from parallel import parallel_map

_MIDI_SUFFIXES = {".mid", ".midi"}


class BadMidi(Exception):
    """A MIDI file that cannot be used; the message says why, in a few words."""


def prepare_rwc(
    audio_dir: str | Path,
    annotation_dir: str | Path,
    melody_track: str = "melody",
    train_songs: int = 64,
    output_dir: str | Path | None = None,
    num_jobs: int = 1,
    executor: Executor | None = None,
    report: Report | None = None,
) -> Manifests:
    """Prepare RWC Popular.

    melody_track: the notes are those of the tracks whose name contains this, in any case.
    train_songs: the first so many songs by name train, the others test. A song that is left out keeps its place in
    the order, so that the others stay in their part.
    Returns: ``{"train": {...}, "test": {...}}`` with "recordings" and "supervisions", also written to ``output_dir``.
    Raises UserError when a folder is missing or a part has no song.
    """
    report = report if report is not None else Report("rwc")
    audio = audio_by_name(existing_dir(audio_dir, "corpora.rwc.audio_dir"))
    annotation_dir = existing_dir(annotation_dir, "corpora.rwc.annotation_dir")
    midi_files = {
        path.name.split(".")[0]: path
        for path in sorted(annotation_dir.iterdir())
        if path.suffix.lower() in _MIDI_SUFFIXES and not path.name.startswith(".")
    }
    if not midi_files:
        raise UserError(f"{annotation_dir}: no MIDI file; set corpora.rwc.annotation_dir to RWC's SMF_SYNC folder")
    songs = sorted(midi_files)
    prepare = functools.partial(_prepare_song, audio=audio, midi_files=midi_files, melody_track=melody_track)
    prepared = report.sort_out(songs, parallel_map(prepare, songs, "RWC", num_jobs, executor))
    write_left_out(report, output_dir)
    manifests = {}
    for part, names in (("train", songs[:train_songs]), ("test", songs[train_songs:])):
        recordings = [prepared[name].recording for name in names if name in prepared]
        supervisions = [prepared[name].supervision for name in names if name in prepared]
        manifests[part] = finish_split("rwc", part, recordings, supervisions, output_dir, report)
    return manifests


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
    supervision, losses = song_supervision(SongAnnotation(song, notes=notes), recording)
    if not supervision.alignment["note"]:
        return LeftOut("no notes inside the audio")
    return Prepared(recording, supervision, losses)


@exits_cleanly
def main() -> None:
    run_preparation(
        "rwc",
        __doc__,
        lambda rwc, **common: prepare_rwc(
            rwc.audio_dir, rwc.annotation_dir, rwc.melody_track, rwc.train_songs, **common
        ),
    )


if __name__ == "__main__":
    main()

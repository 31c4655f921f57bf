"""The layout of RWC's popular music with AIST's annotation: ``audio/RM-P001.wav``, and standard MIDI files in step with
the audio, with a melody track among others, as ``AIST.RWC-MDB-P-2001.SMF_SYNC/RM-P001.SMF_SYNC.MID``."""

from pathlib import Path

import pretty_midi

from mini_corpora.accompaniment import arrange
from mini_corpora.composition import Song
from mini_corpora.plan import Plan
from mini_corpora.rendering import SongJob

ANNOTATION_DIR = "AIST.RWC-MDB-P-2001.SMF_SYNC"
TICKS_A_SECOND = 1920  # 960 to a quarter note at 120 quarter notes a minute: times are exact to 0.3 ms
MELODY_PROGRAM = 52  # General MIDI's choir


def _name(place: int) -> str:
    return f"RM-P{place + 1:03d}"


def jobs(plan: Plan, folder: Path, accompaniment_db: float) -> list[SongJob]:
    """The audio to make under ``folder``."""
    return [
        SongJob(song, folder / "audio" / f"{_name(i)}.wav", None, accompaniment_db) for i, song in enumerate(plan.rwc)
    ]


def write_tables(plan: Plan, folder: Path) -> None:
    """A standard MIDI file for each song."""
    (folder / ANNOTATION_DIR).mkdir(parents=True, exist_ok=True)
    for i, song in enumerate(plan.rwc):
        _midi(song).write(str(folder / ANNOTATION_DIR / f"{_name(i)}.SMF_SYNC.MID"))


def _midi(song: Song) -> pretty_midi.PrettyMIDI:
    midi = pretty_midi.PrettyMIDI(resolution=TICKS_A_SECOND // 2, initial_tempo=120.0)
    melody = pretty_midi.Instrument(MELODY_PROGRAM, name="MELODY")
    melody.notes = [pretty_midi.Note(100, note.pitch, note.start, note.end) for note in song.notes]
    midi.instruments.append(melody)
    for part in arrange(song):
        instrument = pretty_midi.Instrument(part.program, part.drums, part.name)
        instrument.notes = [pretty_midi.Note(s.velocity, s.pitch, s.start, s.end) for s in part.strokes]
        midi.instruments.append(instrument)
    return midi

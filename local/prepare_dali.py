"""Stage 1, DALI: Lhotse manifests with words, syllables and notes from the annotation files and a folder of audio.

The annotation folder holds ``<dali_id>.gz`` (see dali_annotation.py), the audio folder
``<dali_id>.<any audio format>``. Writes ``<data_dir>/manifests/dali_{recordings,supervisions}_all.jsonl.gz``; the
parts are divided later.
"""

import functools
from concurrent.futures import Executor
from pathlib import Path

from alignments import Losses, SongAnnotation, Timed, midi_number, song_supervision
from altpo_model.errors import UserError, exits_cleanly
from audio_files import BrokenAudio, audio_by_name, checked_recording
from dali_annotation import BadAnnotation, DaliAnnotation, read_annotation
from manifests import LeftOut, Manifests, Prepared, Report, existing_dir, finish_split, run_preparation, write_left_out
from parallel import parallel_map


def prepare_dali(
    corpus_dir: str | Path,
    audio_dir: str | Path,
    languages: list[str] | None = None,
    output_dir: str | Path | None = None,
    num_jobs: int = 1,
    executor: Executor | None = None,
    report: Report | None = None,
) -> Manifests:
    """Prepare DALI.

    corpus_dir: folder of ``<dali_id>.gz``. audio_dir: folder of audio named by id.
    languages: those to take, in any case; None takes every song.
    report: filled with what was kept and left out.
    Returns: ``{"all": {"recordings": RecordingSet, "supervisions": SupervisionSet}}``, also written to ``output_dir``.
    Raises UserError when a folder is missing or no song is left.
    """
    report = report if report is not None else Report("dali")
    corpus_dir = existing_dir(corpus_dir, "corpora.dali.dir")
    audio = audio_by_name(existing_dir(audio_dir, "corpora.dali.audio_dir"))
    files = sorted(path for path in corpus_dir.glob("*.gz") if not path.name.startswith("."))
    if not files:
        raise UserError(f"{corpus_dir}: holds no <dali_id>.gz; set corpora.dali.dir to DALI's annotation folder")
    prepare = functools.partial(
        _prepare_song, audio=audio, languages=None if languages is None else {name.lower() for name in languages}
    )
    results = parallel_map(prepare, files, "DALI", num_jobs, executor)
    songs = report.sort_out((path.stem for path in files), results).values()
    write_left_out(report, output_dir)
    recordings, supervisions = ([getattr(song, kind) for song in songs] for kind in ("recording", "supervision"))
    return {"all": finish_split("dali", "all", recordings, supervisions, output_dir, report)}


def _prepare_song(path: Path, audio: dict[str, Path], languages: set[str] | None) -> Prepared | LeftOut:
    try:
        song = read_annotation(path)
    except BadAnnotation as error:
        return LeftOut("broken annotation", str(error))
    if languages is not None and song.language not in languages:
        return LeftOut("another language", song.language or "none given")
    if song.id != path.stem:
        return LeftOut("broken annotation", f"its id is {song.id}")
    if path.stem not in audio:
        return LeftOut("no audio")
    try:
        recording = checked_recording(audio[path.stem], path.stem)
    except BrokenAudio as error:
        return LeftOut("broken audio", f"{audio[path.stem].name}, {error}")
    annotation, losses = _song_annotation(song)
    supervision, losses = song_supervision(annotation, recording, losses)
    if not supervision.text:
        return LeftOut("no words inside the audio")
    return Prepared(recording, supervision, losses)


def _song_annotation(song: DaliAnnotation) -> tuple[SongAnnotation, Losses]:
    losses = Losses()
    notes = []
    for entry in song.notes:
        number = midi_number(sum(entry.frequencies) / 2)
        if number is None:
            losses.items["notes out of MIDI's range"] += 1
        else:
            notes.append(Timed(str(number), entry.start, entry.end))
    annotation = SongAnnotation(
        id=song.id,
        artist=song.artist,
        language=song.language.capitalize() or None,
        words=[Timed(entry.text, entry.start, entry.end) for entry in song.words],
        syllables=[Timed(entry.text, entry.start, entry.end) for entry in song.notes],
        notes=notes,
    )
    return annotation, losses


@exits_cleanly
def main() -> None:
    run_preparation(
        "dali",
        __doc__,
        lambda dali, **common: prepare_dali(dali.dir, dali.audio_dir, dali.languages, **common),
    )


if __name__ == "__main__":
    main()

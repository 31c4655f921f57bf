"""Stage 1, DALI: Lhotse manifests with words, syllables and notes from the annotation files and a folder of audio.

The annotation folder holds ``<dali_id>.gz`` or ``<dali_id>.json`` of DALI v1 or v2 (see dali_annotation.py), the audio
folder ``<dali_id>.<any audio format>``. Writes ``<data_dir>/manifests/dali_{recordings,supervisions}_all.jsonl.gz``;
the parts are divided later.
"""

import functools
import unicodedata
from concurrent.futures import Executor
from pathlib import Path

from alignments import OUT_OF_RANGE, Losses, SongAnnotation, Timed, joined_syllables, midi_number, song_supervision
from altpo_model.audio_files import BrokenAudio, audio_by_name, checked_recording
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.languages import language_code, language_codes, language_name
from dali_annotation import (
    BadAnnotation,
    DaliAnnotation,
    DaliInfo,
    Timing,
    corrected,
    read_annotation,
    read_ground_truth,
    read_metadata,
)
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

_SUFFIXES = (".gz", ".json")


def prepare_dali(
    corpus_dir: str | Path,
    audio_dir: str | Path,
    languages: list[str] | None = None,
    ground_truth: str | Path | None = None,
    metadata: str | Path | None = None,
    output_dir: str | Path | None = None,
    num_jobs: int = 1,
    executor: Executor | None = None,
    report: Report | None = None,
) -> Manifests:
    """Prepare DALI.

    corpus_dir: folder of ``<dali_id>.gz`` or ``.json``. audio_dir: folder of audio named by id.
    languages: those to take, by name or code; None takes every song.
    ground_truth: DALI's file of corrected offsets and frame rates, applied as DALI's own code does.
    metadata: dali_v1_metadata.json; its songs that have no annotation file are listed as left out, and it knows the
    language of a song whose annotation does not say.
    report: filled with what was kept and left out.
    Returns: ``{"all": {"recordings": RecordingSet, "supervisions": SupervisionSet}}``, also written to ``output_dir``.
    Raises UserError when a folder or file is missing or no song is left.
    """
    report = report if report is not None else Report("dali")
    corpus_dir = existing_dir(corpus_dir, "corpora.dali.dir")
    audio = audio_by_name(existing_dir(audio_dir, "corpora.dali.audio_dir"))
    timings = read_ground_truth(ground_truth) if ground_truth else {}
    known = read_metadata(metadata) if metadata else {}
    files = _annotation_files(corpus_dir, report)
    for song in sorted(known.keys() - files.keys()):
        report.leave_out(song, LeftOut("no annotation", f"{known[song].artist} - {known[song].title}"))
    prepare = functools.partial(
        _prepare_song, audio=audio, timings=timings, known=known, languages=language_codes(languages)
    )
    if known:
        report.remarks.append(f"{len(known)} songs in the metadata")
    if timings:
        report.remarks.append(
            f"times of {len(timings.keys() & files.keys())} annotations corrected by the ground truth"
        )
    results = parallel_map(prepare, list(files.values()), "DALI", num_jobs, executor)
    return {"all": finish_split("dali", "all", report.sort_out(files, results), output_dir, report)}


def _annotation_files(corpus_dir: Path, report: Report) -> dict[str, Path]:
    """The annotation files by song id, in order; of two for one song, the pickle."""
    files: dict[str, Path] = {}
    for path in sorted(corpus_dir.iterdir()):
        if path.suffix not in _SUFFIXES or path.name.startswith("."):
            continue
        song = unicodedata.normalize("NFC", path.stem)
        if song in files:
            report.leave_out(path.name, LeftOut("second annotation of a song", f"{files[song].name} is read"))
        files.setdefault(song, path)
    if not files:
        raise UserError(f"{corpus_dir}: holds no <dali_id>.gz; set corpora.dali.dir to DALI's annotation folder")
    return dict(sorted(files.items()))


def _prepare_song(
    path: Path,
    audio: dict[str, Path],
    timings: dict[str, Timing],
    known: dict[str, DaliInfo],
    languages: set[str] | None,
) -> Prepared | LeftOut:
    name = unicodedata.normalize("NFC", path.stem)
    try:
        song = read_annotation(path)
        if unicodedata.normalize("NFC", song.id) != name:
            raise BadAnnotation(f"its id is {song.id}")
        if name in timings:
            song = corrected(song, timings[name])
    except BadAnnotation as error:
        return LeftOut("broken annotation", str(error))
    language = song.language or (known[name].language if name in known else "")
    if languages is not None and language_code(language) not in languages:
        return LeftOut("another language", language or "none given")
    if name not in audio:
        return LeftOut("no audio", f"{song.artist} - {song.title}")
    try:
        recording = checked_recording(audio[name], name)
    except BrokenAudio as error:
        return LeftOut("broken audio", f"{audio[name].name}, {error}")
    annotation, losses = _song_annotation(song, language)
    supervision, losses = song_supervision(annotation, recording, losses)
    if not supervision.text:
        return LeftOut("no words inside the audio")
    supervision.custom["title"] = song.title
    return Prepared(recording, supervision, losses)


def _song_annotation(song: DaliAnnotation, language: str) -> tuple[SongAnnotation, Losses]:
    losses = Losses()
    notes = []
    for entry in song.notes:
        number = midi_number(sum(entry.frequencies) / 2)
        if number is None:
            losses.items[OUT_OF_RANGE] += 1
        else:
            notes.append(Timed(str(number), entry.start, entry.end))
    annotation = SongAnnotation(
        id=song.id,
        artist=song.artist,
        language=language_name(language),
        words=[Timed(entry.text.replace("~", ""), entry.start, entry.end) for entry in song.words],
        syllables=joined_syllables(Timed(entry.text, entry.start, entry.end) for entry in song.notes),
        notes=notes,
    )
    return annotation, losses


@exits_cleanly
def main() -> None:
    run_preparation(
        "dali",
        preparation_parser(__doc__).parse_args(),
        lambda dali, **common: prepare_dali(
            dali.dir, dali.audio_dir, dali.languages, dali.ground_truth, dali.metadata, **common
        ),
    )


if __name__ == "__main__":
    main()

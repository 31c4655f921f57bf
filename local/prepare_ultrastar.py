"""Stage 1, UltraStar: Lhotse manifests with words, syllables and notes from one's own karaoke files.

The folder holds songs, in folders of any depth: an UltraStar text (``.txt``, see altpo_model/ultrastar.py) and beside
it the audio that its tag ``#AUDIO`` or ``#MP3`` names. Writes
``<data_dir>/manifests/ultrastar_{recordings,supervisions}_all.jsonl.gz``; the parts are divided later.

A song's id is its folder's name (the names of all its folders under the corpus, joined by ``__``) and the text's own
name where that says more: in a folder ``Artist - Song``, ``song.txt`` is ``Artist_-_Song`` and ``duet.txt`` is
``Artist_-_Song__duet``. Instrumental versions are left out: they have the words of a voice that is not in their audio.
"""

import functools
import os
import re
import unicodedata
from concurrent.futures import Executor
from pathlib import Path

from alignments import OUT_OF_RANGE, Losses, SongAnnotation, Timed, song_supervision
from altpo_model.audio_files import AUDIO_SUFFIXES, BrokenAudio, checked_recording
from altpo_model.errors import UserError, exits_cleanly
from altpo_model.languages import language_code, language_codes, language_name
from altpo_model.ultrastar import (
    MAX_CHARACTERS,
    PITCHED,
    BadUltraStar,
    UltraStarSong,
    decode_ultrastar,
    is_ultrastar,
    parse_ultrastar,
    timed_lyrics,
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

_MAX_BYTES = 4 * MAX_CHARACTERS  # of a text; no encoding needs more
_INSTRUMENTAL_TITLE = re.compile(r"[(\[]\s*(?:kar|karaoke|instrumental)\b[^()\[\]]*[)\]]\s*$", re.IGNORECASE)
_INSTRUMENTAL_FILE = ("instrumental", "karaoke")
_TOLD_LINES = 20  # numbers of unread lines that a supervision carries


class NoAudio(Exception):
    """A song whose audio cannot be found; the message says why, in a few words."""


def prepare_ultrastar(
    corpus_dir: str | Path,
    languages: list[str] | None = None,
    output_dir: str | Path | None = None,
    num_jobs: int = 1,
    executor: Executor | None = None,
    report: Report | None = None,
) -> Manifests:
    """Prepare a folder of UltraStar songs.

    languages: those to take, by name or code; None takes every song.
    report: filled with what was kept and left out.
    Returns: ``{"all": {"recordings": RecordingSet, "supervisions": SupervisionSet}}``, also written to ``output_dir``.
    Raises UserError when the folder is missing or no song is left.
    """
    report = report if report is not None else Report("ultrastar")
    corpus_dir = existing_dir(corpus_dir, "corpora.ultrastar.dir")
    codes = language_codes(languages)
    songs: dict[str, Path] = {}
    for path in _ultrastar_texts(corpus_dir, report):
        song = song_id(path, corpus_dir)
        if not _is_unicode(path):
            report.leave_out(song, LeftOut("file name that is not Unicode"))
        elif song in songs:
            first, second = (_one_line(text.relative_to(corpus_dir)) for text in (songs[song], path))
            report.leave_out(song, LeftOut("duplicate id", f"{second}, beside {first}"))
        else:
            songs[song] = path
    if not songs and not report.left_out:
        raise UserError(f"{corpus_dir}: holds no UltraStar text (.txt with #TITLE, #BPM and notes)")
    prepare = functools.partial(_prepare_song, languages=codes)
    results = parallel_map(prepare, sorted(songs.items()), "UltraStar", num_jobs, executor)
    return {"all": finish_split("ultrastar", "all", report.sort_out(sorted(songs), results), output_dir, report)}


def song_id(text_file: Path, corpus_dir: Path) -> str:
    """The id of a song: its folders' names and, where it says more than these, the text's own."""
    folders, stem = text_file.relative_to(corpus_dir).parent.parts, text_file.stem
    names = [*folders]
    if not folders or _folded(stem) not in ("song", _folded(folders[-1])):
        names.append(stem)
    name = unicodedata.normalize("NFC", "__".join(names)).encode("utf-8", "replace").decode("utf-8")
    return re.sub(r"\s+", "_", name)


def find_audio(text_file: Path, tags: dict[str, str]) -> Path:
    """The audio of a song: the file that its tag names, or with no tag the one beside the text. Raises NoAudio."""
    named = _named_audio(tags)
    if named:
        return _referenced(text_file.parent, named)
    video = _folded(tags.get("VIDEO", ""))  # is in a format that has sound too
    audio = [
        path
        for path in sorted(text_file.parent.iterdir())
        if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file()
        if not path.name.startswith(".") and _folded(path.name) != video
    ]
    beside = [path for path in audio if _folded(path.stem) == _folded(text_file.stem)]
    if beside:
        return beside[0]
    if len(audio) != 1:
        raise NoAudio(f"it names no audio and has {len(audio)} audio files beside it")
    return audio[0]


def _prepare_song(song: tuple[str, Path], languages: set[str] | None) -> Prepared | LeftOut:
    name, path = song
    try:
        ultrastar = parse_ultrastar(_read_text(path))
    except (BadUltraStar, OSError) as error:
        return LeftOut("broken annotation", _one_line(error))
    tags = ultrastar.tags
    if languages is not None and language_code(tags.get("LANGUAGE")) not in languages:
        return LeftOut("another language", _one_line(tags.get("LANGUAGE", "none given")))
    audio, why = None, ""
    try:
        audio = find_audio(path, tags)
    except (NoAudio, OSError) as error:
        why = _one_line(error)
    read = f"{len(ultrastar.notes())} notes read"
    if _is_instrumental(tags, audio):
        return LeftOut("instrumental version", read)
    if audio is None:
        return LeftOut("no audio", f"{read}; {why}")
    if not _is_unicode(audio):
        return LeftOut("file name that is not Unicode", f"its audio; {read}")
    try:
        recording = checked_recording(audio, name)
    except BrokenAudio as error:
        return LeftOut("broken audio", f"{_one_line(audio.name)}, {error}")
    annotation, losses = _song_annotation(name, ultrastar)
    supervision, losses = song_supervision(annotation, recording, losses)
    if not supervision.text:
        return LeftOut("no words inside the audio")
    if "TITLE" in tags:
        supervision.custom["title"] = tags["TITLE"]
    if ultrastar.unread_lines:
        supervision.custom["unread_lines"] = ultrastar.unread_lines[:_TOLD_LINES]
    return Prepared(recording, supervision, losses)


def _song_annotation(name: str, song: UltraStarSong) -> tuple[SongAnnotation, Losses]:
    lyrics = timed_lyrics(song)
    notes = [note for note in lyrics.notes if 0 <= int(note.symbol) <= 127]
    losses = Losses()
    losses.items.update(
        {
            kind: count
            for kind, count in {
                "notes without a pitch (freestyle or rap)": sum(note.kind not in PITCHED for note in song.notes()),
                OUT_OF_RANGE: len(lyrics.notes) - len(notes),
                "lines not understood": len(song.unread_lines),
            }.items()
            if count
        }
    )
    annotation = SongAnnotation(
        id=name,
        artist=song.tags.get("ARTIST"),
        language=language_name(song.tags.get("LANGUAGE")),
        words=[Timed(*word) for word in lyrics.words],
        syllables=[Timed(*syllable) for syllable in lyrics.syllables],
        notes=[Timed(*note) for note in notes],
    )
    return annotation, losses


def _ultrastar_texts(corpus_dir: Path, report: Report) -> list[Path]:
    """The texts that claim to be UltraStar, in order. What cannot be looked at goes into the report."""

    def unreadable(error: OSError) -> None:
        report.leave_out(_one_line(error.filename), LeftOut("cannot be read", _one_line(error.strerror)))

    texts = []
    been = {os.path.realpath(corpus_dir)}
    for folder, below, files in os.walk(corpus_dir, onerror=unreadable, followlinks=True):
        new = {name: os.path.realpath(os.path.join(folder, name)) for name in below if not name.startswith(".")}
        below[:] = sorted(name for name, place in new.items() if place not in been)
        been.update(new.values())
        texts += [Path(folder, name) for name in files if name.lower().endswith(".txt") and not name.startswith(".")]
    claiming = []
    for path in sorted(texts):
        try:
            if is_ultrastar(_read_text(path)):
                claiming.append(path)
        except OSError as error:
            unreadable(error)
    return claiming


def _read_text(path: Path) -> str:
    with path.open("rb") as stream:
        return decode_ultrastar(stream.read(_MAX_BYTES + 1))


def _named_audio(tags: dict[str, str]) -> str | None:
    return tags.get("AUDIO") or tags.get("MP3")


def _is_instrumental(tags: dict[str, str], audio: Path | None) -> bool:
    title = tags.get("TITLE", "")
    file = audio.name if audio else _named_audio(tags) or ""
    # A song may be about karaoke: then its title says so too.
    in_file = any(word in _folded(file) and word not in _folded(title) for word in _INSTRUMENTAL_FILE)
    return bool(_INSTRUMENTAL_TITLE.search(title)) or in_file


def _referenced(folder: Path, reference: str) -> Path:
    """The file that a tag names, from the text's folder on. Raises NoAudio, also when it leads out of that folder."""
    for separator in ("/", r"[/\\]"):  # a name may have a backslash in it; on Windows it divides folders
        names: list[str] = []
        for name in re.split(separator, reference):
            if name == "..":
                if not names:
                    raise NoAudio(f"{reference} is outside of the song's folder")
                names.pop()
            elif name not in ("", "."):
                names.append(name)
        if re.match(rf"{separator}|[A-Za-z]:[/\\]", reference):
            raise NoAudio(f"{reference} is an absolute path")
        found = functools.reduce(lambda place, name: place and _entry(place, name), names, folder)
        if found and found.is_file():
            return found
    raise NoAudio(f"{reference} is not there")


def _entry(folder: Path, name: str) -> Path | None:
    """What is called so in a folder: to the letter, else in another Unicode form, else in other capitals."""
    entries = sorted(os.listdir(folder)) if folder.is_dir() else []
    for form in (str, functools.partial(unicodedata.normalize, "NFC"), _folded):
        for entry in entries:
            if form(entry) == form(name):
                return folder / entry
    return None


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _is_unicode(path: Path) -> bool:
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _one_line(text: object) -> str:
    return " ".join(str(text).encode("utf-8", "replace").decode("utf-8").split())


@exits_cleanly
def main() -> None:
    run_preparation(
        "ultrastar",
        preparation_parser(__doc__).parse_args(),
        lambda ultrastar, **common: prepare_ultrastar(ultrastar.dir, ultrastar.languages, **common),
    )


if __name__ == "__main__":
    main()

"""Damaged inputs, by the thousand and repeatable: every reader reads them or says what it leaves out.

An input is what a seed makes of a valid file. Each goes through a whole preparation (audio, tables and plain text
through their own reader), in a child process in which a hang, a crash of a library or a memory bomb names its seed:
`damaged_file` and `damaged_files` with ``Random("<case> <seed>")`` make that input again.
"""

import copy
import csv
import gzip
import itertools
import json
import multiprocessing
import os
import pickle
import re
import resource
import shutil
import signal
import time
import traceback
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple

import num2words
import pytest
import soundfile
import test_audio_files
import test_prepare_dali
import test_prepare_jamendo
import test_prepare_rwc
import test_prepare_ultrastar
import test_ultrastar
from lhotse import RecordingSet, SupervisionSet, validate_recordings_and_supervisions
from tiny_audio import write_sine

from alignments import Timed, joined_syllables
from altpo_model.audio_files import BrokenAudio, audio_blocks, checked_recording
from altpo_model.config import Filter, Split
from altpo_model.errors import UserError
from altpo_model.text import CHARACTERS, normalize_text, scoring_text
from altpo_model.ultrastar import decode_ultrastar, parse_ultrastar, timed_lyrics
from dali_annotation import read_annotation
from filter_table import paper_parts, read_table, selected
from manifests import Report
from prepare_dali import prepare_dali
from prepare_jamendo import prepare_jamendo, read_times, read_words
from prepare_librispeech import prepare_librispeech
from prepare_mir_st500 import prepare_mir_st500, recording_id
from prepare_rwc import melody_notes, prepare_rwc
from prepare_ultrastar import prepare_ultrastar

SECONDS = 10  # after which an input is a hang
KIBIBYTES = 512 * 2**10  # by which an input may raise the memory that the process has had
DATA_BYTES = 6 * 2**30  # that the process may ask for at all; mido asks for 4 GiB where a header says so
SHOWN = 3  # failures of one case that the message has
ROUNDING = 1e-6  # seconds
SECOND_ONES = ("duplicate id", "second annotation of a song", "second line of an utterance")


# What damages a file


NUMBERS = (
    b"0 -0 -1 1 7 127 128 255 256 65536 99999999999999999999 1e9 1e308 -1e308 1e999 nan inf -inf 1,5 .5 1_0".split()
)
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
WORDS_OF_BYTES = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\n", b"~", b":", b"\xc3", b"\xed\xa0\x80", b"\xe2\x80\xa8")
ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "cp1251", "shift_jis", "utf-7")
VALUES = (
    *(None, True, "", " ", "~", "la\nla", "la la", "\ud800", "1", "\0", b"la", [], {}, [[]], [{}], [None, None]),
    *(0, -1, 1, 128, 2**63, 10**400, 0.0, 0.5, 5e-324, 1e-7, 1e308, -1e308, float("nan"), float("inf"), -float("inf")),
)
DIGITS = "".join(map(chr, filter(lambda code: chr(code).isdigit(), range(0x110000))))
ALPHABETS = (
    "abcxyz ',.?!-~0123456789",
    DIGITS,
    "".join(map(chr, range(0xA1))),  # controls among them
    "\u0301\u0308\u0345\u200b\u200d\u2028\ufeff\ufffd\ufffe\ud800\udfff",
    "\u2019\u00b4\u2014\u00df\u0130\u0131\ufb01\u2460\u00bd\u33c2\u1e9e\U0001d4d0\u01c5\u00aa",
)


def damaged_bytes(random: Random, data: bytes) -> bytes:
    """Bits, bytes, slices, numbers, lines, the encoding or the length changed."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        at, to = sorted(random.randrange(len(data) + 1) for _ in range(2))
        to = min(to, at + random.choice((1, 4, 16, 1000)))
        match random.randrange(10):
            case 0 if data:
                bit = random.randrange(8 * len(data))
                data = data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
            case 1:
                word = random.choice((*WORDS_OF_BYTES, random.randbytes(4))) * random.choice((1, 1, 2, 4, 8))
                data = data[:at] + word + data[at + len(word) :]
            case 2:
                data = data[:at] + data[to:]
            case 3:
                data = data[:to] + data[at:to] * random.choice((1, 3)) + data[to:]
            case 4:
                data = data[to:] + data[at:to] + data[:at]
            case 5:
                data = data[:at] + random.choice((*WORDS_OF_BYTES, random.randbytes(8))) + data[at:]
            case 6:
                data = data[:at]
            case 7 if numbers := list(NUMBER.finditer(data)):
                number = random.choice(numbers)
                data = data[: number.start()] + random.choice(NUMBERS) + data[number.end() :]
            case 8:
                lines = data.splitlines(keepends=True)
                data = b"".join(random.choices(lines, k=len(lines))) if lines else b"\n"
            case 9:
                text = data.decode("utf-8", "replace")
                text = unicodedata.normalize("NFD", text) if random.random() < 0.3 else text
                data = text.encode(random.choice(ENCODINGS), "replace")
    return data


def damaged_text(random: Random, text: str) -> str:
    """Strange characters put in, here and there in place of some that were there."""
    for _ in range(random.choice((1, 2, 8))):
        at, to = sorted(random.randrange(len(text) + 1) for _ in range(2))
        alphabet = random.choice(ALPHABETS) if random.random() < 0.8 else [chr(random.randrange(0x110000))]
        strange = "".join(random.choices(alphabet, k=random.choice((1, 2, 5, 20))))
        text = text[:at] + strange + text[random.choice((at, at, to)) :]
    return text


def damaged_tree(random: Random, tree: Any) -> Any:
    """Values replaced, left out, doubled, moved, wrapped up or under another key."""
    root = [copy.deepcopy(tree)]
    for _ in range(random.choice((1, 1, 2, 4))):
        places = list(_places(root))
        if not places:
            break
        holder, key = random.choice(places)
        other_holder, other_key = random.choice(places)
        match random.randrange(8):
            case 0 | 1:
                holder[key] = copy.deepcopy(random.choice(VALUES))
            case 2:
                del holder[key]
            case 3:
                holder[key] = copy.deepcopy(other_holder[other_key])
            case 4:
                holder[key] = [holder[key]]
            case 5 if isinstance(holder, list):
                holder[key:key] = copy.deepcopy(holder[: key + 1])
            case 5:
                holder[random.choice(("", "\ud800", "01", "9", "-", "a\tb", "text", "time"))] = holder.pop(key)
            case 6 if isinstance(holder[key], str):
                holder[key] = damaged_text(random, holder[key])
            case 7 if isinstance(holder[key], (int, float)):
                holder[key] = random.choice((-1, 1 + 1e-12, 1e-9, 2, 1e9, 1e300)) * float(min(holder[key], 1e300))
    return root[0] if root else None


def _places(node: Any) -> Iterable[tuple[Any, Any]]:
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, below in list(entries):
        yield node, key
        yield from _places(below)


# What has to hold, whatever the input


class Corpus(NamedTuple):
    """A small corpus; its manifests are called by ``name``.

    prepare: called with its folder and the keywords output_dir and report.
    songs: the ids that have to be in the manifests or named, by what is in the folder.
    levels: what a song's annotation has by level of the alignment: the items' texts.
    shared: files on which all songs hang.
    """

    name: str
    build: Callable[[Path], Any]
    prepare: Callable[..., Any]
    songs: Callable[[Path], set[str]]
    levels: Callable[[Path, str], dict[str, list[str]]]
    shared: tuple[str, ...] = ()


class Built:
    """A corpus on disk, to be damaged and made whole again."""

    def __init__(self, corpus: Corpus, folder: Path):
        self.corpus, self.folder, self.output = corpus, folder / "corpus", folder / "manifests"
        corpus.build(self.folder)
        self.whole = {path: path.read_bytes() for path in sorted(self.folder.rglob("*")) if path.is_file()}

    def outcome(self, damage: dict[Path, bytes | Callable[[Path], Any]]) -> str:
        """Prepare the corpus with these files' contents, check what came of it, and undo the damage."""
        try:
            for path, content in damage.items():
                path.unlink()
                path.write_bytes(content) if isinstance(content, bytes) else content(path)
            return self._checked_outcome(set(damage))
        finally:
            for path in damage:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
                path.write_bytes(self.whole[path])

    def _checked_outcome(self, damaged: set[Path]) -> str:
        report = Report(self.corpus.name)
        shutil.rmtree(self.output, ignore_errors=True)
        try:
            manifests = self.corpus.prepare(self.folder, output_dir=self.output, report=report)
        except UserError as error:
            assert_one_line(str(error))
            assert not list(self.output.glob(".*")), "a temporary file is left"
            return "refused"
        report.summary().encode()
        written = {path.name: path for path in self.output.iterdir()}
        names = [f"{report.corpus}_{kind}" for kind in ("recordings", "supervisions")]
        expected = {f"{name}_{part}.jsonl.gz" for name in names for part in manifests}
        assert written.keys() == {*expected, f"{report.corpus}_left_out.tsv"}
        prepared = set()
        for part in manifests:
            recordings, supervisions = (
                kind.from_jsonl(written[f"{name}_{part}.jsonl.gz"])
                for kind, name in zip((RecordingSet, SupervisionSet), names, strict=True)
            )
            validate_recordings_and_supervisions(recordings, supervisions)
            for supervision in supervisions:
                assert supervision.id not in prepared
                prepared.add(supervision.id)
                assert_whole(supervision, recordings[supervision.id].duration)
                self._assert_nothing_is_lost(supervision)
        self._assert_accounted(prepared, report, damaged)
        for line in itertools.chain(*report.left_out.values()):
            assert_one_line(line)
        listed = written[f"{report.corpus}_left_out.tsv"].read_text(encoding="utf-8").split("\n")[:-1]
        assert listed == [f"{told}\t{reason}" for reason, names in report.left_out.items() for told in names]
        return "left out" if report.left_out else "read"

    def _assert_nothing_is_lost(self, supervision) -> None:
        left_out = supervision.custom["annotation"]["left_out"] if supervision.custom else {}
        for level, given in self.corpus.levels(self.folder, supervision.id).items():
            there = len(supervision.alignment.get(level, ()))
            named = sum(count for kind, count in left_out.items() if kind.startswith(f"{level}s "))
            if level != "note":
                given = [part for text in given for part in spoken(text, supervision.language) or [text]]
            assert there + named == len(given), f"{supervision.id}: {there} {level}s and {left_out} of {given}"

    def _assert_accounted(self, prepared: set[str], report: Report, damaged: set[Path]) -> None:
        told = [line for reason, names in report.left_out.items() for line in names if reason not in SECOND_ONES]
        named = {name for line in told for name in (line, line.split(": ")[0])}
        songs = self.corpus.songs(self.folder)
        assert songs <= prepared | named, f"lost: {songs - prepared - named}"
        assert not prepared & named, f"in and out: {prepared & named}"
        if not any(path.name in self.corpus.shared for path in damaged):
            tokens = {token for path in damaged for token in (path.name.split(".")[0], path.parent.name)}
            whole = {song for song in songs if not any(song.startswith(t) or song.endswith(t) for t in tokens)}
            assert whole <= prepared, f"left out though whole: {whole - prepared}"


def spoken(text: str, language: str | None) -> list[str]:
    """The words of a text that have a letter."""
    return [word for word in normalize_text(text, language)[0].split() if scoring_text(word)]


def assert_whole(supervision, duration: float) -> None:
    """The text is that of the words; the items of each level lie in the audio one after the other."""
    assert set(supervision.text) <= set(CHARACTERS)
    for level, items in (supervision.alignment or {}).items():
        for item, following in itertools.zip_longest(items, items[1:]):
            assert 0 <= item.start < item.end <= duration + ROUNDING, item
            assert item.symbol and item.symbol == item.symbol.strip()
            assert level != "note" or 0 <= int(item.symbol) <= 127
            assert not following or item.start == following.start or item.end <= following.start + ROUNDING
    if words := (supervision.alignment or {}).get("word"):
        assert supervision.text == " ".join(item.symbol for item in words)


def assert_one_line(message: str) -> None:
    message.encode()
    assert message.strip() and len(message.splitlines()) == 1, f"not one line: {message!r}"
    assert "MemoryError" not in message, f"memory runs out: {message}"


# The corpora


def add_audio(folder: Path, songs: Iterable[str]) -> None:
    for song, suffix in zip(songs, itertools.cycle((".wav", ".flac"))):
        write_sine(folder / f"{song}{suffix}", 2.0, rate=8000)


DALI_IDS = [letter * 32 for letter in "abc"]


def dali_tree(song: str, words: int = 2, vertical: bool = False) -> dict:
    tree = vars(test_prepare_dali.annotation(SimpleNamespace, song, seconds=1.9))
    tree["annotations"]["annot_param"]["fr"] = 6000.0  # its times lie on this grid: beats of 10 ms
    annot = tree["annotations"]["annot"]
    for number in range(2, words):
        for level, text in (("words", "Été, 9"), ("notes", "~r" if number % 5 else "É ")):
            item = {"text": text, "time": [number * 0.1, number * 0.1 + 0.1], "freq": [220.0, 233.0], "index": number}
            annot[level].append(item)
    if vertical:
        down = [{**word, "text": [note]} for word, note in zip(annot["words"], annot["notes"], strict=False)]
        line = {"text": down, "time": [0.5, 1.9], "freq": [220.0, 440.0]}
        paragraph = {"text": [line], "time": [0.5, 1.9], "freq": [220.0, 440.0]}
        tree["annotations"].update(type="vertical", annot={"hierarchical": [paragraph]})
    return tree


def as_pickle(tree: Any, protocol: int = 2) -> bytes:
    """What pickles a DALI.Annotations.Annotations that has ``tree`` for its attributes."""
    state = pickle.dumps(tree, protocol).removeprefix(bytes([0x80, protocol])).removesuffix(b".")
    return b"cDALI.Annotations\nAnnotations\n)\x81" + state + b"b."


def as_gz(tree: Any) -> bytes:
    return gzip.compress(as_pickle(tree))


def as_json(tree: Any) -> bytes:
    return json.dumps(tree, default=str).encode()


DALI_TREES = [dali_tree("b" * 32), dali_tree("b" * 32, 12), dali_tree("b" * 32, 8, vertical=True)]
DALI_TIMINGS = {song: {"offset": 0.25, "fr": 6100.5} for song in DALI_IDS[:2]}
DALI_METADATA = {song: {"artist": "Vera", "title": "Été", "metadata": {"language": "french"}} for song in DALI_IDS}


def build_dali(folder: Path) -> None:
    for song in DALI_IDS:
        tree = dali_tree(song, 5, vertical=song.startswith("c"))
        path = folder / "annotations" / f"{song}.{'json' if song < 'b' else 'gz'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_json(tree) if path.suffix == ".json" else as_gz(tree))
    (folder / "gt.gz").write_bytes(gzip.compress(pickle.dumps(DALI_TIMINGS, 2)))
    (folder / "metadata.json").write_bytes(as_json(DALI_METADATA))
    add_audio(folder / "audio", DALI_IDS)


def dali(folder: Path, **options: Any) -> Any:
    tables = {"ground_truth": folder / "gt.gz", "metadata": folder / "metadata.json"}
    return prepare_dali(folder / "annotations", folder / "audio", **tables, **options)


def dali_levels(folder: Path, song: str) -> dict[str, list[str]]:
    [path] = (folder / "annotations").glob(f"{song}.*")
    annotation = read_annotation(path)
    words = [entry.text.replace("~", "") for entry in annotation.words]
    return {"note": [entry.text for entry in annotation.notes], "word": words}


def build_ultrastar(folder: Path) -> None:
    for number, text in enumerate(ULTRASTAR_TEXTS[:3]):
        song = test_prepare_ultrastar.add_song(folder / f"Song_{number}", audio=None)
        song.write_bytes(text)
        write_sine(song.parent / "audio.wav", 2.0, rate=8000)


def ultrastar_songs(folder: Path) -> set[str]:
    texts = {path: b"\n" + path.read_bytes() for path in folder.glob("*/song.txt") if path.is_file()}
    return {path.parent.name for path, text in texts.items() if b"\n#TITLE:" in text}


def ultrastar_levels(folder: Path, song: str) -> dict[str, list[str]]:
    text = decode_ultrastar((folder / song / "song.txt").read_bytes())
    parsed = parse_ultrastar(text)
    body = itertools.takewhile(lambda line: line.strip() != "E", re.split("\r\n|\r|\n", text))
    claimed = sum(line.lstrip(" \t\ufeff")[:1] in (*":*FRG",) for line in body)
    notes = sum(len(line) for voice in parsed.voices for line in voice)
    assert notes + len(parsed.unread_lines) >= claimed, f"{song}: of {claimed} lines of notes, {notes} are read"
    return {"word": [word.symbol for word in timed_lyrics(parsed).words]}


ULTRASTAR_TEXTS = [
    test_prepare_ultrastar.song_text().encode(),
    test_ultrastar.SONG.replace("audio.mp3", "audio.wav").replace("1500", "100").encode("utf-8-sig"),
    test_prepare_ultrastar.song_text(
        "P1\n: 0 2 0 Él\n: 2 2 1 ~é\n- 4\nP2\n: 0 2 5 some-\n: 2 2 7 thing\nP3\n* 6 2 0 to ge\nB 7 300\n: 8 1 0 ther\n"
    ).encode("utf-16"),
    test_prepare_ultrastar.song_text(
        ": 0 2 0 la\n- 2 2\n: 0 2 0  li\n- 3 3\n: 0 4 1 lo 99\nE\n", RELATIVE="yes", LANGUAGE="Deutsch"
    ).encode("cp1252"),
]

RWC_SONGS = ["RM-P001", "RM-P002", "RM-P081", "RM-P082"]


def build_rwc(folder: Path) -> None:
    for number, song in enumerate(RWC_SONGS):
        test_prepare_rwc.write_midi(folder / "smf" / f"{song}.SMF_SYNC.MID", tempo=500000 - 20000 * number)
    add_audio(folder / "audio", RWC_SONGS)


def rwc(folder: Path, **options: Any) -> Any:
    return prepare_rwc(folder / "audio", folder / "smf", train_songs=2, **options)


def rwc_levels(folder: Path, song: str) -> dict[str, list[str]]:
    [path] = (folder / "smf").glob(f"{song}.*")
    return {"note": [note.symbol for note in melody_notes(path, "melody")]}


MIR_ST500 = {song: [[0.5, 1.0, 60.0], [1.0, 1.4, 64], [1.3, 1.9, 65]] for song in ("101", "102", "203", "204")}


def build_mir_st500(folder: Path) -> None:
    add_audio(folder / "audio", MIR_ST500)
    (folder / "notes.json").write_text(json.dumps(MIR_ST500))


def mir_st500(folder: Path, **options: Any) -> Any:
    return prepare_mir_st500(folder / "notes.json", folder / "audio", train_songs=102, **options)


def mir_st500_songs(folder: Path) -> set[str]:
    songs = json.loads((folder / "notes.json").read_text(encoding="utf-8-sig"))
    names = (recording_id(song) if re.fullmatch("[1-9][0-9]{0,5}", song) else song for song in songs)
    return {" ".join(name.encode("utf-8", "replace").decode("utf-8").split()) for name in names}


def mir_st500_levels(folder: Path, song: str) -> dict[str, list[str]]:
    songs = json.loads((folder / "notes.json").read_text(encoding="utf-8-sig"))
    return {"note": songs[str(int(song.removeprefix("mir_st500_")))]}


JAMENDO_SONGS = [f"Été_-_Song_{number}" for number in range(3)]


def build_jamendo(folder: Path) -> None:
    for song in JAMENDO_SONGS:
        test_prepare_jamendo.add_song(folder, song, suffix=None)
    add_audio(folder / "mp3", JAMENDO_SONGS)


def build_first_jamendo(folder: Path) -> None:
    for song in JAMENDO_SONGS:
        (folder / "lyrics").mkdir(parents=True, exist_ok=True)
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "lyrics" / f"{song}.raw.txt").write_text("Hold on, \nto me 4\n", encoding="utf-8")
        (folder / "annotations" / f"{song}.wordonset.txt").write_text("0.25\n0.5\n0.75\n1\n1.5\n")
    add_audio(folder / "mp3", JAMENDO_SONGS)


def jamendo_songs(folder: Path) -> set[str]:
    if not (folder / "JamendoLyrics.csv").is_file():
        names = [path.name.removesuffix(".raw.txt") for path in (folder / "lyrics").glob("*.raw.txt")]
    else:
        with (folder / "JamendoLyrics.csv").open(encoding="utf-8-sig", newline="") as stream:
            names = [Path((row["Filepath"] or "").strip()).stem for row in csv.DictReader(stream)]
    return {" ".join(unicodedata.normalize("NFC", name).split()) for name in names if name}


def jamendo_levels(folder: Path, song: str) -> dict[str, list[str]]:
    return {"word": read_words(folder, song)} if read_times(folder, song) is not None else {}


CHAPTERS = ["84-11", "174-33"]


def build_librispeech(folder: Path) -> None:
    for chapter in CHAPTERS:
        place = folder / "dev-clean" / chapter.replace("-", "/")
        utterances = [f"{chapter}-{number:04d}" for number in range(2)]
        for number, utterance in enumerate(utterances):
            write_sine(place / f"{utterance}.flac", 0.3 + 0.1 * number, rate=8000)
        (place / f"{chapter}.trans.txt").write_text("".join(f"{name} GO ON\n" for name in utterances))


def librispeech(folder: Path, **options: Any) -> Any:
    return prepare_librispeech(folder, ["dev-clean"], **options)


def librispeech_songs(folder: Path) -> set[str]:
    return {path.stem for path in folder.rglob("*.flac")}


CORPORA = {
    "dali": Corpus(
        "dali",
        build_dali,
        dali,
        lambda folder: {path.stem for path in (folder / "annotations").iterdir()},
        dali_levels,
        ("metadata.json", "gt.gz"),
    ),
    "ultrastar": Corpus("ultrastar", build_ultrastar, prepare_ultrastar, ultrastar_songs, ultrastar_levels),
    "rwc": Corpus(
        "rwc",
        build_rwc,
        rwc,
        lambda folder: {path.name.split(".")[0] for path in (folder / "smf").iterdir()},
        rwc_levels,
    ),
    "mir_st500": Corpus("mir_st500", build_mir_st500, mir_st500, mir_st500_songs, mir_st500_levels, ("notes.json",)),
    "jamendo": Corpus("jamendo", build_jamendo, prepare_jamendo, jamendo_songs, jamendo_levels, ("JamendoLyrics.csv",)),
    "first jamendo": Corpus("jamendo", build_first_jamendo, prepare_jamendo, jamendo_songs, jamendo_levels),
    "librispeech": Corpus("librispeech", build_librispeech, librispeech, librispeech_songs, lambda *_: {}),
}


# The cases: what is damaged, how, and how often


class DamagedFile(NamedTuple):
    """One file of a corpus. valid: what it is made from, when that is not the file itself."""

    count: int
    corpus: str
    file: str
    damage: Callable[[Random, Any], Any] = damaged_bytes
    valid: tuple = ()
    encode: Callable[[Any], bytes] = bytes


DALI_FILE = f"annotations/{'b' * 32}.gz"
DAMAGED_FILES = {
    "DALI, inside of the pickle": DamagedFile(
        1200,
        "dali",
        DALI_FILE,
        valid=tuple(
            as_pickle(tree, protocol) for tree in (*DALI_TREES, dali_tree("b" * 32, 60)) for protocol in (0, 2)
        ),
        encode=gzip.compress,
    ),
    "DALI, gzip": DamagedFile(200, "dali", DALI_FILE),
    "DALI, data in the pickle": DamagedFile(1200, "dali", DALI_FILE, damaged_tree, tuple(DALI_TREES), as_gz),
    "DALI, data in JSON": DamagedFile(
        600,
        "dali",
        f"annotations/{'a' * 32}.json",
        damaged_tree,
        (dali_tree("a" * 32, 6), dali_tree("a" * 32, 6, vertical=True)),
        as_json,
    ),
    "DALI, JSON": DamagedFile(400, "dali", f"annotations/{'a' * 32}.json"),
    "DALI, ground truth": DamagedFile(
        400, "dali", "gt.gz", damaged_tree, (DALI_TIMINGS,), lambda tree: gzip.compress(pickle.dumps(tree))
    ),
    "DALI, metadata": DamagedFile(400, "dali", "metadata.json", damaged_tree, (DALI_METADATA,), as_json),
    "UltraStar": DamagedFile(1200, "ultrastar", "Song_0/song.txt", valid=tuple(ULTRASTAR_TEXTS)),
    "RWC": DamagedFile(800, "rwc", "smf/RM-P002.SMF_SYNC.MID"),
    "MIR-ST500, data": DamagedFile(600, "mir_st500", "notes.json", damaged_tree, (MIR_ST500,), as_json),
    "MIR-ST500, JSON": DamagedFile(200, "mir_st500", "notes.json"),
    "Jamendo, words": DamagedFile(300, "jamendo", "lyrics/Été_-_Song_1.words.txt"),
    "Jamendo, times": DamagedFile(500, "jamendo", "annotations/words/Été_-_Song_1.csv"),
    "Jamendo, table": DamagedFile(400, "jamendo", "JamendoLyrics.csv"),
    "first Jamendo, lyrics": DamagedFile(200, "first jamendo", "lyrics/Été_-_Song_1.raw.txt"),
    "first Jamendo, times": DamagedFile(300, "first jamendo", "annotations/Été_-_Song_1.wordonset.txt"),
    "LibriSpeech": DamagedFile(300, "librispeech", "dev-clean/84/11/84-11.trans.txt"),
}


def damaged_file(random: Random, case: DamagedFile, built: Built) -> tuple[Path, bytes]:
    path = built.folder / case.file
    return path, case.encode(case.damage(random, random.choice(case.valid or (built.whole[path],))))


def read_damaged_file(random: Random, case: DamagedFile, built: Built) -> str:
    return built.outcome(dict([damaged_file(random, case, built)]))


FAULTS = (
    *[damaged_bytes] * 4,
    lambda random, whole: whole[: int(random.random() * len(whole))],
    lambda random, whole: b"",
    lambda random, whole: random.randbytes(300),
    lambda random, whole: Path.exists,  # gone
    lambda random, whole: Path.mkdir,
)


def damaged_files(random: Random, built: Built) -> dict[Path, bytes | Callable]:
    """Faults in one or two songs' files."""
    songs_files = [path for path in built.whole if path.name not in built.corpus.shared]
    chosen = random.sample(songs_files, random.randint(1, 2))
    return {path: random.choice(FAULTS)(random, built.whole[path]) for path in chosen}


def read_damaged_files(random: Random, built: Built) -> str:
    return built.outcome(damaged_files(random, built))


def audio_files(folder: Path) -> list[Path]:
    sounds = [
        write_sine(folder / f"s{suffix}", 0.6, 8000, 2) for suffix in ".wav .flac .ogg .mp3 .aiff .caf .w64".split()
    ]
    soundfile.write(folder / "alac.caf", soundfile.read(sounds[0])[0], 8000, subtype="ALAC_16")
    names = ("aac.m4a", "fragments.mp4", "opus.webm", "live.webm", "adts.aac", "no_xing.mp3", "windows.wma")
    for name in names:
        codec, options = test_audio_files.FFMPEG_FORMATS[name]
        test_audio_files.write_by_ffmpeg(folder / name, codec, seconds=0.6, **options)
    return [*sounds, folder / "alac.caf", *(folder / name for name in names)]


def read_audio(random: Random, files: list[Path], whole: dict[Path, bytes], folder: Path) -> str:
    source = random.choice(files)
    path = folder / source.name
    data = whole[source]
    head = random.choice((100, 1000, len(data)))  # where the headers are
    path.write_bytes(random.choice(FAULTS[:-2])(random, data[:head]) + data[head:])
    try:
        recording = checked_recording(path, "song")
        assert recording.num_samples > 0 and recording.duration > 0 and recording.num_channels > 0
        for block in audio_blocks(path, 0.25):
            assert block.ndim == 2 and block.shape[1] > 0
    except BrokenAudio as error:
        assert_one_line(str(error))
        return "refused"
    return "read"


def read_filter_table(random: Random, folder: Path) -> str:
    rows = [f"{number:032x},{number - 12}.0,0.{number},0.9\n" for number in range(1, 10)]
    path = folder / "table.csv"
    path.write_bytes(damaged_bytes(random, (",best_offset,best_res,sec_best_res\n" + "".join(rows)).encode()))
    try:
        table = read_table(path)
    except UserError as error:
        assert_one_line(str(error))
        assert str(path) in str(error)
        return "refused"
    parts = paper_parts(Filter(table=str(path)), Split(by="paper"))
    assert sorted(selected(table, 0.5)) == sorted(itertools.chain(*parts.values()))
    assert all(float(row["best_offset"]).is_integer() for row in table.values())
    return "read"


LANGUAGES = (None, "no such language", *num2words.CONVERTER_CLASSES)
LYRICS = ("Don't 'cause I'm 99, 2nd to 1,000.50 or 2,000,000", "’90s — 007 & £3.5", "~ré é ~", "")


def read_text(random: Random) -> str:
    text, language = damaged_text(random, random.choice(LYRICS)), random.choice(LANGUAGES)
    normalised, dropped = normalize_text(text, language)
    assert set(normalised) <= set(CHARACTERS) and "  " not in normalised and normalised == normalised.strip()
    assert normalize_text(normalised, language) == (normalised, Counter())
    assert set(scoring_text(normalised)) <= set(CHARACTERS)
    assert all(count > 0 and character not in CHARACTERS for character, count in dropped.items())
    pieces = [Timed(piece, number, number + 1.0) for number, piece in enumerate(text.split(","))]
    syllables = joined_syllables(pieces)
    letters = ["".join("".join(item.symbol for item in level).split()) for level in (pieces, syllables)]
    assert letters[0].replace("~", "") == letters[1] and syllables[-1].end == pieces[-1].end
    return "read"


OTHERS = {"audio": 1500, "filter table": 400, "text": 1500}
ROUNDS = 60


# Running them


def survived(name: str, count: int, case: Callable[[Random], str]) -> Counter:
    """Run a case with ``count`` seeds, in a process of its own; how often it ended how. Fails with the bad seeds."""
    context = multiprocessing.get_context("fork")
    seed, results = context.Value("q", -1), context.SimpleQueue()
    child = context.Process(target=_run, args=(name, count, case, seed, results))
    child.start()
    child.join()
    if child.exitcode:
        pytest.fail(f"{name}, seed {seed.value}: status {child.exitcode} ({-signal.SIGALRM} is a hang)")
    outcomes, failed, shown = results.get()
    if failed:
        pytest.fail(f"{failed} of {count} inputs:\n" + "\n".join(shown))
    return outcomes


def _run(name: str, count: int, case: Callable[[Random], str], seed: Any, results: Any) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # progress bars and what libraries say of broken files
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process, whatever library it is in
    resource.setrlimit(resource.RLIMIT_DATA, (DATA_BYTES, DATA_BYTES))
    outcomes, failures = Counter(), []
    for number in range(count):
        seed.value = number
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            outcomes[case(Random(f"{name} {number}"))] += 1
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            assert grown < KIBIBYTES, f"takes {grown // 2**10} MiB"
        except Exception:
            failures.append(f"{name}, seed {number}: {traceback.format_exc()}"[-3000:])
        signal.setitimer(signal.ITIMER_REAL, 0)
    results.put((outcomes, len(failures), failures[:SHOWN]))


@pytest.fixture
def tell(capsys):
    """Prints a line, whatever pytest captures."""

    def line(name: str, outcomes: Counter, begun: float) -> None:
        with capsys.disabled():
            counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
            print(f"\n  {name}: {outcomes.total()} inputs ({counts}) in {time.monotonic() - begun:.1f} s", end="")

    return line


@pytest.mark.parametrize("name", DAMAGED_FILES)
def test_a_damaged_file_is_read_or_named_and_takes_no_other_song_with_it(tmp_path, tell, name):
    begun, case = time.monotonic(), DAMAGED_FILES[name]
    built = Built(CORPORA[case.corpus], tmp_path)
    tell(name, survived(name, case.count, partial(read_damaged_file, case=case, built=built)), begun)


@pytest.mark.parametrize("name", CORPORA)
def test_of_a_damaged_corpus_every_song_is_in_the_manifests_or_named(tmp_path, tell, name):
    begun, built = time.monotonic(), Built(CORPORA[name], tmp_path)
    outcomes = survived(name, ROUNDS, partial(read_damaged_files, built=built))
    assert outcomes["left out"]
    tell(f"{name}, any files", outcomes, begun)


@pytest.mark.parametrize("name", OTHERS)
def test_damaged_audio_tables_and_texts_are_read_or_refused_with_one_line(tmp_path, tell, name):
    begun = time.monotonic()
    if name == "audio":
        files = audio_files(tmp_path / "whole")
        (tmp_path / "damaged").mkdir()
        whole = {path: path.read_bytes() for path in files}
        case = partial(read_audio, files=files, whole=whole, folder=tmp_path / "damaged")
    else:
        case = partial(read_filter_table, folder=tmp_path) if name == "filter table" else read_text
    outcomes = survived(name, OTHERS[name], case)
    assert outcomes["read"]
    tell(name, outcomes, begun)


def test_these_are_more_than_ten_thousand_inputs(capsys):
    total = sum(case.count for case in DAMAGED_FILES.values()) + sum(OTHERS.values()) + ROUNDS * len(CORPORA)
    with capsys.disabled():
        print(f"\n  {total} fuzzed inputs in all", end="")
    assert total >= 10_000

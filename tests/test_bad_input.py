"""What users have on their disks: names of every kind, things twice, things empty, and disks that take no more."""

import gzip
import json
import os
import resource
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest
from test_fuzz import CORPORA, Built, as_gz, as_pickle, assert_whole, dali_tree
from test_prepare_ultrastar import add_song, song_text
from tiny_audio import ROOT, assert_one_clear_line, run_program, write_conf, write_sine

from altpo_model.errors import UserError
from altpo_model.languages import language_code
from dali_annotation import BadAnnotation, read_annotation
from manifests import Report
from prepare_dali import prepare_dali

ODD = 'it\'s "É" ♪ & [#1] %s; $HOME'  # a folder may be called so


def build(name: str, folder: Path) -> Path:
    CORPORA[name].build(folder)
    return folder


def prepared(name: str, folder: Path, output_dir: Path | None = None) -> tuple[dict[str, tuple], Report]:
    """Recording and supervision by id, and the report."""
    report = Report(CORPORA[name].name)
    manifests = CORPORA[name].prepare(folder, output_dir=output_dir, report=report)
    pairs = [pair for part in manifests.values() for pair in zip(part["recordings"], part["supervisions"], strict=True)]
    return {recording.id: (recording, supervision) for recording, supervision in pairs}, report


def rename(folder: Path, old: str, new: str) -> None:
    """Call the files in a folder, of any depth, ``new`` where they are called ``old``."""
    for path in list(folder.rglob("*")):
        if path.is_file() and old in path.name:
            path.rename(path.with_name(path.name.replace(old, new)))


# Names


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_in_a_folder_of_an_odd_name_is_prepared(tmp_path, name):
    songs, report = prepared(name, build(name, tmp_path / ODD), tmp_path / ODD / "manifests")
    assert len(songs) >= 3 and not report.left_out
    for recording, _ in songs.values():
        assert Path(recording.sources[0].source).is_relative_to(tmp_path / ODD)
        assert recording.load_audio().shape == (recording.num_channels, recording.num_samples)


def test_odd_names_are_named_on_the_command_line(tmp_path):
    folder = build("dali", tmp_path / ODD)
    name = 'l\'été "live" ♪'
    (folder / "annotations" / f"{name}.json").write_bytes(b"{")
    section = {"dir": str(folder / "annotations"), "audio_dir": str(folder / "audio")}
    conf = write_conf(tmp_path, {"corpora": {"dali": section}})
    done = run_program("prepare_dali", "--conf", conf, "--set", f"data_dir={json.dumps(str(tmp_path / ODD / 'data'))}")
    assert done.returncode == 0, done.stderr
    assert "all: 3 songs" in done.stdout and f"broken annotation: 1 ({name}: " in done.stdout
    assert (tmp_path / ODD / "data/manifests/dali_left_out.tsv").read_text().startswith(f"{name}: ")


FORMS = ("NFC", "NFD")


@pytest.mark.parametrize("audio", FORMS)
@pytest.mark.parametrize("annotation", FORMS)
@pytest.mark.parametrize("name", ["dali", "rwc", "jamendo", "first jamendo"])
def test_annotation_and_audio_belong_together_in_either_unicode_form(tmp_path, name, annotation, audio):
    folder = build(name, tmp_path / "corpus")
    if name == "dali":
        (folder / "annotations/Été.gz").write_bytes(as_gz(dali_tree("Été", 5)))
        write_sine(folder / "audio/Été.wav", 2.0)
    rename(folder, "RM-P001", "Été")
    for path in [path for path in folder.rglob("*Été*") if path.is_file()]:
        form = audio if path.parent.name in ("audio", "mp3") else annotation
        path.rename(path.with_name(unicodedata.normalize(form, path.name)))
    songs, report = prepared(name, folder)
    assert [song for song in songs if "Été" in song] and not report.left_out


def test_names_of_which_one_begins_with_the_other_are_prepared(tmp_path):
    """In the order of the files, "a b.gz" comes before "a.gz"; in that of the ids, after it."""
    names = ["a", "a b", 'a "b"', "a's", "a-b", "a.b", "ä"]
    for name in names:
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"{name}.gz").write_bytes(as_gz(dali_tree(name)))
        write_sine(tmp_path / "audio" / f"{name}.wav", 2.0)
    manifests = prepare_dali(tmp_path / "annotations", tmp_path / "audio", output_dir=tmp_path)["all"]
    assert [recording.id for recording in manifests["recordings"]] == sorted(names)


@pytest.mark.parametrize(
    ("name", "token"), [("dali", "b" * 32), ("rwc", "RM-P002"), ("first jamendo", "Song_1"), ("jamendo", "Song_1")]
)
def test_a_name_that_is_not_unicode_is_left_out_and_stops_nothing(tmp_path, name, token):
    folder = build(name, tmp_path / "corpus")
    try:
        rename(folder, token, os.fsdecode(b"X\xe9"))
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    songs, report = prepared(name, folder, tmp_path / "manifests")
    [left_out] = [line for lines in report.left_out.values() for line in lines if "X?" in line or "Song_1" in line]
    assert len(songs) >= 2 and not any(token in song for song in songs)
    assert left_out in (tmp_path / "manifests" / f"{report.corpus}_left_out.tsv").read_text()
    report.summary().encode()


UNUSABLE = {"long": "a" * 300, "null": "no\0file", "above": "../../x", "absolute": "/etc/hosts", "below": "x/y"}


@pytest.mark.parametrize("unusable", UNUSABLE.values(), ids=UNUSABLE)
@pytest.mark.parametrize(
    ("name", "file", "line"),
    [
        ("jamendo", "JamendoLyrics.csv", "u,{}.mp3,Vera,Song,Pop,BY,English,false,false,false\n"),
        ("librispeech", "dev-clean/84/11/84-11.trans.txt", "{} HELLO\n"),
    ],
    ids=["jamendo", "librispeech"],
)
def test_a_name_that_no_file_has_is_named_and_stops_nothing(tmp_path, name, file, line, unusable):
    folder = build(name, tmp_path / "corpus")
    whole, _ = prepared(name, folder)
    with (folder / file).open("a") as stream:
        stream.write(line.format(unusable))
    songs, report = prepared(name, folder)
    assert songs.keys() == whole.keys()
    [[left_out]] = report.left_out.values()
    assert unusable.split("/")[-1] in left_out


def test_a_terminal_that_has_not_every_character_stops_nothing(tmp_path, ultrastar, monkeypatch):
    add_song(tmp_path / "songs/♪", song_text(": 0 5 0 la♪\n"), audio=None)
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    done = run_program("prepare_ultrastar", "--conf", ultrastar)
    assert done.returncode == 0, done.stderr
    assert "no audio: 1 (\\u266a: " in done.stdout


# Things twice


def second_annotation_of_dali(folder):
    (folder / "annotations" / f"{'a' * 32}.gz").write_bytes(as_gz(dali_tree("a" * 32)))


def second_midi(folder):
    (folder / "smf/RM-P001.old.mid").write_bytes(b"")


def second_row(folder):
    path = folder / "JamendoLyrics.csv"
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")


def second_line(folder):
    path = folder / "dev-clean/84/11/84-11.trans.txt"
    path.write_text(path.read_text() + "84-11-0000 SOMETHING ELSE\n")


def copied_transcript(folder):
    path = folder / "dev-clean/84/11/84-11.trans.txt"
    path.with_name("84-11 copy.trans.txt").write_text("84-11-0000 SOMETHING ELSE\n")


def copied_utterance(folder):
    other = folder / "dev-clean/85/11"
    other.mkdir(parents=True)
    (other / "85-11.trans.txt").write_text("84-11-0000 SOMETHING ELSE\n")
    write_sine(other / "84-11-0000.flac", 1.0)


@pytest.mark.parametrize(
    ("name", "double", "song"),
    [
        ("dali", second_annotation_of_dali, "a" * 32),
        ("rwc", second_midi, "RM-P001"),
        ("jamendo", second_row, "Été_-_Song_2"),
        ("librispeech", second_line, "84-11-0000"),
        ("librispeech", copied_transcript, "84-11-0000"),
        ("librispeech", copied_utterance, "84-11-0000"),
    ],
)
def test_of_two_songs_with_one_id_one_is_in_and_the_other_is_named(tmp_path, name, double, song):
    folder = build(name, tmp_path / "corpus")
    whole, _ = prepared(name, folder)
    double(folder)
    songs, report = prepared(name, folder, tmp_path / "manifests")
    assert songs.keys() == whole.keys()
    assert {line[: len(song)] for lines in report.left_out.values() for line in lines} == {song}
    if name == "librispeech":
        assert songs[song][1].text in ("go on", "something else")


# Things empty, gone, too short or too long


@pytest.mark.parametrize("instead", [b"", Path.exists, Path.mkdir], ids=["empty", "gone", "a folder"])
@pytest.mark.parametrize("name", CORPORA)
def test_a_file_that_is_empty_gone_or_a_folder_costs_its_own_song_alone(tmp_path, name, instead):
    """What is lost with a table that all songs need is the run, with one line that names it."""
    built = Built(CORPORA[name], tmp_path)
    for path in built.whole:
        outcome = built.outcome({path: instead})
        assert outcome != "refused" or path.name in built.corpus.shared, path


def without_words(tree):
    tree["annotations"]["annot"]["words"] = []
    return tree


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("dali", f"annotations/{'b' * 32}.gz", as_gz(without_words(dali_tree("b" * 32)))),
        ("ultrastar", "Song_1/song.txt", b"#TITLE:x\n#BPM:150\n#MP3:audio.wav\n: 0 5 0\n: 5 5 0 ~\nE\n"),
        ("ultrastar", "Song_1/song.txt", "#TITLE:x\n#BPM:150\n#MP3:audio.wav\n: 0 5 0 ♪\nE\n".encode()),
        ("jamendo", "lyrics/Été_-_Song_1.words.txt", "♪\n…\n-\n".encode()),
        ("first jamendo", "lyrics/Été_-_Song_1.raw.txt", b" \n\n"),
    ],
)
def test_a_song_without_words_is_named(tmp_path, name, file, content):
    folder = build(name, tmp_path / "corpus")
    whole, _ = prepared(name, folder)
    (folder / file).write_bytes(content)
    songs, report = prepared(name, folder)
    [lost] = whole.keys() - songs.keys()
    [[left_out]] = report.left_out.values()
    assert left_out.startswith(lost)


@pytest.mark.parametrize("name", [name for name in CORPORA if name != "librispeech"])
def test_a_song_that_ends_before_its_first_word_or_note_is_named(tmp_path, name):
    folder = build(name, tmp_path / "corpus")
    whole, _ = prepared(name, folder)
    audio = sorted(folder.rglob("*.wav"))[-1]
    write_sine(audio, 0.1, 8000)
    songs, report = prepared(name, folder)
    [lost] = whole.keys() - songs.keys()
    [reason] = report.left_out
    assert reason in ("no words inside the audio", "no notes inside the audio")
    assert report.left_out[reason] == [lost]


@pytest.mark.parametrize("name", ["rwc", "mir_st500", "first jamendo", "ultrastar"])
def test_what_is_annotated_beyond_the_end_of_the_audio_is_cut_off_and_counted(tmp_path, name):
    folder = build(name, tmp_path / "corpus")
    for audio in [*folder.rglob("*.wav"), *folder.rglob("*.flac")]:
        write_sine(audio, 1.201, 44100)
    songs, report = prepared(name, folder)
    counted = report.losses.items + report.losses.changes
    assert len(songs) >= 3 and any("audio" in kind for kind in counted)
    for recording, supervision in songs.values():
        assert_whole(supervision, recording.duration)
        assert supervision.custom["annotation"]["end"] > recording.duration


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 32000, 44100, 48000, 96000, 192000])
def test_any_rate_and_number_of_channels_is_prepared(tmp_path, rate):
    (tmp_path / "annotations").mkdir()
    expected = {f"{suffix[1:]}{channels}": channels for suffix in (".wav", ".flac") for channels in (1, 2, 6)}
    for name, channels in expected.items():
        (tmp_path / "annotations" / f"{name}.gz").write_bytes(as_gz(dali_tree(name, 5)))
        write_sine(tmp_path / "audio" / f"{name}.{name[:-1]}", 2.0, rate, channels)
    manifests = prepare_dali(tmp_path / "annotations", tmp_path / "audio", output_dir=tmp_path)["all"]
    assert {recording.id: recording.num_channels for recording in manifests["recordings"]} == expected
    for recording, supervision in zip(manifests["recordings"], manifests["supervisions"], strict=True):
        assert (recording.sampling_rate, recording.num_samples, recording.duration) == (rate, 2 * rate, 2.0)
        assert recording.load_audio().shape == (recording.num_channels, 2 * rate)
        assert supervision.channel == (recording.channel_ids if recording.num_channels > 1 else 0)
        assert_whole(supervision, 2.0)


# Files that would take the machine with them


def test_a_pickle_that_asks_for_memory_is_refused(tmp_path):
    """Python's unpickler makes room for the place in its memo that a pickle names: here a quarter of a GiB."""
    path = tmp_path / "song.gz"
    path.write_bytes(gzip.compress(b"\x80\x02}r" + (2**24).to_bytes(4, "little") + b"."))
    with pytest.raises(BadAnnotation, match="memory"):
        read_annotation(path)


def test_a_pickle_of_parts_that_stand_in_many_places_is_refused(tmp_path):
    """A file of a kilobyte that has two million notes."""
    times = {"time": [0.5, 1.0], "freq": [220.0, 220.0]}
    part = {"text": "la", **times}
    for _ in range(4):
        part = {"text": [part] * 40, **times}
    tree = dali_tree("song")
    tree["annotations"].update(type="vertical", annot={"hierarchical": part["text"]})
    (tmp_path / "song.gz").write_bytes(gzip.compress(as_pickle(tree)))
    with pytest.raises(BadAnnotation, match="more than"):
        read_annotation(tmp_path / "song.gz")


def test_a_language_of_absurd_length_is_passed_in_a_moment():
    begun = time.process_time()
    assert language_code("é " * 50_000) is None
    assert time.process_time() - begun < 1


def test_a_nest_as_deep_as_python_reads_is_named(tmp_path):
    folder = build("mir_st500", tmp_path / "corpus")
    songs = json.loads((folder / "notes.json").read_text())
    limit = sys.getrecursionlimit()
    reasons = set()
    for depth in range(limit - 300, limit):  # somewhere here it can be read, and not be written again
        nest = "[" * depth + "]" * depth
        (folder / "notes.json").write_text(json.dumps({**songs, "102": 0}).replace('"102": 0', f'"102": {nest}'))
        try:
            _, report = prepared("mir_st500", folder)
            reasons |= report.left_out.keys()
        except UserError as error:
            reasons.add(str(error).partition("(")[0].rpartition(": ")[2].strip())
    assert reasons == {"broken annotation", "not JSON"}


# Disks that take nothing, or no more


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def ultrastar(tmp_path):
    """A conf for a corpus of one song."""
    add_song(tmp_path / "songs/First")
    return write_conf(tmp_path, {"corpora": {"ultrastar": {"dir": str(tmp_path / "songs")}}})


def test_an_output_that_cannot_be_written_to_is_one_clear_line(tmp_path, ultrastar):
    (tmp_path / "file").write_text("not a folder")
    below = tmp_path / "file/data"
    done = run_program("prepare_ultrastar", "--conf", ultrastar, "--set", f"data_dir={below}")
    assert_one_clear_line(done, str(tmp_path / "file"), "Not a directory")


def test_a_folder_in_the_place_of_a_manifest_is_one_clear_line_and_nothing_is_left_behind(tmp_path, ultrastar):
    taken = tmp_path / "data/manifests/ultrastar_recordings_all.jsonl.gz"
    taken.mkdir(parents=True)
    done = run_program("prepare_ultrastar", "--conf", ultrastar)
    assert_one_clear_line(done, taken.name, "Is a directory")
    assert not list(taken.parent.glob(".*"))


@pytest.mark.parametrize("full", ["at once", "between the manifests"])
def test_a_full_disk_is_one_clear_line_and_the_old_manifests_stay_as_they_are(tmp_path, ultrastar, full):
    done = run_program("prepare_ultrastar", "--conf", ultrastar)
    assert done.returncode == 0, done.stderr
    manifests = tmp_path / "data/manifests"
    before = files_of(manifests)
    small, large = (len(before[f"ultrastar_{kind}_all.jsonl.gz"]) for kind in ("recordings", "supervisions"))
    assert small + 100 < large
    add_song(tmp_path / "songs/Second")
    done = run_with_files_of_at_most(20 if full == "at once" else large - 20, "prepare_ultrastar", ultrastar)
    assert_one_clear_line(done, "File too large", str(manifests))
    assert files_of(manifests) == before


def test_a_disk_that_is_full_while_librispeech_is_prepared_is_one_clear_line(tmp_path):
    build("librispeech", tmp_path / "corpus")
    section = {"dir": str(tmp_path / "corpus"), "train": [], "validation": ["dev-clean"], "test": []}
    conf = write_conf(tmp_path, {"corpora": {"librispeech": section}})
    done = run_with_files_of_at_most(20, "prepare_librispeech", conf)
    assert_one_clear_line(done, "File too large")
    assert not list(tmp_path.glob("data/manifests/*"))


def run_with_files_of_at_most(size: int, name: str, conf: Path) -> subprocess.CompletedProcess:
    """Run a program where no file can grow beyond ``size`` bytes, which is as if the disk were full."""
    return subprocess.run(
        [sys.executable, str(ROOT / "local" / f"{name}.py"), "--conf", str(conf)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},  # it would be cut short, and stay so
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )

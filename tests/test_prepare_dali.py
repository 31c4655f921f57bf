import contextlib
import copy
import gzip
import importlib
import json
import os
import pickle
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_audio import ROOT, assert_one_clear_line, run_program, truncate, write_conf, write_sine

from altpo_model.config import MiniCorpora
from altpo_model.errors import UserError
from dali_annotation import (
    BadAnnotation,
    DaliInfo,
    Timing,
    read_annotation,
    read_ground_truth,
    read_metadata,
    read_pickle,
)
from manifests import Report
from mini_corpora import dali as mini_dali
from mini_corpora.plan import make_plan
from prepare_dali import prepare_dali

REAL = Path(os.environ.get("ALTPO_TEST_DATA", ROOT.parent / "shared/data"))

FIRST, SECOND = "0a" * 16, "1b" * 16


@pytest.fixture
def dali_class(monkeypatch):
    """A stand-in for the package DALI, so that pickles name its class."""
    package, module = types.ModuleType("DALI"), types.ModuleType("DALI.Annotations")

    class Annotations:
        pass

    Annotations.__module__, Annotations.__qualname__ = "DALI.Annotations", "Annotations"
    module.Annotations = Annotations
    package.Annotations = module
    monkeypatch.setitem(sys.modules, "DALI", package)
    monkeypatch.setitem(sys.modules, "DALI.Annotations", module)
    return Annotations


def annotation(dali_class, dali_id, language="english", seconds=4.0):
    """Two words, "Don't sing-ing", on A3, A4 and C5."""
    song = dali_class()
    song.info = {
        "id": dali_id,
        "artist": "Vera",
        "title": "Song",
        "metadata": {"language": language},
        "dataset_version": 1.0,
    }
    notes = [("Don\u2019t", 0.5, 1.0, 220.0), ("sing", 1.0, 1.5, 440.0), ("ing", 1.5, seconds, 523.25)]
    words = [("Don\u2019t", 0.5, 1.0, (220.0, 220.0)), ("singing", 1.0, seconds, (440.0, 523.25))]
    song.annotations = {
        "type": "horizontal",
        "annot_param": {"fr": 10.0, "offset": 0.5},
        "annot": {
            "notes": [
                {"text": text, "time": [start, end], "freq": [f, f], "index": 0} for text, start, end, f in notes
            ],
            "words": [
                {"text": text, "time": [start, end], "freq": list(f), "index": 0} for text, start, end, f in words
            ],
            "lines": [],
            "paragraphs": [],
        },
    }
    return song


def write_gz(path, content, protocol=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(pickle.dumps(content, protocol=protocol)))


@pytest.fixture
def corpus(tmp_path, dali_class):
    for dali_id in (FIRST, SECOND):
        write_gz(tmp_path / "annotations" / f"{dali_id}.gz", annotation(dali_class, dali_id))
    write_sine(tmp_path / "audio" / f"{FIRST}.flac", 5.0, rate=22050)
    write_sine(tmp_path / "audio" / f"{SECOND}.mp3", 3.0, rate=44100, channels=2)
    return tmp_path


def test_words_syllables_and_notes_become_alignments(corpus):
    manifests = prepare_dali(corpus / "annotations", corpus / "audio")["all"]
    supervision = manifests["supervisions"][FIRST]
    assert (supervision.text, supervision.speaker, supervision.language) == ("don't singing", "Vera", "English")
    items = {
        level: [(item.symbol, item.start, item.duration) for item in alignment]
        for level, alignment in supervision.alignment.items()
    }
    assert items == {
        "word": [("don't", 0.5, 0.5), ("singing", 1.0, 3.0)],
        "syllable": [("don't", 0.5, 0.5), ("sing", 1.0, 0.5), ("ing", 1.5, 2.5)],
        "note": [("57", 0.5, 0.5), ("69", 1.0, 0.5), ("72", 1.5, 2.5)],
    }


def test_times_are_clipped_to_the_audio(corpus):
    manifests = prepare_dali(corpus / "annotations", corpus / "audio")["all"]
    recording, supervision = manifests["recordings"][SECOND], manifests["supervisions"][SECOND]
    assert recording.num_channels == 2
    for level in ("word", "syllable", "note"):
        assert supervision.alignment[level][-1].end == pytest.approx(recording.duration, abs=1e-5)
        assert supervision.alignment[level][-1].end <= recording.duration


def test_what_lies_outside_the_audio_is_left_out_and_counted(corpus, dali_class):
    song = annotation(dali_class, FIRST)
    for level, text in (("notes", "late"), ("words", "late")):
        song.annotations["annot"][level].append({"text": text, "time": [8.0, 9.0], "freq": [220.0, 220.0], "index": 1})
    song.annotations["annot"]["words"].append({"text": "no", "time": [2.0, 2.0], "freq": [1.0, 1.0], "index": 1})
    song.annotations["annot"]["notes"].append({"text": "", "time": [2.0, 2.5], "freq": [0.0, 0.0], "index": 1})
    write_gz(corpus / "annotations" / f"{FIRST}.gz", song)
    report = Report("dali")
    manifests = prepare_dali(corpus / "annotations", corpus / "audio", report=report)["all"]
    assert manifests["supervisions"][FIRST].text == "don't singing"
    assert report.losses.items == {
        "words outside the audio": 1,
        "words without a length": 1,
        "syllables outside the audio": 1,
        "notes outside the audio": 1,
        "notes out of MIDI's range": 1,
        "syllables without letters": 1,
    }


def test_songs_without_audio_and_of_other_languages_are_listed(corpus, dali_class):
    write_gz(corpus / "annotations" / f"{'2c' * 16}.gz", annotation(dali_class, "2c" * 16, language="french"))
    (corpus / "audio" / f"{SECOND}.mp3").unlink()
    report = Report("dali")
    manifests = prepare_dali(
        corpus / "annotations", corpus / "audio", ["English"], output_dir=corpus / "manifests", report=report
    )
    assert [recording.id for recording in manifests["all"]["recordings"]] == [FIRST]
    assert report.left_out == {"no audio": [f"{SECOND}: Vera - Song"], "another language": [f"{'2c' * 16}: french"]}
    listed = (corpus / "manifests/dali_left_out.tsv").read_text().splitlines()
    assert sorted(listed) == sorted([f"{SECOND}: Vera - Song\tno audio", f"{'2c' * 16}: french\tanother language"])


class Hostile:
    """Unpickled by Python's own reader, it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_runs_nothing_and_is_named(corpus, protocol):
    planted, dali_id = corpus / "planted", "3d" * 16
    write_gz(corpus / "annotations" / f"{dali_id}.gz", Hostile(planted), protocol)
    report = Report("dali")
    manifests = prepare_dali(corpus / "annotations", corpus / "audio", report=report)["all"]
    assert not planted.exists()
    assert len(manifests["recordings"]) == 2
    [named] = report.left_out["broken annotation"]
    assert named.startswith(dali_id) and "mkdir" in named
    with gzip.open(corpus / "annotations" / f"{dali_id}.gz") as stream:
        pickle.load(stream)
    assert planted.exists(), "the planted pickle was harmless: the test shows nothing"


def test_a_hostile_pickle_inside_an_annotation_runs_nothing(tmp_path, dali_class):
    song = annotation(dali_class, FIRST)
    song.annotations["annot"]["notes"][0]["time"] = Hostile(tmp_path / "planted")
    write_gz(tmp_path / f"{FIRST}.gz", song)
    with pytest.raises(BadAnnotation, match="mkdir"):
        read_annotation(tmp_path / f"{FIRST}.gz")
    assert not (tmp_path / "planted").exists()


def test_one_file_cannot_change_how_the_next_is_read(tmp_path, dali_class):
    # The class, then BUILD with slot state: setattr(class, "info", {}), as pickle's own reader would do it.
    data = b"\x80\x02cDALI.Annotations\nAnnotations\n(N}U\x04infoU\x06poisonstb."
    (tmp_path / "first.gz").write_bytes(gzip.compress(data))
    with contextlib.suppress(BadAnnotation):
        read_pickle(tmp_path / "first.gz")
    empty = dali_class()
    write_gz(tmp_path / "second.gz", empty)
    with pytest.raises(BadAnnotation):
        read_annotation(tmp_path / "second.gz")
    assert read_pickle(tmp_path / "second.gz") == {}


def test_data_that_grow_when_they_are_printed_are_refused(tmp_path, dali_class):
    song, text = annotation(dali_class, FIRST), ["a"]
    for _ in range(60):
        text = [text, text]
    song.annotations["annot"]["words"][0]["text"] = text
    write_gz(tmp_path / f"{FIRST}.gz", song)
    with pytest.raises(BadAnnotation, match="a list where a text should be"):
        read_annotation(tmp_path / f"{FIRST}.gz")


def test_broken_annotations_are_named_and_left_out(corpus, dali_class):
    whole = (corpus / "annotations" / f"{FIRST}.gz").read_bytes()
    vertical = annotation(dali_class, "4e" * 16)
    vertical.annotations["type"] = "vertical"
    (corpus / "annotations" / f"{'2c' * 16}.gz").write_bytes(whole[: len(whole) // 2])
    (corpus / "annotations" / f"{'3d' * 16}.gz").write_bytes(b"not gzip")
    write_gz(corpus / "annotations" / f"{'4e' * 16}.gz", vertical)
    write_gz(corpus / "annotations" / f"{'5f' * 16}.gz", {"plain": 1})
    report = Report("dali")
    assert len(prepare_dali(corpus / "annotations", corpus / "audio", report=report)["all"]["recordings"]) == 2
    assert [name[:32] for name in report.left_out["broken annotation"]] == [c * 16 for c in ("2c", "3d", "4e", "5f")]


def test_a_truncated_flac_is_named_left_out_and_counted(corpus):
    truncate(corpus / "audio" / f"{FIRST}.flac")
    conf = write_conf(
        corpus,
        {"corpora": {"dali": {"dir": str(corpus / "annotations"), "audio_dir": str(corpus / "audio")}}},
    )
    done = run_program("prepare_dali", "--conf", conf)
    assert done.returncode == 0, done.stderr
    assert "all: 1 songs" in done.stdout and f"broken audio: 1 ({FIRST}" in done.stdout


def test_no_song_left_and_no_folder_stop_with_one_line(corpus):
    with pytest.raises(UserError, match="another language: 2"):
        prepare_dali(corpus / "annotations", corpus / "audio", ["german"])
    conf = write_conf(corpus, {"corpora": {"dali": {"dir": str(corpus / "nowhere")}}})
    assert_one_clear_line(run_program("prepare_dali", "--conf", conf), "nowhere", "corpora.dali.dir")


def test_any_executor_gives_what_one_process_gives(corpus):
    alone = prepare_dali(corpus / "annotations", corpus / "audio")["all"]
    with ThreadPoolExecutor(2) as executor:
        together = prepare_dali(corpus / "annotations", corpus / "audio", executor=executor)["all"]
    assert list(alone["recordings"]) == list(together["recordings"])
    assert list(alone["supervisions"]) == list(together["supervisions"])


def test_the_reader_takes_plain_data(tmp_path):
    """DALI's ground truth is such a file."""
    write_gz(tmp_path / "gt.gz", {FIRST: {"offset": 1.5, "fr": 360}})
    assert read_pickle(tmp_path / "gt.gz") == {FIRST: {"offset": 1.5, "fr": 360}}


@pytest.fixture
def dali_package(monkeypatch):
    """DALI-dataset itself, without the downloader that it asks for."""
    for name in [name for name in sys.modules if name.split(".")[0] == "DALI"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "youtube_dl", types.ModuleType("youtube_dl"))
    package = importlib.import_module("DALI")
    yield package
    for name in [name for name in sys.modules if name.split(".")[0] == "DALI"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def generated():
    """(id, info, annotation) of the mini corpora's first DALI songs."""
    plan = make_plan(MiniCorpora())
    return [(item.id, mini_dali._info(item), mini_dali._annotation(plan, item)) for item in plan.dali[:5]]


def real_song(package, dali_id, info, annotations):
    song = package.Annotations(dali_id)
    song.info, song.annotations = copy.deepcopy(info), copy.deepcopy(annotations)
    return song


@pytest.mark.parametrize("kind", ["horizontal", "vertical"])
@pytest.mark.parametrize("timing", [{"offset": 12.3456, "fr": 417.3}, {"offset": -0.75, "fr": 60}])
def test_corrected_times_are_those_of_the_dali_package(tmp_path, dali_package, generated, kind, timing):
    truth = {dali_id: timing for dali_id, _, _ in generated}
    write_gz(tmp_path / "gt.gz", truth)
    songs, audio = {}, tmp_path / "audio"
    audio.mkdir()
    for dali_id, info, annotations in generated:
        song = real_song(dali_package, dali_id, info, annotations)
        if kind == "vertical":
            song.horizontal2vertical()
        write_gz(tmp_path / "annotations" / f"{dali_id}.gz", song)
        soundfile.write(audio / f"{dali_id}.flac", np.zeros(300 * 8000), 8000)
        songs[dali_id] = real_song(dali_package, dali_id, info, annotations)
    dali_package.update_with_ground_truth(songs, str(tmp_path / "gt.gz"))
    manifests = prepare_dali(tmp_path / "annotations", tmp_path / "audio", ground_truth=tmp_path / "gt.gz")["all"]
    for dali_id, song in songs.items():
        theirs = [entry["time"] for entry in song.annotations["annot"]["notes"]]
        ours = [(note.start, note.end) for note in manifests["supervisions"][dali_id].alignment["note"]]
        inside = [(max(0.0, start), end) for start, end in theirs if end > 0]
        assert len(ours) == len(inside) > 20
        np.testing.assert_allclose(ours, inside, rtol=0, atol=1e-3)


def test_vertical_and_json_annotations_say_the_same_as_the_horizontal_pickle(tmp_path, dali_package, generated):
    dali_id, info, annotations = generated[0]
    song = real_song(dali_package, dali_id, info, annotations)
    write_gz(tmp_path / "horizontal.gz", song)
    song.write_json(str(tmp_path), "horizontal")
    song.horizontal2vertical()
    write_gz(tmp_path / "vertical.gz", song)
    song.write_json(str(tmp_path), "vertical")
    expected = read_annotation(tmp_path / "horizontal.gz")
    assert len(expected.words) > 20 and len(expected.notes) >= len(expected.words)
    for name in ("horizontal.json", "vertical.gz", "vertical.json"):
        read = read_annotation(tmp_path / name)
        assert read.notes == expected.notes
        # The text of a vertical word is that of its notes, "~" and all.
        assert [word.text.replace("~", "") for word in read.words] == [word.text for word in expected.words]
        assert [(word.start, word.end) for word in read.words] == [(word.start, word.end) for word in expected.words]


def test_a_melisma_is_one_syllable_and_several_notes(corpus, dali_class):
    song = annotation(dali_class, FIRST)
    song.annotations["annot"]["notes"][2]["text"] = "~"
    write_gz(corpus / "annotations" / f"{FIRST}.gz", song)
    alignment = prepare_dali(corpus / "annotations", corpus / "audio")["all"]["supervisions"][FIRST].alignment
    assert [(s.symbol, s.start, s.end) for s in alignment["syllable"]] == [("don't", 0.5, 1.0), ("sing", 1.0, 4.0)]
    assert len(alignment["note"]) == 3


def test_songs_that_the_metadata_know_and_nobody_has_are_listed(corpus):
    rows = {
        dali_id: {"artist": artist, "title": "Song", "metadata": {"language": "english"}}
        for dali_id, artist in ((FIRST, "Vera"), ("9f" * 16, "Nobody"))
    }
    (corpus / "metadata.json").write_text(json.dumps(rows))
    report = Report("dali")
    prepare_dali(corpus / "annotations", corpus / "audio", metadata=corpus / "metadata.json", report=report)
    assert report.left_out == {"no annotation": [f"{'9f' * 16}: Nobody - Song"]}
    assert "2 songs in the metadata" in report.summary()


@pytest.mark.parametrize(
    ("key", "content", "words"),
    [
        ("ground_truth", gzip.compress(pickle.dumps(["no", "table"])), ["no table"]),
        ("ground_truth", b"not gzip", ["not a whole gzip file"]),
        ("metadata", b"{", ["not a whole JSON file"]),
        ("metadata", b'{"a": 3}', ["no table"]),
        ("metadata", None, ["No such file"]),
    ],
)
def test_a_bad_table_is_one_clear_line(corpus, key, content, words):
    path = corpus / "table"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as told:
        prepare_dali(corpus / "annotations", corpus / "audio", **{key: path})
    assert all(word in str(told.value) for word in [str(path), *words])


@pytest.mark.skipif(not (REAL / "dali").is_dir(), reason=f"no real data in {REAL}")
def test_the_real_tables_of_dali_are_read():
    [gt] = (REAL / "dali").glob("gt_v1.0*.gz")
    truth = read_ground_truth(gt)
    assert len(truth) == 105
    assert truth["557037a547e84ddba8148c137eee0eb5"] == Timing(offset=5.656, frame_rate=360)
    metadata = read_metadata(REAL / "dali/dali_v1_metadata.json")
    assert len(metadata) == 5358
    assert metadata["001940b614eb43f4a0c826d49a67d66d"] == DaliInfo("Barbra Streisand", "Woman In Love", "english")
    assert truth.keys() <= metadata.keys()

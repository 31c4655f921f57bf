import gzip
import os
import pickle
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import pytest
from tiny_audio import assert_one_clear_line, run_program, truncate, write_conf, write_sine

from altpo_model.errors import UserError
from dali_annotation import BadAnnotation, read_annotation, read_pickle
from manifests import Report
from prepare_dali import prepare_dali

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
    }


def test_songs_without_audio_and_of_other_languages_are_listed(corpus, dali_class):
    write_gz(corpus / "annotations" / f"{'2c' * 16}.gz", annotation(dali_class, "2c" * 16, language="french"))
    (corpus / "audio" / f"{SECOND}.mp3").unlink()
    report = Report("dali")
    manifests = prepare_dali(
        corpus / "annotations", corpus / "audio", ["English"], output_dir=corpus / "manifests", report=report
    )
    assert [recording.id for recording in manifests["all"]["recordings"]] == [FIRST]
    assert report.left_out == {"no audio": [SECOND], "another language": [f"{'2c' * 16}: french"]}
    listed = (corpus / "manifests/dali_left_out.tsv").read_text().splitlines()
    assert sorted(listed) == sorted([f"{SECOND}\tno audio", f"{'2c' * 16}: french\tanother language"])


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

import json

import pytest
from lhotse import SupervisionSet
from tiny_audio import assert_one_clear_line, run_program, truncate, write_conf, write_sine

from altpo_model.errors import UserError
from manifests import Report
from prepare_mir_st500 import find_audio, prepare_mir_st500

NOTES = [[0.5, 1.0, 60.0], [1.0, 2.0, 64]]


@pytest.fixture
def corpus(tmp_path):
    """Songs 1, 2 and 10 of which 1 and 2 train; their audio lies in each of the three ways."""
    write_annotation(tmp_path, {"10": NOTES, "1": NOTES, "2": NOTES})
    write_sine(tmp_path / "audio/1.flac", 3.0)
    write_sine(tmp_path / "audio/2/mixture.wav", 3.0)
    write_sine(tmp_path / "audio/test/10/Mixture.mp3", 3.0)
    for stem in ("Vocal", "Inst"):
        write_sine(tmp_path / f"audio/test/10/{stem}.wav", 1.0)
    return tmp_path


def write_annotation(folder, content):
    path = folder / "MIR-ST500_corrected.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def prepare(corpus, **options):
    return prepare_mir_st500(corpus / "MIR-ST500_corrected.json", corpus / "audio", train_songs=2, **options)


def test_songs_are_divided_by_their_number_and_have_their_notes(corpus):
    manifests = prepare(corpus)
    songs = {part: [recording.id for recording in manifests[part]["recordings"]] for part in ("train", "test")}
    assert songs == {"train": ["mir_st500_001", "mir_st500_002"], "test": ["mir_st500_010"]}
    supervision = manifests["test"]["supervisions"]["mir_st500_010"]
    notes = [(item.symbol, item.start, item.duration) for item in supervision.alignment["note"]]
    assert notes == [("60", 0.5, 0.5), ("64", 1.0, 1.0)]
    assert supervision.text == "" and set(supervision.alignment) == {"note"}


def test_the_mixture_is_found_and_no_stem_is_taken_for_it(corpus):
    found = {song: str(path.relative_to(corpus / "audio")) for song, path in find_audio(corpus / "audio").items()}
    assert found == {"1": "1.flac", "2": "2/mixture.wav", "10": "test/10/Mixture.mp3"}


def test_pitches_are_rounded_and_what_is_no_note_is_counted(corpus):
    out_of_range = "[0.5, 1, NaN], [1, 1.5, 128], [1.5, 2, -1]"
    without_length = "[NaN, 2, 60], [2, 2, 60], [2, 1e999, 62.4]"
    notes = f"[[0, 0.5, 59.6], {out_of_range}, {without_length}, [9, 10, 60]]"
    write_annotation(corpus, f'{{"1": {notes}, "10": [[0, 1, 1{"0" * 400}], [1, 2, 127.4]]}}')
    report = Report("mir_st500")
    manifests = prepare(corpus, report=report)
    [first] = manifests["train"]["supervisions"]
    assert [item.symbol for item in first.alignment["note"]] == ["60"]
    [last] = manifests["test"]["supervisions"]
    assert [item.symbol for item in last.alignment["note"]] == ["127"]
    assert report.losses.items == {
        "notes out of MIDI's range": 4,
        "notes without a length": 3,
        "notes outside the audio": 1,
    }


@pytest.mark.parametrize(
    ("notes", "told"),
    [
        ("none", "notes are"),
        ([], "no notes"),
        ([[0, 1, 60], [1, 2]], "note 2 is [1, 2]"),
        ([[0, 1, "60"]], 'note 1 is [0, 1, "60"]'),
        ([[0, 1, None]], "note 1"),
        ([[0, True, 60]], "note 1"),
        ([{"onset": 0}], "note 1"),
    ],
)
def test_a_song_of_another_shape_is_named_and_left_out(corpus, notes, told):
    write_annotation(corpus, {"1": NOTES, "2": notes, "10": NOTES})
    report = Report("mir_st500")
    assert len(prepare(corpus, report=report)["train"]["recordings"]) == 1
    [broken] = report.left_out["broken annotation"]
    assert broken.startswith("mir_st500_002: ") and told in broken


def test_missing_and_broken_audio_and_a_name_that_is_no_number_are_named(corpus):
    write_annotation(corpus, {"1": NOTES, "2": NOTES, "10": NOTES, "11": NOTES, "links": NOTES})
    truncate(corpus / "audio/2/mixture.wav")
    report = Report("mir_st500")
    prepare(corpus, report=report)
    assert report.left_out["no audio"] == ["mir_st500_011: 2 notes"]
    assert report.left_out["broken audio"][0].startswith("mir_st500_002: mixture.wav, truncated")
    assert report.left_out["broken annotation"] == ["links: its name is no number"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "not JSON"),
        ("[" * 100000, "not JSON"),
        ("[]", "not MIR-ST500's annotation"),
        ("{}", "not MIR-ST500's annotation"),
        ('{"1": "https://www.youtube.com/watch?v=x"}', "not MIR-ST500's annotation"),
    ],
)
def test_a_file_that_is_not_the_annotation_stops_with_one_line(corpus, content, told):
    path = write_annotation(corpus, content)
    with pytest.raises(UserError, match=told) as caught:
        prepare(corpus)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_the_program_writes_both_parts_and_a_missing_file_stops_it_with_one_line(corpus):
    section = {"annotation": str(corpus / "MIR-ST500_corrected.json"), "audio_dir": str(corpus / "audio")}
    conf = write_conf(corpus, {"corpora": {"mir_st500": {**section, "train_songs": 2}}})
    done = run_program("prepare_mir_st500", "--conf", conf)
    assert done.returncode == 0, done.stderr
    assert "train: 2 songs" in done.stdout and "test: 1 songs" in done.stdout
    assert len(SupervisionSet.from_file(corpus / "data/manifests/mir_st500_supervisions_train.jsonl.gz")) == 2
    missing = "corpora.mir_st500.annotation"
    assert_one_clear_line(run_program("prepare_mir_st500", "--conf", conf, "--set", f"{missing}=no.json"), missing)
    audio = "corpora.mir_st500.audio_dir"
    assert_one_clear_line(run_program("prepare_mir_st500", "--conf", conf, "--set", f"{audio}=nowhere"), audio)

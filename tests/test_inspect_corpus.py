"""The figures of manifests: gold values worked out by hand on two songs and an utterance."""

import gzip
import json
import sys

import pytest
from lhotse import CutSet, Features, FeatureSet, MonoCut, Recording, RecordingSet, SupervisionSegment, SupervisionSet
from lhotse.audio import AudioSource
from lhotse.supervision import AlignmentItem
from tiny_audio import assert_one_clear_line, run_program

from alignments import SongAnnotation, Timed, song_supervision
from altpo_model.errors import UserError
from inspect_corpus import all_figures, as_text, inspect, main, note_name, paired


def recording(name, seconds):
    sources = [AudioSource(type="file", channels=[0], source="none.flac")]
    return Recording(name, sources, 16000, int(seconds * 16000), seconds)


def supervision(name, seconds, text="", told=None, **levels):
    """``levels``: word, syllable, note as lists of (symbol, start, duration)."""
    alignment = {level: [AlignmentItem(*item) for item in items] for level, items in levels.items()} or None
    custom = {"annotation": told} if told is not None else None
    return SupervisionSegment(
        name, name, 0.0, seconds, text=text, language="English", alignment=alignment, custom=custom
    )


# Each fault once: "two" is of 10 ms, "three" of 11 s, "four" has no note; the second note begins 0.1 s before the first
# has ended; the last is beyond MIDI.
FAULTY = supervision(
    "faulty",
    100.0,
    "one two three four",
    {
        "end": 100.5,
        "characters": 40,
        "dropped": 4,
        "left_out": {"words outside the audio": 2, "notes out of MIDI's range": 1},
        "changed": {"words clipped to the audio": 1},
    },
    word=[("one", 0.0, 1.0), ("two", 1.0, 0.01), ("three", 20.0, 11.0), ("four", 40.0, 1.0)],
    syllable=[("one", 0.0, 1.0), ("two", 1.0, 0.01)],
    note=[("60", 0.0, 0.6), ("62", 0.5, 0.6), ("64", 25.0, 1.0), ("128", 30.0, 1.0)],
)
SOUND = supervision(
    "sound",
    50.0,
    "five",
    {"end": 49.0, "characters": 4, "dropped": 0, "left_out": {}, "changed": {}},
    word=[("five", 10.0, 2.0)],
    note=[("48", 10.0, 2.0)],
)
SPOKEN = supervision("spoken", 30.0, "six seven eight")

SUPERVISIONS = SupervisionSet.from_segments([FAULTY, SOUND, SPOKEN])
RECORDINGS = RecordingSet.from_recordings([recording(item.id, item.duration) for item in SUPERVISIONS])

FIGURES = {
    "segments": 3,
    "recordings": 3,
    "seconds": 180.0,
    "sung_seconds": 15.01,  # 1.01 + 11 + 1 + 2
    "words": 8,
    "syllables": 2,
    "notes": 5,
    "timed_words": 5,
    "words_per_second": {"sung": 0.3331, "whole": 0.0444},  # 5 / 15.01, 8 / 180
    "note_range": {"lowest": 48, "percentile_5": 48, "median": 60, "percentile_95": 64, "highest": 64},
    "text": {"characters": 57, "dropped": 4, "dropped_share": 0.0702, "told": 2},  # 40 + 4 + 13
    "words_beside_notes": 5,
    "faults": {
        "words without a note": 1,
        "words over 10 s": 1,
        "words under 20 ms": 1,
        "notes that overlap": 1,
        "notes out of MIDI's range": 2,
        "words outside the audio": 2,
        "words clipped to the audio": 1,
    },
    "end_difference": {
        "segments": 2,
        "median": -0.25,
        "lowest": {"id": "sound", "seconds": -1.0},
        "highest": {"id": "faulty", "seconds": 0.5},
    },
    "worst": [
        {
            "id": "faulty",
            "score": 0.6923,  # 9 faults over 4 words, 2 syllables, 4 notes and 3 left out
            "faults": {
                "notes out of MIDI's range": 2,
                "words outside the audio": 2,
                "words without a note": 1,
                "words over 10 s": 1,
                "words under 20 ms": 1,
                "notes that overlap": 1,
                "words clipped to the audio": 1,
            },
        }
    ],
}


@pytest.fixture
def manifests(tmp_path):
    """x_supervisions_all.jsonl.gz with its recordings beside it; its path."""
    RECORDINGS.to_file(tmp_path / "x_recordings_all.jsonl.gz")
    SUPERVISIONS.to_file(tmp_path / "x_supervisions_all.jsonl.gz")
    return tmp_path / "x_supervisions_all.jsonl.gz"


def total_of(*paths):
    return all_figures([inspect(*pair) for pair in paired(paths)])["total"]


def written(path, items):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {SupervisionSegment: SupervisionSet.from_segments, MonoCut: CutSet.from_cuts}[type(items[0])]
    kind(items).to_file(path)
    return path


def call(monkeypatch, *arguments):
    """Run the program in this process; returns what it says on failure, None where it succeeds."""
    monkeypatch.setattr(sys, "argv", ["inspect_corpus.py", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return stop.code
    return None


def test_figures_are_those_worked_out_by_hand(manifests):
    assert total_of(manifests) == FIGURES


def test_cuts_and_supervisions_of_the_same_songs_give_equal_figures(manifests):
    cuts = manifests.with_name("cuts.jsonl.gz")
    CutSet.from_manifests(recordings=RECORDINGS, supervisions=SUPERVISIONS).modify_ids(
        lambda name: name.rpartition("-")[0]
    ).to_file(cuts)
    assert total_of(cuts) == FIGURES


def test_part_of_a_song_has_its_own_words_and_nothing_of_the_song_s_account(tmp_path):
    word = [("three", 20.0, 8.0), ("four", 30.0, 2.0)]
    told = FAULTY.custom["annotation"]
    part = supervision("part", 20.0, "three four", told, word=word, note=[("60", 15.0, 30.0)])
    whole = recording("song", 100.0)
    cut = MonoCut("part", start=18.0, duration=20.0, channel=0, supervisions=[part], recording=whole)
    found = total_of(written(tmp_path / "cuts.jsonl", [cut]))
    assert (found["seconds"], found["sung_seconds"], found["words"]) == (20.0, 10.0, 2)
    assert not any(found["faults"].values())
    assert (found["end_difference"], found["worst"]) == (None, [])
    assert found["text"] == {"characters": 9, "dropped": 0, "dropped_share": 0.0, "told": 0}


def test_notes_without_words_tell_the_sung_time_inside_the_segment(tmp_path):
    part = supervision("part", 20.0, note=[("60", 15.0, 5.0), ("62", 20.0, 3.0), ("64", 36.0, 30.0)])
    cut = MonoCut("part", start=18.0, duration=20.0, channel=0, supervisions=[part], recording=recording("song", 100.0))
    found = total_of(written(tmp_path / "cuts.jsonl.gz", [cut]))
    assert found["sung_seconds"] == 5 + 2, "from 18 s to 23 s and from 36 s to 38 s"
    assert (found["words"], found["words_per_second"]) == (0, {"sung": None, "whole": None})


def test_word_that_only_touches_a_note_has_none_and_notes_that_touch_do_not_overlap(tmp_path):
    words = [("one", 0.0, 1.0), ("two", 1.2, 0.3)]
    notes = [("60", 1.0, 0.1), ("60", 1.1, 0.1), ("60", 1.1992, 0.3008)]
    found = total_of(written(tmp_path / "s.jsonl", [supervision("a", 2.0, "one two", word=words, note=notes)]))
    assert found["faults"]["words without a note"] == 1
    assert found["faults"]["notes that overlap"] == 0, "0.8 ms is rounding"


def test_limits_of_word_lengths_are_no_faults_themselves(tmp_path):
    words = [("a", 0.1, 0.02), ("b", 1.0, 10.0)]
    found = total_of(written(tmp_path / "s.jsonl", [supervision("a", 20.0, "a b", word=words)]))
    assert not any(found["faults"].values())


def test_words_of_a_corpus_without_notes_lack_none(tmp_path):
    song = supervision("a", 2.0, "one", word=[("one", 0.0, 1.0)])
    found = total_of(written(tmp_path / "s.jsonl", [song]))
    assert (found["words_beside_notes"], found["faults"]["words without a note"]) == (0, 0)
    song = supervision("a", 2.0, "one", word=[("one", 0.0, 1.0)], note=[])
    found = total_of(written(tmp_path / "s.jsonl", [song]))
    assert (found["words_beside_notes"], found["faults"]["words without a note"]) == (1, 1)


@pytest.mark.parametrize("symbol", ["-1", "128", "C4", "60.5", ""])
def test_note_whose_symbol_is_no_midi_number_is_out_of_range(tmp_path, symbol):
    notes = [(symbol, 0.0, 1.0), ("0", 1.0, 0.5), ("127", 1.5, 0.5)]
    found = total_of(written(tmp_path / "s.jsonl", [supervision("a", 2.0, note=notes)]))
    assert found["faults"]["notes out of MIDI's range"] == 1
    assert (found["note_range"]["lowest"], found["note_range"]["highest"]) == (0, 127)


def test_text_that_no_preparation_told_of_counts_the_characters_that_the_model_cannot_write(tmp_path):
    found = total_of(written(tmp_path / "s.jsonl", [supervision("a", 2.0, "Oh, café “so” 愛")]))
    assert found["text"] == {"characters": 12, "dropped": 3, "dropped_share": 0.25, "told": 0}  # two quotes, one kanji


def test_supervisions_with_nothing_in_them_are_counted(tmp_path):
    bare = SupervisionSegment("bare", "bare", 0.0, 4.0)
    empty = SupervisionSegment("empty", "empty", 0.0, 6.0, text="", alignment={"word": [], "note": []}, custom={})
    foreign = SupervisionSegment("foreign", "foreign", 0.0, 2.0, custom={"annotation": "by hand"})
    result = all_figures([inspect(written(tmp_path / "s.jsonl", [bare, empty, foreign]))])
    found = result["total"]
    assert (found["segments"], found["seconds"], found["words"], found["notes"]) == (3, 12.0, 0, 0)
    assert found["note_range"] is None and found["end_difference"] is None and found["worst"] == []
    assert as_text(result).splitlines()[1:] == ["  segments                  3 of 3 recordings, 0.00 h"]


def test_what_a_preparation_left_out_is_told(tmp_path):
    words = [Timed("Oh 愛", 0.0, 1.0), Timed("é", 1.5, 2.5), Timed("late", 9.0, 9.5)]
    prepared, _ = song_supervision(SongAnnotation("a", words=words, notes=[Timed("60", 0.0, 0.5)]), recording("a", 2.0))
    RecordingSet.from_recordings([recording("a", 2.0)]).to_file(tmp_path / "recordings.jsonl")
    found = total_of(written(tmp_path / "supervisions.jsonl", [prepared]))
    assert found["text"] == {"characters": 8, "dropped": 1, "dropped_share": 0.125, "told": 1}
    faults = {name: count for name, count in found["faults"].items() if count}
    assert faults == {"words without a note": 1, "words outside the audio": 1, "words clipped to the audio": 1}
    assert found["end_difference"]["median"] == 7.5
    assert found["worst"][0]["score"] == 0.75, "3 faults over 2 words, 1 note and 1 left out"


def test_worst_songs_are_ranked_by_faults_an_item(tmp_path):
    def song(name, short, words):
        return supervision(name, 90.0, word=[("a", i, 0.01 if i < short else 0.5) for i in range(words)])

    path = written(
        tmp_path / "s.jsonl", [song("many", 5, 50), song("none", 0, 3), song("few", 1, 4), song("half", 1, 2)]
    )
    worst = all_figures([inspect(path)], worst=2)["total"]["worst"]
    assert [(one["id"], one["score"]) for one in worst] == [("half", 0.5), ("few", 0.25)]
    assert [one["id"] for one in total_of(path)["worst"]] == ["half", "few", "many"]


def test_total_adds_the_manifests_up(manifests):
    other = written(
        manifests.with_name("y.jsonl"), [supervision("faulty", 20.0, "a b", word=[("a", 0, 1), ("b", 1, 1)])]
    )
    result = all_figures([inspect(*pair) for pair in paired([manifests, other])])
    assert [part["segments"] for part in result["manifests"]] == [3, 1]
    total = result["total"]
    assert (total["segments"], total["recordings"], total["seconds"], total["words"]) == (4, 3, 200.0, 10)
    assert total["words_per_second"]["sung"] == pytest.approx(7 / 17.01, abs=1e-4)
    blocks = as_text(result).split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == [str(manifests), str(other), "total of 2 manifests"]


def test_one_manifest_has_no_total_in_its_text(manifests):
    text = as_text(all_figures([inspect(*pair) for pair in paired([manifests])]))
    assert "total of" not in text
    assert "MIDI numbers 48 (C3) to 64 (E4); at 5, 50 and 95 %: 48 (C3), 60 (C4), 64 (E4)" in text
    assert "0.33 a second of sung time, 0.04 a second of whole duration" in text
    assert "    0.692   faulty: 2 notes out of MIDI's range, 2 words outside the audio, 1 words without a note" in text


def test_recordings_are_found_beside_or_given_and_stand_for_their_supervisions(manifests, tmp_path):
    beside = tmp_path / "x_recordings_all.jsonl.gz"
    for given in ([manifests], [beside], [manifests, beside], [beside, manifests, manifests]):
        assert [(str(one), [str(path) for path in more]) for one, more in paired(given)] == [
            (str(manifests), [str(beside)])
        ]
    elsewhere = tmp_path / "elsewhere" / "all.jsonl.gz"
    elsewhere.parent.mkdir()
    beside.rename(elsewhere)
    assert total_of(manifests)["end_difference"] is None, "nothing tells how long the recordings are"
    assert total_of(manifests, elsewhere) == FIGURES


def test_several_supervisions_of_one_recording_are_parts_of_it(tmp_path):
    parts = [
        SupervisionSegment(f"r-{i}", "r", 10.0 * i, 10.0, alignment={"word": [AlignmentItem("a", 10.0 * i, 5.0)]})
        for i in range(3)
    ]
    RecordingSet.from_recordings([recording("r", 30.0)]).to_file(tmp_path / "recordings.jsonl.gz")
    found = total_of(written(tmp_path / "supervisions.jsonl.gz", parts))
    assert (found["segments"], found["recordings"], found["sung_seconds"]) == (3, 1, 15.0)
    assert found["end_difference"] is None


def test_json_has_the_same_figures(manifests, tmp_path, monkeypatch, capsys):
    assert call(monkeypatch, manifests, "--json", tmp_path / "new" / "x.json") is None
    assert capsys.readouterr().out.startswith(f"{manifests}\n")
    tree = json.loads((tmp_path / "new" / "x.json").read_text())
    assert tree["total"] == FIGURES
    beside = str(tmp_path / "x_recordings_all.jsonl.gz")
    assert tree["manifests"] == [{"manifest": str(manifests), "recordings_manifests": [beside], **FIGURES}]
    assert call(monkeypatch, manifests, "--json", "-", "--worst", 0) is None
    assert json.loads(capsys.readouterr().out)["total"] == {**FIGURES, "worst": []}


@pytest.mark.parametrize("suffix, magic", [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_figure_is_drawn_also_of_a_manifest_without_notes(manifests, tmp_path, monkeypatch, suffix, magic):
    speech = written(tmp_path / "other" / manifests.name, [SPOKEN])
    path = tmp_path / f"figure.{suffix}"
    for given in ([manifests, speech], [speech]):
        assert call(monkeypatch, *given, "--figure", path) is None
        assert path.read_bytes().startswith(magic)


def test_note_names():
    assert [note_name(number) for number in (0, 21, 60, 61, 69, 127)] == ["C-1", "A0", "C4", "C#4", "A4", "G9"]


LINE = json.dumps(SPOKEN.to_dict())
TIMELESS = json.dumps(supervision("a", 2.0, note=[("60", "soon", 1.0)]).to_dict())
ENDLESS = json.dumps(supervision("a", 2.0, word=[("a", 0.0, float("nan"))]).to_dict())
FEATURES = Features(type="fbank", num_frames=1, num_features=1, frame_shift=1.0, sampling_rate=16000, start=0.0,
                    duration=1.0, storage_type="x", storage_path="x", storage_key="x", recording_id="a")  # fmt: skip


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "holds no song"),
        (gzip.compress(b""), "holds no song"),
        (f"{LINE}\n{LINE[:50]}\n".encode(), "line 2: broken JSON"),
        (f"{LINE}\n\n".encode(), "line 2: broken JSON"),
        (b"[]\n", "line 1: a list, not an item of a manifest"),
        (b'{"a": 1}\n', "line 1: neither a supervision nor a cut"),
        (b'{"id": "a", "type": "OddCut"}\n', "line 1: neither a supervision nor a cut"),
        (f"{LINE}\n{TIMELESS}\n".encode(), "line 2: the note alignment has a time that is no number"),
        (f"{ENDLESS}\n".encode(), "line 1: the word alignment has a time that is not finite"),
        (b"RIFF\x00\xff\xfe\n", "not a manifest"),
        (gzip.compress(f"{LINE}\n".encode() * 50)[:60], "broken gzip after line"),
        (gzip.compress(f"{LINE}\n".encode())[:-8] + b"12345678", "broken gzip after line"),
    ],
)
def test_file_that_is_no_manifest_is_named_with_the_line(tmp_path, content, message):
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        total_of(path)
    assert str(error.value).startswith(str(path)) and message in str(error.value)


def test_features_and_mixed_cuts_are_neither_supervisions_nor_cuts_of_one_recording(tmp_path):
    path = tmp_path / "x.jsonl.gz"
    FeatureSet.from_features([FEATURES]).to_file(path)
    with pytest.raises(UserError, match="holds a Features, neither a supervision nor a cut"):
        total_of(path)
    cut = MonoCut("a", 0.0, 5.0, 0, recording=recording("a", 5.0))
    CutSet.from_cuts([cut, cut.pad(10.0).with_id("b")]).to_file(path)
    with pytest.raises(UserError, match="line 2: holds a MixedCut, neither a supervision nor a cut"):
        total_of(path)


def test_recordings_with_no_supervisions_are_told_of(tmp_path):
    path = tmp_path / "x_recordings_all.jsonl.gz"
    RECORDINGS.to_file(path)
    with pytest.raises(UserError, match="x_supervisions_all.jsonl.gz is not beside it"):
        paired([path])


def test_supervisions_in_the_place_of_recordings_are_told_of(manifests):
    SUPERVISIONS.to_file(manifests.with_name("x_recordings_all.jsonl.gz"))
    with pytest.raises(
        UserError, match="x_recordings_all.jsonl.gz, line 1: holds a SupervisionSegment, not a recording"
    ):
        total_of(manifests)


def test_path_that_cannot_be_read_or_written_is_one_clear_line(manifests, tmp_path, monkeypatch):
    assert "no such file" in call(monkeypatch, tmp_path / "missing.jsonl.gz")
    assert "cannot be read: Is a directory" in call(monkeypatch, tmp_path)
    for option, name in (("--json", "x.json"), ("--figure", "x.png")):
        assert "cannot be written" in call(monkeypatch, manifests, option, manifests / name)
        (tmp_path / name).mkdir()
        assert "cannot be written" in call(monkeypatch, manifests, option, tmp_path / name)
    assert "ends in .png or .pdf" in call(monkeypatch, manifests, "--figure", tmp_path / "x.txt")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "x_recordings_all.jsonl.gz",
        manifests.name,
    ], "no temporary file is left"


def test_program_prints_its_figures_and_fails_with_one_line(manifests, tmp_path):
    done = run_program("inspect_corpus", manifests)
    assert done.returncode == 0 and done.stdout.startswith(f"{manifests}\n  segments "), done.stderr
    assert_one_clear_line(run_program("inspect_corpus", tmp_path / "missing.jsonl"), "missing.jsonl", "no such file")

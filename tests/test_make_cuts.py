"""Segments and splits of songs."""

import numpy as np
import pytest
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment, SupervisionSet
from lhotse.audio import AudioSource
from lhotse.supervision import AlignmentItem

from altpo_model.config import Config, Segments, Split
from altpo_model.errors import UserError
from make_cuts import make_cuts, pause_spans, segments_of
from recipe.data import notes_of
from song_splits import split_songs


def make_song(words, notes=(), duration=60.0, name="song", artist="A") -> MonoCut:
    sources = [AudioSource(type="file", channels=[0], source="none.flac")]
    recording = Recording(name, sources, 16000, int(duration * 16000), duration)
    alignment = {
        "word": [AlignmentItem(word, start, end - start) for word, start, end in words],
        "note": [AlignmentItem(str(pitch), start, end - start) for pitch, start, end in notes],
    }
    supervision = SupervisionSegment(
        id=name, recording_id=name, start=0.0, duration=duration, text=" ".join(w for w, _, _ in words), speaker=artist,
        alignment=alignment,
    )  # fmt: skip
    return MonoCut(name, 0.0, duration, 0, [supervision], recording=recording, custom={"vocals": recording})


def test_fixed_segments_are_of_16_s_and_a_word_that_a_border_cuts_is_in_no_text():
    song = make_song([("one", 1, 2), ("cut", 15.5, 16.5), ("two", 20, 21), ("three", 45, 46)], [(60, 15.5, 16.5)])
    cuts = segments_of(song, Segments(by="fixed"))
    assert [(cut.start, cut.duration) for cut in cuts] == [(0.0, 16.0), (16.0, 16.0), (32.0, 16.0)]
    assert [cut.supervisions[0].text for cut in cuts] == ["one", "two", "three"]
    assert cuts[1].supervisions[0].alignment["word"][0].start == 20, "alignments are in the recording's time"


def test_note_across_a_border_is_in_both_segments_and_begins_before_zero_in_the_second():
    song = make_song([("one", 1, 2), ("two", 20, 21)], [(60, 15.5, 16.5)])
    first, second = segments_of(song, Segments(by="fixed"))
    assert notes_of(first.supervisions[0], first.start)[0].onset == pytest.approx(15.5)
    assert notes_of(second.supervisions[0], second.start)[0].onset == pytest.approx(-0.5)


def test_pause_segments_begin_and_end_in_pauses_and_hold_every_word():
    random = np.random.default_rng(0)
    time, words = 2.0, []
    for number in range(300):
        time += random.choice([0.0, 0.05, 0.8], p=[0.5, 0.3, 0.2])
        end = time + random.uniform(0.1, 0.6)
        words.append((f"w{number}", time, end))
        time = end
    cuts = segments_of(make_song(words, duration=time + 5), Segments(by="pauses", max_seconds=16.0))
    assert " ".join(cut.supervisions[0].text for cut in cuts).split() == [word for word, _, _ in words]
    assert max(cut.duration for cut in cuts) <= 16.0 + 1e-6
    for one, two in zip(cuts, cuts[1:], strict=False):
        assert one.end <= two.start + 1e-3


def test_phrase_without_pauses_is_cut_at_its_widest_gap():
    units = [(i * 1.0, i * 1.0 + (0.8 if i == 11 else 0.95)) for i in range(20)]
    spans = pause_spans(units, 30.0, Segments(by="pauses", max_seconds=16.0, padding=0.0))
    assert spans == [(0.0, 11.8), (12.0, 19.95)]


def test_unit_longer_than_a_segment_is_left_out():
    spans = pause_spans([(0.0, 20.0), (21.0, 22.0)], 30.0, Segments(by="pauses", max_seconds=16.0, padding=0.0))
    assert spans == [(21.0, 22.0)]


def test_ratio_split_shuffles_in_table_order_with_the_papers_seed():
    songs = [make_song([("a", 0, 1)], name=f"s{i}") for i in range(40)]
    parts = split_songs(songs, Split())
    expected = np.arange(40)
    np.random.RandomState(3756).shuffle(expected)
    assert [len(parts[k]) for k in ("train", "validation", "test")] == [36, 2, 2]
    assert [song.id for song in parts["train"]] == [f"s{i}" for i in expected[:36]]


def test_artist_split_keeps_an_artist_in_one_part():
    songs = [make_song([("a", 0, 1)], name=f"s{i}", artist="ABC"[i % 3]) for i in range(9)]
    parts = split_songs(songs, Split(by="artist", validation_artists=["B"], test_artists=["C"]))
    assert {k: {s.supervisions[0].speaker for s in v} for k, v in parts.items()} == {
        "train": {"A"}, "validation": {"B"}, "test": {"C"},
    }  # fmt: skip


def test_whole_corpora_train_or_test():
    songs = [make_song([("a", 0, 1)], name=f"s{i}") for i in range(3)]
    for part in ("train", "test"):
        parts = split_songs(songs, Split(by=part))
        assert {name: len(members) for name, members in parts.items() if members} == {part: 3}


def test_papers_split_puts_a_song_into_the_same_part_whoever_else_is_there():
    songs = [make_song([("a", 0, 1)], name=f"s{i}") for i in range(4)]
    paper = {"train": ["s9", "s1"], "validation": ["s3"], "test": ["s7", "s0"]}
    parts = split_songs(songs, Split(by="paper"), paper)
    assert {part: [song.id for song in members] for part, members in parts.items()} == {
        "train": ["s1"], "validation": ["s3"], "test": ["s0"],
    }  # fmt: skip


def test_song_with_a_text_and_no_times_is_one_segment():
    song = make_song([], duration=200.0)
    song.supervisions[0].text = "all of it"
    [cut] = segments_of(song, Segments(by="fixed"))
    assert (cut.duration, cut.supervisions[0].text) == (200.0, "all of it")


def test_unknown_ways_to_split_or_segment_are_errors():
    with pytest.raises(UserError, match="fixed or pauses"):
        segments_of(make_song([("a", 0, 1)]), Segments(by="bars"))
    with pytest.raises(UserError, match="ratio, artist, train or test"):
        split_songs([], Split(by="moon"))


def test_songs_that_an_alignment_calls_unfit_are_left_out(tmp_path, capsys):
    songs = [make_song([("one", 1, 2)], name=name) for name in ("good", "bad", "unknown")]
    (tmp_path / "songs").mkdir()
    CutSet.from_cuts(songs).to_file(tmp_path / "songs" / "jamendo_test.jsonl.gz")
    aligned = [
        SupervisionSegment(id=name, recording_id=name, start=0, duration=60, custom={"fits": name == "good"})
        for name in ("good", "bad")
    ]
    path = tmp_path / "jamendo.jsonl.gz"
    SupervisionSet.from_segments(aligned).to_file(path)
    config = Config(data_dir=str(tmp_path), segments=Segments(alignments=[str(path)]))
    cuts = make_cuts(config, "jamendo")["test"]
    assert [cut.recording_id for cut in cuts] == ["good", "unknown"]
    assert "jamendo_test: 1 songs left out, whose lyrics do not fit the audio: bad" in capsys.readouterr().out
    config.segments.alignments = [str(tmp_path / "gone.jsonl.gz")]
    with pytest.raises(UserError, match=r"gone\.jsonl\.gz: no such alignments"):
        make_cuts(config, "jamendo")

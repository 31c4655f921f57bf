"""The pitch-shift filter."""

import os
from pathlib import Path

import numpy as np
import pytest
from test_make_cuts import make_song

from altpo_model.config import Config, Filter, Split, UltraStar
from altpo_model.errors import UserError
from filter_pitch_shifts import best_shift, select, shift_notes
from filter_table import paper_parts, read_table, selected

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path(os.environ.get("ALTPO_TEST_DATA", ROOT.parent / "shared/data")) / "dali/offsets_and_results.csv"
SHIFTS = range(-24, 13)


def test_planted_shift_is_found_under_noise():
    random = np.random.default_rng(0)
    truth = np.repeat(random.integers(50, 70, 100), 20)
    truth[random.random(2000) < 0.2] = 128
    estimate = np.where(random.random(2000) < 0.3, random.integers(0, 129, 2000), truth)
    for shift in (-12, -5, 0, 7, 12):
        annotated = np.where(truth == 128, 128, truth - shift)
        row = best_shift(estimate, annotated, SHIFTS)
        assert row["best_offset"] == shift
        assert row["best_res"] < 0.35 < row["sec_best_res"]


def test_error_counts_only_frames_with_an_annotated_note():
    annotated = np.array([128, 60, 60, 62, 128])
    estimate = np.array([61, 72, 72, 70, 128])
    assert best_shift(estimate, annotated, SHIFTS) == {
        "best_offset": 12, "best_res": pytest.approx(1 / 3), "sec_best_res": pytest.approx(2 / 3),
    }  # fmt: skip


def test_song_without_notes_has_the_error_one():
    assert best_shift(np.array([60, 60]), np.array([128, 128]), SHIFTS)["best_res"] == 1.0


def test_notes_are_shifted_and_those_that_leave_midi_are_dropped():
    song = shift_notes(make_song([("a", 0, 1)], [(60, 0, 1), (120, 1, 2)]), 12)
    supervision = song.supervisions[0]
    assert [item.symbol for item in supervision.alignment["note"]] == ["72"]
    assert supervision.custom["pitch_shift"] == 12


def test_published_tables_form_is_read_and_a_broken_row_is_named(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(",best_offset,best_res,sec_best_res\n007c,-12.0,0.41,0.71\n")
    assert read_table(path) == {"007c": {"best_offset": -12.0, "best_res": 0.41, "sec_best_res": 0.71}}
    path.write_text(",best_offset,best_res,sec_best_res\n007c,x,0.41,0.71\n")
    with pytest.raises(UserError, match="line 2"):
        read_table(path)
    for row, words in (("007c,nan,0.41,0.71", "finite"), ("007c,0.5,0.41,0.71", "whole number"), ("007c,1", "line 2")):
        path.write_text(f",best_offset,best_res,sec_best_res\n{row}\n")
        with pytest.raises(UserError, match=words):
            read_table(path)
    path.write_text(",best_offset,best_res,sec_best_res\n007c,1,0.4,0.7\n007c,2,0.4,0.7\n")
    with pytest.raises(UserError, match="line 3: the song 007c is there twice"):
        read_table(path)
    path.write_text("id,offset\n")
    with pytest.raises(UserError, match="best_offset"):
        read_table(path)
    with pytest.raises(UserError, match="filter.table"):
        read_table(tmp_path / "none.csv")


def test_papers_split_needs_the_papers_table():
    with pytest.raises(UserError, match="filter.table"):
        paper_parts(Filter(), Split(by="paper"))


@pytest.mark.skipif(not TABLE.is_file(), reason=f"no published table at {TABLE} (set ALTPO_TEST_DATA)")
def test_published_table_selects_2515_songs_that_the_papers_seed_divides_into_2263_125_and_127():
    table = read_table(TABLE)
    ids = selected(table, 0.5)
    assert (len(table), len(ids)) == (3272, 2515)
    parts = paper_parts(Filter(table=str(TABLE)), Split(by="paper"))
    assert {part: len(members) for part, members in parts.items()} == {"train": 2263, "validation": 125, "test": 127}
    order = np.arange(2515)
    np.random.RandomState(3756).shuffle(order)
    assert parts["train"] + parts["validation"] + parts["test"] == [ids[i] for i in order]


def row(shift, error):
    return {"best_offset": shift, "best_res": error, "sec_best_res": 1.0}


@pytest.mark.parametrize(("corpus", "names"), [("dali", ["good"]), ("ultrastar", ["bad", "good", "unknown"])])
def test_dali_songs_over_the_error_are_listed_and_ones_own_songs_stay_as_they_are(tmp_path, corpus, names):
    config = Config(data_dir=str(tmp_path))
    config.corpora.ultrastar = UltraStar()
    songs = [make_song([("a", 0, 1)], [(60, 0, 1)], name=name) for name in ("bad", "good", "unknown")]
    kept = select(config, corpus, songs, {"bad": row(5, 0.9), "good": row(-12, 0.3)})
    assert [song.id for song in kept] == names
    pitches = {song.id: song.supervisions[0].alignment["note"][0].symbol for song in kept}
    assert pitches == {name: "48" if name == "good" else "60" for name in names}
    listed = (tmp_path / "filter" / f"{corpus}_left_out.tsv").read_text().splitlines()
    expected = [] if corpus == "ultrastar" else ["bad: 0.900\tover the error", "unknown\tnot in the table"]
    assert sorted(listed) == expected


def test_ones_own_songs_over_the_error_are_left_out_where_the_conf_says_so(tmp_path):
    config = Config(data_dir=str(tmp_path))
    config.corpora.ultrastar = UltraStar(over_error="drop")
    songs = [make_song([("a", 0, 1)], [(60, 0, 1)], name=name) for name in ("bad", "good")]
    kept = select(config, "ultrastar", songs, {"bad": row(5, 0.9), "good": row(0, 0.3)})
    assert [song.id for song in kept] == ["good"]

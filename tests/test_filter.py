"""The pitch-shift filter."""

import numpy as np
import pytest
from test_make_cuts import make_song

from altpo_model.errors import UserError
from filter_pitch_shifts import best_shift, read_table, shift_notes

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
    path.write_text("id,offset\n")
    with pytest.raises(UserError, match="best_offset"):
        read_table(path)
    with pytest.raises(UserError, match="filter.table"):
        read_table(tmp_path / "none.csv")

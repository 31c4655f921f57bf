"""Word and note measures on cases worked out by hand."""

import pytest

from altpo_model.config import Scoring
from altpo_model.notes import Note
from recipe.measures import note_scores, word_error_rate


def test_word_error_rate_over_the_corpus_and_over_segments():
    pairs = [
        ("one two three four", "one too three four"),  # 1 substitution of 4
        ("stay", "stay with me"),  # 2 insertions of 1
        ("gone away", "away"),  # 1 deletion of 2
    ]
    measured = word_error_rate(pairs)
    assert measured["corpus"] == pytest.approx(100 * 4 / 7)
    assert measured["segments"] == pytest.approx(100 * (1 / 4 + 2 / 1 + 1 / 2) / 3)


def test_punctuation_and_hyphens_do_not_count():
    assert word_error_rate([("well-known, isn't it?", "well known isn't it")])["corpus"] == 0


def test_words_where_none_are_sung_count_over_the_corpus():
    measured = word_error_rate([("", "la la"), ("one two", "one two")])
    assert measured == {"corpus": 100.0, "segments": 0.0}


def test_empty_hypothesis_is_all_deletions():
    assert word_error_rate([("one two", "")])["corpus"] == 100.0


def test_note_scores_of_a_case_by_hand():
    reference = [Note(0.0, 0.5, 60), Note(0.5, 1.0, 62), Note(1.0, 1.5, 64), Note(2.0, 2.5, 65)]
    estimate = [
        Note(0.03, 0.2, 60),  # onset within 50 ms, pitch right
        Note(0.54, 0.9, 63),  # onset right, pitch a semitone off
        Note(1.07, 1.5, 64),  # onset 70 ms late
    ]
    scores = note_scores(reference, estimate, Scoring())
    assert scores["COn"] == pytest.approx([100 * 2 / 3, 100 * 2 / 4, 100 * 4 / 7])
    assert scores["COnP"] == pytest.approx([100 * 1 / 3, 100 * 1 / 4, 100 * 2 / 7])


def test_note_that_began_before_the_segment_does_not_count():
    scores = note_scores([Note(-0.2, 0.5, 60), Note(1.0, 2.0, 61)], [Note(1.0, 2.0, 61)], Scoring())
    assert scores["COnP"] == pytest.approx([100, 100, 100])


def test_note_at_the_very_start_counts_though_rounding_has_moved_it_before_zero():
    note = Note(-1e-9, 0.5, 60)
    assert note_scores([note], [note], Scoring())["COnP"] == pytest.approx([100, 100, 100])


def test_no_estimate_for_notes_is_zero_and_nothing_for_nothing_is_right():
    assert note_scores([Note(0, 1, 60)], [], Scoring())["COn"] == [0, 0, 0]
    assert note_scores([], [], Scoring())["COn"] == [100, 100, 100]

import numpy as np

from altpo_model.notes import NO_PITCH, Note, form_notes, frame_targets, pick_onsets, words_of_notes

HOP = 0.016


def test_note_covers_the_frames_nearest_to_its_times():
    pitch, onset = frame_targets([Note(0.032, 0.064, 60), Note(0.064, 0.1, 62)], 8, HOP)
    assert pitch.tolist() == [NO_PITCH, NO_PITCH, 60, 60, 62, 62, NO_PITCH, NO_PITCH]
    assert onset.tolist() == [0, 0, 1, 0, 1, 0, 0, 0]


def test_note_that_began_before_the_segment_has_pitch_but_no_onset():
    pitch, onset = frame_targets([Note(-0.5, 0.032, 60)], 4, HOP)
    assert pitch.tolist() == [60, 60, NO_PITCH, NO_PITCH]
    assert onset.sum() == 0


def test_notes_outside_the_segment_or_of_midi_leave_no_trace():
    pitch, onset = frame_targets([Note(1.0, 2.0, 60), Note(-2.0, -1.0, 60), Note(0.0, 0.1, 128)], 4, HOP)
    assert set(pitch.tolist()) == {NO_PITCH}
    assert onset.sum() == 0


def test_note_shorter_than_a_frame_keeps_one():
    pitch, onset = frame_targets([Note(0.016, 0.0161, 60)], 4, HOP)
    assert pitch.tolist() == [NO_PITCH, 60, NO_PITCH, NO_PITCH]


def test_notes_to_frames_to_notes_returns_the_notes():
    random = np.random.default_rng(0)
    notes, time = [], 0.1
    for _ in range(200):
        time += random.uniform(0.0, 0.3)
        end = time + random.uniform(0.1, 0.6)
        notes.append(Note(time, end, int(random.integers(30, 90))))
        time = end
    pitch, onset = frame_targets(notes, int(time / HOP) + 10, HOP)
    found = form_notes(np.eye(129)[pitch].T, onset, HOP)
    assert [note.pitch for note in found] == [note.pitch for note in notes]
    np.testing.assert_allclose([n.onset for n in found], [n.onset for n in notes], atol=HOP / 2 + 1e-9)
    np.testing.assert_allclose([n.offset for n in found], [n.offset for n in notes], atol=HOP / 2 + 1e-9)


def test_onset_is_the_maximum_within_25_ms_and_over_the_threshold():
    probability = np.array([0.1, 0.5, 0.6, 0.5, 0.1, 0.39, 0.1, 0.9, 0.1, 0.8])
    assert pick_onsets(probability, 0.4, 0.05, HOP).tolist() == [2, 7, 9]


def test_of_equal_neighbours_only_the_first_is_an_onset():
    assert pick_onsets(np.array([0.0, 0.7, 0.7, 0.0, 0.0]), 0.4, 0.05, HOP).tolist() == [1]


def test_pitch_of_a_note_is_its_commonest_voiced_class_and_an_unvoiced_onset_is_none():
    classes = [NO_PITCH, 60, 61, 61, NO_PITCH, NO_PITCH, NO_PITCH]
    onset = np.array([0, 1, 0, 0, 0, 1.0, 0])
    assert form_notes(np.eye(129)[classes].T, onset, HOP) == [Note(HOP, 4 * HOP, 61)]


def test_no_frames_give_no_notes():
    assert form_notes(np.zeros((129, 0)), np.zeros(0), HOP) == []


def test_a_note_carries_the_word_that_is_sung_then_also_after_its_last_character():
    words = [(1.0, 1.3), (2.0, 2.2), (4.0, 4.1)]
    notes = [
        Note(0.2, 0.9, 60),  # before the first word
        Note(0.9, 1.2, 60),
        Note(1.6, 1.9, 62),  # the first word held over a second note
        Note(1.9, 2.6, 64),  # begins in the first, is mostly in the second
        Note(2.6, 3.5, 65),
        Note(3.4, 4.7, 67),
        Note(5.5, 5.9, 69),
        Note(7.0, 7.5, 69),  # more than a second after all that was sung
    ]
    assert words_of_notes(notes, words) == [None, 0, 0, 1, 1, 2, 2, None]
    assert words_of_notes(notes, []) == [None] * 8
    assert words_of_notes([], words) == []

"""Word error rates and note measures, exactly as the result tables use them.

WER is given both ways: ``corpus``, all errors over all reference words, and ``segments``, the mean of the segments'
rates, as the paper's scripts average; a segment without reference words counts in the first alone. Both sides are
compared as `altpo_model.text.scoring_text` leaves them: no punctuation, hyphens as spaces.

COn and COnP are mir_eval.transcription's onset and no-offset measures (precision, recall, F); the tables give the mean
over segments that have reference notes.
"""

from collections.abc import Sequence

import jiwer
import mir_eval
import numpy as np

from altpo_model.config import Scoring
from altpo_model.notes import Note
from altpo_model.text import scoring_text

ROUNDING = 1e-3  # seconds by which a time may have moved on its way through a manifest


def word_error_rate(pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """``pairs`` of (reference, hypothesis) -> {"corpus": %, "segments": %}."""
    errors = words = 0
    rates = []
    for reference, hypothesis in pairs:
        reference, hypothesis = scoring_text(reference), scoring_text(hypothesis)
        if not reference:
            errors += len(hypothesis.split())
            continue
        measured = jiwer.process_words(reference, hypothesis)
        wrong = measured.substitutions + measured.deletions + measured.insertions
        count = len(reference.split())
        errors, words = errors + wrong, words + count
        rates.append(wrong / count)
    return {"corpus": 100 * errors / max(1, words), "segments": 100 * float(np.mean(rates)) if rates else 0.0}


def note_scores(reference: Sequence[Note], estimate: Sequence[Note], scoring: Scoring) -> dict[str, list[float]]:
    """{"COn": [P, R, F], "COnP": [P, R, F]} in %; reference notes that began before time zero do not count."""
    reference = [note for note in reference if note.onset > -ROUNDING]
    intervals, pitches = _arrays(reference)
    estimated_intervals, estimated_pitches = _arrays(estimate)
    if not len(intervals) or not len(estimated_intervals):
        both = 100.0 * (len(intervals) == len(estimated_intervals))
        return {"COn": [both] * 3, "COnP": [both] * 3}
    onsets = mir_eval.transcription.onset_precision_recall_f1(
        intervals, estimated_intervals, onset_tolerance=scoring.onset_tolerance
    )
    onsets_and_pitches = mir_eval.transcription.precision_recall_f1_overlap(
        intervals,
        pitches,
        estimated_intervals,
        estimated_pitches,
        onset_tolerance=scoring.onset_tolerance,
        pitch_tolerance=scoring.pitch_tolerance,
        offset_ratio=None,
    )[:3]
    return {"COn": [100 * v for v in onsets], "COnP": [100 * v for v in onsets_and_pitches]}


def _arrays(notes: Sequence[Note]) -> tuple[np.ndarray, np.ndarray]:
    """Intervals (n, 2) in seconds and frequencies (n,) in Hz."""
    onsets = [max(note.onset, 0.0) for note in notes]
    intervals = np.array([(on, max(note.offset, on + 1e-3)) for on, note in zip(onsets, notes, strict=True)])
    intervals = intervals.reshape(-1, 2)
    return intervals, mir_eval.util.midi_to_hz(np.array([note.pitch for note in notes], dtype=float))

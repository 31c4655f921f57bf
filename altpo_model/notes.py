"""Vocal notes <-> frame targets, onset peak picking and note formation (paper, sections 3.1 and 4.2)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.ndimage import maximum_filter1d

NUM_PITCHES = 128
NO_PITCH = 128  # the 129th class
NUM_CONDITIONS = NUM_PITCHES + 2  # 129 pitch classes and the onset
LONGEST_REST = 1.0  # seconds between two notes of one word


class Note(NamedTuple):
    """A vocal note: onset and offset in seconds, pitch as a MIDI number."""

    onset: float
    offset: float
    pitch: int


def frame_targets(notes: Sequence[Note], num_frames: int, hop_seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Pitch classes (T,) int64 and onsets (T,) float32 in {0, 1} of frames that are centred at ``i * hop_seconds``.

    A note covers the frames from that nearest to its onset up to that nearest to its offset, but at least one; where
    notes overlap, the later one wins. A note that began before time zero has its pitch but no onset. Pitches outside
    of 0...127 are no notes.
    """
    pitch = np.full(num_frames, NO_PITCH, dtype=np.int64)
    onset = np.zeros(num_frames, dtype=np.float32)
    for note in sorted(notes):
        start = round(note.onset / hop_seconds)
        end = max(round(note.offset / hop_seconds), start + 1)
        if not 0 <= note.pitch < NUM_PITCHES or end <= 0 or start >= num_frames:
            continue
        pitch[max(start, 0) : end] = note.pitch
        if start >= 0:
            onset[start] = 1.0
    return pitch, onset


def pick_onsets(probability: np.ndarray, threshold: float, window_seconds: float, hop_seconds: float) -> np.ndarray:
    """Frames whose onset probability (T,) is over ``threshold`` and maximal within half a window to either side.

    Of equal neighbours, only the first is an onset.
    """
    half = int(window_seconds / 2 / hop_seconds)
    if len(probability) == 0:
        return np.zeros(0, dtype=np.int64)
    is_peak = (probability >= maximum_filter1d(probability, 2 * half + 1, mode="nearest")) & (probability > threshold)
    frames = np.flatnonzero(is_peak)
    return frames[np.diff(frames, prepend=-half - 2) > half] if half else frames


def form_notes(
    pitch: np.ndarray, onset: np.ndarray, hop_seconds: float, threshold: float = 0.4, window_seconds: float = 0.05
) -> list[Note]:
    """Notes from a pitch posterior (129, T) and an onset posterior (T,).

    A note starts at each picked onset and ends where the next one starts or, before that, after its last voiced
    frame. Its pitch is the commonest argmax among its voiced frames; an onset with no voiced frame is no note.
    """
    classes = pitch.argmax(axis=0)
    starts = pick_onsets(onset, threshold, window_seconds, hop_seconds)
    notes = []
    for start, end in pairwise([*starts, len(classes)]):
        voiced = np.flatnonzero(classes[start:end] != NO_PITCH)
        if len(voiced):
            commonest = np.bincount(classes[start:end][voiced]).argmax()
            notes.append(
                Note(float(start * hop_seconds), float((start + voiced[-1] + 1) * hop_seconds), int(commonest))
            )
    return notes


def words_of_notes(notes: Sequence[Note], words: Sequence[tuple[float, float]]) -> list[int | None]:
    """The word that each note carries, counted from 0; None where no word is sung.

    ``notes``, ``words`` (start and end of each): in seconds of the same time, in order. CTC hears a word's characters
    where they begin, so a word may be sung until the next one starts: a note carries the word with which it shares
    most time in that sense. It carries none before the first word, and none after a pause of more than `LONGEST_REST`.
    """
    ends = [end for _, end in words]  # of a word and of the notes that it has so far
    borders = [*(start for start, _ in words), np.inf]
    carried: list[int | None] = []
    for note in notes:
        shared = [min(note.offset, following) - max(note.onset, start) for start, following in pairwise(borders)]
        best = int(np.argmax(shared)) if shared else None
        if best is None or shared[best] <= 0 or note.onset > ends[best] + LONGEST_REST:
            carried.append(None)
        else:
            carried.append(best)
            ends[best] = max(ends[best], note.offset)
    return carried

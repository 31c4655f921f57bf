"""Greedy decoding: the CTC best path, the most probable token of each frame, with no lexicon and no language model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from altpo_model.decoding.hypothesis import Hypothesis, Word, confidence
from altpo_model.tokens import CharTokens


@dataclass(frozen=True)
class TokenPath:
    """Tokens of a CTC path: ``ids`` (N,); ``frames`` (N, 2), each token's first frame and the one after its last."""

    ids: np.ndarray
    frames: np.ndarray


def collapse(best: np.ndarray, blank: int = 0) -> TokenPath:
    """Merge equal neighbours of a frame-wise token sequence (T,), then leave out the blanks."""
    starts = np.flatnonzero(np.diff(best, prepend=-1))  # [runs]
    ends = np.append(starts[1:], len(best)) if len(best) else starts
    is_token = best[starts] != blank
    return TokenPath(best[starts][is_token], np.stack([starts[is_token], ends[is_token]], axis=1))


def best_paths(log_probs, lengths=None, blank: int = 0) -> list[TokenPath]:
    """CTC best paths of a batch.

    ``log_probs``: (B, T, C), a torch tensor on any device or a numpy array; ``lengths``: (B,) frames (default: all T).
    The argmax is taken where the tensor is, so that only (B, T) numbers leave the device.
    """
    best = log_probs.argmax(-1)  # [B, T]
    best = best if isinstance(best, np.ndarray) else best.cpu().numpy()
    if lengths is None:
        return [collapse(row, blank) for row in best]
    return [collapse(row[: int(length)], blank) for row, length in zip(best, lengths, strict=True)]


class GreedySearch:
    """Greedy decoding to words. Words are what stands between spaces, punctuation marks included."""

    def __init__(self, tokens: CharTokens):
        self.tokens = tokens

    def decode(self, log_probs: np.ndarray) -> Hypothesis:
        """The best path of ``log_probs`` (T, C). The score is the sum of its log probabilities."""
        path = collapse(log_probs.argmax(-1), self.tokens.blank)
        words: list[Word] = []
        letters: list[int] = []  # indices into the path
        for index, token in enumerate([*path.ids, self.tokens.space]):
            if token != self.tokens.space:
                letters.append(index)
            elif letters:
                text = self.tokens.decode(path.ids[letters])
                start, end = int(path.frames[letters[0], 0]), int(path.frames[letters[-1], 1])
                peaks = [log_probs[slice(*path.frames[i]), path.ids[i]].max() for i in letters]
                words.append(Word(text, start, end, confidence(peaks)))
                letters = []
        return Hypothesis(words, float(log_probs.max(-1).sum()))

    def decode_batch(self, batch: Sequence[np.ndarray], jobs: int = 1) -> list[Hypothesis]:
        """Hypotheses of several utterances, each (T, C). ``jobs`` is the beam search's; one path needs no pool."""
        return [self.decode(log_probs) for log_probs in batch]

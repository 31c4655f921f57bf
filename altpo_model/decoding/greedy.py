"""Greedy decoding: the CTC best path, the most probable token of each frame, with no lexicon and no language model."""

from collections.abc import Sequence

import numpy as np

from altpo_model.config import Decoding
from altpo_model.decoding.hypothesis import Hypothesis
from altpo_model.decoding.words import TokenPath, collapse, written_words
from altpo_model.lang import Tokens


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

    def __init__(self, tokens: Tokens):
        self.tokens = tokens

    def decode(self, log_probs: np.ndarray) -> Hypothesis:
        """The best path of ``log_probs`` (T, C). The score is the sum of its log probabilities."""
        path = collapse(log_probs.argmax(-1), self.tokens.blank)
        return Hypothesis(written_words(path, self.tokens, log_probs), float(log_probs.max(-1).sum()))

    def with_options(self, options: Decoding) -> "GreedySearch":
        """The same search: it has no options."""
        return self

    def decode_batch(
        self, batch: Sequence[np.ndarray], jobs: int = 1, references: Sequence[str] | None = None
    ) -> list[Hypothesis]:
        """Hypotheses of several utterances, each (T, C). One path needs no pool of ``jobs``."""
        return [self.decode(log_probs) for log_probs in batch]

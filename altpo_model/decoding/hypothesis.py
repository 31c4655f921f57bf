"""What every decoder returns."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Word:
    """A decoded word and its frames: it starts at frame ``start`` and ends before frame ``end``.

    ``confidence``: the geometric mean of its characters' posteriors, from 0 to 1; for each character the highest of its
    frames counts.
    """

    text: str
    start: int
    end: int
    confidence: float = field(default=1.0, compare=False)


@dataclass(frozen=True)
class Hypothesis:
    """The words of one utterance. ``score``: the decoder's own (log domain), comparable within one utterance only."""

    words: list[Word] = field(default_factory=list)
    score: float = 0.0

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


def confidence(peaks: Sequence[float]) -> float:
    """The confidence of a word from its characters' highest log posteriors."""
    return math.exp(sum(peaks) / len(peaks))

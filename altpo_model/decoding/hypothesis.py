"""What every decoder returns."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Word:
    """A decoded word and its frames: it starts at frame ``start`` and ends before frame ``end``."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Hypothesis:
    """The words of one utterance. ``score``: the decoder's own (log domain), comparable within one utterance only."""

    words: list[Word] = field(default_factory=list)
    score: float = 0.0

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)
